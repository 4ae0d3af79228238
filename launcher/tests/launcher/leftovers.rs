//! Jobs as `shmrun ps` shows them, and what `shmrun clean` removes of dead ones.

use std::fs::{File, FileTimes};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Running, line, shmrun};

/// `clean` ends dead jobs of all tests that run at the same time, in whatever process: until the file is dropped, no
/// other test cleans.
fn clean_alone() -> File {
    let begin = Instant::now();
    let names = File::open("/dev/shm").unwrap();
    while flock(&names, FlockOperation::NonBlockingLockExclusive).is_err() {
        assert!(begin.elapsed() < Duration::from_secs(300), "another test cleans for too long");
        sleep(Duration::from_millis(2));
    }
    names
}

/// Two ranks, each a shell with a process below it that never attaches.
fn job() -> Running {
    let mut run = shmrun(["-n", "2", "sh", "-c", "sleep 600 & echo ready; sleep 600; true"]).start();
    run.await_output("ready\n", 2);
    // A shell says so before it has started the second one, and perhaps before the first is more than its copy.
    run.await_that("two processes below each shell", |run| sleepers(run) == 4);
    run
}

/// How many processes of a run are the program `sleep` by now.
fn sleepers(run: &Running) -> usize {
    run.processes().into_iter().filter(|pid| command(*pid).starts_with(b"sleep\0")).count()
}

fn command(pid: i32) -> Vec<u8> {
    std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// The line of `text` that names this job's launcher, in words.
fn line_of(text: &str, launcher: u32) -> Option<Vec<String>> {
    let lines = text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    lines.into_iter().find(|words| words.get(1) == Some(&launcher.to_string()))
}

#[test]
fn jobs_are_listed_with_launcher_ranks_and_program() {
    let run = job();
    let launcher = run.child.id();
    let listed = line("ps").run().code(0).silent().stdout;
    assert!(listed.starts_with("JOB"), "{listed}");
    let words = line_of(&listed, launcher).unwrap_or_else(|| panic!("job of {launcher} in {listed}"));
    assert_eq!((words[0].len(), words[2].as_str(), words[5].as_str()), (16, "2", "sh"), "{listed}");
    // Two shells with two processes below each.
    let processes = line("ps --processes").run().code(0).silent().stdout;
    let own = processes.lines().skip_while(|line| !line.starts_with(&words[0])).skip(1);
    let own: Vec<&str> = own.take_while(|line| line.starts_with(' ')).collect();
    let of_rank = |rank: &str| own.iter().filter(|line| line.trim_start().starts_with(rank)).count();
    assert_eq!((of_rank("rank 0"), of_rank("rank 1")), (3, 3), "{processes}");
    run.signal(Signal::TERM);
    run.finish().code(143);
    assert_eq!(line_of(&line("ps").run().code(0).stdout, launcher), None);
}

#[test]
fn clean_ends_dead_jobs_and_never_living_ones() {
    let _alone = clean_alone();
    let living = job();
    let dead = job();
    // Launcher and guard: nobody is left who would end the job.
    let own = env!("CARGO_BIN_EXE_shmrun").as_bytes();
    let mut launchers: Vec<i32> = dead.processes();
    launchers.retain(|&pid| command(pid).starts_with(own));
    // The guard first, which would do its duty.
    launchers.sort_by_key(|&pid| pid == dead.child.id() as i32);
    assert_eq!(launchers.len(), 2, "launcher and guard");
    launchers.iter().for_each(|&pid| kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap());
    assert_eq!(sleepers(&dead), 4, "what never attached lives on");

    let announced = line("clean --dry-run").run().code(0).silent().stdout;
    let of_dead = |text: &str| dead.processes().iter().all(|pid| text.contains(&format!("process {pid} ")));
    assert!(announced.contains("would kill") && of_dead(&announced), "{announced}");
    assert_eq!(sleepers(&dead), 4, "a dry run ends nothing");
    let listed = line("ps").run().code(0).silent().stdout;
    assert!(listed.lines().any(|line| line.contains(" gone ")), "{listed}");

    let done = line("clean").run().code(0).silent().stdout;
    assert!(done.contains("killing process "), "{done}");
    for pid in living.processes() {
        assert!(!done.contains(&format!("process {pid} ")), "{pid} of a living job: {done}");
    }
    // Checks that nothing is left.
    assert_eq!(dead.finish().signal, Some(9));
    living.signal(Signal::TERM);
    living.finish().code(143).stdout("ready\nready\n");
}

#[test]
fn clean_removes_old_names_and_leaves_young_and_foreign_ones() {
    let _alone = clean_alone();
    let create = |name: String, age: Duration| {
        let path = PathBuf::from("/dev/shm").join(name);
        let file = File::create(&path).unwrap();
        file.set_times(FileTimes::new().set_modified(SystemTime::now() - age)).unwrap();
        path
    };
    let digits = format!("{:012x}", u64::from(std::process::id()) << 8);
    let old = create(format!("shmrun.{digits}"), Duration::from_secs(3600));
    let young = create(format!("shmrun.{}1", &digits[..11]), Duration::ZERO);
    let foreign = create(format!("shmrun-test-{digits}"), Duration::from_secs(3600));
    let announced = await_text(line("clean --dry-run").start());
    let all_there = [&old, &young, &foreign].iter().all(|path| path.exists());
    let done = await_text(line("clean").start());
    let there = [&old, &young, &foreign].map(|path| path.exists());
    for path in [&old, &young, &foreign] {
        let _ = std::fs::remove_file(path);
    }
    assert!(announced.contains(&format!("would remove {}\n", old.display())) && all_there, "{announced}");
    assert!(done.contains(&format!("removing {}\n", old.display())), "{done}");
    assert_eq!(there, [false, true, true], "{done}");
}

/// What a run printed; without the harness's look at /dev/shm, in which this test has names of its own.
fn await_text(mut run: Running) -> String {
    let status = run.child.wait().unwrap();
    format!("{status}\n{}", run.output_at_end())
}

#[test]
fn doctor_tells_what_matters_and_what_it_means() {
    let report = line("doctor").run().code(0).silent().stdout;
    for part in [
        "processors",
        "`shmrun ./app` starts",
        "memory",
        "/dev/shm",
        "4 ranks: up to",
        "512 ranks: up to",
        "direct copies",
        "huge pages",
        "open files",
        "kernel",
    ] {
        assert!(report.contains(part), "{part} in {report}");
    }
    let starts = format!("`shmrun ./app` starts {} ranks", ranks::launch::available_cores());
    assert!(report.contains(&starts), "{report}");
}
