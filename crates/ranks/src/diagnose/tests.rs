//! Findings about constructed snapshots.

use std::time::Duration;

use super::find::{Finding, find};
use super::snapshot::{Awaits, Life, Outside, Snapshot, Unreceived, View, Wait};
use super::text::{describe, key, last_seen, stand, state};

const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn computing() -> View {
    View {
        life: Life::Attached,
        wait: None,
        blocked: false,
        asleep: false,
        done: 0,
        shown: 0,
        last_collective: None,
        out_of_turn: false,
        thread: 0,
        outside: Outside::Computing,
    }
}

pub(super) fn wait(operation: &'static str, awaits: Awaits) -> Wait {
    Wait {
        number: 7,
        operation,
        awaits,
        tag: Some(3),
        context: 0,
        bytes: 0,
        time: Duration::from_millis(6250),
        site: Some("src/main.rs:10:5".to_owned()),
        released_by: 0,
        unreceived: Vec::new(),
        unreceived_count: 0,
    }
}

pub(super) fn waiting(wait: Wait) -> View {
    View { wait: Some(wait), blocked: true, asleep: true, outside: Outside::Unknown, ..computing() }
}

fn recv(from: impl Into<Option<usize>>) -> View {
    waiting(wait("recv", Awaits::Message(from.into())))
}

fn send(to: usize) -> View {
    waiting(Wait { bytes: 1 << 20, ..wait("send", Awaits::Receiver(to)) })
}

fn barrier(shown: u64, awaited: usize) -> View {
    View {
        done: shown - 1,
        shown,
        ..waiting(Wait { tag: None, context: 1, ..wait("barrier", Awaits::Entry(awaited)) })
    }
}

fn any_of(others: &[usize]) -> View {
    waiting(wait("wait_any", Awaits::OneOf(others.to_vec())))
}

pub(super) fn left(life: Life) -> View {
    View { life, outside: Outside::Unknown, ..computing() }
}

pub(super) fn snapshot(ranks: impl Into<Vec<View>>) -> Snapshot {
    Snapshot { ranks: ranks.into(), strict: false, eager_limit: 8192 }
}

/// Core and followers of the only finding, which has to be a deadlock.
#[track_caller]
fn deadlock(snapshot: &Snapshot) -> (Vec<usize>, Vec<usize>) {
    match find(snapshot, PATIENCE, false).as_slice() {
        [Finding::Deadlock { core, behind }] => (core.clone(), behind.clone()),
        other => panic!("{other:?} in {snapshot:?}"),
    }
}

#[track_caller]
fn text(snapshot: &Snapshot) -> String {
    let findings = find(snapshot, PATIENCE, true);
    assert_eq!(findings.len(), 1, "{findings:?}");
    describe(snapshot, &findings[0])
}

#[test]
fn a_cycle_is_found_with_those_who_wait_for_it() {
    let ranks = [send(1), send(2), send(0), recv(1), computing()];
    assert_eq!(deadlock(&snapshot(ranks)), (vec![0, 1, 2], vec![3]));
}

#[test]
fn two_cycles_are_two_findings() {
    let findings = find(&snapshot([recv(1), recv(0), send(3), send(2), recv(2)]), PATIENCE, false);
    let cycles = [
        Finding::Deadlock { core: vec![0, 1], behind: vec![] },
        Finding::Deadlock { core: vec![2, 3], behind: vec![4] },
    ];
    assert_eq!(findings, cycles);
}

#[test]
fn a_receive_from_anybody_is_in_a_knot_only_if_everybody_is() {
    assert_eq!(deadlock(&snapshot([recv(None), recv(0), recv(None)])), (vec![0, 1, 2], vec![]));
    assert_eq!(find(&snapshot([recv(None), recv(0), computing()]), PATIENCE, false), []);
    let absent = View { life: Life::Absent, ..computing() };
    assert_eq!(find(&snapshot([recv(None), recv(0), absent]), PATIENCE, false), []);
    assert_eq!(deadlock(&snapshot([recv(None), recv(0), left(Life::Finished)])), (vec![0, 1], vec![]));
}

