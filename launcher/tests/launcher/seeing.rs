//! Statistics and timelines, of jobs that end well and of jobs that are killed; jobs looked at while they run.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Finished, line};

/// Rank 0 sends rank 1 two messages and is killed when both are received, and the others wait for more.
const KILLED: &str = "misbehave init 0:send=1 0:send=1 1:recv=0 1:recv=0 barrier 0:sleep=1000 0:kill=9 hang";

/// The words of each line.
fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn statistics_of_a_killed_job_have_what_its_ranks_did() {
    let run = line(&format!("-n 3 --stats {KILLED}")).run().code(137);
    let rows = rows(&run.stderr);
    let has = |words: &str| {
        let words: Vec<_> = words.split_whitespace().collect();
        run.check(rows.iter().any(|row| row.starts_with(&words)), &words.join(" "));
    };
    has("shmrun: statistics of 3 ranks,");
    has("from to 0 to 1 to 2");
    has("0 · 2 / 2.0 KiB ·");
    has("1 · · ·");
    let waiting = rows.iter().filter(|row| row.ends_with(&["waits", "in", "recv_vec"])).count();
    run.check(waiting == 2, "two ranks that wait at the end");
    let site = |operation: &str| {
        rows.iter().find(|row| row.get(1) == Some(&operation) && row[0].contains("misbehave.rs:")).cloned()
    };
    let send = site("send").unwrap_or_default();
    run.check(send.get(2..5) == Some(&["2", "2.0", "KiB"]), "two sends at one line");
    run.check(site("barrier").is_some_and(|row| row[2] == "3"), "three calls of barrier");
    // The failure comes last: it is what the user has to see.
    let (statistics, error) = (run.stderr.find("statistics of"), run.stderr.find("error: rank 0 was killed"));
    run.check(statistics.is_some() && statistics < error, "statistics before the failure");
}

#[test]
fn statistics_count_nothing_that_did_not_happen() {
    let run = line("-n 2 --stats misbehave init finalize").run().code(0);
    run.check(run.stderr.contains("no messages from rank to rank"), "no messages");
    line("-n 2 misbehave init barrier finalize").run().code(0).silent();
}

/// The events of a timeline but for names, which are checked, by track.
fn tracks(run: &Finished, file: &str, ranks: usize) -> BTreeMap<u64, Vec<Value>> {
    let document: Value = serde_json::from_str(&run.files[file]).unwrap();
    let mut tracks: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    let mut names = Vec::new();
    for event in document["traceEvents"].as_array().unwrap() {
        match event["name"].as_str().unwrap() {
            "thread_name" => names.push(event["args"]["name"].as_str().unwrap().to_owned()),
            "process_name" | "thread_sort_index" => {}
            _ => tracks.entry(event["tid"].as_u64().unwrap()).or_default().push(event.clone()),
        }
    }
    let expected: Vec<_> = (0..ranks).map(|rank| format!("rank {rank}")).collect();
    run.check(names == expected, "a track per rank");
    tracks
}

/// Checks what the viewers rely on: events of one track nest, and every end of an arrow lies in one that says so.
fn check_format(run: &Finished, tracks: &BTreeMap<u64, Vec<Value>>) {
    // In nanoseconds, as the viewers count.
    let time = |event: &Value, field: &str| (event[field].as_f64().unwrap() * 1000.0).round() as u64;
    for events in tracks.values() {
        let mut open: Vec<(u64, u64)> = Vec::new();
        for event in events {
            run.check(event["pid"] == 1000, "one process");
            let begin = time(event, "ts");
            open.retain(|&(_, end)| begin < end);
            match event["ph"].as_str().unwrap() {
                "X" => {
                    let end = begin + time(event, "dur");
                    run.check(begin < end, "an event that takes time");
                    run.check(open.iter().all(|&(_, outer)| end <= outer), "events that nest");
                    open.push((begin, end));
                }
                "s" => run.check(!open.is_empty(), "an arrow that begins in an event"),
                "f" => run.check(event["bp"] == "e" && !open.is_empty(), "an arrow that ends in an event"),
                other => run.check(false, other),
            }
        }
    }
}

#[test]
fn a_timeline_has_the_form_that_viewers_expect() {
    let exchanges = "exchange=8 exchange=100000 barrier ".repeat(8);
    let run = line(&format!("-n 3 --trace job.json misbehave init {exchanges} finalize")).run().code(0);
    let tracks = tracks(&run, "job.json", 3);
    check_format(&run, &tracks);
    run.check(arrows(&tracks, "s").len() == 3 * 16, "an arrow for each message");
}

