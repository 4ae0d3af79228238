//! Running `shmrun` in a directory of its own, with a watchdog, and looking for what it left behind.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};
use std::{fs, io};

use rustix::process::{Pid, Signal, kill_process};

/// After this long a test hangs and is ended.
const WATCHDOG: Duration = Duration::from_secs(60);
/// Marks every process of a test in its environment.
const MARK: &str = "LAUNCHER_TEST";

/// A run of `shmrun` being prepared.
pub(crate) struct Shmrun {
    command: Command,
    mark: String,
    directory: PathBuf,
    input: Option<Vec<u8>>,
    keeps_input: bool,
}

/// `shmrun` at work.
pub(crate) struct Running {
    pub(crate) child: Child,
    mark: String,
    directory: PathBuf,
    described: String,
    output: Collector,
    errors: Collector,
}

/// What came of it.
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stdout_bytes: Vec<u8>,
    pub(crate) stderr: String,
    /// Files that were made in its directory, with their content.
    pub(crate) files: BTreeMap<String, String>,
    mark: String,
    described: String,
}

/// Reads a stream to its end beside everything else.
struct Collector {
    text: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

/// `shmrun` with these arguments.
pub(crate) fn shmrun<A: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = A>) -> Shmrun {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let mark = format!("{}-{}", std::process::id(), RUNS.fetch_add(1, Relaxed));
    let directory = std::env::temp_dir().join(format!("shmrun-test-{mark}"));
    fs::create_dir_all(&directory).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_shmrun"));
    command.args(arguments).current_dir(&directory).env(MARK, &mark);
    // The tests read messages, not backtraces.
    command.env("RUST_BACKTRACE", "0");
    Shmrun { command, mark, directory, input: None, keeps_input: false }
}

/// `shmrun` with a line of arguments without quotes, where `misbehave` and `stuck` stand for the test programs.
pub(crate) fn line(arguments: &str) -> Shmrun {
    shmrun(arguments.split_whitespace().map(|word| match word {
        "misbehave" => misbehave(),
        "stuck" => stuck(),
        word => word,
    }))
}

/// The program of examples/misbehave.rs.
pub(crate) fn misbehave() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| example("misbehave"))
}

/// The program of examples/stuck.rs.
pub(crate) fn stuck() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| example("stuck"))
}

fn example(name: &str) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", "shmrun", "--example", name]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success(), "cannot build the test program");
    let directory = Path::new(env!("CARGO_BIN_EXE_shmrun")).parent().unwrap();
    directory.join("examples").join(name).to_str().unwrap().to_owned()
}