/// The rank is about to hear that nobody is left.
#[test]
fn a_receive_from_anybody_with_nobody_left_is_no_deadlock() {
    assert_eq!(find(&snapshot([recv(None), left(Life::Finished)]), PATIENCE, false), []);
    assert_eq!(find(&snapshot([recv(1), left(Life::Failed)]), PATIENCE, false), []);
}

#[test]
fn waiting_for_one_of_several_takes_all_of_them() {
    assert_eq!(deadlock(&snapshot([any_of(&[1, 2]), recv(0), recv(0)])), (vec![0, 1, 2], vec![]));
    assert_eq!(find(&snapshot([any_of(&[1, 2]), recv(0), computing()]), PATIENCE, false), []);
    assert_eq!(deadlock(&snapshot([any_of(&[1]), recv(0), computing()])), (vec![0, 1], vec![]));
}

#[test]
fn a_rank_that_does_not_say_whom_it_waits_for_is_not_accused() {
    let silent = waiting(wait("wait_any", Awaits::Unknown));
    assert_eq!(find(&snapshot([silent, recv(0)]), PATIENCE, false), []);
}

/// It may have been rung a moment ago, and be about to go on.
#[test]
fn a_rank_that_does_not_sleep_breaks_the_cycle() {
    let awake = View { asleep: false, ..recv(0) };
    assert_eq!(find(&snapshot([recv(1), awake]), PATIENCE, false), []);
}

#[test]
fn a_stopped_rank_breaks_the_cycle() {
    for outside in [Outside::Stopped, Outside::Traced] {
        let stopped = View { outside, ..recv(0) };
        assert_eq!(find(&snapshot([recv(1), stopped]), PATIENCE, false), []);
    }
}

#[test]
fn a_short_wait_is_no_finding_yet() {
    let young = waiting(Wait { time: Duration::from_secs(4), ..wait("recv", Awaits::Message(Some(0))) });
    assert_eq!(find(&snapshot([recv(1), young.clone()]), PATIENCE, false), []);
    // Nor is it one that the others wait for something else.
    assert_eq!(find(&snapshot([recv(1), young]), PATIENCE, true), []);
}

#[test]
fn a_rank_can_wait_for_itself() {
    assert_eq!(deadlock(&snapshot([send(0), computing()])), (vec![0], vec![]));
    let text = text(&snapshot([send(0)]));
    assert!(
        text.contains("(cycle of 1)") && text.contains("rank 0 waits until it receives its own"),
        "{text}"
    );
}

#[test]
fn head_to_head_sends_get_their_remedy() {
    let expected = "\
no progress for 6.2 s: deadlock (cycle of 2)
  rank 0  send(to 1, tag 3, 1.0 MiB)  waiting 6.2 s  src/main.rs:10:5
  rank 1  send(to 0, tag 3, 1.0 MiB)  waiting 6.2 s  src/main.rs:10:5
  hint: all send before they receive, and a send of more than 8.0 KiB waits for its receiver. Use sendrecv(), or post the receives first with irecv()";
    assert_eq!(text(&snapshot([send(1), send(0)])), expected);
    let strict = Snapshot { strict: true, ..snapshot([send(1), send(0)]) };
    assert!(text(&strict).contains("under --strict every send waits"));
}

#[test]
fn a_missing_rank_in_a_collective_is_named_with_what_it_does_instead() {
    let expected = "\
no progress for 6.2 s: deadlock (cycle of 2), 2 more ranks wait for it
  ranks 0, 1, 3  barrier              waiting 6.2 s  src/main.rs:10:5
  rank 2         recv(from 0, tag 3)  waiting 6.2 s  src/main.rs:10:5
  rank 2 has not entered barrier: it is in recv(from 0, tag 3) at src/main.rs:10:5
  hint: all ranks have to call the same collectives, in the same order";
    let snapshot =
        snapshot([barrier(4, 2), barrier(4, 2), View { done: 3, shown: 3, ..recv(0) }, barrier(4, 2)]);
    assert_eq!(text(&snapshot), expected);
}

