//! How a job ended, as an exit code and as words.

use std::fmt;
use std::time::Duration;

use rustix::process::Signal;

use super::observation::Observation;
use super::position::Position;

/// The exit code of a launcher whose job took too long: that of timeout(1).
const TIMED_OUT: i32 = 124;

/// The exit code of a launcher that has ended a job for a deadlock.
const HANG_CODE: i32 = 123;

/// What the last words of a rank of [`crate::spawn()`] begin with when its body returned an error.
pub(crate) const RETURNED_ERROR: &str = "returned an error";

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Code(i32),
    /// It was killed by this signal.
    Signal(i32),
    /// It is gone and nobody said how: the system does not tell this of a process below a wrapper.
    Unknown,
}

impl Ended {
    pub(super) fn from_wait_status(status: i32) -> Self {
        match status & 0x7f {
            0 => Self::Code(status >> 8 & 0xff),
            signal => Self::Signal(signal),
        }
    }

    /// The code that a shell would show: 128 + the signal's number; 137 when it is not known.
    pub fn exit_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
            Self::Unknown => 128 + Signal::KILL.as_raw(),
        }
    }
}

/// The first failure of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The rank that failed.
    pub rank: usize,
    /// How its process ended.
    pub ended: Ended,
    /// The exit code that it asked for with `abort` or left with a panic, where it did.
    pub code: Option<i32>,
    /// Whether it had attached to the job and not detached.
    pub attached: bool,
    /// What it recorded of its panic or abort.
    pub last_words: Option<String>,
    /// Time since the start of the job.
    pub after: Duration,
    /// The program that it ran.
    pub program: String,
    /// Whether other ranks ran other programs.
    pub of_several_programs: bool,
    /// What it was doing, where that is known.
    pub doing: Option<String>,
    /// Why the system killed it, where that is known.
    pub cause: Option<String>,
}

/// How a job ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The failure that ended the job, `None` if it ended well.
    pub failure: Option<Failure>,
    /// Failures without which the other ranks went on, in the order in which they happened.
    pub recovered: Vec<Failure>,
    /// How long the job was allowed to take, if it took longer and was ended.
    pub timed_out: Option<Duration>,
    /// What every rank did when the time was over, in words.
    pub state: Option<String>,
    /// Where the others were when a rank failed, in one line.
    pub others: String,
    /// Where the ranks stood when the time was over or the first of them failed; without that one.
    pub positions: Vec<Position>,
    /// The deadlock that ended the job, in words.
    pub hang: Option<String>,
    /// The signal by which the user ended the job.
    pub interrupted: Option<i32>,
    /// How the process of each rank ended that the launcher had started.
    pub ends: Vec<Ended>,
    /// Ranks that were stopped after the failure.
    pub stopped: usize,
    /// Ranks whose processes ended without attaching to the job.
    pub never_attached: Vec<usize>,
    /// Nobody reads the output any more, which ended the job.
    pub output_closed: bool,
    /// What the ranks did, if the plan asked for that.
    pub observation: Option<Box<Observation>>,
    /// Why the output could not be written, which ended the job.
    pub output_error: Option<String>,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "{code}"),
            Self::Signal(signal) => write!(f, "{} ({})", self.exit_code(), name(*signal)),
            Self::Unknown => write!(f, "unknown"),
        }
    }
}

impl Failure {
    /// The exit code of a launcher whose job failed so; never 0.
    pub fn exit_code(&self) -> i32 {
        match self.code.unwrap_or_else(|| self.ended.exit_code()) & 0xff {
            0 => 1,
            code => code,
        }
    }
}

impl Outcome {
    /// Whether no rank failed.
    pub fn success(&self) -> bool {
        self.failure.is_none()
            && self.timed_out.is_none()
            && self.hang.is_none()
            && !self.output_closed
            && self.output_error.is_none()
    }

    /// Whether a rank failed by itself, so that the same job might end well another time.
    pub fn is_worth_another_try(&self) -> bool {
        let ended_otherwise = self.interrupted.is_some() || self.timed_out.is_some();
        self.failure.is_some() && !ended_otherwise && !self.output_closed && self.output_error.is_none()
    }

