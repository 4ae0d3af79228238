//! Random jobs, diagnosed, against the simplest answer to the same question: let everybody go on who can, until nobody
//! else can. The others never will.

use std::cell::Cell;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};

use super::find::{Finding, find};
use super::snapshot::{Awaits, Life, Outside, Snapshot, View};
use super::tests::{computing, left, snapshot, wait, waiting};
use super::text::describe;

const CASES: u32 = 4000;

/// What a rank does.
#[derive(Debug, Clone)]
enum Doing {
    Computing,
    /// No process has begun to be it.
    Absent,
    Gone(Life),
    Blocked(Blocked),
    /// Blocked as far as it has said, but it has been rung, or is in somebody's hands.
    MayMove(Blocked, Outside),
}

#[derive(Debug, Clone)]
enum Blocked {
    Receive(usize),
    ReceiveAny,
    Send(usize),
    OneOf(Vec<usize>),
    /// In a collective of every so many-th rank. It names one of those that have not come: which one, counted around.
    Collective {
        stride: usize,
        names: usize,
    },
}

/// When the snapshot is taken.
#[derive(Clone, Copy, PartialEq)]
enum Moment {
    /// Those who can go on may not have done so yet.
    Any,
    /// Who can come to a collective has come: those that are missed never will.
    Settled,
}

type Job = Vec<Doing>;

fn any_job() -> impl Strategy<Value = Job> {
    (1usize..8).prop_flat_map(|size| prop::collection::vec(any_rank(size), size))
}

fn any_rank(size: usize) -> impl Strategy<Value = Doing> {
    let outside = prop_oneof![Just(Outside::Unknown), Just(Outside::Stopped), Just(Outside::Traced)];
    prop_oneof![
        2 => Just(Doing::Computing),
        1 => Just(Doing::Absent),
        2 => prop_oneof![Just(Life::Finished), Just(Life::Failed)].prop_map(Doing::Gone),
        36 => any_wait(size).prop_map(Doing::Blocked),
        1 => (any_wait(size), outside).prop_map(|(blocked, outside)| Doing::MayMove(blocked, outside)),
    ]
}

fn any_wait(size: usize) -> impl Strategy<Value = Blocked> {
    prop_oneof![
        3 => (0..size).prop_map(Blocked::Receive),
        2 => Just(Blocked::ReceiveAny),
        2 => (0..size).prop_map(Blocked::Send),
        2 => prop::collection::btree_set(0..size, 1..=size).prop_map(|set| Blocked::OneOf(set.into_iter().collect())),
        3 => (1usize..4, 0..size).prop_map(|(stride, names)| Blocked::Collective { stride, names }),
    ]
}

fn blocked(job: &Job, rank: usize) -> Option<&Blocked> {
    match &job[rank] {
        Doing::Blocked(blocked) | Doing::MayMove(blocked, _) => Some(blocked),
        _ => None,
    }
}

fn is_gone(job: &Job, rank: usize) -> bool {
    matches!(job[rank], Doing::Gone(_))
}

/// Those that have not come to the collective in which `rank` is.
fn missing(job: &Job, rank: usize, stride: usize) -> Vec<usize> {
    let has_come = |other: usize| matches!(blocked(job, other), Some(Blocked::Collective { stride: theirs, .. }) if *theirs == stride);
    (rank % stride..job.len()).step_by(stride).filter(|&other| !has_come(other)).collect()
}

/// Those of which one has to do something for a wait for any of them; who is gone does nothing.
fn candidates(job: &Job, rank: usize, blocked: &Blocked) -> Vec<usize> {
    let others: Vec<usize> = match blocked {
        Blocked::ReceiveAny => (0..job.len()).filter(|&other| other != rank).collect(),
        Blocked::OneOf(others) => others.clone(),
        _ => Vec::new(),
    };
    others.into_iter().filter(|&other| !is_gone(job, other)).collect()
}

