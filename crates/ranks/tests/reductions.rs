//! Reductions and scans against a sequential answer, which each rank computes for itself.

#[path = "support/values.rs"]
mod values;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use ranks::{
    BitAnd, BitOr, BitXor, Located, LogicalAnd, LogicalOr, LogicalXor, Max, MaxLocation, Min, MinLocation,
    Product, Reduction, Sum, World, spawn,
};
use values::{LENGTHS, RANKS, assert_same, lengths_and_roots, value};
use watchdog::{step, watch};

/// Composition of x -> ax + b: associative, not commutative. First `f`, then `g`.
fn compose(f: [u64; 2], g: [u64; 2]) -> [u64; 2] {
    [f[0].wrapping_mul(g[0]), f[1].wrapping_mul(g[0]).wrapping_add(g[1])]
}

fn functions(rank: usize, length: usize) -> Vec<[u64; 2]> {
    (0..length).map(|index| [2 * value(rank, index) + 1, value(rank, index + 1)]).collect()
}

/// The functions of ranks `0..=last`, composed in rank order.
fn composed(last: usize, length: usize) -> Vec<[u64; 2]> {
    let mut result = functions(0, length);
    for rank in 1..=last {
        result.iter_mut().zip(functions(rank, length)).for_each(|(f, g)| *f = compose(*f, g));
    }
    result
}

#[test]
fn reduce_combines_in_rank_order_on_the_root_alone() {
    for ranks in RANKS {
        spawn(ranks, |world| {
            watch(world);
            for (length, root) in lengths_and_roots(world.size()) {
                step(format!("{length} pairs of words to rank {root}"));
                let mut result = vec![[7, 7]; if world.rank() == root { length } else { 1 }];
                world.reduce(&functions(world.rank(), length), &mut result, compose, root).unwrap();
                if world.rank() == root {
                    assert_same(&result, &composed(world.size() - 1, length), "reduce");
                } else {
                    assert_eq!(result, [[7, 7]], "the result of another rank than the root is left alone");
                }
            }
        })
        .unwrap();
    }
}

#[test]
fn all_reduce_combines_in_rank_order_on_every_rank() {
    // Many ranks that share a processor let one of them combine short data for all.
    for ranks in RANKS.into_iter().chain([4, 16, 17]) {
        spawn(ranks, |world| {
            watch(world);
            // And on both sides of where one combines for all, and of where slices begin.
            for length in LENGTHS.into_iter().chain([63, 64, 127, 128, 1023, 1024, 2047, 2048, 4095, 4096]) {
                step(format!("{length} pairs of words"));
                let mut result = vec![[0, 0]; length];
                world.all_reduce(&functions(world.rank(), length), &mut result, compose).unwrap();
                assert_same(&result, &composed(world.size() - 1, length), "all_reduce");
            }
        })
        .unwrap();
    }
}

/// Adds elements that are several words each.
fn add_groups<const WORDS: usize>(world: &World, length: usize)
where
    [u64; WORDS]: bytemuck::Pod,
{
    let mut sums = vec![[0; WORDS]; length];
    let add = |left: [u64; WORDS], right: [u64; WORDS]| std::array::from_fn(|at| left[at] + right[at]);
    world.all_reduce(&vec![[world.rank() as u64 + 1; WORDS]; length], &mut sums, add).unwrap();
    assert_eq!(sums, vec![[(1..=world.size() as u64).sum(); WORDS]; length]);
}