    /// The exit code of a launcher: 0, 124 after a time limit, or that of the first rank that failed.
    pub fn exit_code(&self) -> i32 {
        match &self.failure {
            _ if self.output_closed => 128 + Signal::PIPE.as_raw(),
            _ if self.output_error.is_some() => 125,
            _ if self.hang.is_some() => HANG_CODE,
            _ if self.timed_out.is_some() => TIMED_OUT,
            Some(failure) => failure.exit_code(),
            None => 0,
        }
    }

    /// What to tell the user, if anything.
    pub fn message(&self) -> Option<String> {
        if let Some(error) = &self.output_error {
            return Some(format!(
                "error: cannot write the output of the ranks: {error}\n  help: see the free space and the limits of where the output goes"
            ));
        }
        if let Some(hang) = &self.hang {
            return Some(format!(
                "error: {hang}\n  the job was ended, since nothing else can help (--hang=kill)"
            ));
        }
        if let Some(timeout) = self.timed_out {
            let state = self.state.as_deref().unwrap_or_default();
            return Some(format!(
                "error: the job did not end within {timeout:?}, its time limit{}\n{state}",
                all(self.stopped)
            ));
        }
        let Some(failure) = &self.failure else { return self.recovery() };
        match (self.output_closed, self.interrupted) {
            (true, _) => None,
            (_, Some(signal)) if failure.last_words.is_none() => {
                Some(format!("the job was ended by {} after {}", name(signal), seconds(failure.after)))
            }
            _ => Some(format!("error: {failure}{}", self.others_text(failure))),
        }
    }
}

impl Outcome {
    /// What became of the other ranks; where they stood, unless the failure is an ordinary exit.
    fn others_text(&self, failure: &Failure) -> String {
        let stand = if failure.is_plain() || self.others.is_empty() {
            String::new()
        } else {
            format!("\n    {}", self.others)
        };
        match (self.stopped, stand.is_empty()) {
            (0, false) => format!("\n  other ranks:{stand}"),
            (stopped, _) => format!("{}{stand}", others(stopped)),
        }
    }

    /// What happened to ranks of a job that ended well.
    fn recovery(&self) -> Option<String> {
        let failures: Vec<_> = self.recovered.iter().map(Failure::to_string).collect();
        (!failures.is_empty() && !self.output_closed)
            .then(|| format!("{}\n  the other ranks went on and finished", failures.join("\n")))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} {} after {}", self.rank, self.event(), seconds(self.after))?;
        if let Some(words) = self.words() {
            write!(f, "\n  rank {}: {}", self.rank, words.replace('\n', "\n    "))?;
        }
        if self.of_several_programs || !self.is_plain() && !self.program.is_empty() {
            write!(f, "\n  program: {}", self.program)?;
        }
        let doing = self.doing.iter().filter(|_| self.was_taken_by_surprise());
        doing.into_iter().try_for_each(|doing| write!(f, "\n  {doing}"))?;
        self.cause.iter().try_for_each(|cause| write!(f, "\n  cause: {cause}"))?;
        self.advice().iter().try_for_each(|advice| write!(f, "\n  {advice}"))
    }
}

impl Failure {
    /// The last words, where they tell why the rank ended: a panic that was caught before does not.
    fn words(&self) -> Option<&str> {
        let words = self.last_words.as_deref()?;
        let fatal = matches!(self.ended, Ended::Code(101) | Ended::Signal(libc::SIGABRT));
        (fatal || self.code.is_some() || words.starts_with(RETURNED_ERROR)).then_some(words)
    }

    /// Whether the program itself found something wrong: an assertion, mostly.
    pub(crate) fn is_panic(&self) -> bool {
        self.words().is_some_and(|words| words.starts_with("panicked"))
    }

    /// It has ended with an exit code, as programs do: one line says it all.
    fn is_plain(&self) -> bool {
        matches!(self.ended, Ended::Code(_)) && !self.attached && self.words().is_none()
    }

    /// It did not end by itself, or not where it should.
    fn was_taken_by_surprise(&self) -> bool {
        !self.is_plain() && self.words().is_none()
    }

