//! Smooths a line of values that is spread over the ranks.

use ranks::{Result, Sum, World};

/// Replaces every value by the mean of itself and its two neighbours. The ends of the line are neighbours of each other.
///
/// Every rank calls it with its part of the line, in the order of the ranks; no part may be empty.
pub fn smooth(world: &World, part: &mut [f64]) -> Result<()> {
    let (me, size) = (world.rank(), world.size());
    let (left, right) = ((me + size - 1) % size, (me + 1) % size);
    let (mut before, mut after) = ([0.0], [0.0]);
    world.sendrecv(&part[part.len() - 1..], right, &mut before, left)?;
    world.sendrecv(&part[..1], left, &mut after, right)?;

    let mut previous = before[0];
    for at in 0..part.len() {
        let next = part.get(at + 1).copied().unwrap_or(after[0]);
        let mean = (previous + part[at] + next) / 3.0;
        previous = std::mem::replace(&mut part[at], mean);
    }
    Ok(())
}

/// The sum of all values of the line, on every rank.
pub fn total(world: &World, part: &[f64]) -> Result<f64> {
    let mut total = [0.0];
    world.all_reduce(&[part.iter().sum::<f64>()], &mut total, Sum)?;
    Ok(total[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[ranks::test(3)]
    fn neighbours_on_other_ranks_count(world: &World) {
        let mut part = [0.0, 0.0];
        if world.rank() == 1 {
            part[0] = 3.0;
        }
        smooth(world, &mut part).unwrap();
        assert_eq!(part, [[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]][world.rank()]);
    }

    #[ranks::test(1)]
    fn a_rank_alone_is_its_own_neighbour(world: &World) -> Result<()> {
        let mut part = [3.0, 0.0, 0.0];
        smooth(world, &mut part)?;
        assert_eq!(part, [1.0, 1.0, 1.0]);
        Ok(())
    }

    // Plain tests stand beside those with ranks.
    #[test]
    fn a_mean_of_three() {
        assert_eq!((1.0 + 2.0 + 6.0) / 3.0, 3.0);
    }
}
