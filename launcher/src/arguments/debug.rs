//! Ranks under other programs: debuggers, profilers, checkers.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, bail};
use clap::Args;
use ranks::launch::{Input, Plan, RankPlan};

use super::programs;
use super::rank_set::RankSet;

/// Wrappers.
#[derive(Debug, Args)]
#[command(next_help_heading = "Debugging")]
pub(super) struct Debugging {
    /// Run rank R under gdb (or lldb) with the terminal for itself, or under the command of --wrap
    #[arg(long, value_name = "R")]
    debug: Option<usize>,
    /// Run ranks as CMD PROGRAM ARGS..., for example --wrap 'valgrind -q'
    #[arg(long, value_name = "CMD", value_parser = command)]
    wrap: Option<Command>,
    /// The ranks that --wrap is for [default: all]
    #[arg(long = "ranks", value_name = "RANKS", value_parser = RankSet::parse)]
    wrapped: Option<RankSet>,
}

/// The words of a command.
#[derive(Debug, Clone)]
struct Command(Vec<OsString>);

impl Debugging {
    /// Puts the wrappers before the programs of the plan.
    pub(super) fn apply(&self, plan: &mut Plan) -> Result<()> {
        let number = plan.ranks.len();
        if let Some(rank) = self.debug {
            RankSet::Some(vec![rank]).check(number, "--debug")?;
            let command = self.wrap.clone().map_or_else(debugger, |Command(words)| Ok(words))?;
            wrap(&mut plan.ranks[rank], &command);
            plan.ranks[rank].foreground = true;
            plan.input = Input::Rank(rank);
            return match self.wrapped {
                Some(_) => {
                    bail!("--debug R says already for which rank --wrap is\n  help: leave --ranks out")
                }
                None => Ok(()),
            };
        }
        let Some(Command(words)) = &self.wrap else {
            return match self.wrapped {
                Some(_) => bail!(
                    "--ranks says which ranks --wrap is for, but there is none\n  help: the number of ranks is -n N"
                ),
                None => Ok(()),
            };
        };
        let chosen = self.wrapped.as_ref().unwrap_or(&RankSet::All);
        chosen.check(number, "--ranks")?;
        let ranks = plan.ranks.iter_mut().enumerate().filter(|(rank, _)| chosen.contains(*rank));
        ranks.for_each(|(_, rank)| wrap(rank, words));
        Ok(())
    }
}

/// `command` runs the rank's program.
fn wrap(rank: &mut RankPlan, command: &[OsString]) {
    let (first, rest) = command.split_first().expect("the parser refuses an empty command");
    let program = std::mem::replace(&mut rank.program, first.clone());
    let words = rest.iter().cloned().chain([program]).chain(rank.arguments.iter().cloned());
    rank.arguments = words.collect();
}

/// What runs a program under the first debugger that is installed.
fn debugger() -> Result<Vec<OsString>> {
    const KNOWN: [&[&str]; 2] = [&["gdb", "-q", "--args"], &["lldb", "--"]];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_installed =
        |name: &str| std::env::split_paths(&path).any(|directory| directory.join(name).is_file());
    let found = KNOWN.iter().find(|command| is_installed(command[0]));
    let command =
        found.context("found neither gdb nor lldb\n  help: install one, or name another with --wrap")?;
    Ok(command.iter().map(OsString::from).collect())
}

fn command(text: &str) -> Result<Command, String> {
    match programs::words(OsStr::new(text).as_bytes()) {
        Ok(words) if words.is_empty() => Err("the command is empty".to_owned()),
        Ok(words) => Ok(Command(words)),
        Err(error) => Err(error.to_string()),
    }
}