#[test]
fn messages_that_nobody_receives_are_told() {
    let message =
        |context| Unreceived { source: 1, tag: 5, context, bytes: 24, site: Some("src/a.rs:9:1".to_owned()) };
    let mut wrong_tag = recv(1);
    wrong_tag.wait.as_mut().unwrap().unreceived = vec![message(0), message(1)];
    let text = text(&snapshot([wrong_tag, recv(0)]));
    let line = "rank 0 has not received: from 1, tag 5, 24 B, sent at src/a.rs:9:1";
    assert_eq!(text.matches(line).count(), 1, "{text}");
    assert!(text.contains("compare their tags"), "{text}");
}

#[test]
fn who_computes_and_who_waits_is_told() {
    let text = text(&snapshot([barrier(1, 2), barrier(1, 2), computing(), barrier(1, 2)]));
    let title = "no progress for 6.2 s: rank 2 is computing, 3 ranks wait\n";
    assert!(text.starts_with(title), "{text}");
    assert!(!text.contains("deadlock"), "{text}");
}

#[test]
fn who_is_stopped_is_told_though_it_is_in_a_call() {
    let text = text(&snapshot([recv(1), View { outside: Outside::Stopped, ..recv(0) }]));
    assert!(text.starts_with("no progress for 6.2 s: rank 1 is stopped, 1 rank waits\n"), "{text}");
    assert!(
        text.contains("rank 1  stopped") && text.contains("in recv(from 0, tag 3) at src/main.rs"),
        "{text}"
    );
}

#[test]
fn who_reads_is_told() {
    let reads = Outside::Sleeping(Some("reading its standard input".to_owned()));
    let text = text(&snapshot([View { outside: reads, ..computing() }, recv(0)]));
    assert!(text.contains("rank 0 is reading its standard input, 1 rank waits"), "{text}");
}

/// Something moves: the long wait of one rank is the program's own business.
#[test]
fn a_job_that_moves_is_not_reported() {
    assert_eq!(find(&snapshot([recv(1), computing()]), PATIENCE, false), []);
}

#[test]
fn a_finding_is_the_same_while_only_time_passes() {
    let early = snapshot([send(1), send(0)]);
    let mut late = early.clone();
    late.ranks.iter_mut().for_each(|view| view.wait.as_mut().unwrap().time += PATIENCE);
    let [first, second] = [&early, &late].map(|snapshot| {
        let findings = find(snapshot, PATIENCE, false);
        (key(snapshot, &findings[0]), findings[0].waits(snapshot))
    });
    assert_eq!(first, second);
    let other = snapshot([send(1), recv(0)]);
    assert_ne!(key(&other, &find(&other, PATIENCE, false)[0]), first.0);
}

#[test]
fn a_state_shows_every_rank_and_the_deadlock() {
    let snapshot = snapshot([recv(1), recv(0), computing(), left(Life::Finished)]);
    let findings = find(&snapshot, Duration::ZERO, true);
    let text = state(&snapshot, &findings);
    for line in ["rank 2  computing", "rank 3  finished", "deadlock (cycle of 2)"] {
        assert!(text.contains(line), "no {line:?} in {text}");
    }
}

