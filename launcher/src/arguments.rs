//! The command lines of `shmrun` and `cargo shmrun`, as written.
//!
//! One struct per group of options, flattened into both: a new flag goes into its group, and its effect into
//! `JobOptions::plan`.

use std::ffi::OsString;

use clap::{Args, CommandFactory, Parser, ValueEnum};
use ranks::launch::{self, Binding, Plan};

const SHMRUN_EXAMPLES: &str = "\
Examples:
  shmrun -n 4 ./app                     four ranks of ./app
  shmrun ./app input.txt                as many ranks as processors
  shmrun -n 4 --tag-output ./app        every line begins with its rank: [2] ...
  shmrun -n 2 --bind-to core ./app      one core per rank
  shmrun -n 4 sh -c 'echo $SHMRUN_RANK of $SHMRUN_SIZE'

Options after PROGRAM belong to the program. The exit code is that of the first rank that failed, 128 plus the
signal's number if it was killed; 127: no such program, 126: cannot be executed, 125: other trouble.";

const CARGO_EXAMPLES: &str = "\
Examples:
  cargo shmrun -n 4 --example wordcount -- src     build an example, run it with the argument src
  cargo shmrun -n 4 --bin app -- --steps 100       the same with a binary
  cargo shmrun -n 4 -- ./app                       run a program as shmrun does, without building";

/// Runs a parallel program: N ranks of PROGRAM on this machine, connected by shared memory.
#[derive(Debug, Parser)]
#[command(name = "shmrun", version, after_help = SHMRUN_EXAMPLES, override_usage = "shmrun [OPTIONS] [--] PROGRAM [ARGS]...")]
pub struct Shmrun {
    #[command(flatten)]
    options: JobOptions,
    /// The program, looked up in PATH when it contains no slash, and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

/// Builds a target of this workspace in release mode and runs it as N ranks, connected by shared memory.
#[derive(Debug, Parser)]
#[command(name = "cargo shmrun", version, after_help = CARGO_EXAMPLES, override_usage = "cargo shmrun [OPTIONS] [-- ARGS...]\n       cargo shmrun [OPTIONS] -- PROGRAM [ARGS]...")]
pub struct CargoShmrun {
    #[command(flatten)]
    options: JobOptions,
    #[command(flatten)]
    pub(crate) target: Target,
    /// Arguments of the target; or program and arguments when no target is named
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) command: Vec<OsString>,
}

/// What the job is like.
#[derive(Debug, Args)]
struct JobOptions {
    /// Number of ranks [default: the number of processors that may be used]
    #[arg(short = 'n', long = "np", visible_alias = "ntasks", value_name = "N", value_parser = number_of_ranks, help_heading = "Job")]
    ranks: Option<usize>,
    /// Which processors each rank may use
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = BindTo::Share, help_heading = "Placement")]
    bind_to: BindTo,
    /// Begin each line of output with the rank that wrote it
    #[arg(short = 'l', long, visible_alias = "label", help_heading = "Input and output")]
    tag_output: bool,
}

/// What `cargo shmrun` builds.
#[derive(Debug, Args)]
#[group(multiple = true)]
pub(crate) struct Target {
    /// Build and run this example
    #[arg(long, value_name = "NAME", conflicts_with = "bin", help_heading = "Target")]
    pub(crate) example: Option<String>,
    /// Build and run this binary
    #[arg(long, value_name = "NAME", help_heading = "Target")]
    pub(crate) bin: Option<String>,
    /// The package that the target is in
    #[arg(short, long, value_name = "NAME", help_heading = "Target")]
    pub(crate) package: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum BindTo {
    /// an even share of the processors if there are enough for all ranks, else all of them
    Share,
    /// one core
    Core,
    /// all processors
    None,
}

impl Shmrun {
    /// Parses a command line.
    ///
    /// # Errors
    /// Wrong options or values; a request for help is an "error" too, see [`clap::Error::use_stderr`].
    pub fn parse_from(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let parsed = Self::try_parse_from(&arguments)?;
        let program = arguments.len() - parsed.command.len();
        let looks_like_option = parsed.command[0].as_encoded_bytes().starts_with(b"-");
        if looks_like_option && arguments[program - 1] != "--" {
            // The parser takes a mistyped option for the program: parsed again without a program, it is an error
            // that names the option which is meant.
            let strict = Self::command().mut_arg("command", |command| command.trailing_var_arg(false));
            strict.try_get_matches_from(&arguments[..=program])?;
        }
        Ok(parsed)
    }

