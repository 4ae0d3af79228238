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
            engine.send_run(1, id, RUN_CHUNKS);
            let send = engine.sends.get_mut(id).unwrap();
            longest = longest.max(send.copied - before);
            if send.copied == length {
                engine.links[1].streams.pop_front();
                engine.finish_send(id);
            }
        }
        assert!(receive.wait().unwrap().0 == sent, "{length} bytes");
        drop(send.wait().unwrap());
        assert!(length < eager + 100_000 || longest == RUN_CHUNKS * CHUNK_BYTES, "{longest} at once");
    }
    [sender, receiver].into_iter().for_each(|world| drop(world.fail("the test is over".to_owned())));
}

/// What no sender tells of is damage, and nothing of it is taken.
#[test]
fn runs_that_cannot_be_are_refused() {
    let job: &'static Job = Box::leak(Box::new(in_process(2).unwrap()));
    job.header().direct_from.store(u64::MAX, Relaxed);
    let [sender, receiver] = [0, 1].map(|rank| World::attached(Attachment::of_thread(job, rank)));
    let send = sender.isend(vec![1u8; 1 << 20], 1).unwrap();
    let tell = |chunk: u32, length: usize, fresh| {
        let engine = &mut *receiver.engine.borrow_mut();
        let message = *engine.links[0].inflows.keys().next().unwrap();
        engine.receive_chunk(0, message, (chunk, length as u32), fresh)
    };
    assert!(receiver.try_probe(0).unwrap().is_some());
    assert!(tell(0, 2 * CHUNK_BYTES, false).is_err(), "not matched");
    let mut receive = receiver.irecv_into(vec![0u8; 1 << 20], 0).unwrap();
    let last = job.geometry().pool_chunks as u32 - 1;
    assert!(tell(0, (RUN_CHUNKS + 1) * CHUNK_BYTES, false).is_err(), "too many");
    assert!(tell(0, CHUNK_BYTES + 1, false).is_err(), "no whole chunks, and not the end");
    assert!(tell(0, 2 * CHUNK_BYTES, true).is_err(), "from a near core");
    assert!(tell(last, 2 * CHUNK_BYTES, false).is_err(), "beyond the pool");
    assert!(!receive.test().unwrap());
    assert!(tell(last - 1, 2 * CHUNK_BYTES, false).is_ok());
    drop((send, receive));
    [sender, receiver].into_iter().for_each(|world| drop(world.fail("the test is over".to_owned())));
}
