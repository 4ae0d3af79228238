//! `ranks::spawn` under the test harness: children find their call, output and failures come back.

use ranks::{Spawn, spawn};

fn sum_of_ranks(size: usize) {
    spawn(size, |world| {
        let mut sum = [0u64];
        world.all_reduce(&[world.rank() as u64], &mut sum, ranks::Sum).unwrap();
        assert_eq!(sum[0] as usize, (0..world.size()).sum());
        assert_ne!(world.rank(), usize::MAX);
    })
    .unwrap();
}

/// Several of these run in parallel, and call from the same line.
macro_rules! parallel {
    ($($name:ident: $size:expr),*) => {
        $(#[test] fn $name() { sum_of_ranks($size); })*
    };
}
parallel!(parallel_1: 1, parallel_2: 2, parallel_3: 3, parallel_4: 4, parallel_5: 5, parallel_6: 6, parallel_7: 7, parallel_8: 8);

#[test]
fn messages_travel_between_ranks() {
    spawn(2, |world| match world.rank() {
        0 => world.send(&[1u32, 2, 3], 1).unwrap(),
        _ => assert_eq!(world.recv_vec::<u32>(0).unwrap().0, [1, 2, 3]),
    })
    .unwrap();
}

#[test]
fn two_in_one_test_run_one_after_the_other() {
    spawn(2, |world| assert_eq!(world.size(), 2)).unwrap();
    spawn(3, |world| assert_eq!(world.size(), 3)).unwrap();
}

#[test]
fn a_loop_calls_the_same_line_again() {
    for size in 1..=3 {
        spawn(size, |world| assert_eq!(world.size(), size)).unwrap();
    }
}

#[test]
fn a_panic_comes_back_with_rank_message_and_place() {
    let error = spawn(3, |world| {
        if world.rank() == 1 {
            panic!("the answer is {}", 42);
        }
        // Hangs unless the panic of the other ends it.
        let _ = world.recv_vec::<u8>(1);
    });
    let message = error.unwrap_err().to_string();
    assert!(message.contains("rank 1") && message.contains("the answer is 42"), "{message}");
    assert!(message.contains("tests/spawn.rs"), "{message}");
}

#[test]
fn an_abort_comes_back_with_its_code() {
    let message = spawn(2, |world| {
        if world.rank() == 0 {
            world.abort(7);
        }
        let _ = world.recv_vec::<u8>(0);
    })
    .unwrap_err()
    .to_string();
    assert!(message.contains("rank 0") && message.contains("abort(7)"), "{message}");
}

#[test]
fn an_exit_without_finalizing_is_a_failure() {
    let message = spawn(2, |world| {
        if world.rank() == 1 {
            std::process::exit(0);
        }
        let _ = world.recv_vec::<u8>(1);
    })
    .unwrap_err()
    .to_string();
    assert!(message.contains("rank 1") && message.contains("without finalizing"), "{message}");
}

#[test]
fn a_copy_that_does_not_come_here_is_reported() {
    let spawn = Spawn::new(2).test_name("no_such_test");
    let message = spawn.run(|_| {}).unwrap_err().to_string();
    assert!(message.contains("rank 0") && message.contains("no_such_test"), "{message}");
}

#[test]
fn a_caught_panic_is_no_failure() {
    spawn(2, |world| {
        assert!(std::panic::catch_unwind(|| panic!("caught")).is_err());
        world.barrier().unwrap();
    })
    .unwrap();
}

#[test]
fn a_spawn_inside_a_rank_is_refused() {
    spawn(1, |_| {
        let message = spawn(1, |_| {}).unwrap_err().to_string();
        assert!(message.contains("inside a rank"), "{message}");
    })
    .unwrap();
}

#[test]
fn a_second_init_is_refused() {
    spawn(1, |_| {
        let message = ranks::init().unwrap_err().to_string();
        assert!(message.contains("has been a rank before"), "{message}");
    })
    .unwrap();
}

#[test]
fn zero_ranks_and_too_many_are_refused() {
    for ranks in [0, 100_000] {
        let message = spawn(ranks, |_| {}).unwrap_err().to_string();
        assert!(message.contains(&ranks.to_string()), "{message}");
    }
}

#[test]
fn a_thread_of_the_test_can_spawn_when_it_names_the_test() {
    let job = || Spawn::new(2).test_name("a_thread_of_the_test_can_spawn_when_it_names_the_test").run(|_| {});
    std::thread::spawn(job).join().unwrap().unwrap();
}