/// Who can go on, now or when others have: begins with nobody, and grows until nobody is added.
fn can_go_on(job: &Job) -> Vec<bool> {
    let mut can = vec![false; job.len()];
    loop {
        let next: Vec<bool> = (0..job.len()).map(|rank| can_if(job, rank, &can)).collect();
        if next == can {
            return can;
        }
        can = next;
    }
}

/// Whether a rank can go on if these can. It hears at once that whom it waits for is gone.
fn can_if(job: &Job, rank: usize, can: &[bool]) -> bool {
    let blocked = match &job[rank] {
        Doing::Computing | Doing::Absent | Doing::MayMove(..) => return true,
        Doing::Gone(_) => return false,
        Doing::Blocked(blocked) => blocked,
    };
    match blocked {
        Blocked::Receive(peer) | Blocked::Send(peer) => is_gone(job, *peer) || can[*peer],
        Blocked::ReceiveAny | Blocked::OneOf(_) => {
            let candidates = candidates(job, rank, blocked);
            candidates.is_empty() || candidates.iter().any(|&other| can[other])
        }
        Blocked::Collective { stride, .. } => {
            let missing = missing(job, rank, *stride);
            missing.iter().any(|&other| is_gone(job, other)) || missing.iter().all(|&other| can[other])
        }
    }
}

/// Whom a rank in a collective says that it waits for.
fn named(job: &Job, rank: usize, moment: Moment) -> Option<usize> {
    let Some(Blocked::Collective { stride, names }) = blocked(job, rank) else { return None };
    let can = can_go_on(job);
    let missing = missing(job, rank, *stride);
    let of = |is: &dyn Fn(usize) -> bool| missing.iter().copied().filter(|&other| is(other)).collect();
    let gone: Vec<usize> = of(&|other| is_gone(job, other));
    let stuck: Vec<usize> = of(&|other| moment == Moment::Settled && !can[other]);
    let named = [gone, stuck, missing].into_iter().find(|others| !others.is_empty())?;
    Some(named[names % named.len()])
}

fn awaits(job: &Job, rank: usize, moment: Moment) -> Awaits {
    match blocked(job, rank) {
        Some(Blocked::Receive(peer)) => Awaits::Message(Some(*peer)),
        Some(Blocked::ReceiveAny) => Awaits::Message(None),
        Some(Blocked::Send(peer)) => Awaits::Receiver(*peer),
        Some(Blocked::OneOf(others)) => Awaits::OneOf(others.clone()),
        // All have come: it is about to go on.
        Some(Blocked::Collective { .. }) => named(job, rank, moment).map_or(Awaits::Unknown, Awaits::Entry),
        None => Awaits::Unknown,
    }
}

fn view(job: &Job, rank: usize, moment: Moment) -> View {
    let waits = || waiting(wait("wait", awaits(job, rank, moment)));
    match &job[rank] {
        Doing::Computing => computing(),
        Doing::Absent => View { life: Life::Absent, ..computing() },
        Doing::Gone(life) => left(*life),
        Doing::Blocked(_) => waits(),
        Doing::MayMove(_, Outside::Unknown) => View { asleep: false, ..waits() },
        Doing::MayMove(_, outside) => View { outside: outside.clone(), ..waits() },
    }
}

fn taken(job: &Job, moment: Moment) -> Snapshot {
    snapshot((0..job.len()).map(|rank| view(job, rank, moment)).collect::<Vec<_>>())
}

/// Whom a rank waits for, as it says.
fn waits_for(job: &Job, rank: usize, moment: Moment) -> Vec<usize> {
    match blocked(job, rank) {
        Some(Blocked::Receive(peer) | Blocked::Send(peer)) => vec![*peer],
        Some(Blocked::Collective { .. }) => named(job, rank, moment).into_iter().collect(),
        Some(any) => candidates(job, rank, any),
        None => Vec::new(),
    }
}

/// Whom a rank waits for, and whom those wait for, and so on.
fn reached(job: &Job, from: usize, moment: Moment) -> Vec<bool> {
    let mut reached = vec![false; job.len()];
    let mut open = waits_for(job, from, moment);
    while let Some(rank) = open.pop() {
        if !std::mem::replace(&mut reached[rank], true) {
            open.extend(waits_for(job, rank, moment));
        }
    }
    reached
}