#[test]
fn others_stand_where_the_failure_found_them() {
    let released = |released_by| {
        let wait = Wait { released_by, ..wait("barrier", Awaits::Entry(1)) };
        View { blocked: false, ..waiting(wait) }
    };
    // It gave up because of the failure, before anybody looked.
    let gone = |released_by, life| View { life, ..released(released_by) };
    let ranks = [
        released(5),
        left(Life::Failed),
        released(6),
        released(4),
        barrier(1, 1),
        gone(5, Life::Finished),
        gone(6, Life::Failed),
        gone(4, Life::Finished),
    ];
    let text = stand(&snapshot(ranks).before_departure(5), 1);
    let expected = "ranks 0, 2, 4-6 in barrier at src/main.rs:10:5; rank 3 in no call; rank 7 finished";
    assert_eq!(text, expected);
    assert_eq!(stand(&snapshot([left(Life::Failed)]), 0), "", "there are no others");
}

#[test]
fn a_rank_is_remembered_where_it_was_seen_last() {
    let moved_on = View { blocked: false, ..recv(1) };
    let collective = View { last_collective: Some("barrier at a.rs:1:1".to_owned()), ..computing() };
    let snapshot = snapshot([recv(1), moved_on, collective, computing()]);
    let seen = [0, 1, 2, 3].map(|rank| last_seen(&snapshot, rank).unwrap_or_default());
    let expected = [
        "it was in recv(from 1, tag 3) at src/main.rs:10:5, waiting 6.2 s",
        "it was in no call that waits; before, it waited in recv(from 1, tag 3) at src/main.rs:10:5",
        "it was in no call that waits; its last collective was barrier at a.rs:1:1",
        "",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn long_tables_are_cut() {
    let ranks: Vec<View> = (0..100).map(|rank| recv((rank + 1) % 100)).collect();
    let text = text(&snapshot(ranks));
    assert!(text.contains("... and 76 more lines"), "{text}");
    assert!(text.lines().count() < 40, "{text}");
}

#[test]
fn a_call_that_waits_for_several_says_how_it_depends_on_them() {
    let calls = |operation, others: &[usize]| {
        let views = [waiting(wait(operation, Awaits::OneOf(others.to_vec()))), computing(), computing()];
        state(&snapshot(views), &[])
    };
    assert!(calls("wait_any", &[1, 2]).contains("  wait_any(of ranks 1, 2)  "));
    assert!(calls("shrink", &[1]).contains("  shrink(with rank 1)  "));
    assert!(calls("agree", &[1, 2]).contains("  agree(with ranks 1, 2)  "));
}

/// What is settled on after these looks, and how many of them it took.
fn settled<const LOOKS: usize>(looks: [Snapshot; LOOKS]) -> (Snapshot, usize) {
    let (mut looks, mut pauses) = (looks.into_iter(), 0);
    let snapshot =
        Snapshot::settled(|| looks.next().expect("a look more than there should be"), || pauses += 1);
    let count = LOOKS - looks.len();
    assert_eq!(pauses + 1, count, "a pause between two looks");
    (snapshot, count)
}

#[test]
fn a_rank_that_looks_around_is_looked_at_again() {
    let asleep = || snapshot([recv(1), recv(0)]);
    let stirring = || snapshot([View { asleep: false, ..recv(1) }, recv(0)]);
    // Just before it says what it waits for, nothing tells that it does not compute.
    let silent = || snapshot([computing(), recv(0)]);
    assert_eq!(settled([asleep()]), (asleep(), 1));
    assert_eq!(settled([stirring(), asleep()]), (asleep(), 2));
    assert_eq!(settled([silent(), asleep()]), (asleep(), 2));
    // The second look is no better.
    assert_eq!(settled([stirring(), silent()]), (stirring(), 2));
}

#[test]
fn ranks_that_do_not_run_are_not_looked_at_again() {
    let stopped = View { asleep: false, outside: Outside::Stopped, ..recv(0) };
    let sleeping = View { outside: Outside::Sleeping(None), ..computing() };
    let quiet = || snapshot([stopped.clone(), sleeping.clone(), left(Life::Finished)]);
    assert_eq!(settled([quiet()]), (quiet(), 1));
}