impl Shmrun {
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Started with a signal that is ignored, as nohup does it.
    pub(crate) fn ignoring(mut self, signal: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("trap '' {signal}; exec \"$@\""), "sh"]);
        command.arg(self.command.get_program()).args(self.command.get_args()).current_dir(&self.directory);
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        self.command = command;
        self
    }

    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// An input that stays open and empty until [`Running::write`] is called.
    pub(crate) fn open_input(mut self) -> Self {
        self.keeps_input = true;
        self
    }

    /// A file in the test's directory, which is the current one of the run.
    pub(crate) fn file(self, name: &str, content: &str, mode: u32) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let path = self.directory.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    /// A process group of its own, with this process as a parent outside of it: who belongs to a group without one
    /// (as the tests do that something in the background has started) is not stopped by SIGTSTP.
    pub(crate) fn own_group(mut self) -> Self {
        std::os::unix::process::CommandExt::process_group(&mut self.command, 0);
        self
    }

    /// The command itself, to be run by something else (a terminal, a namespace).
    pub(crate) fn words(self) -> Vec<String> {
        fs::remove_dir_all(&self.directory).unwrap();
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        words.map(|word| word.to_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn start(mut self) -> Running {
        let described = format!("{:?}", self.command);
        if self.input.is_some() || self.keeps_input {
            self.command.stdin(Stdio::piped());
        } else {
            self.command.stdin(Stdio::null());
        }
        let mut child = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if let Some(input) = self.input {
            let mut stdin = child.stdin.take().unwrap();
            // A rank that does not read its input closes the pipe early.
            thread::spawn(move || stdin.write_all(&input));
        }
        let output = Collector::new(child.stdout.take().unwrap());
        let errors = Collector::new(child.stderr.take().unwrap());
        Running { child, mark: self.mark, directory: self.directory, described, output, errors }
    }

    pub(crate) fn run(self) -> Finished {
        self.start().finish()
    }
}

impl Running {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Blocks until the standard output contains `text` `count` times.
    pub(crate) fn await_output(&mut self, text: &str, count: usize) {
        let begin = Instant::now();
        while self.output.text().matches(text).count() < count {
            if begin.elapsed() > WATCHDOG || self.child.try_wait().unwrap().is_some() {
                self.give_up(&format!("did not print {text:?} {count} times"));
            }
            sleep(Duration::from_millis(2));
        }
    }

    /// The standard output of a run that has ended, read to its end.
    pub(crate) fn output_at_end(self) -> String {
        let Self { output, directory, .. } = self;
        let text = output.text.clone();
        output.thread.join().unwrap();
        fs::remove_dir_all(directory).unwrap();
        String::from_utf8_lossy(&text.lock().unwrap()).into_owned()
    }

    /// Blocks until the standard error contains `text`.
    pub(crate) fn await_errors(&mut self, text: &str) {
        let begin = Instant::now();
        while !self.errors.text().contains(text) {
            if begin.elapsed() > WATCHDOG || self.child.try_wait().unwrap().is_some() {
                self.give_up(&format!("did not say {text:?}"));
            }
            sleep(Duration::from_millis(2));
        }
    }

    /// Blocks until something is true of the run.
    pub(crate) fn await_that(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !is_so(self) {
            if begin.elapsed() > WATCHDOG {
                self.give_up(&format!("not so: {what}"));
            }
            sleep(Duration::from_millis(2));
        }
    }

    /// Writes to the input of a run that keeps it open, and closes it.
    pub(crate) fn write(&mut self, text: &str) {
        self.child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// The process of a rank, once there is one that runs this program.
    pub(crate) fn rank(&self, rank: usize, program: &str) -> Pid {
        let begin = Instant::now();
        let variable = format!("SHMRUN_RANK={rank}\0");
        let is_it = |pid: &i32| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            command.starts_with(program.as_bytes())
                && environment.windows(variable.len()).any(|window| window == variable.as_bytes())
        };
        loop {
            if let Some(pid) = self.processes().into_iter().find(is_it) {
                return Pid::from_raw(pid).unwrap();
            }
            if begin.elapsed() > WATCHDOG {
                self.give_up(&format!("no rank {rank}"));
            }
            sleep(Duration::from_millis(2));
        }
    }

    /// Processes of this run, `shmrun` and its guard included.
    pub(crate) fn processes(&self) -> Vec<i32> {
        marked(&self.mark)
    }

    /// Waits for `shmrun`, then for its streams, and checks that nothing is left.
    pub(crate) fn finish(mut self) -> Finished {
        let status = self.wait();
        await_nothing_left(&self.mark, &self.described);
        let mut finished = self.finished(status);
        finished.files = files_below(&self.directory, "");
        fs::remove_dir_all(self.directory).unwrap();
        finished
    }

    fn wait(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status,
                None if begin.elapsed() > WATCHDOG => self.give_up("does not end"),
                None => sleep(Duration::from_millis(2)),
            }
        }
    }

    fn finished(&mut self, status: ExitStatus) -> Finished {
        use std::os::unix::process::ExitStatusExt;
        let begin = Instant::now();
        while !(self.output.thread.is_finished() && self.errors.thread.is_finished()) {
            if begin.elapsed() > WATCHDOG {
                self.give_up("somebody still holds its output");
            }
            sleep(Duration::from_millis(2));
        }
        Finished {
            code: status.code(),
            signal: status.signal(),
            stdout: self.output.text(),
            stdout_bytes: self.output.bytes(),
            stderr: self.errors.text(),
            files: BTreeMap::new(),
            mark: self.mark.clone(),
            described: self.described.clone(),
        }
    }

    fn give_up(&self, problem: &str) -> ! {
        let processes = end(&self.mark);
        panic!(
            "{problem}: {}\nprocesses: {processes:?}\nstdout: {}\nstderr: {}",
            self.described,
            self.output.text(),
            self.errors.text()
        );
    }
}

