//! A job of real processes, with a launcher, whose segment another process writes over while it runs.
//!
//! The job ends: well, with an error, or at its time limit. No rank is killed by a signal of its own making, none
//! panics inside the library, and the launcher, which is this process, lives on.

#[path = "support/random.rs"]
mod random;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use random::Random;
use ranks::{ANY_SOURCE, Spawn, Sum, World};

const RANKS: usize = 3;
/// Jobs that are damaged here; `RANKS_DAMAGE_ROUNDS` asks for more.
const ROUNDS: usize = 12;
/// How long a job communicates if nothing goes wrong, and how long it may take.
const TRAFFIC: Duration = Duration::from_millis(300);
const LIMIT: Duration = Duration::from_secs(2);
/// Names the process to be damaged, and the seed, to the process that does it.
const VICTIM: &str = "RANKS_DAMAGE_VICTIM";

#[test]
fn a_job_whose_segment_is_written_over_ends() {
    if std::env::var(VICTIM).is_ok() {
        return;
    }
    let rounds = std::env::var("RANKS_DAMAGE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let first = std::env::var("RANKS_DAMAGE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    for seed in first..=first + rounds.unwrap_or(ROUNDS) {
        let is_rank = std::env::var("SHMRUN_RANK").is_ok();
        let vandal = (!is_rank && seed > 0).then(|| Vandal::start(seed));
        let outcome = Spawn::new(RANKS).timeout(LIMIT).run(move |world| {
            if let Err(error) = communicate(world, seed) {
                eprintln!("{error}");
                world.abort(3);
            }
        });
        drop(vandal);
        if let Err(error) = outcome {
            assert!(seed > 0, "without damage: {error}");
            check(&error.to_string(), seed);
        }
    }
}

#[track_caller]
fn check(message: &str, seed: usize) {
    println!("seed {seed}: {message}");
    let crashes = ["SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGTRAP"];
    let crash = crashes.iter().find(|signal| message.contains(**signal));
    assert!(crash.is_none() && !message.contains("panicked at"), "seed {seed}: {message}");
}

/// Messages of all lengths and collectives, the same sequence on all ranks.
fn communicate(world: &World, seed: usize) -> ranks::Result<()> {
    let mut random = Random::new(seed as u64);
    let (me, size) = (world.rank(), world.size());
    let (left, right) = ((me + size - 1) % size, (me + 1) % size);
    let begin = Instant::now();
    let goes_on = || -> ranks::Result<bool> {
        let mut goes_on = [u8::from(begin.elapsed() < TRAFFIC)];
        world.broadcast(&mut goes_on, 0)?;
        Ok(goes_on != [0])
    };
    while goes_on()? {
        let length = random.choose(&[0, 1, 30, 500, 8_000, 9_000, 70_000, 400_000]);
        match random.below(6) {
            0 => drop(world.sendrecv(&vec![1u8; length], right, &mut vec![0u8; length], left)?),
            1 => {
                let receive = world.irecv::<u8>(ANY_SOURCE)?;
                let send = world.isend(vec![2u8; length], right)?;
                send.wait()?;
                receive.wait()?;
            }
            // Of floats: sums of damaged integers overflow.
            2 => world.all_reduce(&vec![1f32; length / 4], &mut vec![0.0; length / 4], Sum)?,
            3 => drop(world.all_gather_varying(&vec![me as u8; length / (me + 1)])?),
            4 => drop(world.gather_object(&vec!["text"; length % 1000].join("-"), 0)?),
            _ => {
                let data = vec![me as u64; length / 8 * size];
                drop(world.all_to_all_varying(&data, &vec![length / 8; size])?);
            }
        }
    }
    Ok(())
}

/// A process that writes over the segment of the job that this one launches.
struct Vandal(Child);

impl Vandal {
    fn start(seed: usize) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "vandal", "--nocapture", "--test-threads=1"]);
        command.env(VICTIM, format!("{} {seed}", std::process::id())).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Vandal {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The part of the process that writes.
#[test]
fn vandal() {
    let Ok(victim) = std::env::var(VICTIM) else { return };
    let (pid, seed) = victim.split_once(' ').unwrap();
    let mut random = Random::new(seed.parse::<u64>().unwrap() + 1_000_000);
    let segment = segment_of(pid);
    // Some rounds from the first moment on, some only in the middle of things; a few words, or a flood of them.
    std::thread::sleep(Duration::from_millis(random.choose(&[0, 5, 50, 150])));
    let (words, pause) = random.choose(&[(1, 0), (3, 10), (30, 1), (1_000, 0)]);
    for _ in 0..words {
        write_over(&segment, &mut random);
        std::thread::sleep(Duration::from_millis(pause));
    }
}

/// The segment of the job that process `pid` launches, as soon as there is one.
fn segment_of(pid: &str) -> File {
    loop {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let is_segment = |link: &std::path::Path| {
            link.to_str().is_some_and(|link| link.contains("shmrun") && link.contains("deleted"))
        };
        let mut found =
            descriptors.filter(|entry| fs::read_link(entry.path()).is_ok_and(|link| is_segment(&link)));
        if let Some(entry) = found.next()
            && let Ok(file) = OpenOptions::new().read(true).write(true).open(entry.path())
            && file.metadata().unwrap().len() > 0
        {
            return file;
        }
    }
}

/// Writes over one word, or a page, of what is in use.
fn write_over(segment: &File, random: &mut Random) {
    let Some(page) = some_page(segment, random) else { return };
    if random.below(50) == 0 {
        let value = random.choose(&[0, 0xff]);
        return segment.write_all_at(&[value; 4096], page).unwrap();
    }
    // The beginning of a page is where the words are; the rest is mostly payload.
    let place = page + 8 * if random.below(3) > 0 { random.below(64) } else { random.below(512) } as u64;
    let mut bytes = [0; 8];
    segment.read_exact_at(&mut bytes, place).unwrap();
    let now = u64::from_ne_bytes(bytes);
    let value = match random.below(6) {
        0 => 0,
        1 => u64::MAX,
        2 => now.wrapping_add(1),
        3 => now ^ 1 << random.below(64),
        4 => random.below(8) as u64,
        _ => (random.below(1 << 31) as u64) << 33 | random.below(1 << 31) as u64,
    };
    segment.write_all_at(&value.to_ne_bytes(), place).unwrap();
}

/// A page that has memory already: the segment is mostly holes.
fn some_page(segment: &File, random: &mut Random) -> Option<u64> {
    use rustix::fs::{SeekFrom, seek};
    let mut areas = Vec::new();
    let mut end = 0;
    while let Ok(start) = seek(segment, SeekFrom::Data(end)) {
        end = seek(segment, SeekFrom::Hole(start)).ok()?;
        areas.push((start, end));
    }
    let (start, end) = *areas.get(random.below(areas.len().max(1)))?;
    // Each area's first pages are those with the most to say.
    let pages = ((end - start) / 4096).max(1) as usize;
    let page = if random.below(2) == 0 { random.below(pages.min(8)) } else { random.below(pages) };
    Some(start + 4096 * page as u64)
}
