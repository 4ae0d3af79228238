//! Long messages whose memory is wanted back while both sides copy them.
//!
//! They take the direct lane where the system permits it, and the pool where not: what is promised is the same.

#[path = "support/payload.rs"]
mod payload;
#[path = "support/watchdog.rs"]
mod watchdog;

use payload::{check, filled};
use ranks::{Error, Result, World, spawn};
use watchdog::{step, watch};

/// In words: 64 MiB take both sides many turns.
const LONG: usize = 8 << 20;
const NOT_OURS: u64 = 0xdead_beef;
const GO: i32 = 9;

/// An error for a scope's body to return.
fn failure(world: &World) -> Result<()> {
    world.send(&[0u8], usize::MAX)
}

fn is_ours(result: &Result<()>) -> bool {
    matches!(result, Err(Error::RankOutOfRange { .. }))
}

fn tell(world: &World) {
    world.send(&[0u8], (1 - world.rank(), GO)).unwrap();
}

fn await_other(world: &World) {
    world.recv(&mut [0u8], (1 - world.rank(), GO)).unwrap();
}

#[test]
fn a_buffer_that_is_withdrawn_is_not_written_to_any_more() {
    spawn(2, |world| {
        watch(world);
        if world.rank() == 0 {
            let data = filled(1, LONG);
            for _ in 0..10 {
                step("sends what is not received to its end");
                world.send(&data, (1, 0)).unwrap();
                await_other(world);
            }
            return;
        }
        let mut buffer = vec![0; LONG];
        for turns in 0..10 {
            step(format!("withdraws after {turns} turns"));
            // So that it is matched at once.
            world.probe((0, 0)).unwrap();
            let result = world.scope(|scope| {
                let mut request = scope.irecv(&mut buffer, (0, 0))?;
                for _ in 0..turns {
                    request.test()?;
                }
                failure(world)
            });
            assert!(is_ours(&result));
            buffer.fill(NOT_OURS);
            tell(world);
            assert!(buffer.iter().all(|&word| word == NOT_OURS), "after {turns} turns");
        }
    })
    .unwrap();
}

#[test]
fn a_payload_that_is_withdrawn_arrives_as_it_was() {
    spawn(2, |world| {
        watch(world);
        for turns in 0..10 {
            step(format!("{turns} turns"));
            if world.rank() == 0 {
                let mut data = filled(turns, LONG);
                let result = world.scope(|scope| {
                    let mut request = scope.isend(&data, (1, 0))?;
                    await_other(world);
                    for _ in 0..turns {
                        request.test()?;
                    }
                    failure(world)
                });
                assert!(is_ours(&result));
                data.fill(NOT_OURS);
                tell(world);
            } else {
                let early = turns % 2 == 1;
                let matched = early.then(|| world.irecv_into(vec![0; LONG], (0, 0)).unwrap());
                tell(world);
                let receive = matched.unwrap_or_else(|| {
                    step("receives what was withdrawn before it was matched");
                    await_other(world);
                    world.irecv_into(vec![0; LONG], (0, 0)).unwrap()
                });
                check(&receive.wait().unwrap().0, turns);
                if early {
                    await_other(world);
                }
            }
        }
    })
    .unwrap();
}

#[test]
fn both_sides_may_withdraw() {
    spawn(2, |world| {
        watch(world);
        for turns in 0..10 {
            step(format!("{turns} turns"));
            if world.rank() == 0 {
                let mut data = filled(1, LONG);
                let result = world.scope(|scope| {
                    scope.isend(&data, (1, 0))?;
                    failure(world)
                });
                assert!(is_ours(&result));
                data.fill(NOT_OURS);
                tell(world);
                await_other(world);
            } else {
                await_other(world);
                let mut buffer = vec![0; LONG];
                let result = world.scope(|scope| {
                    let mut request = scope.irecv(&mut buffer, (0, 0))?;
                    for _ in 0..turns {
                        request.test()?;
                    }
                    failure(world)
                });
                assert!(is_ours(&result));
                buffer.fill(NOT_OURS);
                tell(world);
                assert!(buffer.iter().all(|&word| word == NOT_OURS));
            }
        }
    })
    .unwrap();
}

#[test]
fn a_dropped_request_keeps_its_vector_until_the_message_is_through() {
    spawn(2, |world| {
        watch(world);
        for turns in 0..5 {
            step(format!("{turns} turns"));
            if world.rank() == 0 {
                world.send(&filled(1, LONG), (1, 0)).unwrap();
                world.send(&filled(2, LONG), (1, 1)).unwrap();
            } else {
                // So that it is matched at once.
                world.probe((0, 0)).unwrap();
                let mut dropped = world.irecv_into(vec![0u64; LONG], (0, 0)).unwrap();
                for _ in 0..turns {
                    dropped.test().unwrap();
                }
                drop(dropped);
                let (data, _) = world.recv_vec::<u64>((0, 1)).unwrap();
                check(&data, 2);
            }
        }
    })
    .unwrap();
}

/// All of this again on either lane, whichever the machine would have chosen.
#[test]
fn the_same_on_both_lanes() {
    let name = "the_same_on_both_lanes";
    for lane in ["on", "off"] {
        let program = std::env::current_exe().unwrap();
        let tests =
            std::process::Command::new(program).env("SHMRUN_DIRECT", lane).args(["--skip", name]).output();
        let tests = tests.unwrap();
        let said = [tests.stdout, tests.stderr].concat();
        assert!(tests.status.success(), "SHMRUN_DIRECT={lane}: {}", String::from_utf8_lossy(&said));
    }
}
