//! A timeline in the Trace Event Format, which ui.perfetto.dev and chrome://tracing open.
//!
//! One process, the job, with a thread per rank. What took time is a complete event (`X`), and those of one thread nest.
//! So is the moment in which a message is received, since only such events hold the ends of arrows.
//! An arrow from a send to its receive is a pair of flow events (`s`, `f`) with one number, which belong to the events
//! that they lie in. An arrow needs both ends: a message that was not received, or whose other end is older than what
//! the timelines hold, has none.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Duration;

use ranks::launch::{EventKind, Observation, TimelineEvent};
use serde::Serialize;

/// The number of the one process: that of no thread, of which there are 512 at most. Perfetto takes a thread with the
/// number of its process for the main one.
const JOB: u32 = 1000;
/// The shortest event: one that takes no time cannot hold the end of an arrow.
const SHORTEST: Duration = Duration::from_nanos(1);
/// How long a message is shown to be received, which is a moment, where the next event leaves room: long enough to be
/// seen and clicked. An instant event (`i`) cannot hold the end of an arrow.
const MOMENT: Duration = Duration::from_nanos(100);

/// An event of the format.
#[derive(Default, Serialize)]
struct Entry<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cat: &'static str,
    ph: &'static str,
    pid: u32,
    /// Not 0, which is the idle task in some viewers.
    tid: usize,
    /// Microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<usize>,
    /// `e`: the end of an arrow belongs to the event that it lies in.
    #[serde(skip_serializing_if = "Option::is_none")]
    bp: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Arguments<'a>>,
}

#[derive(Default, Serialize)]
struct Arguments<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sort_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unfinished: Option<bool>,
}

/// Sender, receiver and number of a message.
type Message = (usize, usize, u64);

/// Writes the whole document.
pub(super) fn write(out: &mut impl Write, observation: &Observation) -> io::Result<()> {
    let mut arrows = Arrows::find(observation);
    out.write_all(b"{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n")?;
    put(out, &about(0, "process_name", Arguments { name: Some("ranks".to_owned()), ..Default::default() }))?;
    for (rank, observed) in observation.ranks.iter().enumerate() {
        let (name, sort_index) = (Some(format!("rank {rank}")), Some(rank));
        for (what, args) in [
            ("thread_name", Arguments { name, ..Default::default() }),
            ("thread_sort_index", Arguments { sort_index, ..Default::default() }),
        ] {
            out.write_all(b",\n")?;
            put(out, &about(rank + 1, what, args))?;
        }
        for (event, end) in nested(&observed.events) {
            out.write_all(b",\n")?;
            put(out, &slice(rank, event, end))?;
            if let Some(arrow) = arrows.take(rank, event) {
                out.write_all(b",\n")?;
                put(out, &arrow)?;
            }
        }
    }
    out.write_all(b"\n]}\n")
}

fn put(out: &mut impl Write, entry: &Entry<'_>) -> io::Result<()> {
    Ok(serde_json::to_writer(out, entry)?)
}

/// What a process or a thread is called.
fn about<'a>(tid: usize, what: &'a str, args: Arguments<'a>) -> Entry<'a> {
    Entry { name: what, ph: "M", pid: JOB, tid, args: Some(args), ..Default::default() }
}

fn slice(rank: usize, event: &TimelineEvent, end: Duration) -> Entry<'_> {
    let (name, cat) = match event.kind {
        EventKind::Sent => (event.operation, "message"),
        EventKind::Received => ("received", "message"),
        EventKind::Waited | EventKind::Unfinished => ("waits", "wait"),
        EventKind::Collective => (event.operation, "collective"),
    };
    let args = Arguments {
        call: Some(event.operation),
        peer: event.peer,
        tag: event.tag,
        bytes: Some(event.bytes),
        at: event.at.as_deref(),
        unfinished: (event.kind == EventKind::Unfinished).then_some(true),
        ..Default::default()
    };
    Entry {
        name,
        cat,
        ph: "X",
        pid: JOB,
        tid: rank + 1,
        ts: Some(microseconds(event.begin)),
        dur: Some(microseconds(end.saturating_sub(event.begin))),
        args: Some(args),
        ..Default::default()
    }
}

fn microseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

