//! On the lookout for a job that does not move.
//!
//! Looks at the segment now and then. What it finds is said when it was so in two looks one after the other, has been
//! so for as long as the plan says, and has not been said before.

use std::collections::HashSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::plan::Hang;
use super::proc;
use crate::diagnose::{self, Finding, Outside, Snapshot, View};
use crate::job::Job;

/// Time between two looks: no multiple of the time after which a sleeping rank gets up to look around.
const INTERVAL: Duration = Duration::from_millis(1070);
/// The shortest time between two looks, when a finding becomes old enough meanwhile. Ranks get up when their wait is
/// a multiple of half a second old: this is far from it.
const SHORTEST: Duration = Duration::from_millis(130);

/// What a finding is, and the waits that it rests on.
type Identity = (bool, Vec<(usize, u64)>);

/// A finding in words.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) text: String,
    /// Only ending the job helps.
    pub(super) certain: bool,
}

#[derive(Debug)]
pub(super) struct Lookout {
    patience: Duration,
    next: Instant,
    /// See [`Snapshot::activity`], and when it was first seen so.
    activity: u64,
    quiet_since: Instant,
    /// Processor time of the ranks at the last look.
    ticks: Vec<Option<u64>>,
    /// Findings of the last look.
    before: Vec<Identity>,
    /// One of them was missed in the look after it, which is repeated then.
    repeated: bool,
    told: HashSet<String>,
}

impl Lookout {
    pub(super) fn new(hang: Hang, ranks: usize, now: Instant) -> Self {
        Self {
            patience: hang.after,
            next: now + INTERVAL,
            activity: 0,
            quiet_since: now,
            ticks: vec![None; ranks],
            before: Vec::new(),
            repeated: false,
            told: HashSet::new(),
        }
    }

    /// When to look next.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Looks, and says what is new. `pids` are the processes of the ranks that still run.
    pub(super) fn look(&mut self, job: &Job, pids: &[Option<u32>], now: Instant) -> Vec<Report> {
        // This process was stopped, and the ranks perhaps with it: nothing could be seen meanwhile.
        let blind = now > self.next + INTERVAL;
        self.next = now + INTERVAL;
        let activity = Snapshot::activity(job);
        if activity != self.activity || blind {
            (self.activity, self.quiet_since) = (activity, now);
        }
        if blind {
            self.before.clear();
        }
        let mut snapshot = self::now(job);
        let Some(longest) = longest_wait(&snapshot) else { return self.nothing() };
        if longest + 2 * INTERVAL < self.patience {
            return self.nothing();
        }
        self.add_processes(&mut snapshot, pids);
        self.judge(&snapshot, now)
    }

    fn nothing(&mut self) -> Vec<Report> {
        self.before.clear();
        self.ticks.fill(None);
        Vec::new()
    }

    fn judge(&mut self, snapshot: &Snapshot, now: Instant) -> Vec<Report> {
        let quiet = now - self.quiet_since;
        let early = self.patience.saturating_sub(2 * INTERVAL);
        let coming = diagnose::find(snapshot, early, quiet >= early);
        let identity = |finding: &Finding| (finding.is_certain(), finding.waits(snapshot));
        let coming_too: Vec<Identity> = coming.iter().map(identity).collect();
        let mut reports = Vec::new();
        for finding in diagnose::find(snapshot, self.patience, quiet >= self.patience) {
            let lasts = self.before.contains(&identity(&finding));
            if lasts && self.told.insert(diagnose::key(snapshot, &finding)) {
                let text = diagnose::describe(snapshot, &finding);
                reports.push(Report { text, certain: finding.is_certain() });
            }
        }
        self.hurry(snapshot, &coming, now, quiet);
        // Ranks that sleep get up now and then to look around: that ends no finding.
        let missed = self.before.iter().any(|before| !coming_too.contains(before));
        self.repeated = missed && !self.repeated;
        if self.repeated {
            self.next = now + SHORTEST;
        } else {
            self.before = coming_too;
        }
        reports
    }

    /// Looks again as soon as one of the findings is old enough.
    fn hurry(&mut self, snapshot: &Snapshot, coming: &[Finding], now: Instant, quiet: Duration) {
        let age = |finding: &Finding| match finding.is_certain() {
            true => finding.age(snapshot),
            false => finding.age(snapshot).min(quiet),
        };
        let left = coming.iter().map(|finding| self.patience.saturating_sub(age(finding)));
        if let Some(left) = left.filter(|left| !left.is_zero()).min() {
            self.next = self.next.min(now + left + SHORTEST);
        }
    }

    fn add_processes(&mut self, snapshot: &mut Snapshot, pids: &[Option<u32>]) {
        for ((view, pid), ticks) in snapshot.ranks.iter_mut().zip(pids).zip(&mut self.ticks) {
            add_process(view, *pid, |now| std::mem::replace(ticks, now));
        }
    }
}

/// What every rank does, in words. `pids` as for [`Lookout::look`]. Takes a little longer if some of them seem to run.
pub(super) fn state(job: &Job, pids: &[Option<u32>]) -> String {
    let look = || {
        let mut snapshot = now(job);
        for (view, pid) in snapshot.ranks.iter_mut().zip(pids) {
            add_process(view, *pid, |_| None);
        }
        snapshot
    };
    let snapshot = Snapshot::settled(look, || sleep(SHORTEST));
    diagnose::state(&snapshot, &diagnose::find(&snapshot, Duration::ZERO, false))
}

/// A snapshot with what the system says at this moment of processes that wait in no call: of some, since somebody
/// waits for this.
pub(super) fn of_the_idle(job: &Job, pids: &[Option<u32>]) -> Snapshot {
    const SOME: usize = 32;
    let mut snapshot = now(job);
    let idle = snapshot.ranks.iter_mut().zip(pids).filter(|(view, _)| !view.blocked);
    idle.take(SOME).for_each(|(view, pid)| add_process(view, *pid, |_| None));
    snapshot
}

/// What the ranks say of themselves now.
pub(crate) fn now(job: &Job) -> Snapshot {
    Snapshot::take(job, shm_core::wait::monotonic_nanoseconds())
}

/// Adds what the system says of a rank's process; `before` gets its processor time and gives the earlier one.
fn add_process(view: &mut View, pid: Option<u32>, before: impl FnOnce(Option<u64>) -> Option<u64>) {
    let pid = pid.filter(|_| !view.has_left());
    let activity = pid.and_then(|pid| proc::activity(pid, view.thread));
    let before = before(activity.map(|activity| activity.ticks));
    if let (Some(pid), Some(activity)) = (pid, activity) {
        view.outside = outside((pid, view.thread), activity, before, view.blocked);
    }
}

fn outside(
    (pid, thread): (u32, u32),
    activity: proc::Activity,
    before: Option<u64>,
    blocked: bool,
) -> Outside {
    match activity.state {
        'T' => Outside::Stopped,
        't' => Outside::Traced,
        // It sleeps where it said.
        _ if blocked => Outside::Unknown,
        'R' => Outside::Computing,
        _ if before.is_some_and(|before| before != activity.ticks) => Outside::Computing,
        'D' => Outside::Sleeping(Some("waiting for a device".to_owned())),
        'S' => Outside::Sleeping(proc::asleep_in(pid, thread)),
        _ => Outside::Unknown,
    }
}

fn longest_wait(snapshot: &Snapshot) -> Option<Duration> {
    let blocked = snapshot.ranks.iter().filter(|view| view.blocked);
    blocked.filter_map(|view| view.wait.as_ref()).map(|wait| wait.time).max()
}
