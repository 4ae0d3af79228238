//! `#[ranks::test]` as its users write it. What a failing test prints is looked at by ci/testing.

use std::time::{Duration, Instant};

use ranks::{Sum, World};

const RANKS: usize = 3;

fn sum_of_ranks(world: &World) -> ranks::Result<u64> {
    let mut sum = [0];
    world.all_reduce(&[world.rank() as u64], &mut sum, Sum)?;
    Ok(sum[0])
}

#[ranks::test(4)]
fn the_body_runs_in_every_rank(world: &World) {
    assert_eq!((world.size(), sum_of_ranks(world).unwrap()), (4, 6));
}

#[ranks::test(ranks = RANKS, timeout = "30s")]
fn the_number_may_be_a_constant(world: &World) -> ranks::Result<()> {
    assert_eq!((world.size(), sum_of_ranks(world)?), (3, 3));
    Ok(())
}

#[ranks::test(2)]
fn the_body_may_own_the_world(world: World) -> Result<(), Box<dyn std::error::Error>> {
    sum_of_ranks(&world)?;
    Ok(world.finalize()?)
}

mod inner {
    #[ranks::test(2)]
    fn modules_belong_to_the_name(world: &ranks::World) {
        assert_eq!(world.size(), 2);
    }
}

macro_rules! at_sizes {
    ($($name:ident: $ranks:expr),*) => {
        $(#[ranks::test($ranks)]
        fn $name(world: &World) {
            assert_eq!(world.size(), $ranks);
        })*
    };
}
at_sizes!(tests_of_one_line_1: 1, tests_of_one_line_2: 2, tests_of_one_line_5: 5);

#[ranks::test(3)]
#[should_panic(expected = "rank 1 panicked after")]
fn a_panic_names_its_rank(world: &World) {
    assert_ne!(world.rank(), 1, "not this one");
    world.barrier().unwrap();
}

#[ranks::test(3)]
#[should_panic(expected = "not this one")]
fn a_panic_brings_its_message(world: &World) {
    assert_ne!(world.rank(), 1, "not this one");
    world.barrier().unwrap();
}

#[ranks::test(2)]
#[should_panic(expected = "rank 1: returned an error: the disk is full")]
fn an_error_brings_its_message(world: &World) -> Result<(), String> {
    if world.rank() == 1 {
        return Err("the disk is full".to_owned());
    }
    world.recv_vec::<u8>(1).map(drop).map_err(|error| error.to_string())
}

#[ranks::test(2)]
#[should_panic(expected = "rank 1: returned an error: the disk is full")]
fn an_error_after_the_world_is_gone_brings_its_message(world: World) -> Result<(), String> {
    let rank = world.rank();
    world.finalize().unwrap();
    if rank == 1 { Err("the disk is full".to_owned()) } else { Ok(()) }
}

#[ranks::test(3, on_failure = "continue")]
fn a_test_goes_on_without_a_rank_if_it_says_so(world: World) -> ranks::Result<()> {
    if world.rank() == 1 {
        std::process::exit(3);
    }
    assert!(world.barrier().is_err());
    let world = world.shrink()?;
    assert_eq!((world.size(), sum_of_ranks(&world)?), (2, 1));
    world.finalize()
}

#[ranks::test(2, on_failure = "continue")]
#[should_panic(expected = "exit code 3")]
fn a_failure_that_nobody_took_note_of_fails_the_test(world: &World) {
    if world.rank() == 1 {
        std::process::exit(3);
    }
    assert!(world.barrier().is_err());
}

#[ranks::test(2, on_failure = "continue")]
#[should_panic(expected = "not this one")]
fn a_panic_fails_a_test_that_goes_on(world: World) -> ranks::Result<()> {
    assert_ne!(world.rank(), 1, "not this one");
    world.shrink()?.finalize()
}

#[ranks::test(2, on_failure = "kill")]
#[should_panic(expected = "exit code 3")]
fn a_test_ends_with_the_first_failure_if_it_says_so(world: World) -> ranks::Result<()> {
    if world.rank() == 1 {
        std::process::exit(3);
    }
    world.shrink()?.finalize()
}

#[ranks::test(2, timeout = "4s")]
#[should_panic(expected = "did not end within 4s\n  rank 0  recv_vec(from 1")]
fn a_hang_says_who_waits_for_what(world: &World) {
    world.recv_vec::<u8>(1 - world.rank()).unwrap();
}

#[ranks::test(2, timeout = "4s")]
#[should_panic(expected = "rank 1  sleeping for a time")]
fn a_hang_says_who_does_not_wait(world: &World) {
    match world.rank() {
        0 => drop(world.recv_vec::<u8>(1)),
        _ => std::thread::sleep(Duration::from_secs(60)),
    }
}

#[test]
fn the_time_of_a_spawn_is_kept() {
    let begin = Instant::now();
    let timeout = Duration::from_millis(300);
    let sleep = |_: &World| std::thread::sleep(Duration::from_secs(60));
    let message = ranks::Spawn::new(1).timeout(timeout).run(sleep).unwrap_err().to_string();
    assert!(message.contains("did not end within 300ms"), "{message}");
    assert!((timeout..Duration::from_secs(30)).contains(&begin.elapsed()));
}
