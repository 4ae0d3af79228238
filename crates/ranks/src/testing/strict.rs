//! `--strict`: nothing relies on buffering.

use super::run_in_modes;
use crate::layout::modes::STRICT;
use crate::{ANY_SOURCE, Error, World};

fn run(ranks: usize, body: impl Fn(&World) + Sync) {
    run_in_modes(STRICT, ranks, body);
}

#[test]
fn a_send_ends_only_when_it_is_received() {
    run(2, |world| {
        if world.rank() == 0 {
            let mut send = world.isend(vec![1u8], (1, 1)).unwrap();
            for _ in 0..100 {
                assert!(!send.test().unwrap());
            }
            world.send(&[2u8], (1, 2)).unwrap();
            // The other has taken in the first message too, but has not received it.
            assert!(!send.test().unwrap());
            world.send(&[3u8], (1, 3)).unwrap();
            assert!(send.test().unwrap());
            world.send_object(&"four", 1).unwrap();
        } else {
            let mut data = [0u8];
            for tag in [2, 1, 3] {
                world.recv(&mut data, (0, tag)).unwrap();
            }
            assert_eq!(world.recv_object::<String>(0).unwrap().0, "four");
        }
    });
}

#[test]
fn a_send_to_oneself_is_an_error_unless_it_is_received_already() {
    run(1, |world| {
        let is_refused = |error| matches!(error, Error::WouldDeadlock { .. });
        assert!(is_refused(world.send(&[1u8], 0).unwrap_err()));
        assert!(is_refused(world.send_object(&1u8, 0).unwrap_err()));
        assert!(is_refused(world.isend(vec![2u8], 0).unwrap().wait().unwrap_err()));
        assert!(is_refused(world.scope(|scope| scope.isend(&[3u8], 0).map(drop)).unwrap_err()));
        // None of these is left behind.
        assert!(world.try_probe(ANY_SOURCE).unwrap().is_none());
        let receive = world.irecv::<u8>(0).unwrap();
        world.send(&[4u8], 0).unwrap();
        assert_eq!(receive.wait().unwrap().0, [4]);
    });
}

/// Without it the root of a broadcast goes on at once, and nobody would ever look at the other root.
#[test]
fn ranks_that_both_think_they_are_the_root_hear_of_it() {
    run(2, |world| {
        let error = world.broadcast(&mut [0u8; 4], world.rank()).unwrap_err();
        assert!(matches!(error, Error::CollectiveMismatch { .. }), "{error}");
    });
}

#[test]
fn collectives_work() {
    run(3, |world| {
        let mut all = vec![0; 300_000];
        world.all_to_all(&vec![world.rank() as u64; 300_000], &mut all).unwrap();
        assert!(all.chunks(100_000).zip(0..).all(|(part, rank)| part.iter().all(|&value| value == rank)));
        let gathered = world.gather_object(&world.rank(), 1).unwrap();
        assert_eq!(gathered, (world.rank() == 1).then(|| vec![0, 1, 2]));
        let mut text = if world.rank() == 2 { b"hello".to_vec() } else { Vec::new() };
        world.broadcast_vec(&mut text, 2).unwrap();
        assert_eq!(text, b"hello");
    });
}