    fn event(&self) -> String {
        match (self.code, self.ended) {
            _ if self.is_panic() => "panicked".to_owned(),
            _ if self.words().is_some_and(|words| words.starts_with(RETURNED_ERROR)) => {
                RETURNED_ERROR.to_owned()
            }
            (Some(code), _) if self.words().is_some_and(|words| words.starts_with("abort")) => {
                format!("aborted the job with exit code {code}")
            }
            (Some(code), _) => format!("failed with exit code {code}"),
            (_, Ended::Signal(signal)) => format!("was killed by {}", name(signal)),
            (_, Ended::Unknown) => "was killed below its wrapper".to_owned(),
            (_, Ended::Code(0)) => "ended without finalizing (exit code 0)".to_owned(),
            (_, Ended::Code(code)) if self.attached => {
                format!("ended without finalizing (exit code {code})")
            }
            (_, Ended::Code(code)) => format!("exited with code {code}"),
        }
    }

    fn advice(&self) -> Option<&'static str> {
        match self.ended {
            _ if self.code.is_some() => None,
            _ if self.cause.is_some() => Some(
                "help: run fewer ranks, or raise the limit (docker run -m, systemd-run -p MemoryMax=, memory.max)",
            ),
            Ended::Signal(libc::SIGKILL) => Some(
                "help: somebody sent SIGKILL, or the system ran out of memory (see dmesg): run fewer ranks",
            ),
            Ended::Signal(libc::SIGABRT) if self.words().is_none() => Some(
                "help: see what it printed before: it called abort(), or its stack overflowed (`ulimit -s` shows the limit)",
            ),
            Ended::Signal(libc::SIGBUS) => {
                Some("help: memory behind a mapping ran out: see the free space with `df -h /dev/shm`")
            }
            Ended::Code(0) => Some("help: return from main or drop the world before the process exits"),
            _ => None,
        }
    }
}

/// What became of the other ranks.
fn others(stopped: usize) -> String {
    match stopped {
        0 => String::new(),
        1 => "\n  other ranks: 1 was stopped".to_owned(),
        many => format!("\n  other ranks: {many} were stopped"),
    }
}

/// [`others`] where no rank stands out.
fn all(stopped: usize) -> String {
    match stopped {
        0 => String::new(),
        1 => "\n  1 rank was stopped".to_owned(),
        many => format!("\n  {many} ranks were stopped"),
    }
}