impl Finished {
    #[track_caller]
    pub(crate) fn code(self, expected: i32) -> Self {
        self.check(self.code == Some(expected), &format!("exit code {expected}"));
        self
    }

    #[track_caller]
    pub(crate) fn stdout(self, expected: &str) -> Self {
        self.check(self.stdout == expected, &format!("stdout {expected:?}"));
        self
    }

    #[track_caller]
    pub(crate) fn says(self, expected: &str) -> Self {
        self.check(self.stderr.contains(expected), &format!("{expected:?} in stderr"));
        self
    }

    #[track_caller]
    pub(crate) fn silent(self) -> Self {
        self.check(self.stderr.is_empty(), "an empty stderr");
        self
    }

    /// Nobody has been accused of a deadlock.
    #[track_caller]
    pub(crate) fn claims_no_deadlock(self) -> Self {
        self.check(!self.stderr.contains("deadlock"), "no claim of deadlock");
        self
    }

    /// Lines of the standard output in an order that does not depend on timing.
    pub(crate) fn sorted_lines(&self) -> Vec<&str> {
        let mut lines: Vec<&str> = self.stdout.lines().collect();
        lines.sort_unstable();
        lines
    }

    #[track_caller]
    pub(crate) fn check(&self, holds: bool, expected: &str) {
        assert!(
            holds,
            "expected {expected}: {} (mark {})\ncode: {:?}, signal: {:?}\nstdout: {}\nstderr: {}",
            self.described, self.mark, self.code, self.signal, self.stdout, self.stderr
        );
    }
}

impl Collector {
    fn new(mut stream: impl Read + Send + 'static) -> Self {
        let text = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let shared = text.clone();
        let thread = thread::spawn(move || {
            let mut buffer = [0; 64 << 10];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                shared.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { text, thread }
    }

    fn bytes(&self) -> Vec<u8> {
        self.text.lock().unwrap().clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

/// All files below a directory, by their path.
fn files_below(directory: &Path, prefix: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.file_type().unwrap().is_dir() {
            true => files.append(&mut files_below(&entry.path(), &format!("{name}/"))),
            false => {
                let content = fs::read(entry.path()).unwrap_or_default();
                files.insert(name, String::from_utf8_lossy(&content).into_owned());
            }
        }
    }
    files
}

/// Processes whose environment carries the mark. Zombies have no environment.
pub(crate) fn marked(mark: &str) -> Vec<i32> {
    let needle = format!("{MARK}={mark}\0");
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| has_mark(*pid, &needle).unwrap_or(false)).collect()
}

/// Ends what a failed test left running; returns what it was.
fn end(mark: &str) -> Vec<i32> {
    let processes = marked(mark);
    for pid in processes.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        let _ = kill_process(pid, Signal::KILL);
    }
    processes
}

fn has_mark(pid: i32, needle: &str) -> io::Result<bool> {
    let environment = fs::read(format!("/proc/{pid}/environ"))?;
    Ok(environment.windows(needle.len()).any(|window| window == needle.as_bytes()))
}

/// Waits until no process of the run is left and no name of a job stays in /dev/shm.
pub(crate) fn await_nothing_left(mark: &str, described: &str) {
    let begin = Instant::now();
    while !marked(mark).is_empty() {
        if begin.elapsed() > WATCHDOG {
            panic!("processes {:?} are left of {described}", end(mark));
        }
        sleep(Duration::from_millis(2));
    }
    // Other jobs on this machine have a name for microseconds: only one that stays was left behind.
    let before = job_names();
    let left = || before.intersection(&job_names()).cloned().collect::<Vec<_>>();
    while !left().is_empty() {
        assert!(begin.elapsed() < WATCHDOG, "{:?} are left of {described} in /dev/shm", left());
        sleep(Duration::from_millis(2));
    }
}

fn job_names() -> std::collections::BTreeSet<String> {
    let Ok(entries) = fs::read_dir("/dev/shm") else { return Default::default() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.contains("shmrun")).collect()
}
