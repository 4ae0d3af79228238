//! The library from outside.

use ranks::World;
use smoothing::{smooth, total};

#[ranks::test(ranks = 4, timeout = "20s")]
fn smoothing_keeps_the_total(world: World) -> Result<(), Box<dyn std::error::Error>> {
    let mut part: Vec<f64> = (0..100).map(|i| f64::from(i * world.rank() as u32)).collect();
    let before = total(&world, &part)?;
    for _ in 0..50 {
        smooth(&world, &mut part)?;
    }
    let after = total(&world, &part)?;
    assert!((after - before).abs() < 1e-6 * before, "{before} became {after}");
    Ok(world.finalize()?)
}

#[ranks::test(2)]
#[should_panic(expected = "rank 1 panicked")]
fn an_empty_part_is_refused(world: &World) {
    let mut part = vec![1.0; 1 - world.rank()];
    smooth(world, &mut part).unwrap();
}

#[ranks::test(8)]
#[ignore = "takes a while"]
fn a_long_line(world: &World) {
    let mut part = vec![1.0; 1_000_000];
    smooth(world, &mut part).unwrap();
    assert_eq!(total(world, &part).unwrap(), 8e6);
}
