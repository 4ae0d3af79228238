//! What `shmrun` does besides running jobs: `shmrun NAME ...`.
//!
//! A tool's name is one only as the first word of the command line. Behind an option or `--`, or with a slash in it, it
//! is a program: `shmrun -n 2 man`, `shmrun -- man`, `shmrun ./man`.

use std::io::{self, Write};

use clap::{Command, Subcommand};
use clap_complete::Shell;

/// The tools.
#[derive(Debug, Subcommand)]
pub enum Tool {
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
    /// The standard output cannot be written.
    pub(crate) fn run(&self, mut parser: Command) -> io::Result<()> {
        let mut text = Vec::new();
        match self {
            Self::Completions { shell } => {
                let name = parser.get_name().to_owned();
                clap_complete::generate(*shell, &mut parser, name, &mut text);
            }
            Self::Man => clap_mangen::Man::new(parser).render(&mut text)?,
        }
        match io::stdout().write_all(&text) {
            // `shmrun man | head` is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }
}