/// Each rank of `core` waits for every one of it and for nobody else, those behind wait for it; a cycle is one.
fn check_deadlock(job: &Job, moment: Moment, core: &[usize], behind: &[usize], text: &str) -> TestCaseResult {
    for &rank in core {
        let reached = reached(job, rank, moment);
        let waits_for: Vec<usize> = (0..job.len()).filter(|&other| reached[other]).collect();
        prop_assert_eq!(&waits_for, core, "from rank {}", rank);
    }
    for &rank in behind {
        prop_assert!(
            reached(job, rank, moment)[core[0]] && !core.contains(&rank),
            "rank {rank} is not behind"
        );
    }
    let cycle = format!("(cycle of {})", core.len());
    let mut round = vec![core[0]];
    while let [next] = *waits_for(job, round[round.len() - 1], moment) {
        if next == core[0] || round.len() > core.len() {
            break;
        }
        round.push(next);
    }
    round.sort_unstable();
    let is_cycle = core.iter().all(|&rank| waits_for(job, rank, moment).len() == 1);
    prop_assert_eq!(text.contains(&cycle), is_cycle, "{}", text);
    prop_assert!(!is_cycle || round == core, "no circle: {round:?}, {text}");
    Ok(())
}

/// The ranks that are said to be in a deadlock, after every word of that has been checked.
fn accused(job: &Job, moment: Moment) -> Result<Vec<usize>, TestCaseError> {
    let snapshot = taken(job, moment);
    let mut accused = vec![0; job.len()];
    let mut stalls = 0;
    for finding in find(&snapshot, Duration::from_secs(5), true) {
        match &finding {
            Finding::Deadlock { core, behind } => {
                check_deadlock(job, moment, core, behind, &describe(&snapshot, &finding))?;
                core.iter().for_each(|&rank| accused[rank] += 1);
                // Several deadlocks may hold up the same rank.
                behind.iter().for_each(|&rank| accused[rank] = accused[rank].max(1));
            }
            Finding::Stall { .. } => stalls += 1,
        }
    }
    prop_assert!(accused.iter().all(|&times| times <= 1), "in two cores: {accused:?}");
    let unexplained = (0..job.len()).any(|rank| blocked(job, rank).is_some() && accused[rank] == 0);
    prop_assert_eq!(stalls, usize::from(unexplained));
    Ok((0..job.len()).filter(|&rank| accused[rank] == 1).collect())
}

fn for_many_jobs(check: impl Fn(&Job) -> TestCaseResult) {
    let config = Config { failure_persistence: None, ..Config::with_cases(CASES) };
    TestRunner::new(config).run(&any_job(), |job| check(&job)).unwrap_or_else(|error| panic!("{error}"));
}

fn stuck(job: &Job) -> Vec<usize> {
    let can = can_go_on(job);
    (0..job.len()).filter(|&rank| !can[rank] && !is_gone(job, rank)).collect()
}

#[test]
fn who_can_never_go_on_is_told_and_nobody_else() {
    let (deadlocks, others) = (Cell::new(0), Cell::new(0));
    for_many_jobs(|job| {
        let stuck = stuck(job);
        let count = if stuck.is_empty() { &others } else { &deadlocks };
        count.set(count.get() + 1);
        prop_assert_eq!(accused(job, Moment::Settled)?, stuck);
        Ok(())
    });
    // Neither was a rare case.
    assert!(deadlocks.get() > CASES / 10 && others.get() > CASES / 10, "{deadlocks:?}, {others:?}");
}

#[test]
fn who_can_go_on_is_never_accused() {
    for_many_jobs(|job| {
        let (accused, stuck) = (accused(job, Moment::Any)?, stuck(job));
        prop_assert!(accused.iter().all(|rank| stuck.contains(rank)), "{accused:?}, but stuck are {stuck:?}");
        Ok(())
    });
}