/// Elements of three bytes do not fill words, and those of sixteen begin where not every word does.
#[test]
fn elements_of_any_size_are_reduced() {
    for ranks in RANKS {
        spawn(ranks, |world| {
            watch(world);
            for length in [1, 2, 3, 4, 10, 11, 21, 22, 100, 128, 129, 682, 683] {
                step(format!("{length} elements"));
                let bytes = |rank: usize| vec![[rank as u8 + 1, length as u8, 7]; length];
                let mut result = bytes(0);
                let mix = |left: [u8; 3], right: [u8; 3]| {
                    [0, 1, 2].map(|at| left[at].wrapping_mul(3).wrapping_add(right[at]))
                };
                world.all_reduce(&bytes(world.rank()), &mut result, mix).unwrap();
                let all = (1..world.size()).fold(bytes(0)[0], |all, rank| mix(all, bytes(rank)[0]));
                assert_eq!(result, vec![all; length]);
                let (mine, mut sums) = (vec![world.rank() as u128 + 1; length], vec![0; length]);
                world.all_reduce(&mine, &mut sums, Sum).unwrap();
                assert_eq!(sums, vec![(1..=world.size() as u128).sum::<u128>(); length]);
                // What is kept for such a sum is not a multiple of the elements that follow.
                let mut sums = vec![0; 2 * length + 299];
                world.all_reduce(&vec![1u64; 2 * length + 299], &mut sums, Sum).unwrap();
                assert_eq!(sums, vec![world.size() as u64; 2 * length + 299]);
                add_groups::<2>(world, length);
                add_groups::<8>(world, length);
            }
        })
        .unwrap();
    }
}

/// The first block of the result is in its place for the next round when the operation panics.
#[test]
fn an_all_reduce_that_panicked_leaves_nothing_to_the_next_one() {
    spawn(2, |world| {
        watch(world);
        let calls = Cell::new(0);
        let breaks_off = |left: u64, right: u64| {
            calls.set(calls.get() + 1);
            assert!(calls.get() <= 1000, "enough");
            left + right
        };
        let (mine, mut result) = ([world.rank() as u64; 8192], [0; 8192]);
        // Until there is room for what is shown next beside what is shown.
        (0..8).for_each(|_| world.all_reduce(&mine, &mut result, Sum).unwrap());
        let caught = catch_unwind(AssertUnwindSafe(|| world.all_reduce(&mine, &mut result, breaks_off)));
        assert!(caught.is_err());
        for next in 10..20 {
            world.all_reduce(&[next + world.rank() as u64; 8192], &mut result, Sum).unwrap();
            assert_eq!(result, [2 * next + 1; 8192]);
        }
    })
    .unwrap();
}

#[test]
fn scan_combines_up_to_and_with_this_rank() {
    for ranks in RANKS {
        spawn(ranks, |world| {
            watch(world);
            for length in LENGTHS {
                step(format!("{length} pairs of words"));
                let mut result = vec![[0, 0]; length];
                world.scan(&functions(world.rank(), length), &mut result, compose).unwrap();
                assert_same(&result, &composed(world.rank(), length), "scan");
            }
        })
        .unwrap();
    }
}

/// Reduces one element, `of(rank)`, on all ranks.
fn reduced<T: bytemuck::Pod>(world: &World, of: impl Fn(usize) -> T, operation: impl Reduction<T>) -> T {
    let mut result = [of(world.rank())];
    world.all_reduce(&[of(world.rank())], &mut result, operation).unwrap();
    result[0]
}

#[test]
fn the_standard_operations_do_what_they_are_called() {
    for ranks in RANKS {
        spawn(ranks, |world| {
            watch(world);
            let all = || 0..world.size();
            let small = |rank: usize| rank as u64 * 3 % 5 + 1;
            assert_eq!(reduced(world, small, Sum), all().map(small).sum::<u64>());
            assert_eq!(reduced(world, small, Product), all().map(small).product::<u64>());
            assert_eq!(reduced(world, small, Min), all().map(small).min().unwrap());
            assert_eq!(reduced(world, small, Max), all().map(small).max().unwrap());
            let bits = |rank: usize| 0b1111_0000_u64 ^ (1 << rank);
            assert_eq!(
                reduced(world, bits, BitAnd),
                all().map(bits).fold(u64::MAX, |left, right| left & right)
            );
            assert_eq!(reduced(world, bits, BitOr), all().map(bits).fold(0, |left, right| left | right));
            assert_eq!(reduced(world, bits, BitXor), all().map(bits).fold(0, |left, right| left ^ right));
            let negative = |rank: usize| -1.5 - rank as f64;
            assert_eq!(reduced(world, negative, Max), -1.5);
            assert_eq!(reduced(world, negative, Min), negative(world.size() - 1));
        })
        .unwrap();
    }
}

