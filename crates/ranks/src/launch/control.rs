//! The control pipe: short records from the ranks to their launcher.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io;
use rustix::pipe::{PipeFlags, pipe_with};

/// What a rank tells its launcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    /// The rank was claimed by process `pid`.
    Attached { rank: u32, pid: u32 },
    /// The rank failed and has said in its control block how.
    Failed { rank: u32 },
}

/// Bytes of an encoded record: far below PIPE_BUF, so that records of different ranks never mix.
const RECORD_BYTES: usize = 12;

impl Record {
    /// Writes the record; a launcher that is gone or far behind is no error.
    pub(crate) fn send(self, pipe: impl AsFd) {
        // The launcher sees the segment and the process itself too; the record only makes it quick.
        let _ = io::write(pipe, &self.encode());
    }

    fn encode(self) -> [u8; RECORD_BYTES] {
        let words = match self {
            Self::Attached { rank, pid } => [1, rank, pid],
            Self::Failed { rank } => [2, rank, 0],
        };
        let mut bytes = [0; RECORD_BYTES];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(words) {
            chunk.copy_from_slice(&u32::to_ne_bytes(word));
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let word =
            |index: usize| Some(u32::from_ne_bytes(bytes.get(4 * index..4 * index + 4)?.try_into().ok()?));
        match word(0)? {
            1 => Some(Self::Attached { rank: word(1)?, pid: word(2)? }),
            2 => Some(Self::Failed { rank: word(1)? }),
            _ => None,
        }
    }
}

/// The launcher's end, and the end that the ranks inherit. Neither blocks.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
}

/// The records that have arrived; bytes that are no record are skipped.
pub(super) fn receive(pipe: impl AsFd) -> Vec<Record> {
    let mut bytes = [0; 512 * RECORD_BYTES];
    match io::read(pipe, &mut bytes) {
        Ok(count) => bytes[..count].chunks_exact(RECORD_BYTES).filter_map(Record::decode).collect(),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_arrive_in_order_and_nonsense_is_skipped() {
        let (read, write) = pipe().unwrap();
        assert_eq!(receive(&read), []);
        Record::Attached { rank: 3, pid: 99 }.send(&write);
        io::write(&write, &[255; RECORD_BYTES]).unwrap();
        Record::Failed { rank: 1 }.send(&write);
        assert_eq!(receive(&read), [Record::Attached { rank: 3, pid: 99 }, Record::Failed { rank: 1 }]);
    }
}
