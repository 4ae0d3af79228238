//! Both ranks of a job in one thread, so that a matched message goes on in the way that a test wants.

use std::sync::Barrier;
use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::attach::Attachment;
use crate::job::Job;
use crate::launch::in_process;
use crate::layout::{EAGER_BYTES, rank_state};
use crate::{ANY_TAG, World};

/// A job whose long messages go through the pool.
fn through_the_pool(ranks: usize) -> &'static Job {
    let job: &'static Job = Box::leak(Box::new(in_process(ranks).unwrap()));
    job.header().direct_from.store(u64::MAX, Relaxed);
    job
}

fn pair() -> (&'static Job, [World; 2]) {
    let job = through_the_pool(2);
    (job, [0, 1].map(|rank| World::attached(Attachment::of_thread(job, rank))))
}

/// There is nobody to wait for.
fn end(worlds: [World; 2]) {
    worlds.into_iter().for_each(|world| drop(world.fail("the test is over".to_owned())));
}

/// What is sent comes whole, however many chunks are told of at once.
#[test]
fn runs_of_chunks_arrive() {
    let (_, [sender, receiver]) = pair();
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
    end([sender, receiver]);
}

/// Who offers a long message has chunks of it out before it is matched, and may have them back before it hears of the match: they are
/// counted once, and all come back.
#[test]
fn early_chunks_that_come_back_before_the_match_is_heard_of_are_free() {
    let (job, [sender, receiver]) = pair();
    let sent: Vec<u8> = (0..1 << 20).map(|at: usize| (at + at / 251) as u8).collect();
    let free = |world: &World| world.engine.borrow().lender.as_ref().map(Lender::free);
    for turn in 0..20 {
        let send = sender.isend(sent.clone(), 1).unwrap();
        let before = free(&sender).unwrap();
        let mut receive = receiver.irecv_into(vec![0u8; 1 << 20], 0).unwrap();
        assert!(!receive.test().unwrap());
        if turn % 2 == 0 {
            // The match has not been heard of, and the early chunks are back.
            sender.engine.borrow_mut().lender.as_mut().unwrap().reclaim_all();
            assert_eq!(free(&sender).unwrap(), before + EARLY_CHUNKS);
        }
        while !receive.test().unwrap() {
            sender.engine.borrow_mut().progress().unwrap();
        }
        assert!(receive.wait().unwrap().0 == sent);
        drop(send.wait().unwrap());
    }
    let mut engine = sender.engine.borrow_mut();
    let lender = engine.lender.as_mut().unwrap();
    lender.reclaim_all();
    assert_eq!(lender.free(), job.geometry().pool_chunks);
    assert_eq!(lender.held_by(1), 0, "chunks of matched messages");
    drop(engine);
    end([sender, receiver]);
}

/// What lies in chunks of a message that nobody received is thrown away in the next world, and all of its chunks are free there.
#[test]
fn early_chunks_are_free_in_the_next_world() {
    for drained in [false, true] {
        throw_early_chunks_away(drained);
    }
}

/// Whether they are still in the ring when the worlds change, or have been `drained`.
fn throw_early_chunks_away(drained: bool) {
    let job = through_the_pool(3);
    let sent = Barrier::new(2);
    let rank = |rank| {
        let world = World::attached(Attachment::of_thread(job, rank));
        if rank == 2 {
            world.engine.borrow().job.depart(2, rank_state::DEAD);
            std::mem::forget(world);
            return;
        }
        let send = (rank == 0).then(|| world.isend(vec![1u8; 1 << 20], 1).unwrap());
        sent.wait();
        if rank == 1 && drained {
            assert!(world.try_probe((0, ANY_TAG)).unwrap().is_some());
            let inflows = &world.engine.borrow().links[0].inflows;
            let early: u32 =
                inflows.values().flat_map(|inflow| &inflow.early).map(|&(_, length)| length).sum();
            assert_eq!(early as usize, EARLY_CHUNKS * CHUNK_BYTES);
        }
        drop(send);
        let world = world.shrink().unwrap();
        world.barrier().unwrap();
        if let Some(lender) = &mut world.engine.borrow_mut().lender {
            lender.reclaim_all();
            assert_eq!(lender.free(), job.geometry().pool_chunks);
        }
        drop(world.fail("the test is over".to_owned()));
    };
    std::thread::scope(|scope| {
        let rank = &rank;
        let ranks = [0, 1, 2].map(|number| scope.spawn(move || rank(number)));
        ranks.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// What no sender tells of is damage, and nothing of it is taken.
#[test]
fn runs_that_cannot_be_are_refused() {
    let (job, [sender, receiver]) = pair();
    let send = sender.isend(vec![1u8; 1 << 20], 1).unwrap();
    let tell = |chunk, length, fresh| tell(&receiver, chunk, length, fresh);
    assert!(receiver.try_probe(0).unwrap().is_some());
    let mut receive = receiver.irecv_into(vec![0u8; 1 << 20], 0).unwrap();
    let last = job.geometry().pool_chunks as u32 - 1;
    assert!(tell(0, (RUN_CHUNKS + 1) * CHUNK_BYTES, false).is_err(), "too many");
    assert!(tell(0, CHUNK_BYTES + 1, false).is_err(), "no whole chunks, and not the end");
    assert!(tell(last, 2 * CHUNK_BYTES, false).is_err(), "beyond the pool");
    assert!(!receive.test().unwrap());
    assert!(tell(last - 1, 2 * CHUNK_BYTES, false).is_ok());
    assert!(tell(last - 3, 2 * CHUNK_BYTES, true).is_ok());
    drop((send, receive));
    end([sender, receiver]);
}

/// The same before the message is matched.
#[test]
fn early_runs_that_cannot_be_are_refused() {
    let (job, [sender, receiver]) = pair();
    let send = sender.isend(vec![1u8; 1 << 20], 1).unwrap();
    let tell = |chunk, length| tell(&receiver, chunk, length, true);
    assert!(receiver.try_probe(0).unwrap().is_some());
    assert!(tell(0, 0).is_err(), "nothing");
    assert!(tell(0, (RUN_CHUNKS + 1) * CHUNK_BYTES).is_err(), "too many");
    assert!(tell(job.geometry().pool_chunks as u32 - 1, 2 * CHUNK_BYTES).is_err(), "beyond the pool");
    // The sender has told of four itself.
    for _ in 0..(1 << 20) / (RUN_CHUNKS * CHUNK_BYTES) - 1 {
        assert!(tell(0, RUN_CHUNKS * CHUNK_BYTES).is_ok());
    }
    assert!(tell(0, CHUNK_BYTES).is_err(), "longer than the message");
    drop(send);
    end([sender, receiver]);
}

/// Tells the receiver of a chunk of the only long message to it, or of several.
fn tell(receiver: &World, chunk: u32, length: usize, fresh: bool) -> std::result::Result<(), String> {
    let engine = &mut *receiver.engine.borrow_mut();
    let message = *engine.links[0].inflows.keys().next().unwrap();
    engine.receive_chunk(0, message, (chunk, length as u32), fresh)
}
