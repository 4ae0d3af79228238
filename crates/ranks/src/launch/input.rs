//! The launcher's standard input for all ranks: every rank gets a copy of it.
//!
//! A piece is read when all ranks have taken the one before, so the slowest reader sets the pace. A rank that closes
//! its input, or ends, takes no more.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, read, write};
use rustix::pipe::{PipeFlags, pipe_with};

use super::supervise::{Interest, Token};

/// What a pipe holds.
const PIECE: usize = 64 << 10;

/// Copies the standard input to the ranks.
#[derive(Default)]
pub(super) struct Feeder {
    readers: Vec<Reader>,
    piece: Vec<u8>,
    ended: bool,
}

struct Reader {
    pipe: Option<OwnedFd>,
    /// How much of the piece it has taken.
    taken: usize,
}

impl Feeder {
    /// The end of a pipe that the next rank reads.
    pub(super) fn add(&mut self) -> io::Result<OwnedFd> {
        let (rank_end, end) = pipe_with(PipeFlags::CLOEXEC)?;
        // Only this end: the rank's is a description of its own.
        fcntl_setfl(&end, fcntl_getfl(&end)? | OFlags::NONBLOCK)?;
        self.readers.push(Reader { pipe: Some(end), taken: 0 });
        Ok(rank_end)
    }

    /// What the supervisor is to wait for.
    pub(super) fn interests<'a>(&'a self, interests: &mut Vec<Interest<'a>>) {
        if self.is_taken() && !self.ended && !self.is_idle() {
            interests.push((Token::Input, rustix::stdio::stdin(), PollFlags::IN));
        }
        for (number, reader) in self.readers.iter().enumerate() {
            if let Some(pipe) = reader.pipe.as_ref().filter(|_| reader.taken < self.piece.len()) {
                interests.push((Token::Feed(number), pipe.as_fd(), PollFlags::OUT));
            }
        }
    }

    /// Nobody reads any more.
    fn is_idle(&self) -> bool {
        self.readers.iter().all(|reader| reader.pipe.is_none())
    }

    fn is_taken(&self) -> bool {
        self.readers.iter().all(|reader| reader.pipe.is_none() || reader.taken == self.piece.len())
    }

    /// Reads the next piece.
    pub(super) fn read(&mut self) {
        self.piece.resize(PIECE, 0);
        match read(rustix::stdio::stdin(), &mut self.piece[..]) {
            Ok(count) if count > 0 => {
                self.piece.truncate(count);
                self.readers.iter_mut().for_each(|reader| reader.taken = 0);
            }
            Err(Errno::INTR | Errno::AGAIN) => self.forget_piece(),
            _ => {
                self.ended = true;
                self.forget_piece();
                self.readers.iter_mut().for_each(|reader| reader.pipe = None);
            }
        }
    }

    fn forget_piece(&mut self) {
        self.piece.clear();
        self.readers.iter_mut().for_each(|reader| reader.taken = 0);
    }

    /// Gives a rank what fits into its pipe.
    pub(super) fn write(&mut self, reader: usize) {
        let reader = &mut self.readers[reader];
        let Some(pipe) = &reader.pipe else { return };
        match write(pipe, &self.piece[reader.taken..]) {
            Ok(count) => reader.taken += count,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => reader.pipe = None,
        }
    }
}