/// Track and time of the ends of arrows, by their numbers.
fn arrows(tracks: &BTreeMap<u64, Vec<Value>>, kind: &str) -> BTreeMap<u64, (u64, f64)> {
    let events = tracks.iter().flat_map(|(track, events)| events.iter().map(move |event| (*track, event)));
    let ends = events.filter(|(_, event)| event["ph"] == kind);
    ends.map(|(track, event)| (event["id"].as_u64().unwrap(), (track, event["ts"].as_f64().unwrap())))
        .collect()
}

#[test]
fn the_timeline_of_a_killed_job_has_its_messages_and_waits() {
    let run = line(&format!("-n 3 --trace job.json {KILLED}")).run().code(137);
    let tracks = tracks(&run, "job.json", 3);
    check_format(&run, &tracks);
    for events in tracks.values() {
        let times: Vec<f64> = events.iter().map(|event| event["ts"].as_f64().unwrap()).collect();
        run.check(times.is_sorted() && times[0] >= 0.0, "times that do not go back");
    }
    let (starts, ends) = (arrows(&tracks, "s"), arrows(&tracks, "f"));
    run.check(starts.len() == 2 && starts.keys().eq(ends.keys()), "two arrows with both ends");
    for (number, (from, sent)) in &starts {
        let (to, received) = ends[number];
        run.check((*from, to) == (1, 2) && *sent <= received, "an arrow from rank 0 to rank 1");
    }
    let named = |track: u64, name: &str| {
        tracks[&track].iter().filter(|event| event["name"] == name && event["ph"] == "X").collect::<Vec<_>>()
    };
    let sends = named(1, "send");
    run.check(sends.len() == 2, "two sends");
    let arguments = &sends[0]["args"];
    run.check(arguments["peer"] == 1 && arguments["bytes"] == 1024, "a message to rank 1");
    run.check(arguments["at"].as_str().unwrap().contains("misbehave.rs:"), "the line that sent it");
    for track in 1..=3 {
        run.check(named(track, "barrier").len() == 1, "a barrier on each rank");
    }
    for track in [2, 3] {
        let unfinished =
            named(track, "waits").into_iter().filter(|event| event["args"]["unfinished"] == true);
        let calls: Vec<_> = unfinished.map(|event| event["args"]["call"].as_str().unwrap()).collect();
        run.check(calls == ["recv_vec"], "a receive that was not finished");
    }
}

#[test]
fn a_timeline_without_room_keeps_the_latest() {
    let sends = "0:send=1 1:recv=0 ".repeat(20);
    let run = line(&format!("-n 2 --trace job.json --trace-events 4 misbehave init {sends} finalize"));
    let run = run.run().code(0).says("--trace-events N keeps N events of each rank");
    let tracks = tracks(&run, "job.json", 2);
    run.check(tracks.values().all(|events| !events.is_empty()), "events of both ranks");
    run.check(arrows(&tracks, "s").keys().eq(arrows(&tracks, "f").keys()), "arrows with both ends");
    let events = tracks[&1].iter().filter(|event| event["ph"] == "X");
    run.check(events.count() <= 4, "the latest events");
}

#[test]
fn a_timeline_that_cannot_be_written_is_refused_before_the_job_starts() {
    line("-n 1 --trace no/such/directory/job.json misbehave ready")
        .run()
        .code(125)
        .stdout("")
        .says("cannot create");
    line("-n 1 --trace-events 9 misbehave ready").run().code(125).says("--trace");
}

#[test]
fn top_prints_what_the_ranks_of_a_running_job_do() {
    let mut job = line("-n 3 misbehave init ready 0:recv=2 0:recv=1 1:sleep=60000 2:trickle=0").start();
    job.await_output("ready\n", 3);
    let launcher = job.child.id().to_string();
    let run = line(&format!("top {launcher} --once --interval 0.5")).run().code(0).silent();
    let rows = rows(&run.stdout);
    run.check(rows[0][0] == "job" && rows[0][3] == format!("{launcher},"), "the job");
    run.check(rows[1][..3] == ["RANK", "STATE", "CALL"], "headings");
    let [first, second, third] = [&rows[2], &rows[3], &rows[4]];
    run.check(first[..5] == ["0", "waits", "recv_vec", "1", "-"], "what rank 0 waits for");
    run.check(second[..2] == ["1", "running"] && third[0] == "2", "three ranks");
    // Messages per second stand before the first slash: rank 2 sends one every few milliseconds.
    let sent = |row: &[&str]| row[row.iter().position(|word| *word == "/").unwrap() - 1].to_owned();
    run.check(sent(first) == "0" && sent(second) == "0" && sent(third) != "0", "that only rank 2 sends");
    job.signal(Signal::TERM);
    job.finish();
}

#[test]
fn top_says_when_there_is_no_such_job() {
    line("top 0123456789abcdef --once").run().code(125).says("no job 0123456789abcdef is running");
}
