//! Ranks that leave while others still want something of them: an error or an orderly end, never a hang, and no
//! harm to those who go on.

#[path = "support/watchdog.rs"]
mod watchdog;

use ranks::{ANY_SOURCE, Error, Request, Status, World, spawn, wait_any};
use watchdog::{step, watch};

const LONG: usize = 10 << 20;

#[test]
fn polling_for_a_rank_that_has_left_ends_with_an_error() {
    spawn(2, |world| {
        watch(world);
        if world.rank() == 1 {
            return;
        }
        step("test");
        let mut request: Request<'_, (Vec<u8>, Status)> = world.irecv(ANY_SOURCE).unwrap();
        while !request.test().unwrap() {}
        assert!(matches!(request.wait(), Err(Error::NobodyLeft { .. })));
        step("wait_any");
        let mut requests =
            vec![world.irecv::<u8>(ANY_SOURCE).unwrap(), world.irecv::<u8>((ANY_SOURCE, 3)).unwrap()];
        assert!(matches!(wait_any(&mut requests), Err(Error::NobodyLeft { .. })));
        step("try_probe");
        assert!(matches!(world.try_probe(1), Err(Error::PeerGone { rank: 1, .. })));
        assert!(matches!(world.try_matched_probe(ANY_SOURCE), Err(Error::NobodyLeft { .. })));
        assert!(world.try_probe(world.rank()).unwrap().is_none(), "this rank may still send to itself");
    })
    .unwrap();
}

#[test]
fn a_long_message_that_its_receiver_throws_away_does_not_fail_its_sender() {
    spawn(2, |world| {
        watch(world);
        if world.rank() == 0 {
            step("three sends");
            world.send(&vec![1u8; LONG], (1, 0)).unwrap();
            world.send(&vec![1u8; LONG], (1, 1)).unwrap();
            let third = world.isend(vec![1u8; LONG], (1, 2)).unwrap();
            world.send(&[0u8], (1, 3)).unwrap();
            third.wait().unwrap();
        } else {
            step("a matched message dropped");
            drop(world.matched_probe((0, 0)).unwrap());
            step("a receive that is too short");
            assert!(matches!(world.recv(&mut [0u8; 10], (0, 1)), Err(Error::Truncated { .. })));
            step("a matched receive dropped");
            let request = world.irecv::<u8>((0, 2)).unwrap();
            // Sent after the long one, so that is matched when this has come.
            world.recv(&mut [0u8; 1], (0, 3)).unwrap();
            drop(request);
        }
    })
    .unwrap();
}

#[test]
fn chunks_of_a_rank_that_left_come_back() {
    spawn(3, |world| {
        watch(world);
        match world.rank() {
            1 => {
                step("leave ten long messages unreceived");
                world.probe((0, 9)).unwrap();
            }
            0 => {
                step("fill rank 1's share of the pool");
                let lost: Vec<_> =
                    (0..10).map(|tag| world.isend(vec![0u8; LONG], (1, tag)).unwrap()).collect();
                for request in lost {
                    assert!(matches!(request.wait(), Err(Error::PeerGone { rank: 1, .. })));
                }
                step("send to rank 2");
                long_messages(world);
            }
            _ => long_messages(world),
        }
    })
    .unwrap();
}

/// From rank 0 to rank 2.
fn long_messages(world: &World) {
    for number in 0..20u8 {
        if world.rank() == 0 {
            world.send(&vec![number; LONG], (2, 0)).unwrap();
        } else {
            let (data, _) = world.recv_vec::<u8>((0, 0)).unwrap();
            assert!(data.len() == LONG && data.iter().all(|&byte| byte == number));
        }
    }
}

#[test]
fn finalize_reports_a_message_that_nobody_received() {
    let error = spawn(2, |world| {
        watch(world);
        if world.rank() == 0 {
            step("send into nothing");
            drop(world.isend(vec![0u8; LONG], 1).unwrap());
        }
        // The world is finalized when this returns: neither rank may hang there.
    })
    .unwrap_err();
    let said = format!("{error:?}");
    assert!(said.contains("rank 1 has finished"), "{said}");
}

#[test]
fn two_ranks_that_leave_with_long_messages_for_each_other_end() {
    let error = spawn(2, |world| {
        watch(world);
        step("send to each other and leave");
        drop(world.isend(vec![0u8; LONG], 1 - world.rank()).unwrap());
    })
    .unwrap_err();
    let said = format!("{error:?}");
    assert!(said.contains("has finished"), "{said}");
}

#[test]
fn many_sends_to_a_rank_that_left_fail_quickly() {
    spawn(2, |world| {
        watch(world);
        if world.rank() == 1 {
            return;
        }
        step("wait for the other to leave");
        assert!(matches!(world.recv(&mut [0u8; 1], 1), Err(Error::PeerGone { .. })));
        step("fifty thousand synchronous sends");
        let sends: Vec<_> = (0..50_000).map(|_| world.synchronous_isend(vec![0u8; 8], 1).unwrap()).collect();
        for send in sends {
            assert!(matches!(send.wait(), Err(Error::PeerGone { rank: 1, .. })));
        }
    })
    .unwrap();
}
