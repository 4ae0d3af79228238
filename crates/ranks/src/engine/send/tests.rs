//! Both ranks of a job in one thread, so that a matched message goes on in the way that a test wants.

use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::World;
use crate::attach::Attachment;
use crate::job::Job;
use crate::launch::in_process;
use crate::layout::EAGER_BYTES;

/// What goes to a distant core comes there whole, however many chunks are told of at once.
#[test]
fn runs_of_chunks_arrive() {
    let job: &'static Job = Box::leak(Box::new(in_process(2).unwrap()));
    job.header().direct_from.store(u64::MAX, Relaxed);
    let [sender, receiver] = [0, 1].map(|rank| World::attached(Attachment::of_thread(job, rank)));
    let eager = EAGER_BYTES as usize;
    for length in [eager + 1, eager + CHUNK_BYTES, eager + 100_000, 3_000_001, 3 << 20] {
        let sent: Vec<u8> = (0..length).map(|at| (at + at / 251) as u8).collect();
        let send = sender.isend(sent.clone(), 1).unwrap();
        let mut receive = receiver.irecv_into(vec![0u8; length], 0).unwrap();
        let mut longest = 0;
        while !receive.test().unwrap() {
            let engine = &mut *sender.engine.borrow_mut();
            engine.notice_rings();
            engine.drain(1, 64).unwrap();
            let id = engine.links[1].streams.front().copied();
            let Some(id) = id else { continue };
            let before = engine.sends.get_mut(id).unwrap().copied;
            engine.send_run(1, id, CHUNKS_PER_TURN);
            let send = engine.sends.get_mut(id).unwrap();
            longest = longest.max(send.copied - before);
            if send.copied == length {
                engine.links[1].streams.pop_front();
                engine.finish_send(id);
            }
        }
        assert!(receive.wait().unwrap().0 == sent, "{length} bytes");
        drop(send.wait().unwrap());
        assert!(length < eager + 100_000 || longest == CHUNKS_PER_TURN * CHUNK_BYTES, "{longest} at once");
    }
    [sender, receiver].into_iter().for_each(|world| drop(world.fail("the test is over".to_owned())));
}
