//! Gathers, scatters and all-to-alls, of equal and of unequal parts, against a sequential answer, which each rank computes for itself.

#[path = "support/parts.rs"]
mod parts;
#[path = "support/values.rs"]
mod values;
#[path = "support/watchdog.rs"]
mod watchdog;

use parts::{concatenated, values};
use ranks::{Varying, spawn};
use values::{LENGTHS, RANKS, assert_same, lengths_and_roots};
use watchdog::{step, watch};

#[test]
fn gather_puts_the_parts_in_rank_order_on_the_root_alone() {
    for ranks in RANKS {
        spawn(ranks, |world| {
            watch(world);
            for (length, root) in lengths_and_roots(world.size()) {
                step(format!("{length} words to rank {root}"));
                let mut result = vec![7; if world.rank() == root { length * world.size() } else { 1 }];
                world.gather(&values(world.rank(), length), &mut result, root).unwrap();
                if world.rank() == root {
                    assert_same(&result, &concatenated(world.size(), length), "gather");
                } else {
                    assert_eq!(result, [7], "the result of another rank than the root is left alone");
                }
            }
        })
        .unwrap();
    }
}

#[test]
fn all_gather_puts_the_parts_in_rank_order_on_every_rank() {
    for ranks in RANKS {
        spawn(ranks, |world| {
            watch(world);
            for length in LENGTHS {
                step(format!("{length} words"));
                let mut result = vec![0; length * world.size()];
                world.all_gather(&values(world.rank(), length), &mut result).unwrap();
                assert_same(&result, &concatenated(world.size(), length), "all_gather");
            }
        })
        .unwrap();
    }
}

#[test]
fn scatter_gives_each_rank_its_part_of_what_the_root_has() {
    for ranks in RANKS {
        spawn(ranks, |world| {
            watch(world);
            for (length, root) in lengths_and_roots(world.size()) {
                step(format!("{length} words from rank {root}"));
                let data = if world.rank() == root { concatenated(world.size(), length) } else { Vec::new() };
                let mut result = vec![0; length];
                world.scatter(&data, &mut result, root).unwrap();
                assert_same(&result, &values(world.rank(), length), "scatter");
            }
        })
        .unwrap();
    }
}

#[test]
fn all_to_all_transposes() {
    for ranks in RANKS {
        spawn(ranks, |world| {
            watch(world);
            for length in LENGTHS {
                step(format!("{length} words per pair"));
                let part = |from: usize, to: usize| values(from * 10 + to, length);
                let data: Vec<_> = (0..ranks).flat_map(|to| part(world.rank(), to)).collect();
                let expected: Vec<_> = (0..ranks).flat_map(|from| part(from, world.rank())).collect();
                let mut result = vec![0; data.len()];
                world.all_to_all(&data, &mut result).unwrap();
                assert_same(&result, &expected, "all_to_all");
            }
        })
        .unwrap();
    }
}

/// Unequal lengths up to `longest`, some of them zero.
fn uneven(from: usize, to: usize, longest: usize) -> usize {
    (from * 3 + to * 5) % 7 * longest / 6
}

#[track_caller]
fn assert_parts(found: &Varying<u64>, expected: &[Vec<u64>], what: &str) {
    assert_eq!(found.counts, expected.iter().map(Vec::len).collect::<Vec<_>>(), "{what}: counts");
    assert_eq!(found.parts().count(), expected.len(), "{what}: parts");
    for (rank, part) in expected.iter().enumerate() {
        assert_same(found.part(rank), part, what);
    }
    assert_same(&found.data, &expected.concat(), what);
}

#[test]
fn gather_varying_infers_unequal_counts() {
    for ranks in RANKS {
        spawn(ranks, |world| {
            watch(world);
            for (longest, root) in lengths_and_roots(world.size()) {
                step(format!("at most {longest} words to rank {root}"));
                let part = |rank: usize| values(rank, uneven(rank, root, longest));
                let gathered = world.gather_varying(&part(world.rank()), root).unwrap();
                assert_eq!(gathered.is_some(), world.rank() == root);
                if let Some(found) = gathered {
                    assert_parts(&found, &(0..ranks).map(part).collect::<Vec<_>>(), "gather_varying");
                }
            }
        })
        .unwrap();
    }
}

#[test]
fn all_gather_varying_infers_unequal_counts() {
    for ranks in RANKS {
        spawn(ranks, |world| {
            watch(world);
            for longest in LENGTHS {
                step(format!("at most {longest} words"));
                let part = |rank: usize| values(rank, uneven(rank, 1, longest));
                let found = world.all_gather_varying(&part(world.rank())).unwrap();
                assert_parts(&found, &(0..ranks).map(part).collect::<Vec<_>>(), "all_gather_varying");
            }
        })
        .unwrap();
    }
}

#[test]
fn scatter_varying_tells_each_rank_its_count() {
    for ranks in RANKS {
        spawn(ranks, |world| {
            watch(world);
            for (longest, root) in lengths_and_roots(world.size()) {
                step(format!("at most {longest} words from rank {root}"));
                let part = |rank: usize| values(rank, uneven(root, rank, longest));
                let parts: Vec<_> = (0..ranks).map(part).collect();
                let counts: Vec<_> = parts.iter().map(Vec::len).collect();
                let is_root = world.rank() == root;
                let (data, counts) = if is_root { (parts.concat(), counts) } else { (vec![], vec![]) };
                let found = world.scatter_varying(&data, &counts, root).unwrap();
                assert_same(&found, &parts[world.rank()], "scatter_varying");
            }
        })
        .unwrap();
    }
}

#[test]
fn all_to_all_varying_infers_what_comes_in() {
    for ranks in RANKS {
        spawn(ranks, |world| {
            watch(world);
            for longest in LENGTHS {
                step(format!("at most {longest} words per pair"));
                let part = |from: usize, to: usize| values(from * 10 + to, uneven(from, to, longest));
                let outgoing: Vec<_> = (0..ranks).map(|to| part(world.rank(), to)).collect();
                let counts: Vec<_> = outgoing.iter().map(Vec::len).collect();
                let found = world.all_to_all_varying(&outgoing.concat(), &counts).unwrap();
                let incoming: Vec<_> = (0..ranks).map(|from| part(from, world.rank())).collect();
                assert_parts(&found, &incoming, "all_to_all_varying");
            }
        })
        .unwrap();
    }
}
