//! Counts the words in all text files below the given paths.
//!
//! Shows: work handed out while it is done. Rank 0 finds the files and gives them to whoever asks; in
//! between it counts itself. The other ranks ask for their next files before they count the last ones, so
//! that they need not wait for rank 0. Tallies (hash maps) are gathered as objects.
//!
//! ```text
//! cargo shmrun -n 4 --example wordcount -- DIRECTORY...
//! ```
//!
//! A word is a maximal run of ASCII letters within one file, in lower case. A text file is a regular file
//! without a NUL byte in its first 8 KiB; the others are skipped, and counted on standard error. Symbolic
//! links are not followed, except those named on the command line. A file or directory that cannot be read is
//! named with its reason, the rest is counted all the same, and the exit code is 1 in the end. (If reading
//! fails halfway, what was read is counted.)
//!
//! The same words without this program, one file after the other:
//!
//! ```text
//! export LC_ALL=C
//! find -H DIRECTORY -type f -exec sh -c 'for file; do
//!     [ "$(head -c 8192 "$file" | tr -d "\0" | wc -c)" = "$(head -c 8192 "$file" | wc -c)" ] &&
//!     cat "$file" && echo; done' sh {} + |
//!     tr -cs A-Za-z '\n' | tr A-Z a-z | grep . | sort | uniq -c | sort -k1,1nr -k2 | head -n 20
//! ```
//!
//! (The `echo` ends the last word of a file; plain `xargs cat` would join it with the next file's first.)

mod handout;
mod tally;

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::ensure;
use clap::Parser;
use ranks::World;
use ranks_examples::{Check, Progress, parse};
use walkdir::{DirEntry, WalkDir};

use handout::{Handout, InputFile};
use tally::Tally;

/// Counts the words of all text files below the given paths
#[derive(Parser)]
struct Arguments {
    /// Files and directories
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    check: Check,
}

/// Up to so many bytes the sequential answer takes a second or two.
const SMALL: u64 = 256 << 20;

fn main() -> anyhow::Result<ExitCode> {
    let (world, arguments) = parse::<Arguments>(ranks::init()?)?;
    if world.rank() != 0 {
        let tally = handout::work(&world)?;
        world.gather_object(&tally, 0)?;
        return Ok(ExitCode::SUCCESS);
    }

    let started = Instant::now();
    let mut tally = Tally::default();
    let files = find_files(&world, &arguments.paths, &mut tally);
    Handout::new(&world, &files).run(&mut tally)?;
    let tallies = world.gather_object(&tally, 0)?.unwrap_or_default();
    let mut total = Tally::default();
    tallies.into_iter().for_each(|tally| total.add(tally));

    total.print();
    eprintln!("counted in {:.3} s", started.elapsed().as_secs_f64());
    eprintln!("skipped {} binary files", total.binary);
    if arguments.check.wanted(total.bytes <= SMALL) {
        compare(&files, &total)?;
    } else {
        arguments.check.skipped();
    }
    Ok(report_unreadable(&mut total))
}

/// All regular files below `paths` in the order of their names; what cannot be looked at goes into `tally`.
fn find_files(world: &World, paths: &[PathBuf], tally: &mut Tally) -> Vec<InputFile> {
    let mut progress = Progress::new(world, "finding files", 0);
    let mut files = Vec::new();
    for entry in paths.iter().flat_map(|path| WalkDir::new(path).sort_by_file_name()) {
        match entry.and_then(|entry| Ok((metadata(&entry)?, entry.into_path()))) {
            Ok((metadata, path)) if metadata.is_file() => {
                files.push(InputFile { path, bytes: metadata.len() })
            }
            Ok(_) => {}
            Err(error) => {
                let reason = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                tally.fail(error.path().unwrap_or(Path::new("?")), &reason);
            }
        }
        progress.set(files.len() as u64);
    }
    files
}

/// What `entry` is: a link itself, except where the link was named on the command line.
fn metadata(entry: &DirEntry) -> walkdir::Result<Metadata> {
    match fs::metadata(entry.path()) {
        Ok(metadata) if entry.depth() == 0 => Ok(metadata),
        // A named link that leads nowhere is nothing to read; the link's own metadata says the rest.
        _ => entry.metadata(),
    }
}

/// Counts all `files` again, on this rank alone, and compares.
fn compare(files: &[InputFile], total: &Tally) -> anyhow::Result<()> {
    let mut expected = Tally::default();
    for file in files {
        expected.count_file(&file.path, || Ok(()))?;
    }
    ensure!(
        (expected.files, expected.bytes, expected.binary) == (total.files, total.bytes, total.binary),
        "sequential count: {} files, {} bytes, {} binary; the ranks: {} files, {} bytes, {} binary",
        expected.files,
        expected.bytes,
        expected.binary,
        total.files,
        total.bytes,
        total.binary,
    );
    ensure!(expected.words == total.words, "the ranks counted other words than a sequential count");
    eprintln!("check: equal to a sequential count of all words");
    Ok(())
}

/// Names what could not be read, and turns it into the exit code.
fn report_unreadable(total: &mut Tally) -> ExitCode {
    total.unreadable.sort();
    total.unreadable.iter().for_each(|failure| eprintln!("wordcount: cannot read {failure}"));
    if total.unreadable.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "wordcount: {} files or directories could not be read and are missing above",
        total.unreadable.len()
    );
    ExitCode::from(1)
}
