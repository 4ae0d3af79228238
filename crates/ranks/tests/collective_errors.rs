//! Collectives that are called wrongly give errors that name the values, and nobody hangs.

#[path = "support/watchdog.rs"]
mod watchdog;

use ranks::{Error, Sum, World, spawn};
use watchdog::watch;

/// Asserts that the message of `error` names every one of `parts`.
#[track_caller]
fn assert_names(error: &Error, parts: &[&str]) {
    let message = error.to_string();
    parts.iter().for_each(|part| assert!(message.contains(part), "{part:?} is missing in: {message}"));
}

/// Ends this rank with the error of `result`, if it is one.
#[track_caller]
fn or_fail(result: ranks::Result<()>) {
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// A mistake that one rank sees for itself, before it waits for anybody.
#[test]
fn lengths_that_do_not_fit_are_errors_that_name_both() {
    spawn(1, |world| {
        watch(world);
        let (long, short) = ([1u64; 1003], &mut [0u64; 517]);
        let both = ["1003", "517"];
        assert_names(&world.all_reduce(&long, short, Sum).unwrap_err(), &both);
        assert_names(&world.reduce(&long, short, Sum, 0).unwrap_err(), &both);
        assert_names(&world.scan(&long, short, Sum).unwrap_err(), &both);
        assert_names(&world.gather(&long, short, 0).unwrap_err(), &both);
        assert_names(&world.all_gather(&long, short).unwrap_err(), &both);
        assert_names(&world.scatter(&long, short, 0).unwrap_err(), &both);
        assert_names(&world.all_to_all(&long, short).unwrap_err(), &both);
        assert_names(&world.scatter_varying(&long, &[517], 0).unwrap_err(), &both);
        assert_names(&world.all_to_all_varying(&long, &[517]).unwrap_err(), &both);
    })
    .unwrap();
}

#[test]
fn counts_for_another_number_of_ranks_are_errors_that_name_both() {
    spawn(1, |world| {
        watch(world);
        let error = world.all_to_all_varying(&[1u64; 3], &[1, 1, 1]).unwrap_err();
        assert_names(&error, &["all_to_all_varying", "3", "1"]);
        let error = world.scatter_varying(&[1u64; 3], &[1, 1, 1], 0).unwrap_err();
        assert_names(&error, &["scatter_varying", "3", "1"]);
    })
    .unwrap();
}

/// The sum wraps to the length of the data: such counts would pass an unchecked sum.
#[test]
fn counts_whose_sum_overflows_are_errors_on_the_rank_that_gives_them() {
    spawn(2, |world| {
        watch(world);
        let (data, counts) = ([1u64; 3], [usize::MAX, 4]);
        let root = world.rank();
        let errors = [
            world.scatter_varying(&data, &counts, root),
            world.all_to_all_varying(&data, &counts).map(|all| all.data),
        ];
        for error in errors.map(Result::unwrap_err) {
            assert!(matches!(error, Error::LengthMismatch { found: 3, .. }), "{error}");
            assert_names(&error, &["_varying", "counts overflows", "3"]);
        }
        // Nothing was shown: the ranks are still in step.
        world.barrier().unwrap();
    })
    .unwrap();
}

#[test]
fn a_root_out_of_range_is_an_error_on_every_rank_and_the_world_stays_usable() {
    spawn(3, |world| {
        watch(world);
        let (data, result) = (&mut [1u64; 4], &mut [0u64; 12]);
        assert_names(&world.broadcast(data, 73).unwrap_err(), &["broadcast", "73", "0 to 2"]);
        assert_names(&world.broadcast_vec(&mut vec![1u8], 73).unwrap_err(), &["broadcast", "73", "0 to 2"]);
        assert_names(&world.reduce(data, result, Sum, 73).unwrap_err(), &["reduce", "73", "0 to 2"]);
        assert_names(&world.gather(data, result, 73).unwrap_err(), &["gather", "73", "0 to 2"]);
        assert_names(&world.gather_varying(data, 73).unwrap_err(), &["gather", "73", "0 to 2"]);
        assert_names(&world.scatter(result, data, 73).unwrap_err(), &["scatter", "73", "0 to 2"]);
        assert_names(&world.scatter_varying(data, &[1, 1, 2], 73).unwrap_err(), &["scatter", "73", "0 to 2"]);
        world.all_reduce(&[1u64], &mut result[..1], Sum).unwrap();
        assert_eq!(result[0], 3);
    })
    .unwrap();
}

/// Runs a collective that the ranks do not agree on: the job has to fail with an error that names both sides.
/// Sizes may be named in elements or in bytes.
macro_rules! assert_disagreement {
    ($collective:expr, $($either:expr),+) => {{
        let error = spawn(3, |world: &World| {
            watch(world);
            or_fail($collective(world));
        })
        .unwrap_err()
        .to_string();
        $(assert!($either.iter().any(|part| error.contains(part)), "none of {:?} in: {error}", $either);)+
    }};
}

/// Rank 1 has 2005 elements of eight bytes, the others have 1003.
fn length(world: &World) -> usize {
    if world.rank() == 1 { 2005 } else { 1003 }
}

const LONGER: [&str; 2] = ["2005", "16040"];
const SHORTER: [&str; 2] = ["1003", "8024"];

#[test]
fn ranks_with_different_lengths_in_broadcast_get_an_error_with_both() {
    let broadcast = |world: &World| world.broadcast(&mut vec![0u64; length(world)], 0);
    assert_disagreement!(broadcast, LONGER, SHORTER);
}

#[test]
fn ranks_with_different_lengths_in_all_reduce_get_an_error_with_both() {
    let all_reduce = |world: &World| {
        let length = length(world);
        world.all_reduce(&vec![1u64; length], &mut vec![0; length], Sum)
    };
    assert_disagreement!(all_reduce, LONGER, SHORTER);
}

#[test]
fn ranks_with_different_lengths_in_all_gather_get_an_error_with_both() {
    let all_gather = |world: &World| {
        let length = length(world);
        world.all_gather(&vec![1u64; length], &mut vec![0; length * 3])
    };
    assert_disagreement!(all_gather, LONGER, SHORTER);
}

#[test]
fn ranks_with_different_lengths_in_all_to_all_get_an_error_with_both() {
    let all_to_all = |world: &World| {
        let length = length(world) * 3;
        world.all_to_all(&vec![1u64; length], &mut vec![0; length])
    };
    // Per pair, or all of it.
    assert_disagreement!(all_to_all, ["2005", "16040", "6015", "48120"], ["1003", "8024", "3009", "24072"]);
}

#[test]
fn ranks_with_different_roots_get_an_error_with_both() {
    let broadcast = |world: &World| world.broadcast(&mut [0u64; 4], if world.rank() == 1 { 2 } else { 0 });
    assert_disagreement!(broadcast, ["root 2"], ["root 0"]);
}

#[test]
fn ranks_in_different_collectives_get_an_error_with_both() {
    let different = |world: &World| match world.rank() {
        1 => world.barrier(),
        _ => world.broadcast(&mut [0u64; 4], 0),
    };
    assert_disagreement!(different, ["barrier"], ["broadcast"]);
}
