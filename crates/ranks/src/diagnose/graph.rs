//! Who can never go on: the greatest set of sleeping ranks that wait for nobody outside of it.

use super::snapshot::{Awaits, Life, Snapshot};

/// Ranks that can never go on, by the circle at the bottom of their waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Knot {
    /// Each of these waits, directly or not, for every other one, and for nobody else.
    pub(super) core: Vec<usize>,
    /// These wait for them.
    pub(super) behind: Vec<usize>,
}

/// All knots.
pub(super) fn knots(snapshot: &Snapshot) -> Vec<Knot> {
    let size = snapshot.size();
    let stuck = stuck(snapshot);
    let edges: Vec<Vec<usize>> =
        (0..size).map(|rank| if stuck[rank] { awaited(snapshot, rank) } else { Vec::new() }).collect();
    let component = components(&edges);
    let leaves = |rank: usize| edges[rank].iter().any(|&other| component[other] != component[rank]);
    let mut open = vec![false; size];
    (0..size).filter(|&rank| leaves(rank)).for_each(|rank| open[component[rank]] = true);
    let mut knots = Vec::new();
    for number in (0..size).filter(|&number| !open[number]) {
        let core: Vec<usize> = (0..size).filter(|&rank| stuck[rank] && component[rank] == number).collect();
        if !core.is_empty() {
            let behind = behind(&edges, &core);
            knots.push(Knot { core, behind });
        }
    }
    knots
}

/// The ranks one of which has to do something before `rank` can go on; those that have left can not.
pub(super) fn awaited(snapshot: &Snapshot, rank: usize) -> Vec<usize> {
    let is_there = |other: &usize| !snapshot.ranks[*other].has_left();
    match snapshot.ranks[rank].wait.as_ref().map(|wait| &wait.awaits) {
        Some(Awaits::Message(None)) => {
            (0..snapshot.size()).filter(|&other| other != rank).filter(is_there).collect()
        }
        Some(Awaits::Message(Some(other)) | Awaits::Receiver(other) | Awaits::Entry(other)) => vec![*other],
        Some(Awaits::OneOf(others)) => others.iter().copied().filter(is_there).collect(),
        Some(Awaits::Unknown) | None => Vec::new(),
    }
}

fn stuck(snapshot: &Snapshot) -> Vec<bool> {
    let sleeps = |rank: usize| {
        let view = &snapshot.ranks[rank];
        view.life == Life::Attached && view.waits() && view.asleep
    };
    let awaited: Vec<Vec<usize>> = (0..snapshot.size()).map(|rank| awaited(snapshot, rank)).collect();
    let mut stuck: Vec<bool> = (0..snapshot.size()).map(sleeps).collect();
    let mut changed = true;
    while std::mem::take(&mut changed) {
        for rank in 0..stuck.len() {
            let hopeless = !awaited[rank].is_empty() && awaited[rank].iter().all(|&other| stuck[other]);
            changed |= stuck[rank] && !hopeless;
            stuck[rank] &= hopeless;
        }
    }
    stuck
}

/// The strongly connected component of each node, by a number below that of nodes (Kosaraju).
fn components(edges: &[Vec<usize>]) -> Vec<usize> {
    let mut reversed = vec![Vec::new(); edges.len()];
    for (from, others) in edges.iter().enumerate() {
        others.iter().for_each(|&to| reversed[to].push(from));
    }
    let mut order = Vec::new();
    let mut seen = vec![false; edges.len()];
    for node in 0..edges.len() {
        visit(edges, node, &mut seen, &mut order);
    }
    let mut component = vec![0; edges.len()];
    let mut seen = vec![false; edges.len()];
    for &node in order.iter().rev() {
        let mut members = Vec::new();
        visit(&reversed, node, &mut seen, &mut members);
        members.into_iter().for_each(|member| component[member] = node);
    }
    component
}

/// Everything new that can be reached from `node`, in the order in which the search leaves it.
fn visit(edges: &[Vec<usize>], node: usize, seen: &mut [bool], left: &mut Vec<usize>) {
    if std::mem::replace(&mut seen[node], true) {
        return;
    }
    let mut path = vec![(node, 0)];
    while let Some((node, next)) = path.last_mut() {
        match edges[*node].get(*next) {
            Some(&other) => {
                *next += 1;
                if !std::mem::replace(&mut seen[other], true) {
                    path.push((other, 0));
                }
            }
            None => {
                left.push(*node);
                path.pop();
            }
        }
    }
}

/// Who waits for `core`, directly or not.
fn behind(edges: &[Vec<usize>], core: &[usize]) -> Vec<usize> {
    let mut reached: Vec<bool> = (0..edges.len()).map(|rank| core.contains(&rank)).collect();
    loop {
        let reaches = |rank: &usize| !reached[*rank] && edges[*rank].iter().any(|&other| reached[other]);
        let Some(rank) = (0..edges.len()).find(reaches) else { break };
        reached[rank] = true;
    }
    (0..edges.len()).filter(|rank| reached[*rank] && !core.contains(rank)).collect()
}
