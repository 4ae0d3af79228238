//! Ranks that fail in jobs that go on: errors that name them, and worlds of the survivors.

#[path = "support/watchdog.rs"]
mod watchdog;

use ranks::{ANY_SOURCE, Error, OnFailure, Result, Spawn, Sum, World};
use watchdog::{step, watch};

/// Runs `body` in a job that goes on when ranks fail.
#[track_caller]
fn survive(name: &str, ranks: usize, body: fn(World) -> Result<()>) -> Result<()> {
    Spawn::new(ranks).test_name(name).on_failure(OnFailure::Continue).run_with_world(|world| {
        watch(&world);
        body(world)
    })
}

/// Ends this process as SIGKILL from outside would: without a word.
fn die() -> ! {
    let me = rustix::process::getpid();
    rustix::process::kill_process(me, rustix::process::Signal::KILL).unwrap();
    unreachable!("SIGKILL cannot be survived")
}

#[test]
fn operations_with_a_dead_rank_fail_and_name_it() {
    survive("operations_with_a_dead_rank_fail_and_name_it", 3, |world| {
        if world.rank() == 2 {
            die();
        }
        step("recv");
        assert!(matches!(world.recv(&mut [0u8], 2), Err(Error::PeerGone { rank: 2, .. })));
        step("send, long and short");
        assert!(matches!(world.send(&vec![0u8; 1 << 20], 2), Err(Error::PeerGone { rank: 2, .. })));
        assert!(matches!(world.send(&[0u8], 2), Err(Error::PeerGone { rank: 2, .. })));
        step("collective");
        assert!(matches!(world.barrier(), Err(Error::PeerGone { rank: 2, .. })));
        assert_eq!((world.alive()?, world.failed()?), (vec![0, 1], vec![2]));
        assert_eq!(world.acknowledge()?, [2]);
        step("the other one is there");
        let other = 1 - world.rank();
        let mut theirs = [0];
        world.sendrecv(&[world.rank()], other, &mut theirs, other)?;
        assert_eq!(theirs, [other]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_failure_that_nobody_took_note_of_fails_the_job() {
    let error = survive("a_failure_that_nobody_took_note_of_fails_the_job", 2, |world| {
        if world.rank() == 1 {
            die();
        }
        assert!(world.recv(&mut [0u8], 1).is_err());
        Ok(())
    })
    .unwrap_err();
    assert!(error.to_string().contains("rank 1 was killed by signal 9"), "{error}");
}

#[test]
fn receives_from_any_rank_report_a_death_until_it_is_acknowledged() {
    survive("receives_from_any_rank_report_a_death_until_it_is_acknowledged", 3, |world| {
        match world.rank() {
            0 => {
                step("posted before");
                let request = world.irecv::<u8>(ANY_SOURCE)?;
                world.send(&[0u8], 2)?;
                assert!(matches!(request.wait(), Err(Error::PeerGone { rank: 2, .. })));
                step("posted after, and probes");
                assert!(matches!(world.recv(&mut [0u8], ANY_SOURCE), Err(Error::PeerGone { rank: 2, .. })));
                assert!(matches!(world.try_probe(ANY_SOURCE), Err(Error::PeerGone { rank: 2, .. })));
                step("acknowledged");
                assert_eq!(world.acknowledge()?, [2]);
                assert!(world.try_probe(ANY_SOURCE)?.is_none());
                world.send(&[0u8], 1)?;
                assert_eq!(world.recv_vec::<u8>(ANY_SOURCE)?.0, [7]);
                step("a message that is there is received in any case");
                world.send(&[1u8], 1)?;
                assert!(matches!(world.recv(&mut [0u8], (1, 9)), Err(Error::PeerGone { rank: 1, .. })));
                assert_eq!(world.recv_vec::<u8>(ANY_SOURCE)?.0, [8]);
                assert!(matches!(world.recv(&mut [0u8], ANY_SOURCE), Err(Error::PeerGone { rank: 1, .. })));
                assert_eq!(world.acknowledge()?, [1, 2]);
                assert!(matches!(world.recv(&mut [0u8], ANY_SOURCE), Err(Error::NobodyLeft { .. })));
            }
            1 => {
                world.recv(&mut [0u8], 0)?;
                world.send(&[7u8], 0)?;
                world.recv(&mut [0u8], 0)?;
                world.send(&[8u8], 0)?;
                die();
            }
            _ => {
                world.recv(&mut [0u8], 0)?;
                die();
            }
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn survivors_go_on_in_a_smaller_world() {
    survive("survivors_go_on_in_a_smaller_world", 4, |mut world| {
        let before = world.rank();
        step("a first collective, and messages that nobody receives");
        let mut sum = [0];
        world.all_reduce(&[1], &mut sum, Sum)?;
        assert_eq!(sum, [4]);
        let next = (before + 1) % 4;
        world.send(&[9u8; 100], (next, 5))?;
        let _long = world.isend(vec![9u8; 1 << 20], (next, 5))?;
        let _medium = world.synchronous_isend(vec![9u8; 1000], (next, 5))?;
        // A barrier could fail where a rank has not heard all others before one of them dies.
        assert!(world.agree(true)?.failed.is_empty());
        if before == 1 {
            die();
        }
        step("shrink");
        assert!(world.barrier().is_err());
        drop((_long, _medium));
        world = world.shrink()?;
        let (me, size) = (world.rank(), world.size());
        assert_eq!((me, size), (if before == 0 { 0 } else { before - 1 }, 3));
        assert!(world.try_probe(ANY_SOURCE)?.is_none(), "messages of the old world are gone");
        step("everything works there");
        for length in [1usize, 100, 5_000, 100_000] {
            let mine = vec![me as u64 + 1; length];
            let mut sum = vec![0; length];
            world.all_reduce(&mine, &mut sum, Sum)?;
            assert!(sum.iter().all(|&sum| sum == 6));
            let mut all = vec![0; 3 * length];
            world.all_to_all(&vec![me as u64; 3 * length], &mut all)?;
            assert!(all.chunks(length).zip(0..).all(|(part, rank)| part.iter().all(|&value| value == rank)));
            let (left, right) = ((me + size - 1) % size, (me + 1) % size);
            let mut theirs = vec![0u64; length];
            world.sendrecv(&mine, (right, 5), &mut theirs, (left, 5))?;
            assert_eq!(theirs, vec![left as u64 + 1; length]);
        }
        assert!(matches!(world.send(&[0u8], 3), Err(Error::RankOutOfRange { size: 3, .. })));
        assert!(world.failed()?.is_empty());
        assert!(world.agree(true)?.failed.is_empty());
        step("a second death");
        if me == 0 {
            die();
        }
        assert!(matches!(world.recv(&mut [0u8], 0), Err(Error::PeerGone { rank: 0, .. })));
        let world = world.shrink()?;
        let mut sum = [0];
        world.all_reduce(&[1], &mut sum, Sum)?;
        assert_eq!((world.rank(), world.size(), sum), (me - 1, 2, [2]));
        world.finalize()
    })
    .unwrap();
}

/// So many that one tells the others that all have come: by the same word in both worlds.
#[test]
fn many_survivors_go_on_with_collectives() {
    survive("many_survivors_go_on_with_collectives", 18, |mut world| {
        let mut sum = [0; 100];
        let mut both =
            |world: &World| world.all_reduce(&[1; 100], &mut sum, Sum).and_then(|()| world.barrier());
        if world.rank() == 3 {
            (0..10).for_each(|_| both(&world).unwrap());
            die();
        }
        while both(&world).is_ok() {}
        step("shrink");
        world = world.shrink()?;
        for round in 0..100 {
            step("collectives of the survivors");
            world.all_reduce(&[world.rank() + round; 100], &mut sum, Sum)?;
            assert_eq!(sum, [17 * 16 / 2 + 17 * round; 100]);
            world.barrier()?;
        }
        Ok(())
    })
    .unwrap();
}
