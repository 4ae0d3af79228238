//! One test at one size: who takes part, its buffers, and what its time means.

use std::hint::black_box;

use anyhow::{Result, ensure};
use ranks::{Sum, World};

use crate::output::Unit;
use crate::tests::{Parts, Ranks, Test};

/// The root of the collectives that have one.
pub(crate) const ROOT: usize = 0;
const PAGE: usize = 4096;
const LINE: usize = 64;

/// A test at a size. The buffers have exactly the length that is transferred.
pub(crate) struct Bench<'a> {
    pub(crate) world: &'a World,
    pub(crate) test: &'static Test,
    /// The ranks below take part.
    pub(crate) participants: usize,
    /// Rank i sends to rank i + `pairs`.
    pub(crate) pairs: usize,
    /// Messages under way at once.
    pub(crate) window: usize,
    /// Bytes per message.
    pub(crate) size: usize,
    /// From one message of a window to the next in the buffers: 0, as OSU does, but where content is verified, or in use.
    pub(crate) stride: usize,
    /// What is sent.
    pub(crate) data: &'a mut [u8],
    /// What is received.
    pub(crate) buffer: &'a mut [u8],
    /// What is sent is written before each call, and what is received is read after it.
    pub(crate) in_use: bool,
    /// When this rank entered the barrier that is verified, see [`crate::timing::now`].
    pub(crate) entered: f64,
}

impl Bench<'_> {
    /// Whether this rank is the first of its pair.
    pub(crate) fn is_sender(&self) -> bool {
        self.world.rank() < self.pairs
    }

    /// The other rank of this rank's pair.
    pub(crate) fn peer(&self) -> usize {
        let rank = self.world.rank();
        if self.is_sender() { rank + self.pairs } else { rank - self.pairs }
    }

    /// Writes all that is sent in the next call.
    pub(crate) fn write(&mut self, iteration: u64) {
        black_box(&mut *self.data).fill(iteration as u8);
        if self.test.data == Parts::Nothing && self.world.rank() == ROOT {
            black_box(&mut *self.buffer).fill(iteration as u8);
        }
    }

    /// Reads a byte in each cache line of what was received in the last call: adding up whole lines would measure the compiler.
    pub(crate) fn read(&self) {
        black_box(self.buffer.iter().step_by(LINE).fold(0, |sum: u64, &byte| sum + u64::from(byte)));
    }

    /// The mean of the seconds of those ranks whose time counts, on rank 0.
    pub(crate) fn mean(&self, seconds: f64) -> Result<f64> {
        let timed = match self.test.ranks {
            Ranks::Pair => return Ok(seconds),
            Ranks::Pairs => self.pairs,
            Ranks::All => self.participants,
        };
        let counted = if self.world.rank() < timed { seconds } else { 0.0 };
        let mut sum = [0.0];
        self.world.reduce(&[counted], &mut sum, Sum, 0)?;
        Ok(sum[0] / timed as f64)
    }

    /// Messages of all pairs in one call.
    fn messages(&self) -> usize {
        self.test.steps * self.window * self.pairs
    }

    /// What is reported of a call that took `seconds`.
    pub(crate) fn value(&self, seconds: f64) -> f64 {
        match self.test.unit {
            Unit::MegabytesPerSecond => self.messages() as f64 * self.size as f64 / seconds / 1e6,
            _ => seconds * 1e6 / self.test.steps as f64,
        }
    }

    /// Messages per second, where `value` is in MB/s.
    pub(crate) fn rate(&self, value: f64) -> Option<f64> {
        self.test.has_rate.then(|| value * 1e6 / self.size as f64)
    }
}

/// How many ranks take part in `test`.
pub(crate) fn participants(test: &Test, ranks: usize) -> Result<usize> {
    let name = test.name;
    match test.ranks {
        Ranks::Pair => {
            ensure!(ranks >= 2, "{name} needs at least 2 ranks: shmrun -n 2 ranks-bench {name}");
            Ok(2)
        }
        Ranks::Pairs => {
            ensure!(ranks.is_multiple_of(2), "{name} needs an even number of ranks, this job has {ranks}");
            Ok(ranks)
        }
        Ranks::All => Ok(ranks),
    }
}

/// Page-aligned memory that has been touched.
pub(crate) struct Buffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    pub(crate) fn new(length: usize) -> Self {
        let mut memory = vec![0; length + PAGE];
        memory.fill(1);
        let start = memory.as_ptr().align_offset(PAGE);
        Self { memory, start, length }
    }

    /// The first `length` bytes.
    pub(crate) fn first(&mut self, length: usize) -> &mut [u8] {
        &mut self.memory[self.start..][..self.length][..length]
    }
}
