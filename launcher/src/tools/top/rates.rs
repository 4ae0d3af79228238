//! From two looks at a job to what ranks do per second.

use std::time::Duration;

use ranks::launch::{Count, Doing, Look, RankLook};

use super::printable;
use crate::seeing::units::{bytes, number, share, time};

/// The columns.
pub(super) const TITLES: [&str; 10] =
    ["RANK", "STATE", "CALL", "PEER", "TAG", "FOR", "SENT/S", "RECEIVED/S", "WAITING", "AT"];

/// The latest two looks at a job.
pub(super) struct Rates {
    before: Option<Look>,
    now: Look,
}

/// A rank as it is shown.
pub(super) struct Row {
    pub(super) cells: [String; TITLES.len()],
    pub(super) mood: Mood,
}

/// What matters most about a rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Working,
    Waiting,
    Halted,
    Gone,
}

impl Rates {
    pub(super) fn new(now: Look) -> Self {
        Self { before: None, now }
    }

    /// Takes another look into account.
    pub(super) fn look(&mut self, now: Look) {
        self.before = Some(std::mem::replace(&mut self.now, now));
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        let rank = |(rank, look): (usize, &RankLook)| {
            let before = self.before.as_ref().and_then(|before| Some((before.ranks.get(rank)?, before.at)));
            let change = before.map(|(before, at)| Change {
                sent: less(look.sent, before.sent),
                received: less(look.received, before.received),
                waiting: look.waiting.saturating_sub(before.waiting),
                time: self.now.at.saturating_duration_since(at),
            });
            row(rank, look, change)
        };
        self.now.ranks.iter().enumerate().map(rank).collect()
    }
}

/// What happened between two looks.
struct Change {
    sent: Count,
    received: Count,
    waiting: Duration,
    time: Duration,
}

fn less(now: Count, before: Count) -> Count {
    // Others write these: what goes back is nonsense, and no rate.
    let messages = now.messages.saturating_sub(before.messages);
    Count { messages, bytes: now.bytes.saturating_sub(before.bytes) }
}

fn row(rank: usize, look: &RankLook, change: Option<Change>) -> Row {
    let (state, mood) = match look.doing {
        _ if look.halted => ("stopped", Mood::Halted),
        Doing::Starting => ("starting", Mood::Working),
        Doing::Running => ("running", Mood::Working),
        Doing::Waiting(_) => ("waits", Mood::Waiting),
        Doing::Finished => ("finished", Mood::Gone),
        _ => ("ended", Mood::Gone),
    };
    let wait = if let Doing::Waiting(wait) = &look.doing { Some(wait) } else { None };
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rate = |count: fn(&Change) -> Count| {
        or_none(change.as_ref().filter(|change| !change.time.is_zero()).map(|change| {
            let (count, seconds) = (count(change), change.time.as_secs_f64());
            format!("{} / {}", number(count.messages as f64 / seconds), bytes(count.bytes as f64 / seconds))
        }))
    };
    let cells = [
        rank.to_string(),
        state.to_owned(),
        or_none(wait.map(|wait| wait.operation.to_owned())),
        or_none(wait.and_then(|wait| wait.peer).map(|peer| peer.to_string())),
        or_none(wait.and_then(|wait| wait.tag).map(|tag| tag.to_string())),
        or_none(wait.map(|wait| time(wait.time))),
        rate(|change| change.sent),
        rate(|change| change.received),
        or_none(change.as_ref().map(|change| share(change.waiting.min(change.time), change.time))),
        or_none(wait.and_then(|wait| wait.at.as_deref()).map(printable)),
    ];
    Row { cells, mood }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Instant;

    use ranks::launch::Wait;

    use super::*;

    /// Rank 0 has sent 3000 messages of 1 KiB in two seconds, rank 1 has waited for half of them, rank 2 is stopped.
    pub(in super::super) fn two_looks() -> Rates {
        let wait = Wait {
            operation: "recv",
            peer: Some(0),
            tag: Some(7),
            bytes: 8,
            at: Some("src/\x1bx.rs:1:2".to_owned()),
            time: Duration::from_secs(1),
        };
        let rank = |doing, halted| RankLook {
            doing,
            halted,
            sent: Count { messages: 10, bytes: 0 },
            received: Count::default(),
            waiting: Duration::from_secs(9),
        };
        let at = Instant::now();
        let before =
            [rank(Doing::Running, false), rank(Doing::Waiting(wait), false), rank(Doing::Running, true)];
        let mut after = before.clone();
        after[0].sent = Count { messages: 3010, bytes: 3000 << 10 };
        after[1].waiting += Duration::from_secs(1);
        after[2].sent.messages = 0;
        let mut rates = Rates::new(Look { ranks: before.to_vec(), at });
        rates.look(Look { ranks: after.to_vec(), at: at + Duration::from_secs(2) });
        rates
    }

    #[test]
    fn what_changed_is_shown_per_second() {
        let rows = two_looks().rows();
        let cells = |rank: usize| rows[rank].cells.join("|");
        assert_eq!(cells(0), "0|running|-|-|-|-|1.5 k / 1.5 MiB|0 / 0 B|0 %|-");
        assert_eq!(cells(1), "1|waits|recv|0|7|1.00 s|0 / 0 B|0 / 0 B|50 %|src/?x.rs:1:2");
        assert_eq!(cells(2), "2|stopped|-|-|-|-|0 / 0 B|0 / 0 B|0 %|-");
        assert_eq!((rows[1].mood, rows[2].mood), (Mood::Waiting, Mood::Halted));
    }

    #[test]
    fn one_look_has_no_rates() {
        let Rates { now, .. } = two_looks();
        assert_eq!(Rates::new(now).rows()[0].cells.join("|"), "0|running|-|-|-|-|-|-|-|-");
    }
}
