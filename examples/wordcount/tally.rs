//! What has been counted so far, and how a file is counted.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Words listed.
const TOP: usize = 20;
/// A NUL byte within so many bytes makes a file binary.
const BINARY_WITHIN: usize = 8 << 10;
/// Read at once; rank 0 looks for requests after each piece.
const PIECE: usize = 1 << 20;

/// What was counted, by one rank or by all.
#[derive(Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) binary: u64,
    /// By word; all letters are ASCII.
    pub(crate) words: HashMap<Vec<u8>, u64>,
    /// What could not be read, each with its reason.
    pub(crate) unreadable: Vec<String>,
}

impl Tally {
    /// Counts a file, and calls `between` after each piece that was read.
    pub(crate) fn count_file(
        &mut self,
        path: &Path,
        between: impl FnMut() -> ranks::Result<()>,
    ) -> ranks::Result<()> {
        match File::open(path) {
            Ok(file) => self.count_pieces(path, file, between),
            Err(error) => {
                self.fail(path, &error);
                Ok(())
            }
        }
    }

    fn count_pieces(
        &mut self,
        path: &Path,
        mut file: File,
        mut between: impl FnMut() -> ranks::Result<()>,
    ) -> ranks::Result<()> {
        let mut piece = Vec::new();
        // The word that the last piece ended in.
        let mut open_word = Vec::new();
        for number in 0.. {
            piece.clear();
            if let Err(error) = file.by_ref().take(PIECE as u64).read_to_end(&mut piece) {
                self.fail(path, &error);
                break;
            }
            if number == 0 && piece[..piece.len().min(BINARY_WITHIN)].contains(&0) {
                self.binary += 1;
                return Ok(());
            }
            self.files += u64::from(number == 0);
            self.bytes += piece.len() as u64;
            self.count_words(&piece, &mut open_word);
            between()?;
            if piece.len() < PIECE {
                break;
            }
        }
        self.close_word(&mut open_word);
        Ok(())
    }

    /// Counts the words that end in `piece`, the first of which may begin with `open_word`.
    fn count_words(&mut self, piece: &[u8], open_word: &mut Vec<u8>) {
        let mut runs = piece.split(|byte| !byte.is_ascii_alphabetic());
        open_word.extend(runs.next().unwrap_or_default());
        for run in runs {
            self.close_word(open_word);
            open_word.extend(run);
        }
    }

    fn close_word(&mut self, open_word: &mut Vec<u8>) {
        if open_word.is_empty() {
            return;
        }
        open_word.make_ascii_lowercase();
        // Most words are known already, and need no copy.
        if let Some(count) = self.words.get_mut(open_word.as_slice()) {
            *count += 1;
        } else {
            self.words.insert(open_word.clone(), 1);
        }
        open_word.clear();
    }

    /// Notes that `path` cannot be read.
    pub(crate) fn fail(&mut self, path: &Path, reason: &dyn Display) {
        self.unreadable.push(format!("{}: {reason}", path.display()));
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.binary += other.binary;
        self.unreadable.extend(other.unreadable);
        other.words.into_iter().for_each(|(word, count)| *self.words.entry(word).or_default() += count);
    }

    /// The most frequent words, equally frequent ones in alphabetical order.
    fn top(&self) -> Vec<(&[u8], u64)> {
        let mut words: Vec<_> = self.words.iter().map(|(word, &count)| (word.as_slice(), count)).collect();
        words.sort_unstable_by_key(|&(word, count)| (std::cmp::Reverse(count), word));
        words.truncate(TOP);
        words
    }

    pub(crate) fn print(&self) {
        println!("files {}", self.files);
        println!("bytes {}", self.bytes);
        println!("words {}", self.words.values().sum::<u64>());
        println!("distinct {}", self.words.len());
        self.top().iter().for_each(|(word, count)| println!("{count:>7} {}", String::from_utf8_lossy(word)));
    }
}