/// With one rank there is nothing to combine: the answer is its own value, which need not be 0 or 1.
#[test]
fn logical_operations_take_anything_but_zero_for_true() {
    for ranks in RANKS {
        spawn(ranks, |world| {
            watch(world);
            let last = world.size() - 1;
            let twice = |rank: usize| rank as u32 * 2;
            assert_ne!(reduced(world, |rank| rank as u32 + 4, LogicalAnd), 0);
            assert_eq!(reduced(world, twice, LogicalAnd), 0, "rank 0 gives zero");
            assert_eq!(reduced(world, |_| 0u32, LogicalOr), 0);
            assert_eq!(reduced(world, twice, LogicalOr) != 0, last > 0);
            assert_eq!(reduced(world, twice, LogicalXor) != 0, last % 2 == 1);
        })
        .unwrap();
    }
}

#[test]
fn locations_are_of_the_best_value_and_of_the_lowest_index_among_equals() {
    for ranks in RANKS {
        spawn(ranks, |world| {
            watch(world);
            let located = |value: f64, rank: usize| Located { value, index: 100 + rank as u64 };
            let peak = |rank: usize| located(-((rank as f64 - 2.0).abs()), rank);
            assert_eq!(reduced(world, peak, MaxLocation), peak(2.min(world.size() - 1)));
            assert_eq!(reduced(world, |rank| located(0.5, rank), MaxLocation), located(0.5, 0));
            assert_eq!(reduced(world, |rank| located(0.5, rank), MinLocation), located(0.5, 0));
            let falling = |rank: usize| located(-(rank as f64), rank);
            assert_eq!(reduced(world, falling, MinLocation), falling(world.size() - 1));
        })
        .unwrap();
    }
}

/// An operation with a type of its own, that sees whole slices.
struct SaturatingSum;

impl Reduction<u8> for SaturatingSum {
    fn combine(&self, accumulated: &mut [u8], next: &[u8]) {
        accumulated.iter_mut().zip(next).for_each(|(sum, term)| *sum = sum.saturating_add(*term));
    }
}

#[test]
fn operations_can_be_types_of_the_program() {
    for ranks in RANKS {
        spawn(ranks, |world| {
            watch(world);
            assert_eq!(reduced(world, |_| 30, SaturatingSum), (30 * world.size()).min(255) as u8);
            assert_eq!(reduced(world, |_| 40, SaturatingSum), (40 * world.size()).min(255) as u8);
        })
        .unwrap();
    }
}

/// Terms of very different size, so that any other order of additions gives other bits.
fn term(rank: usize, index: usize) -> f64 {
    let digits = value(rank, index * 7919) as f64;
    digits * 10f64.powi((rank * 5 + index) as i32 % 17 - 8)
}

