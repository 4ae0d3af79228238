//! How rank 0 gives files to whoever asks, and how the others ask.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ranks::{ANY_SOURCE, World};
use ranks_examples::Progress;

use crate::tally::Tally;

/// Tag of an empty message to rank 0: "more files, please".
const REQUEST: i32 = 1;
/// Tag of the answer: paths, each ended by NUL, which no path contains. Empty: there are no more.
const FILES: i32 = 2;
/// Handed out at once, in bytes: some milliseconds of work against some microseconds of asking.
const BATCH_BYTES: u64 = 1 << 20;
/// Handed out at once, in files, however small.
const BATCH_FILES: usize = 64;

/// A file to count.
pub(crate) struct InputFile {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// Rank 0's side: the files that are left, and the ranks that still ask for some.
pub(crate) struct Handout<'a> {
    world: &'a World,
    left: &'a [InputFile],
    asking: usize,
    handed_out: u64,
    progress: Progress,
}

impl<'a> Handout<'a> {
    pub(crate) fn new(world: &'a World, files: &'a [InputFile]) -> Self {
        let bytes = files.iter().map(|file| file.bytes).sum();
        let progress = Progress::new(world, "counting", bytes);
        Self { world, left: files, asking: world.size() - 1, handed_out: 0, progress }
    }

    /// Hands out all files; counts one itself whenever nobody asks.
    pub(crate) fn run(mut self, tally: &mut Tally) -> ranks::Result<()> {
        loop {
            self.answer_waiting()?;
            let Some(file) = self.take(1).first() else {
                break;
            };
            tally.count_file(&file.path, || self.answer_waiting())?;
        }
        while self.asking > 0 {
            self.answer()?;
        }
        Ok(())
    }

    /// Answers the requests that have arrived.
    fn answer_waiting(&mut self) -> ranks::Result<()> {
        while self.world.try_probe((ANY_SOURCE, REQUEST))?.is_some() {
            self.answer()?;
        }
        self.progress.set(self.handed_out);
        Ok(())
    }

    /// Waits for a request and answers it.
    fn answer(&mut self) -> ranks::Result<()> {
        let request = self.world.recv::<u8>(&mut [], (ANY_SOURCE, REQUEST))?;
        let batch: Vec<u8> = self.take(BATCH_FILES).iter().flat_map(|file| path_bytes(&file.path)).collect();
        self.asking -= usize::from(batch.is_empty());
        self.world.send(&batch, (request.source, FILES))
    }

    /// The next files: at most `count`, and no more once they are large enough together.
    fn take(&mut self, count: usize) -> &'a [InputFile] {
        let mut bytes = 0;
        let small_enough = |file: &&InputFile| {
            let more = bytes < BATCH_BYTES;
            bytes += if more { file.bytes } else { 0 };
            more
        };
        let count = self.left.iter().take(count).take_while(small_enough).count();
        let (batch, left) = self.left.split_at(count);
        self.left = left;
        self.handed_out += bytes;
        batch
    }
}

/// The path as it travels: ended by NUL.
fn path_bytes(path: &Path) -> impl Iterator<Item = u8> {
    path.as_os_str().as_bytes().iter().copied().chain([0])
}

/// The other ranks' side: asks for files and counts them until there are no more.
pub(crate) fn work(world: &World) -> ranks::Result<Tally> {
    let mut tally = Tally::default();
    world.send::<u8>(&[], (0, REQUEST))?;
    loop {
        let (batch, _) = world.recv_vec::<u8>((0, FILES))?;
        if batch.is_empty() {
            return Ok(tally);
        }
        // The next request is under way while this batch is counted.
        world.send::<u8>(&[], (0, REQUEST))?;
        for path in batch.split_inclusive(|&byte| byte == 0) {
            let path = OsStr::from_bytes(&path[..path.len() - 1]);
            tally.count_file(Path::new(path), || Ok(()))?;
        }
    }
}
