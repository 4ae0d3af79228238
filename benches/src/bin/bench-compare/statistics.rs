//! Medians, ratios by round, and which rounds the machine has spoilt.

use serde::{Deserialize, Serialize};

/// A round is flagged when its hand-off of a cache line took this much longer than in the best round: cores of a
/// shared machine change between states that differ by more than that.
pub(crate) const FLAGGED_FROM: f64 = 2.0;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// `None` of no values.
pub(crate) fn spread(values: &[f64]) -> Option<Spread> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (&min, &max) = (sorted.first()?, sorted.last()?);
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    };
    Some(Spread { median, min, max })
}

/// Ours divided by theirs in each round that has both: only neighbours in time can be compared.
pub(crate) fn ratios(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Vec<f64> {
    ours.iter().zip(theirs).filter_map(|(ours, theirs)| Some((*ours)? / (*theirs)?)).collect()
}

/// For each round, whether its floor is off by more than [`FLAGGED_FROM`] from the best. Unmeasured: not flagged.
pub(crate) fn flagged(floors: &[Option<f64>]) -> Vec<bool> {
    let best = floors.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    floors.iter().map(|floor| floor.is_some_and(|floor| floor > FLAGGED_FROM * best)).collect()
}

/// The power of x with which y grows: the slope of the straight line that is nearest to the points' logarithms.
/// `None` of fewer than two different x.
pub(crate) fn growth(points: &[(f64, f64)]) -> Option<f64> {
    let logarithms: Vec<_> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = logarithms.len() as f64;
    let mean_x = logarithms.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = logarithms.iter().map(|(_, y)| y).sum::<f64>() / count;
    let together: f64 = logarithms.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let apart: f64 = logarithms.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    (apart > 0.0).then(|| together / apart)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_odd_number_is_one_of_them() {
        let found = spread(&[3.0, 1.0, 100.0]).unwrap();
        assert_eq!(found, Spread { median: 3.0, min: 1.0, max: 100.0 });
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        assert_eq!(spread(&[4.0, 1.0, 2.0, 100.0]).unwrap().median, 3.0);
    }

    #[test]
    fn nothing_has_no_median() {
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn a_ratio_is_taken_within_a_round() {
        // The machine was ten times slower in the second round; ours was twice as fast in both.
        assert_eq!(ratios(&[Some(1.0), Some(10.0)], &[Some(2.0), Some(20.0)]), [0.5, 0.5]);
    }

    #[test]
    fn a_round_without_one_of_the_two_has_no_ratio() {
        assert_eq!(ratios(&[Some(1.0), None, Some(3.0)], &[None, Some(2.0), Some(6.0)]), [0.5]);
    }

    #[test]
    fn a_round_is_flagged_beyond_twice_the_best_floor() {
        let floors = [Some(0.05), Some(0.1), Some(0.11), None];
        assert_eq!(flagged(&floors), [false, false, true, false]);
    }

    #[test]
    fn growth_is_the_power() {
        let square = [(2.0, 12.0), (4.0, 48.0), (8.0, 192.0)];
        assert!((growth(&square).unwrap() - 2.0).abs() < 1e-9);
        assert!(growth(&[(2.0, 1.0), (8.0, 1.0)]).unwrap().abs() < 1e-9);
        assert_eq!(growth(&[(2.0, 1.0)]), None);
        assert_eq!(growth(&[]), None);
    }
}