    /// What to run.
    pub fn into_plan(self) -> Plan {
        let mut command = self.command.into_iter();
        let program = command.next().unwrap_or_default();
        self.options.plan(program, command.collect())
    }
}

impl CargoShmrun {
    pub(crate) fn into_plan(self, program: OsString, arguments: Vec<OsString>) -> Plan {
        self.options.plan(program, arguments)
    }
}

impl JobOptions {
    /// Decides what was left open.
    fn plan(self, program: OsString, arguments: Vec<OsString>) -> Plan {
        let mut plan = Plan::new(self.ranks.unwrap_or_else(launch::available_cores), program);
        plan.arguments = arguments;
        plan.tag_output = self.tag_output;
        plan.binding = match self.bind_to {
            BindTo::Share => Binding::Share,
            BindTo::Core => Binding::Core,
            BindTo::None => Binding::None,
        };
        plan
    }
}

/// Cargo passes the subcommand's own name as the first argument of an installed `cargo-shmrun`.
pub fn without_subcommand(arguments: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    arguments
        .enumerate()
        .filter(|(index, argument)| *index != 1 || argument != "shmrun")
        .map(|(_, argument)| argument)
}

fn number_of_ranks(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("a job has at least 1 rank".to_owned()),
        Ok(ranks) => Ok(ranks),
        Err(_) => Err("the number of ranks is a whole number, for example -n 4".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(line: &str) -> Plan {
        Shmrun::parse_from(line.split(' ').map(OsString::from)).unwrap().into_plan()
    }

    fn error(line: &str) -> String {
        Shmrun::parse_from(line.split(' ').map(OsString::from)).unwrap_err().to_string()
    }

    #[test]
    fn options_end_at_the_program() {
        let plan = plan("shmrun -n 3 -l app -n 5 --help -- x");
        assert_eq!((plan.ranks, plan.program.to_str(), plan.tag_output), (3, Some("app"), true));
        assert_eq!(plan.arguments, ["-n", "5", "--help", "--", "x"]);
    }

    #[test]
    fn the_separator_is_optional_and_not_an_argument() {
        let plan = plan("shmrun --np 2 --bind-to core -- app -x");
        assert_eq!((plan.ranks, plan.binding, plan.program.to_str()), (2, Binding::Core, Some("app")));
        assert_eq!(plan.arguments, ["-x"]);
    }

    #[test]
    fn wrong_values_are_named() {
        assert!(error("shmrun -n 0 app").contains("at least 1 rank"));
        assert!(error("shmrun -n x app").contains("'x'"));
        assert!(error("shmrun -n 99999999999999999999 app").contains("'99999999999999999999'"));
        assert!(error("shmrun --tag-outptu app").contains("--tag-output"));
        assert!(error("shmrun -n 2").contains("PROGRAM"));
    }

    #[test]
    fn cargo_passes_the_subcommand_only_as_the_first_argument() {
        let words = ["cargo-shmrun", "shmrun", "-n", "2", "--", "shmrun"].map(OsString::from);
        let rest: Vec<_> = without_subcommand(words.into_iter()).collect();
        assert_eq!(rest, ["cargo-shmrun", "-n", "2", "--", "shmrun"]);
        let cargo = CargoShmrun::try_parse_from(rest).unwrap();
        assert_eq!(cargo.command, ["shmrun"]);
    }
}
