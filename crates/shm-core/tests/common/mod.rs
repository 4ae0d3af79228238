//! What the tests share: a watchdog, names, and running the own binary again as another process.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Ends the process with a message if `body` hangs: a lost wake-up then fails, instead of blocking the run.
pub(crate) fn watched<R>(name: &str, body: impl FnOnce() -> R) -> R {
    const LIMIT: Duration = Duration::from_secs(120);
    let (done, wait) = mpsc::channel::<()>();
    let name = name.to_owned();
    let dog = std::thread::spawn(move || {
        if wait.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            // Not eprintln!: a test harness would capture that and lose it in the abort.
            let _ = writeln!(std::io::stderr(), "watchdog: {name} hangs for {LIMIT:?}");
            std::process::abort();
        }
    });
    let result = body();
    drop(done);
    dog.join().expect("the watchdog does not panic");
    result
}

/// A name that no other test of any running test process uses.
pub(crate) fn name(label: &str) -> String {
    format!("/t{}.{label}", std::process::id())
}

/// Whether the object of that name exists.
pub(crate) fn exists(name: &str) -> bool {
    Path::new("/dev/shm").join(name.trim_start_matches('/')).exists()
}

/// Names in /dev/shm that contain that of the channel: its object and its semaphores.
pub(crate) fn leftovers(name: &str) -> Vec<String> {
    let files = std::fs::read_dir("/dev/shm").expect("/dev/shm can be listed");
    let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    names.filter(|file| file.contains(name.trim_start_matches('/'))).collect()
}

const PART: &str = "SHM_CORE_TEST_PART";

/// The part that this process plays, if the test has been run again by [`play`].
pub(crate) fn part() -> Option<Vec<String>> {
    let part = env::var(PART).ok()?;
    Some(part.split(' ').map(str::to_owned).collect())
}

/// Runs `test` of this binary again as another process that plays `part` (words). Killed and reaped on drop.
pub(crate) fn play(test: &str, part: &str) -> Player {
    let mut command = Command::new(env::current_exe().expect("the test binary has a path"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(PART, part);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Player(command.spawn().expect("the test binary can be run again"))
}

/// A process that plays a part.
pub(crate) struct Player(pub(crate) Child);

impl Player {
    /// kill -9, and reaps it.
    pub(crate) fn kill(&mut self) {
        self.0.kill().expect("the child is ours to kill");
        self.0.wait().expect("the child is ours to reap");
    }

    /// kill -STOP, and waits until none of its threads runs.
    pub(crate) fn stop(&self) {
        let id = self.0.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -STOP \"$1\"", "sh", &id]).status();
        assert!(sent.expect("there is a shell").success(), "process {id} cannot be stopped");
        while !self.threads().iter().all(|state| state == "T") {
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// The state of each of its threads, as in `/proc/ID/task/*/stat`.
    fn threads(&self) -> Vec<String> {
        let tasks =
            std::fs::read_dir(format!("/proc/{}/task", self.0.id())).expect("the child is not reaped");
        let stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
        let state = |stat: String| stat.rsplit_once(") ").expect("a name in parentheses").1[..1].to_owned();
        stats.map(state).collect()
    }

    /// What its descriptors lead to.
    pub(crate) fn open_files(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.0.id())).expect("the child is not reaped");
        files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok()).collect()
    }

    /// Waits until it prints `line`.
    pub(crate) fn await_line(&mut self, line: &str) {
        use std::io::{BufRead, BufReader, Read};
        let stdout = self.0.stdout.as_mut().expect("stdout is piped");
        // Byte by byte, so that nothing behind the line is taken.
        let mut reader = BufReader::with_capacity(1, stdout.by_ref());
        let mut seen = String::new();
        while !seen.lines().any(|l| l.ends_with(line)) {
            let length = reader.read_line(&mut seen).expect("the child's output is text");
            assert!(length > 0, "the child ended without {line:?}, after:\n{seen}");
        }
    }

    /// Waits for its end and asserts that its assertions held.
    pub(crate) fn finish(mut self) {
        let status = self.0.wait().expect("the child is ours to reap");
        assert!(status.success(), "a child failed: {status}");
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Random numbers from a seed that is printed, so that a failure can be repeated.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        println!("seed {seed:#x}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // xorshift64: three shifts are enough for moments and lengths.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A message whose contents tell its number and length.
pub(crate) fn message(number: u64, length: usize) -> Vec<u8> {
    (0..length).map(|at| (number as usize).wrapping_mul(31).wrapping_add(at * 7 + length) as u8).collect()
}
