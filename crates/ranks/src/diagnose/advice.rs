//! What is wrong in a deadlock, and what to do about it.

use super::find;
use super::graph;
use super::snapshot::{Awaits, Snapshot, Unreceived, Wait};
use super::words::{at, call, ranks, size, verb};

/// The most lines about messages that nobody receives.
const MESSAGES_TOLD: usize = 8;

/// Lines below the table of a deadlock.
pub(super) fn lines(snapshot: &Snapshot, core: &[usize]) -> Vec<String> {
    let mut lines = absent(snapshot, core);
    let messages = unreceived(snapshot, core);
    let hint = match () {
        () if core.len() == 1 => alone(snapshot, core[0]),
        () if is_passed_over(snapshot, core) => {
            "a message lies where its receiver waits for another one: compare their tags and order".to_owned()
        }
        () if !lines.is_empty() => {
            "all ranks have to call the same collectives, in the same order".to_owned()
        }
        () if all(snapshot, core, |awaits| matches!(awaits, Awaits::Receiver(_))) => sends(snapshot),
        () if !messages.is_empty() => {
            "the messages above fit no receive that is waited for: compare sources and tags".to_owned()
        }
        () if all(snapshot, core, |awaits| matches!(awaits, Awaits::Message(_))) => {
            "each waits for a message that none of them has sent: somebody has to send first".to_owned()
        }
        () => "each needs another one to go on first: see the order of the calls".to_owned(),
    };
    lines.extend(messages);
    lines.push(format!("hint: {hint}"));
    lines
}

/// Whether the ranks of `core` wait for each other in a single circle.
pub(super) fn is_cycle(snapshot: &Snapshot, core: &[usize]) -> bool {
    core.iter().all(|&rank| graph::awaited(snapshot, rank).len() == 1)
}

fn wait(snapshot: &Snapshot, rank: usize) -> Option<&Wait> {
    snapshot.ranks[rank].wait.as_ref()
}

fn all(snapshot: &Snapshot, core: &[usize], is: impl Fn(&Awaits) -> bool) -> bool {
    core.iter().all(|&rank| wait(snapshot, rank).is_some_and(|wait| is(&wait.awaits)))
}

fn sends(snapshot: &Snapshot) -> String {
    let limit = size(snapshot.eager_limit);
    let why = match snapshot.strict {
        true => "under --strict every send waits for its receiver".to_owned(),
        false => format!("a send of more than {limit} waits for its receiver"),
    };
    format!(
        "all send before they receive, and {why}. Use sendrecv(), or post the receives first with irecv()"
    )
}

fn alone(snapshot: &Snapshot, rank: usize) -> String {
    match wait(snapshot, rank).map(|wait| &wait.awaits) {
        Some(Awaits::Receiver(_)) => {
            format!(
                "rank {rank} waits until it receives its own message: post the receive first with irecv()"
            )
        }
        _ => format!("rank {rank} waits for itself, and does nothing else meanwhile"),
    }
}

/// Who has not come to the collectives that ranks of `core` wait in.
fn absent(snapshot: &Snapshot, core: &[usize]) -> Vec<String> {
    let mut told: Vec<(Vec<usize>, String)> = Vec::new();
    for &rank in core {
        let missing = find::missing(snapshot, rank);
        if let (false, Some(wait)) = (missing.is_empty(), wait(snapshot, rank)) {
            let entry = (missing, wait.operation.to_owned());
            if !told.contains(&entry) {
                told.push(entry);
            }
        }
    }
    let line = |(missing, operation): &(Vec<usize>, String)| {
        let have = verb(missing, "has", "have");
        format!("{} {have} not entered {operation}{}", ranks(missing), instead(snapshot, missing))
    };
    told.iter().map(line).collect()
}

/// What a single missing rank does instead.
fn instead(snapshot: &Snapshot, missing: &[usize]) -> String {
    match missing {
        [rank] if snapshot.ranks[*rank].blocked => wait(snapshot, *rank)
            .map_or_else(String::new, |wait| format!(": it is in {}{}", call(wait), at(wait.site.as_ref()))),
        _ => String::new(),
    }
}

/// Messages that ranks of `core` hold while they wait for others.
fn unreceived(snapshot: &Snapshot, core: &[usize]) -> Vec<String> {
    let waits = core.iter().filter_map(|&rank| Some((rank, wait(snapshot, rank)?)));
    let receives = waits.filter(|(_, wait)| matches!(wait.awaits, Awaits::Message(_) | Awaits::OneOf(_)));
    let held = receives.flat_map(|(rank, wait)| {
        let same = wait.unreceived.iter().filter(|message| message.context == wait.context);
        same.map(move |message| held_line(rank, message))
    });
    held.take(MESSAGES_TOLD).collect()
}

/// Whether a rank waits for a message of a rank that has sent it another one.
fn is_passed_over(snapshot: &Snapshot, core: &[usize]) -> bool {
    core.iter().filter_map(|&rank| wait(snapshot, rank)).any(|wait| {
        let Awaits::Message(Some(peer)) = wait.awaits else { return false };
        wait.unreceived.iter().any(|message| message.source == peer && message.context == wait.context)
    })
}

fn held_line(rank: usize, message: &Unreceived) -> String {
    let Unreceived { source, tag, bytes, site, .. } = message;
    let sent = site.as_ref().map_or_else(String::new, |site| format!(", sent at {site}"));
    format!("rank {rank} has not received: from {source}, tag {tag}, {}{sent}", size(*bytes))
}
