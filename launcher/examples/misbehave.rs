//! A rank that does what its arguments say, in order: for the launcher's tests.
//!
//! An argument is an action, or `RANK:ACTION` for one rank only. `misbehave init 1:panic hang` joins the job,
//! lets rank 1 panic, and leaves the others waiting.

use std::io::{Write, stdout};
use std::process::exit;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ranks::{ANY_SOURCE, World};
use rustix::process::{Signal, getpid, kill_process};
use rustix::time::{ClockId, clock_gettime};

fn main() -> Result<()> {
    let mut rank = Rank { world: None };
    for argument in std::env::args().skip(1) {
        let (chosen, action) = match argument.split_once(':') {
            Some((chosen, action)) => (Some(chosen), action),
            None => (None, argument.as_str()),
        };
        if chosen.is_none_or(|chosen| number().as_deref() == Some(chosen)) {
            rank.act(action)?;
        }
    }
    Ok(())
}

/// The rank as the launcher tells it, which is known before `init`.
fn number() -> Option<String> {
    std::env::var("SHMRUN_RANK").ok()
}

struct Rank {
    world: Option<World>,
}

impl Rank {
    fn act(&mut self, action: &str) -> Result<()> {
        let (verb, value) = action.split_once('=').unwrap_or((action, ""));
        let value = || value.parse::<i32>().with_context(|| format!("{action} needs a number"));
        match verb {
            "init" => self.world = Some(ranks::init()?),
            "finalize" => drop(self.world.take()),
            "shrink" => self.world = self.world.take().map(World::shrink).transpose()?,
            "barrier" => self.world()?.barrier()?,
            "send" => self.world()?.send(&[0_u8; 1024], value()? as usize)?,
            "exchange" => self.exchange(value()? as usize)?,
            "hang" => drop(self.world()?.recv_vec::<u8>(ANY_SOURCE)?),
            "recv" => drop(self.world()?.recv_vec::<u8>(value()? as usize)?),
            "trickle" => self.trickle(value()? as usize)?,
            "abort" => self.world()?.abort(value()?),
            "panic" => panic!("as it was told"),
            "exit" => exit(value()?),
            "spin" => spin(),
            "eat" => drop(std::hint::black_box(vec![1u8; (value()? as usize) << 20])),
            "overflow" => drop(overflow(1)),
            "sleep" => sleep(Duration::from_millis(value()? as u64)),
            "kill" => kill_process(getpid(), Signal::from_named_raw(value()?).context("no such signal")?)?,
            "size" => say(&format!("size {}\n", self.world()?.size()))?,
            "ready" => say("ready\n")?,
            "now" => say(&format!("{}\n", now()))?,
            "lines" => lines(value()?)?,
            other => bail!("unknown action {other}"),
        }
        Ok(())
    }

    /// Sends a message around: each rank to the next one.
    fn exchange(&self, bytes: usize) -> Result<()> {
        let world = self.world()?;
        let (rank, size) = (world.rank(), world.size());
        let request = world.isend(vec![rank as u8; bytes], (rank + 1) % size)?;
        let before = (rank + size - 1) % size;
        let received = world.recv_vec::<u8>(before)?;
        anyhow::ensure!(received.0 == vec![before as u8; bytes], "a damaged message");
        request.wait()?;
        Ok(())
    }

    /// Sends a message again and again, for a minute.
    fn trickle(&self, to: usize) -> Result<()> {
        for _ in 0..12_000 {
            self.world()?.send(&[1_u8; 64], to)?;
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn world(&self) -> Result<&World> {
        self.world.as_ref().context("init comes first")
    }
}

/// Seconds of the clock that all processes share.
fn now() -> f64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn say(text: &str) -> Result<()> {
    stdout().write_all(text.as_bytes())?;
    Ok(stdout().flush()?)
}

/// Writes numbered lines in pieces that have nothing to do with their ends.
fn lines(count: i32) -> Result<()> {
    let rank = number().context("lines are for ranks")?;
    let text: String = (0..count).map(|line| format!("rank {rank} line {line} end\n")).collect();
    let mut rest = text.as_bytes();
    let mut step = 1 + rank.parse::<usize>()?;
    while !rest.is_empty() {
        // Anything from 1 byte to more than a pipe takes at once.
        step = step * 75 % 65_537;
        let piece = &rest[..rest.len().min(step % 9000 + 1)];
        let written = rustix::io::write(rustix::stdio::stdout(), piece)?;
        rest = &rest[written..];
    }
    Ok(())
}

/// Needs more stack than there is.
fn overflow(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 1024]);
    if depth == u64::MAX { 0 } else { overflow(depth + 1).wrapping_add(frame[0]) }
}

/// Computes for ever, without any call into the library.
fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}
