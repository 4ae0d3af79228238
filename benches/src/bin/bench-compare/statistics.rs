//! Medians, ratios by round, and growth.

use serde::{Deserialize, Serialize};

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

/// Ours divided by theirs for each round of ours: with theirs of the same round, or of the nearest that has one no more
/// than `reach` rounds away. Only neighbours in time can be compared.
pub(crate) fn ratios(ours: &[Option<f64>], theirs: &[Option<f64>], reach: usize) -> Vec<f64> {
    let theirs_at = |round: usize| theirs.get(round).copied().flatten();
    let nearest = |round: usize| {
        (0..=reach).find_map(|distance| {
            let earlier = round.checked_sub(distance).and_then(theirs_at);
            earlier.or_else(|| theirs_at(round + distance))
        })
    };
    let ratio = |(round, ours): (usize, &Option<f64>)| Some((*ours)? / nearest(round)?);
    ours.iter().enumerate().filter_map(ratio).collect()
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
        assert_eq!(ratios(&[Some(1.0), Some(10.0)], &[Some(2.0), Some(20.0)], 0), [0.5, 0.5]);
        assert_eq!(ratios(&[Some(1.0), Some(10.0)], &[Some(2.0), Some(20.0)], 2), [0.5, 0.5]);
    }

    #[test]
    fn a_round_without_one_of_the_two_has_no_ratio() {
        assert_eq!(ratios(&[Some(1.0), None, Some(3.0)], &[None, Some(2.0), Some(6.0)], 0), [0.5]);
    }

    #[test]
    fn a_ratio_may_reach_the_nearest_round_that_has_the_other() {
        let theirs = [Some(2.0), None, None, Some(4.0), None, None, None];
        let ours = |round: usize| (0..7).map(|at| (at == round).then_some(1.0)).collect::<Vec<_>>();
        let found: Vec<_> = (0..7).map(|round| ratios(&ours(round), &theirs, 2)).collect();
        assert_eq!(found, [vec![0.5], vec![0.5], vec![0.25], vec![0.25], vec![0.25], vec![0.25], vec![]]);
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