/// Ranks come in another order each time; the sum must not depend on who came first.
#[test]
fn sums_of_floating_point_numbers_are_the_same_to_the_bit_whoever_comes_first() {
    let bits = |sums: &[f64]| sums.iter().map(|sum| sum.to_bits()).collect::<Vec<_>>();
    for ranks in RANKS {
        spawn(ranks, |world| {
            watch(world);
            for length in [1, 100, 20_000] {
                let data: Vec<_> = (0..length).map(|index| term(world.rank(), index)).collect();
                let in_order =
                    |index| (0..ranks).map(|rank| term(rank, index)).reduce(|left, right| left + right);
                let expected: Vec<_> = (0..length).filter_map(in_order).collect();
                for first in 0..world.size() {
                    step(format!("{length} numbers, rank {first} comes first"));
                    if world.rank() != first {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    let mut sums = vec![0.0; length];
                    world.all_reduce(&data, &mut sums, Sum).unwrap();
                    assert_same(&bits(&sums), &bits(&expected), "all_reduce");
                    world.reduce(&data, &mut sums, Sum, first).unwrap();
                    assert_same(&bits(&sums), &bits(&expected), "reduce");
                }
            }
        })
        .unwrap();
    }
}

/// Longer than what a rank can show in one round, and no multiple of it: 560,008 bytes.
type Long = [u64; LONG];
const LONG: usize = 70_001;

/// On the heap from the beginning: a few of them are more than a thread's stack.
fn longs(rank: usize, length: usize) -> Vec<Long> {
    let mut all: Vec<Long> = bytemuck::zeroed_vec(length);
    for (index, long) in all.iter_mut().enumerate() {
        long.iter_mut().enumerate().for_each(|(word, target)| *target = value(rank, index + word));
    }
    all
}

fn sevens(length: usize) -> Vec<Long> {
    let mut all: Vec<Long> = bytemuck::zeroed_vec(length);
    all.as_flattened_mut().fill(7);
    all
}

/// Not commutative, so that the order of the ranks shows.
struct Digits;

impl Reduction<Long> for Digits {
    fn combine(&self, accumulated: &mut [Long], next: &[Long]) {
        let pairs = accumulated.as_flattened_mut().iter_mut().zip(next.as_flattened());
        pairs.for_each(|(left, right)| *left = left.wrapping_mul(31).wrapping_add(*right));
    }
}

#[test]
fn elements_longer_than_a_round_are_combined_like_any_other() {
    // 17 ranks have smaller boards than 16.
    for ranks in [1, 2, 3, 17] {
        spawn(ranks, |world| {
            watch(world);
            for length in [0, 1, 3] {
                step(format!("{length} elements"));
                let of = |rank: usize| longs(rank, length);
                let up_to = |last: usize| {
                    let mut all = of(0);
                    (1..=last).for_each(|rank| Digits.combine(&mut all, &of(rank)));
                    all
                };
                let (data, last) = (of(world.rank()), world.size() - 1);
                let mut result = sevens(length);
                world.reduce(&data, &mut result, Digits, last).unwrap();
                let expected = if world.rank() == last { up_to(last) } else { sevens(length) };
                assert_same(result.as_flattened(), expected.as_flattened(), "reduce");
                world.all_reduce(&data, &mut result, Digits).unwrap();
                assert_same(result.as_flattened(), up_to(last).as_flattened(), "all_reduce");
                world.scan(&data, &mut result, Digits).unwrap();
                assert_same(result.as_flattened(), up_to(world.rank()).as_flattened(), "scan");
            }
        })
        .unwrap();
    }
}

/// Of two values that are no numbers a processor keeps the one that stands first, and a compiler may turn them around.
#[test]
fn sums_of_what_is_no_number_have_the_same_bits_on_all_ranks() {
    for ranks in 2..=4 {
        spawn(ranks, |world| {
            watch(world);
            for length in [1, 5, 100, 1000, 10_000] {
                step(format!("{length} values"));
                let mine = vec![f64::from_bits(0x7ff8_0000_0000_0001 + world.rank() as u64); length];
                let (mut sum, mut all) = (vec![0.0; length], vec![0.0; length * world.size()]);
                world.all_reduce(&mine, &mut sum, Sum).unwrap();
                world.all_gather(&sum, &mut all).unwrap();
                let bits: Vec<_> = all.iter().map(|value| value.to_bits()).collect();
                assert!(bits.chunks(length).all(|one| one == &bits[..length]), "{length} values");
            }
        })
        .unwrap();
    }
}