/// The events of one rank in the order of their beginnings, each with an end not beyond that of the event that it
/// lies in.
fn nested(events: &[TimelineEvent]) -> Vec<(&TimelineEvent, Duration)> {
    let mut sorted: Vec<&TimelineEvent> = events.iter().collect();
    sorted.sort_by_key(|event| (event.begin, std::cmp::Reverse(event.end)));
    let next_begins = next_begins(&sorted);
    let mut open: Vec<Duration> = Vec::new();
    let mut nested = Vec::with_capacity(sorted.len());
    for (event, next_begin) in sorted.into_iter().zip(next_begins) {
        while open.last().is_some_and(|end| *end <= event.begin) {
            open.pop();
        }
        let end = shown_end(event, next_begin);
        let end = open.last().map_or(end, |outer| end.min(*outer));
        open.push(end);
        nested.push((event, end));
    }
    nested
}

/// For each event when the first one begins that begins later.
fn next_begins(sorted: &[&TimelineEvent]) -> Vec<Option<Duration>> {
    let mut next_begins = vec![None; sorted.len()];
    for index in (1..sorted.len()).rev() {
        let (event, next) = (sorted[index - 1], sorted[index]);
        next_begins[index - 1] = if next.begin > event.begin { Some(next.begin) } else { next_begins[index] };
    }
    next_begins
}

/// A moment becomes as long as it can be seen, if nothing else begins before.
fn shown_end(event: &TimelineEvent, next_begin: Option<Duration>) -> Duration {
    let shown = match event.kind {
        EventKind::Received => next_begin.map_or(MOMENT, |next| MOMENT.min(next - event.begin)),
        _ => SHORTEST,
    };
    event.end.max(event.begin + shown)
}

/// Arrows whose ends have not been written yet: from sends, and to receives.
struct Arrows {
    starts: HashMap<Message, usize>,
    ends: HashMap<Message, usize>,
}

impl Arrows {
    /// Messages that were sent and received, and not before they were sent.
    fn find(observation: &Observation) -> Self {
        // Of events that claim to be about the same message the earliest is the one that gets an arrow.
        let of_kind = |wanted: EventKind| {
            let mut times: HashMap<Message, Duration> = HashMap::new();
            for (rank, observed) in observation.ranks.iter().enumerate() {
                for event in observed.events.iter().filter(|event| event.kind == wanted) {
                    if let Some(message) = message(rank, event) {
                        let time = times.entry(message).or_insert(event.begin);
                        *time = event.begin.min(*time);
                    }
                }
            }
            times
        };
        let (sent, received) = (of_kind(EventKind::Sent), of_kind(EventKind::Received));
        let is_whole =
            |message: &Message, end: &Duration| sent.get(message).is_some_and(|begin| begin <= end);
        let mut whole: Vec<Message> = received
            .iter()
            .filter(|(message, end)| is_whole(message, end))
            .map(|(message, _)| *message)
            .collect();
        whole.sort_unstable();
        let starts: HashMap<Message, usize> = whole.into_iter().zip(1..).collect();
        Self { ends: starts.clone(), starts }
    }

    /// The end of the arrow that this event has.
    fn take(&mut self, rank: usize, event: &TimelineEvent) -> Option<Entry<'static>> {
        let message = message(rank, event)?;
        let (side, ph, bp) = match event.kind {
            EventKind::Sent => (&mut self.starts, "s", None),
            _ => (&mut self.ends, "f", Some("e")),
        };
        let id = side.remove(&message)?;
        let ts = Some(microseconds(event.begin));
        let entry = Entry {
            name: "message",
            cat: "message",
            ph,
            pid: JOB,
            tid: rank + 1,
            ts,
            id: Some(id),
            bp,
            ..Default::default()
        };
        Some(entry)
    }
}

