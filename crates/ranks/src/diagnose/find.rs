//! What can be said about a job that does not move.

use std::time::Duration;

use super::graph;
use super::snapshot::{Awaits, Snapshot};

/// Why some ranks do not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// `core` waits for itself: a circle, or a knot where ranks wait for any of several.
    Deadlock {
        core: Vec<usize>,
        /// Ranks that wait for it.
        behind: Vec<usize>,
    },
    /// Nothing moves, and it may be as it should be: somebody computes, sleeps or is stopped.
    Stall {
        /// Ranks that wait in a call.
        waiting: Vec<usize>,
        /// The others, who could end that.
        others: Vec<usize>,
    },
}

/// Findings about waits of at least `patience`. `quiet`: nothing has moved for as long.
pub(crate) fn find(snapshot: &Snapshot, patience: Duration, quiet: bool) -> Vec<Finding> {
    let waits_long = |rank: usize| waiting_time(snapshot, rank).is_some_and(|time| time >= patience);
    let mut findings = Vec::new();
    let mut explained = vec![false; snapshot.size()];
    for graph::Knot { core, behind } in graph::knots(snapshot) {
        core.iter().chain(&behind).for_each(|&rank| explained[rank] = true);
        if core.iter().all(|&rank| waits_long(rank)) {
            findings.push(Finding::Deadlock { core, behind });
        }
    }
    let unexplained = (0..snapshot.size()).any(|rank| waits_long(rank) && !explained[rank]);
    if quiet && unexplained {
        findings.push(stall(snapshot));
    }
    findings
}

fn stall(snapshot: &Snapshot) -> Finding {
    let ranks = 0..snapshot.size();
    let is_there = |rank: &usize| !snapshot.ranks[*rank].has_left();
    let (waiting, others) = ranks.filter(is_there).partition(|&rank| snapshot.ranks[rank].waits());
    Finding::Stall { waiting, others }
}

/// How long a blocked rank has been waiting.
pub(super) fn waiting_time(snapshot: &Snapshot, rank: usize) -> Option<Duration> {
    let view = &snapshot.ranks[rank];
    view.wait.as_ref().filter(|_| view.blocked).map(|wait| wait.time)
}

/// Collectives in which only the root has something to show.
const FROM_ROOT: [&str; 5] = ["broadcast", "broadcast_vec", "broadcast_object", "scatter", "scatter_varying"];

/// The ranks that have not come to the collective which `rank` waits in, if it waits in one.
pub(super) fn missing(snapshot: &Snapshot, rank: usize) -> Vec<usize> {
    let view = &snapshot.ranks[rank];
    let Some(wait) = &view.wait else { return Vec::new() };
    let Awaits::Entry(awaited) = wait.awaits else { return Vec::new() };
    let round = view.done.saturating_add(1);
    let everybody_shows = view.shown == round && !FROM_ROOT.contains(&wait.operation);
    let is_missing = |other: &usize| {
        let other = &snapshot.ranks[*other];
        other.shown < round && other.done < round
    };
    match everybody_shows {
        true => (0..snapshot.size()).filter(is_missing).collect(),
        false => vec![awaited],
    }
}

impl Finding {
    /// Whether nothing but ending the job can help.
    pub(crate) fn is_certain(&self) -> bool {
        matches!(self, Self::Deadlock { .. })
    }

    /// The ranks that it is about.
    pub(crate) fn ranks(&self) -> Vec<usize> {
        let (first, second) = match self {
            Self::Deadlock { core, behind } => (core, behind),
            Self::Stall { waiting, others } => (waiting, others),
        };
        first.iter().chain(second).copied().collect()
    }

    /// How long all of those have been waiting that it is about.
    pub(crate) fn age(&self, snapshot: &Snapshot) -> Duration {
        let held = self.held().iter();
        held.filter_map(|&rank| waiting_time(snapshot, rank)).min().unwrap_or_default()
    }

    /// Who is held up.
    fn held(&self) -> &[usize] {
        match self {
            Self::Deadlock { core, .. } => core,
            Self::Stall { waiting, .. } => waiting,
        }
    }

    /// The waits that it rests on: while they are the same, so is the finding.
    pub(crate) fn waits(&self, snapshot: &Snapshot) -> Vec<(usize, u64)> {
        let number = |rank: usize| snapshot.ranks[rank].wait.as_ref().map_or(0, |wait| wait.number);
        self.held().iter().map(|&rank| (rank, number(rank))).collect()
    }
}
