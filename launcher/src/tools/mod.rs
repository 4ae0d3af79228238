//! What `shmrun` does besides running jobs: `shmrun NAME ...`.
//!
//! A tool's name is one only as the first word of the command line. Behind an option or `--`, or with a slash in it, it
//! is a program: `shmrun -n 2 man`, `shmrun -- man`, `shmrun ./man`.

mod clean;
mod doctor;
mod ps;
mod top;

use std::io::{self, Write};

use anyhow::{Context, Result};
use clap::{Command, Subcommand};
use clap_complete::Shell;

/// The tools.
#[derive(Debug, Subcommand)]
pub enum Tool {
    /// List the jobs on this machine
    Ps {
        /// List the processes of each job, too
        #[arg(long, short)]
        processes: bool,
    },
    /// Show what the ranks of a running job do: state, call, peer, traffic, waiting
    Top(top::TopOptions),
    /// End processes and remove shared memory that dead jobs have left; never those of living ones
    Clean {
        /// Say what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Say what of this machine matters to jobs, and what shmrun makes of it
    Doctor,
    /// Print a script that completes options in a shell: source <(shmrun completions bash)
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page: shmrun man | man -l -
    Man,
}

impl Tool {
    /// Does it; `parser` is that of the whole command line.
    ///
    /// # Errors
    ///
    /// The standard output cannot be written, or what was to be removed is still there.
    pub(crate) fn run(&self, mut parser: Command) -> Result<()> {
        let mut text = Vec::new();
        let mut done = Ok(());
        match self {
            Self::Ps { processes } => text.extend(ps::table(*processes).into_bytes()),
            Self::Top(options) => text.extend(top::run(options)?.into_bytes()),
            Self::Clean { dry_run } => {
                let report = clean::clean(*dry_run)?;
                text.extend(report.text.into_bytes());
                done = report.done;
            }
            Self::Doctor => text.extend(doctor::report().into_bytes()),
            Self::Completions { shell } => {
                let name = parser.get_name().to_owned();
                clap_complete::generate(*shell, &mut parser, name, &mut text);
            }
            Self::Man => clap_mangen::Man::new(parser).render(&mut text).context("cannot make the page")?,
        }
        match io::stdout().write_all(&text) {
            // `shmrun man | head` is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => done,
            Err(error) => Err(error).context("cannot write the standard output"),
            Ok(()) => done,
        }
    }
}

/// Lines of cells, each column as wide as its widest cell; the last one as it is.
fn columns(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows.iter().map(Vec::len).max().unwrap_or(0)).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}
