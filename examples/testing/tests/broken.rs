//! Tests that fail, each in its own way: `cargo test --features broken --test broken`.
#![cfg(feature = "broken")]

use ranks::World;

#[ranks::test(4)]
fn one_rank_panics(world: &World) {
    println!("rank {} is at work", world.rank());
    world.barrier().unwrap();
    assert_ne!(world.rank(), 2, "the sums differ");
    world.barrier().unwrap();
}

#[ranks::test(3)]
fn one_rank_returns_an_error(world: &World) -> ranks::Result<()> {
    if world.rank() == 0 {
        return world.send(&[1], 7);
    }
    world.recv_vec::<i32>(0).map(drop)
}

#[ranks::test(2)]
fn one_rank_is_killed(world: &World) {
    if world.rank() == 1 {
        std::process::abort();
    }
    world.recv_vec::<u8>(1).unwrap();
}

#[ranks::test(2)]
fn one_rank_exits(world: &World) {
    if world.rank() == 1 {
        std::process::exit(0);
    }
    world.recv_vec::<u8>(1).unwrap();
}

// Ranks that wait look around every half a second: a report of that very moment may find them awake.
#[ranks::test(ranks = 3, timeout = "1200ms")]
fn two_ranks_wait_for_each_other(world: &World) {
    match world.rank() {
        0 => world.recv_vec::<u8>((1, 5)).map(drop).unwrap(),
        1 => world.recv_vec::<u8>((0, 6)).map(drop).unwrap(),
        _ => world.barrier().unwrap(),
    }
}

#[ranks::test(600)]
fn too_many_ranks(_world: &World) {}
