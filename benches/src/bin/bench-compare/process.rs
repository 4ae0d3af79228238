//! Runs one command to its end, or to the end of the time it has.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::contender::Invocation;

/// How long a launcher has to end its ranks before it is killed with them.
const TO_CLEAN_UP: Duration = Duration::from_secs(2);

pub(crate) struct Run {
    pub(crate) output: String,
    /// From before the launcher is started to after its end.
    pub(crate) elapsed: Duration,
}

/// Why there is nothing to use.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) reason: String,
    /// Trying again would take as long.
    pub(crate) is_timeout: bool,
}

impl From<String> for Failed {
    fn from(reason: String) -> Self {
        Self { reason, is_timeout: false }
    }
}

/// What it printed.
///
/// Sleeps while the command runs: the ranks need every core. It stays in the caller's process group, so that Ctrl-C
/// reaches the launcher too.
pub(crate) fn run(invocation: &Invocation, limit: Duration) -> Result<Run, Failed> {
    let begin = Instant::now();
    let child = start(invocation).map_err(|error| format!("cannot run {}: {error}", invocation.words[0]))?;
    let launcher = Pid::from_child(&child);
    let (sender, receiver) = mpsc::channel();
    let collector = thread::spawn(move || {
        // An error means that nobody waits any more.
        let _ = sender.send(collect(child, begin));
    });
    let ended = match receiver.recv_timeout(limit) {
        Err(RecvTimeoutError::Timeout) => {
            end(launcher, &receiver);
            let reason = format!("no end after {} s", limit.as_secs_f64());
            return Err(Failed { reason, is_timeout: true });
        }
        Err(RecvTimeoutError::Disconnected) => Err("its output could not be collected".to_owned()),
        Ok(ended) => ended.map_err(|error| error.to_string()),
    };
    let (status, stdout, stderr, elapsed) = ended?;
    // It has sent what it had; a panic there has been an error above.
    let _ = collector.join();
    if status.success() {
        Ok(Run { output: stdout, elapsed })
    } else {
        let words = last_lines(if stderr.trim().is_empty() { &stdout } else { &stderr });
        Err(format!("{status}: {words}").into())
    }
}

fn start(invocation: &Invocation) -> std::io::Result<Child> {
    Command::new(&invocation.words[0])
        .args(&invocation.words[1..])
        .envs(&invocation.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

type Ended = (ExitStatus, String, String, Duration);

fn collect(mut child: Child, begin: Instant) -> std::io::Result<Ended> {
    let mut stderr = child.stderr.take();
    let errors = thread::spawn(move || text_of(stderr.as_mut()));
    let output = text_of(child.stdout.as_mut());
    let status = child.wait()?;
    let elapsed = begin.elapsed();
    Ok((status, output, errors.join().unwrap_or_default(), elapsed))
}

fn text_of(stream: Option<&mut impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // What came before an error is still worth showing.
        let _ = stream.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// From now on a signal that ends this process ends what it has started, too: a peer's ranks would go on, and use the processors that
/// the next comparison measures on.
///
/// # Errors
///
/// If the system does not let this process handle signals.
pub(crate) fn end_children_with_this_process() -> std::io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            end_descendants(rustix::process::getpid());
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Ends the descendants of a process, which may ignore what asks them to.
fn end_descendants(ancestor: Pid) {
    let begin = Instant::now();
    let all = descendants(ancestor);
    // Each may have ended just now: then there is nobody to signal.
    let ask = |signal| {
        for &process in &all {
            let _ = kill_process(process, signal);
        }
    };
    ask(Signal::TERM);
    while begin.elapsed() < TO_CLEAN_UP && !descendants(ancestor).is_empty() {
        thread::sleep(Duration::from_millis(10));
    }
    ask(Signal::KILL);
}

fn end(launcher: Pid, ended: &mpsc::Receiver<std::io::Result<Ended>>) {
    // A launcher that is killed leaves its ranks to another parent: they have to be known before.
    let descendants = descendants(launcher);
    // Each may have ended just now: then there is nobody to signal.
    let _ = kill_process(launcher, Signal::TERM);
    if ended.recv_timeout(TO_CLEAN_UP).is_err() {
        for process in std::iter::once(launcher).chain(descendants) {
            let _ = kill_process(process, Signal::KILL);
        }
    }
}

fn descendants(ancestor: Pid) -> Vec<Pid> {
    let parents = parents();
    let mut found = vec![ancestor];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(process, _)| *process));
        next += 1;
    }
    found.split_off(1)
}

/// Every process of the machine with its parent.
fn parents() -> Vec<(Pid, Pid)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let parent = |name: &str| {
        // "PID (NAME) STATE PARENT ...", where the name may contain anything.
        let status = fs::read_to_string(format!("/proc/{name}/stat")).ok()?;
        let parent = status.rsplit_once(')')?.1.split_whitespace().nth(1)?;
        Some((Pid::from_raw(name.parse().ok()?)?, Pid::from_raw(parent.parse().ok()?)?))
    };
    entries.filter_map(|entry| parent(entry.file_name().to_str()?)).collect()
}

/// Launchers end with what matters, after a banner.
fn last_lines(text: &str) -> String {
    const LINES: usize = 6;
    let said =
        |line: &&str| !line.trim().is_empty() && !line.starts_with("----") && !line.starts_with("====");
    let lines: Vec<_> = text.lines().filter(said).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn shell(script: &str) -> Invocation {
        let words = ["sh", "-c", script].map(str::to_owned).to_vec();
        Invocation { environment: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]), words }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_output_comes_back() {
        assert_eq!(run(&shell("echo $GREETING; echo noise >&2"), LONG).unwrap().output, "hello\n");
    }

    #[test]
    fn a_failure_has_its_code_and_last_words() {
        let reason = run(&shell("echo out; echo why >&2; exit 3"), LONG).err().unwrap().reason;
        assert!(reason.contains('3') && reason.contains("why"), "{reason}");
    }

    #[test]
    fn what_does_not_end_is_ended_with_its_children() {
        let begin = Instant::now();
        // The seconds are a mark by which to find them afterwards, wherever they are then.
        let mark = format!("4{}", std::process::id());
        let stubborn = format!("trap '' TERM; sleep {mark} & sleep {mark}");
        let failed = run(&shell(&stubborn), Duration::from_millis(100)).err().unwrap();
        assert!(failed.is_timeout && failed.reason.contains("no end"), "{failed:?}");
        while parents().iter().any(|(process, _)| command_line(*process).contains(&mark)) {
            assert!(begin.elapsed() < LONG, "a child is left");
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn descendants_are_ended_even_those_that_ignore_what_asks_them_to() {
        let mut parent =
            start(&shell("(trap '' TERM; echo ready; while :; do sleep 1; done) & wait")).unwrap();
        let mut ready = [0; 6];
        parent.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        let ancestor = Pid::from_child(&parent);
        assert!(!descendants(ancestor).is_empty());
        end_descendants(ancestor);
        // Its only child is gone, so it ends by itself.
        parent.wait().unwrap();
    }

    fn command_line(process: Pid) -> String {
        fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default()
    }

    #[test]
    fn a_missing_program_is_named() {
        let invocation = Invocation { environment: BTreeMap::new(), words: vec!["/no/such/program".into()] };
        assert!(run(&invocation, LONG).err().unwrap().reason.contains("/no/such/program"));
    }
}