/// A line for each rank.
pub(crate) fn positions_text(positions: &[Position]) -> String {
    positions.iter().map(|position| format!("\n    {position}")).collect()
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// A signal as `signal 9 (SIGKILL)`.
fn name(number: i32) -> String {
    const NAMES: [(i32, &str); 17] = [
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGQUIT, "SIGQUIT"),
        (libc::SIGILL, "SIGILL"),
        (libc::SIGTRAP, "SIGTRAP"),
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGUSR1, "SIGUSR1"),
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGUSR2, "SIGUSR2"),
        (libc::SIGPIPE, "SIGPIPE"),
        (libc::SIGALRM, "SIGALRM"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGXCPU, "SIGXCPU"),
        (libc::SIGSYS, "SIGSYS"),
    ];
    match NAMES.iter().find(|(known, _)| *known == number) {
        Some((_, name)) => format!("signal {number} ({name})"),
        None => format!("signal {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(ended: Ended, code: Option<i32>) -> Failure {
        Failure {
            rank: 3,
            ended,
            code,
            attached: false,
            last_words: None,
            after: Duration::from_millis(12_440),
            program: String::new(),
            of_several_programs: false,
            doing: None,
            cause: None,
        }
    }

    #[test]
    fn exit_codes_follow_the_shell() {
        assert_eq!(failure(Ended::Signal(9), None).exit_code(), 137);
        assert_eq!(failure(Ended::Unknown, None).exit_code(), 137);
        assert_eq!(failure(Ended::Code(3), None).exit_code(), 3);
        assert_eq!(failure(Ended::Code(0), None).exit_code(), 1);
        assert_eq!(failure(Ended::Code(0), Some(7)).exit_code(), 7);
        assert_eq!(failure(Ended::Code(0), Some(256)).exit_code(), 1);
        assert_eq!(Ended::from_wait_status(9), Ended::Signal(9));
        assert_eq!(Ended::from_wait_status(0x80 | 11), Ended::Signal(11));
        assert_eq!(Ended::from_wait_status(3 << 8), Ended::Code(3));
    }

    #[test]
    fn the_message_names_the_rank_and_the_cause() {
        let outcome =
            Outcome { failure: Some(failure(Ended::Signal(9), None)), stopped: 3, ..Outcome::default() };
        let message = outcome.message().unwrap();
        assert!(
            message.starts_with("error: rank 3 was killed by signal 9 (SIGKILL) after 12.4 s\n"),
            "{message}"
        );
        assert!(message.ends_with("other ranks: 3 were stopped"), "{message}");
        assert_eq!(Outcome::default().message(), None);
    }

    #[test]
    fn a_job_that_went_on_ended_well_and_says_without_whom() {
        let recovered = vec![failure(Ended::Signal(9), None)];
        let mut outcome = Outcome { recovered, ..Outcome::default() };
        let message = outcome.message().unwrap();
        assert!(message.starts_with("rank 3 was killed by signal 9 (SIGKILL) after 12.4 s"), "{message}");
        assert!(message.ends_with("the other ranks went on and finished"), "{message}");
        assert_eq!((outcome.success(), outcome.exit_code()), (true, 0));
        outcome.failure = Some(failure(Ended::Code(3), None));
        assert_eq!((outcome.success(), outcome.exit_code()), (false, 3));
    }

    #[test]
    fn a_death_is_reported_with_its_circumstances() {
        let failure = Failure {
            attached: true,
            program: "./solve".to_owned(),
            doing: Some("it was in barrier at a.rs:1:1, waiting 0.2 s".to_owned()),
            cause: Some("the memory limit: memory.events oom_kill 0 -> 1 (limit 2.0 GiB)".to_owned()),
            ..failure(Ended::Signal(9), None)
        };
        let others = "ranks 0-2 in barrier at a.rs:1:1".to_owned();
        let outcome = Outcome { failure: Some(failure), stopped: 3, others, ..Outcome::default() };
        let expected = "\
error: rank 3 was killed by signal 9 (SIGKILL) after 12.4 s
  program: ./solve
  it was in barrier at a.rs:1:1, waiting 0.2 s
  cause: the memory limit: memory.events oom_kill 0 -> 1 (limit 2.0 GiB)
  help: run fewer ranks, or raise the limit (docker run -m, systemd-run -p MemoryMax=, memory.max)
  other ranks: 3 were stopped
    ranks 0-2 in barrier at a.rs:1:1";
        assert_eq!(outcome.message().unwrap(), expected);
    }

    #[test]
    fn an_ordinary_exit_takes_one_line() {
        let failure = Failure { program: "sh".to_owned(), ..failure(Ended::Code(3), None) };
        let others = "rank 0 in no call".to_owned();
        let outcome = Outcome { failure: Some(failure), others, ..Outcome::default() };
        assert_eq!(outcome.message().unwrap(), "error: rank 3 exited with code 3 after 12.4 s");
    }

    #[test]
    fn last_words_are_told_when_they_explain_the_end() {
        let mut failure = failure(Ended::Code(101), None);
        failure.last_words = Some("panicked at src/main.rs:3:5: no".to_owned());
        let message = failure.to_string();
        assert!(
            message.contains("rank 3 panicked after") && message.contains("src/main.rs:3:5: no"),
            "{message}"
        );
        failure.ended = Ended::Signal(9);
        assert!(!failure.to_string().contains("panicked"), "{failure}");
    }

    #[test]
    fn a_closed_output_ends_quietly() {
        let outcome = Outcome {
            failure: Some(failure(Ended::Signal(15), None)),
            output_closed: true,
            ..Outcome::default()
        };
        assert_eq!((outcome.message(), outcome.exit_code()), (None, 141));
    }
}