/// The message that an event of this rank is about.
fn message(rank: usize, event: &TimelineEvent) -> Option<Message> {
    let peer = event.peer.filter(|_| event.number > 0)?;
    match event.kind {
        EventKind::Sent => Some((rank, peer, event.number)),
        EventKind::Received => Some((peer, rank, event.number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ranks::launch::RankObservation;
    use serde_json::Value;

    use super::*;

    const KINDS: [EventKind; 5] = [
        EventKind::Sent,
        EventKind::Received,
        EventKind::Waited,
        EventKind::Collective,
        EventKind::Unfinished,
    ];

    prop_compose! {
        // Some close together, some with room between them.
        fn event()(kind in 0..5usize, begin in 0..40u64, scale in prop::sample::select(vec![1, 20]), length in 0..20u64,
            peer in prop::option::of(0..3usize), number in 0..4u64)
            -> TimelineEvent {
            TimelineEvent {
                kind: KINDS[kind],
                operation: "send",
                begin: Duration::from_nanos(begin * scale),
                end: Duration::from_nanos(begin * scale + length),
                peer,
                tag: Some(1),
                bytes: 8,
                number,
                at: Some("a\"b.rs:1:1".into()),
            }
        }
    }

    fn nanoseconds(value: &Value) -> i64 {
        (value.as_f64().unwrap() * 1e3).round() as i64
    }

    fn document(ranks: Vec<Vec<TimelineEvent>>) -> Value {
        let rank = |events| RankObservation { events, ..Default::default() };
        let observation = Observation { ranks: ranks.into_iter().map(rank).collect(), ..Default::default() };
        let mut text = Vec::new();
        write(&mut text, &observation).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// Of one rank with these events.
    fn durations(events: &[(EventKind, u64, u64)]) -> Vec<i64> {
        let event = |&(kind, begin, end): &(EventKind, u64, u64)| TimelineEvent {
            kind,
            operation: "recv",
            begin: Duration::from_nanos(begin),
            end: Duration::from_nanos(end),
            peer: Some(1),
            tag: Some(1),
            bytes: 8,
            number: 0,
            at: None,
        };
        let document = document(vec![events.iter().map(event).collect()]);
        let events = document["traceEvents"].as_array().unwrap().iter();
        events.filter(|event| event["ph"] == "X").map(|event| nanoseconds(&event["dur"])).collect()
    }

    #[test]
    fn a_moment_is_shown_as_long_as_nothing_else_begins() {
        use EventKind::{Received, Sent, Waited};
        assert_eq!(durations(&[(Received, 500, 500)]), [100]);
        assert_eq!(durations(&[(Received, 500, 500), (Sent, 530, 540), (Received, 700, 700)]), [30, 10, 100]);
        assert_eq!(durations(&[(Received, 500, 500), (Received, 501, 501)]), [1, 100]);
        // Two at one moment lie in each other.
        assert_eq!(durations(&[(Received, 500, 500), (Received, 500, 500), (Sent, 520, 521)]), [20, 20, 1]);
        // Not beyond the wait that it lies in.
        assert_eq!(durations(&[(Waited, 100, 560), (Received, 500, 500)]), [460, 60]);
    }

    #[test]
    fn what_takes_time_is_not_shown_longer() {
        use EventKind::{Collective, Sent, Waited};
        assert_eq!(durations(&[(Sent, 100, 105), (Waited, 200, 203), (Collective, 300, 300)]), [5, 3, 1]);
    }

    #[test]
    fn no_thread_has_the_number_of_the_process() {
        let document = document(vec![Vec::new(); 512]);
        let events = document["traceEvents"].as_array().unwrap();
        let named = events.iter().filter(|event| event["name"] == "thread_name").collect::<Vec<_>>();
        assert_eq!(named.len(), 512);
        assert!(named.iter().all(|event| event["tid"] != event["pid"] && event["pid"] == events[0]["pid"]));
    }

    proptest! {
        /// Whatever the ranks have left in their timelines.
        #[test]
        fn events_nest_and_arrows_have_both_ends(
            ranks in prop::collection::vec(prop::collection::vec(event(), 0..30), 1..4)
        ) {
            let document = document(ranks);
            let events = document["traceEvents"].as_array().unwrap();
            let mut arrows: HashMap<u64, Vec<(&str, i64)>> = HashMap::new();
            let mut open: Vec<i64> = Vec::new();
            let mut last = (0, 0);
            for event in events.iter().filter(|event| event["ph"] != "M") {
                let (tid, begin) = (event["tid"].as_u64().unwrap(), nanoseconds(&event["ts"]));
                if tid != last.0 {
                    open.clear();
                }
                prop_assert!((tid, begin) >= last);
                last = (tid, begin);
                open.retain(|end| *end > begin);
                if event["ph"] == "X" {
                    let end = begin + nanoseconds(&event["dur"]);
                    prop_assert!(end > begin && open.iter().all(|outer| *outer >= end));
                    open.push(end);
                } else {
                    prop_assert!(!open.is_empty(), "an arrow's end lies in an event");
                    let end = (event["ph"].as_str().unwrap(), begin);
                    arrows.entry(event["id"].as_u64().unwrap()).or_default().push(end);
                }
            }
            for mut ends in arrows.into_values() {
                ends.sort_by_key(|(kind, _)| std::cmp::Reverse(*kind));
                prop_assert!(matches!(ends[..], [("s", begin), ("f", end)] if begin <= end), "{ends:?}");
            }
        }
    }
}
