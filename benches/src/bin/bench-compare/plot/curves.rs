//! Which figures go into which panel.

use std::collections::BTreeSet;

use super::chart::{Curve, Panel, Stroke, X};
use crate::contender::OURS;
use crate::plan::START_UP;
use crate::results::{Entry, Key, Results};
use crate::rounds::{FLOOR, HAND_OFF};

const PEERS: [&str; 4] = ["openmpi4", "openmpi5", "mpich5", "impi"];

pub(crate) fn latency(results: &Results) -> Vec<Panel> {
    let mut by_size = by_size(results, "latency", 2, "half a round trip, µs", median);
    if let Some(floor) = results.entry(FLOOR, &key(HAND_OFF, 2, 64)).and_then(median) {
        let line = by_size.x_range().map(|(from, to)| vec![(from, floor), (to, floor)]);
        by_size.add(FLOOR, Stroke::Dotted, line.unwrap_or_default());
    }
    vec![by_size, by_size_of(results, "any-latency", 2, "half a round trip, µs")]
}

pub(crate) fn bandwidth(results: &Results) -> Vec<Panel> {
    let gigabytes = |entry: &Entry| median(entry).map(|megabytes| megabytes / 1e3);
    vec![
        by_size(results, "bw", 2, "GB/s", gigabytes),
        by_size(results, "bibw", 2, "both directions, GB/s", gigabytes),
    ]
}

/// Of short messages: of long ones it says the same as the bandwidth.
pub(crate) fn message_rate(results: &Results) -> Vec<Panel> {
    const LONGEST: usize = 8192;
    let rate = |entry: &Entry| {
        let short = (1..=LONGEST).contains(&entry.key.size);
        median(entry).filter(|_| short).map(|megabytes| megabytes / entry.key.size as f64)
    };
    ["bw", "mbw-mr"].map(|test| by_size(results, test, 2, "million messages/s", rate)).into()
}

pub(crate) fn collectives(results: &Results) -> Vec<Panel> {
    let tests = ["bcast", "reduce", "allreduce", "allgather", "alltoall", "gather", "scatter"];
    let mut panels: Vec<_> = tests.iter().map(|test| by_size_of(results, test, 2, "µs")).collect();
    panels.push(by_ranks(results, "barrier", 0, "barrier", "µs"));
    if panels.iter().all(Panel::is_empty) { Vec::new() } else { panels }
}

pub(crate) fn of_more_ranks(results: &Results) -> Vec<Panel> {
    let tests = ["bcast", "allreduce", "alltoall"];
    let of = |ranks| tests.iter().map(move |test| by_size_of(results, test, ranks, "µs"));
    [4, 8].into_iter().flat_map(of).filter(|panel| !panel.is_empty()).collect()
}

pub(crate) fn start_up(results: &Results) -> Vec<Panel> {
    vec![
        by_ranks(results, START_UP, 0, "start-up: init and finalize", "ms"),
        by_ranks(results, "barrier", 0, "barrier", "µs"),
        by_ranks(results, "allreduce", 8, "allreduce, 8 bytes", "µs"),
    ]
}

fn by_size_of(results: &Results, test: &str, ranks: usize, unit: &str) -> Panel {
    by_size(results, test, ranks, unit, median)
}

fn by_size(
    results: &Results,
    test: &str,
    ranks: usize,
    unit: &str,
    value: impl Fn(&Entry) -> Option<f64>,
) -> Panel {
    let keys = results.sizes(test, ranks).into_iter().map(|size| key(test, ranks, size)).collect();
    of_everybody(results, keys, &format!("{test}, {ranks} ranks"), unit, X::Bytes, value)
}

fn by_ranks(results: &Results, test: &str, size: usize, title: &str, unit: &str) -> Panel {
    let ours = results.entries.iter().filter(|entry| entry.key.test == test && entry.key.size == size);
    let ranks: BTreeSet<_> = ours.map(|entry| entry.key.ranks).collect();
    let keys = ranks.into_iter().map(|ranks| key(test, ranks, size)).collect();
    of_everybody(results, keys, title, unit, X::Ranks, median)
}

/// Of each peer its defaults and the best of its settings, each point by itself; ours last, above the others.
fn of_everybody(
    results: &Results,
    keys: Vec<Key>,
    title: &str,
    unit: &str,
    x: X,
    value: impl Fn(&Entry) -> Option<f64>,
) -> Panel {
    let mut panel = Panel { title: title.to_owned(), unit: unit.to_owned(), x, curves: Vec::new() };
    let points = |of: &dyn Fn(&Key) -> Option<f64>| -> Vec<_> {
        keys.iter().filter_map(|key| Some((x.of(key), of(key)?))).collect()
    };
    for peer in PEERS {
        let default = format!("{peer}-default");
        panel.add(peer, Stroke::Dashed, points(&|key| value(results.entry(&default, key)?)));
        panel.add(peer, Stroke::Solid, points(&|key| value(results.best_of(peer, key)?)));
    }
    panel.add(OURS, Stroke::Thick, points(&|key| value(results.ours(key)?)));
    panel
}

fn median(entry: &Entry) -> Option<f64> {
    // A value of 0 has no place on a logarithmic axis.
    entry.spread().map(|spread| spread.median).filter(|&median| median > 0.0)
}

fn key(test: &str, ranks: usize, size: usize) -> Key {
    Key { test: test.to_owned(), ranks, size }
}

impl Panel {
    fn add(&mut self, peer: &str, stroke: Stroke, points: Vec<(f64, f64)>) {
        if !points.is_empty() {
            self.curves.push(Curve { peer: peer.to_owned(), stroke, points });
        }
    }
}

impl X {
    fn of(self, key: &Key) -> f64 {
        match self {
            // 0 bytes stand left of 1 byte.
            X::Bytes if key.size == 0 => -1.0,
            X::Bytes => (key.size as f64).log2(),
            X::Ranks => (key.ranks as f64).log2(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample;

    #[test]
    fn a_panel_has_ours_and_both_of_each_peer() {
        let panels = latency(&sample());
        let curves: Vec<_> =
            panels[0].curves.iter().map(|curve| (curve.peer.as_str(), curve.stroke)).collect();
        let expected = [("openmpi5", Stroke::Dashed), ("openmpi5", Stroke::Solid), (OURS, Stroke::Thick)];
        assert_eq!(curves, expected);
    }

    #[test]
    fn rates_come_from_bandwidths() {
        let panels = message_rate(&sample());
        let ours = panels[0].curves.last().unwrap();
        // 750 MB/s of 8 bytes each.
        assert_eq!(ours.points, [(3.0, 93.75)]);
    }
}
