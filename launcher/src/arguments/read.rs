//! Reading command lines: from words to a [`Job`].

use std::ffi::OsString;
use std::path::Path;

use anyhow::Result;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, FromArgMatches};

use super::decide::{self, Job};
use super::job::Program;
use super::words::{Grammar, Ignored, Mistake, Split};
use super::{CargoShmrun, Later, Shmrun, programs};
use crate::tools::Tool;

/// What a command line asks for.
#[derive(Debug)]
pub enum Request {
    /// To run a job.
    Job(Box<Job>),
    /// To do something else; the parser is that of the command line.
    Tool(Tool, Box<Command>),
}

impl Shmrun {
    /// Reads a command line, the launcher's own name included, and decides what it left open.
    ///
    /// # Errors
    ///
    /// Wrong options or values; a request for help is an "error" too, see [`clap::Error::use_stderr`].
    pub fn read(arguments: &[OsString]) -> Result<Request> {
        let words = arguments.get(1..).unwrap_or_default();
        let mut parser = Reader::of(Self::command());
        if words.first().is_some_and(|word| parser.parser.find_subcommand(word).is_some()) {
            let Self { tool, .. } = parser.parse_words(words.iter())?;
            let tool = tool.expect("the parser knows the tool by its first word");
            return Ok(Request::Tool(tool, Box::new(Self::command())));
        }
        Self::read_job(words, parser).map(|job| Request::Job(Box::new(job)))
    }

    fn read_job(words: &[OsString], mut parser: Reader) -> Result<Job> {
        let split = parser.split(words)?;
        let (command, rest) = programs::cut(&words[split.program..], split.separated);
        let Self { program, app, options, command, .. } = parser.parse(&split, command)?;
        let mut all =
            Programs { later: Reader::of(Later::command()), found: Vec::new(), ignored: split.ignored };
        let common = program.common(app.is_some());
        match app {
            Some(file) => all.read_file(&file, &parser.grammar)?,
            None => {
                all.found.push(Program { options: program, words: command });
                all.read_rest(rest, &parser.grammar)?;
            }
        }
        decide::job(options, &common, all.found, &all.ignored)
    }
}

impl CargoShmrun {
    /// Reads a command line as cargo hands it over; what runs is decided when the target is built.
    ///
    /// # Errors
    ///
    /// As [`Shmrun::read`].
    pub fn read(arguments: &[OsString]) -> Result<Self, clap::Error> {
        let words = arguments.get(1..).unwrap_or_default();
        // Cargo passes the subcommand's own name as the first argument of an installed `cargo-shmrun`.
        let words = words.strip_prefix(&[OsString::from("shmrun")]).unwrap_or(words);
        let mut parser = Reader::of(Self::command());
        let split = parser.split(words)?;
        let rest = &words[split.program..];
        // Without `--` they are no arguments of anything: the parser says so.
        let mut parsed: Self = match split.separated {
            true => parser.parse(&split, rest)?,
            false => parser.parse_words(split.options.iter().chain(rest))?,
        };
        parsed.ignored = split.ignored;
        Ok(parsed)
    }

    /// Decides what was left open, for this program.
    ///
    /// # Errors
    ///
    /// As [`Shmrun::read`].
    pub(crate) fn into_job(self, words: Vec<OsString>) -> Result<Job> {
        let common = self.program.common(false);
        decide::job(self.options, &common, vec![Program { options: self.program, words }], &self.ignored)
    }
}

/// A parser and what it knows.
struct Reader {
    parser: Command,
    grammar: Grammar,
}

impl Reader {
    fn of(mut parser: Command) -> Self {
        parser.build();
        let grammar = Grammar::of(&parser);
        Self { parser, grammar }
    }

    fn split(&mut self, words: &[OsString]) -> Result<Split, clap::Error> {
        self.grammar.split(words).map_err(|mistake| explain(mistake, &mut self.parser))
    }

    /// The options of a split, with the words of the program.
    fn parse<T: FromArgMatches>(&mut self, split: &Split, command: &[OsString]) -> Result<T, clap::Error> {
        let separator = OsString::from("--");
        let separator = (!command.is_empty()).then_some(&separator);
        self.parse_words(split.options.iter().chain(separator).chain(command))
    }

    fn parse_words<'w, T: FromArgMatches>(
        &mut self,
        words: impl Iterator<Item = &'w OsString>,
    ) -> Result<T, clap::Error> {
        let name = OsString::from(self.parser.get_name());
        let matches = self.parser.try_get_matches_from_mut([name].into_iter().chain(words.cloned()))?;
        T::from_arg_matches(&matches).map_err(|error| error.format(&mut self.parser))
    }
}

/// The programs behind the first, or those of a file.
struct Programs {
    later: Reader,
    found: Vec<Program>,
    ignored: Vec<Ignored>,
}

impl Programs {
    fn read_rest(&mut self, mut rest: Option<&[OsString]>, all: &Grammar) -> Result<(), clap::Error> {
        const COLON: &str =
            "a lone ':' begins another program; to pass one to the program, write '--' before the program";
        while let Some(words) = rest {
            let tip = |error| with_tip(error, COLON.to_owned());
            let split = self.split(words, all).map_err(tip)?;
            let command;
            (command, rest) = programs::cut(&words[split.program..], split.separated);
            self.add(split, command).map_err(tip)?;
        }
        Ok(())
    }

    fn read_file(&mut self, file: &Path, all: &Grammar) -> Result<()> {
        for (line, words) in programs::read(file)? {
            let tip = |error| with_tip(error, format!("this is line {line} of {}", file.display()));
            let split = self.split(&words, all).map_err(tip)?;
            let command = &words[split.program..];
            self.add(split, command).map_err(tip)?;
        }
        Ok(())
    }

    /// Splits the words of one program, with an error of its own for options of the whole job.
    fn split(&mut self, words: &[OsString], all: &Grammar) -> Result<Split, clap::Error> {
        let parser = &mut self.later.parser;
        let split = all.split(words).map_err(|mistake| explain(mistake, parser))?;
        match split.names.iter().find(|name| !self.later.grammar.knows(name)) {
            Some(name) => {
                let message = format!("--{name} is for the whole job: it belongs before the first program");
                Err(parser.error(ErrorKind::ArgumentConflict, message))
            }
            None => Ok(split),
        }
    }

    fn add(&mut self, split: Split, command: &[OsString]) -> Result<(), clap::Error> {
        let Later { program, command } = self.later.parse(&split, command)?;
        self.found.push(Program { options: program, words: command });
        self.ignored.extend(split.ignored);
        Ok(())
    }
}

/// A mistake in the parser's own words.
fn explain(mistake: Mistake, parser: &mut Command) -> clap::Error {
    match mistake {
        Mistake::Refused { word, help } => {
            parser.error(ErrorKind::UnknownArgument, format!("{word} is refused\n  help: {help}"))
        }
        Mistake::Unknown { word, similar } => {
            let mut error = clap::Error::new(ErrorKind::UnknownArgument).with_cmd(parser);
            error.insert(ContextKind::InvalidArg, ContextValue::String(word));
            if let Some(similar) = similar {
                error.insert(ContextKind::SuggestedArg, ContextValue::String(similar));
            }
            error.insert(ContextKind::Usage, ContextValue::StyledStr(parser.render_usage()));
            error
        }
    }
}

/// Adds a line of advice.
fn with_tip(mut error: clap::Error, tip: String) -> clap::Error {
    let mut tips = match error.get(ContextKind::Suggested) {
        Some(ContextValue::StyledStrs(tips)) => tips.clone(),
        _ => Vec::new(),
    };
    tips.push(StyledStr::from(tip));
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    error
}

#[cfg(test)]
mod tests {
    use ranks::launch::LabelPart;

    use super::*;

    fn read(line: &str) -> Result<Job> {
        match Shmrun::read(&line.split(' ').map(OsString::from).collect::<Vec<_>>())? {
            Request::Job(job) => Ok(*job),
            Request::Tool(..) => panic!("{line} is no job"),
        }
    }

    fn job(line: &str) -> Job {
        read(line).unwrap()
    }

    fn error(line: &str) -> String {
        read(line).unwrap_err().to_string()
    }

    #[test]
    fn options_end_at_the_program() {
        let plan = job("shmrun -n 3 -l app -n 5 --help -- x").plan;
        assert_eq!((plan.ranks.len(), plan.ranks[2].program.to_str()), (3, Some("app")));
        assert_eq!(plan.ranks[2].stdout.label, [LabelPart::Text(b"[2] ".to_vec())]);
        assert_eq!(*plan.ranks[0].arguments, ["-n", "5", "--help", "--", "x"]);
    }

    #[test]
    fn the_separator_is_optional_and_not_an_argument() {
        let plan = job("shmrun --np 2 --bind-to none -- app -x : y").plan;
        assert_eq!((plan.ranks.len(), plan.ranks[0].program.to_str()), (2, Some("app")));
        assert_eq!(*plan.ranks[0].arguments, ["-x", ":", "y"]);
    }

    #[test]
    fn wrong_values_are_named() {
        assert!(error("shmrun -n 0 app").contains("at least 1 rank"));
        assert!(error("shmrun -n x app").contains("'x'"));
        assert!(error("shmrun -n 99999999999999999999 app").contains("'99999999999999999999'"));
        assert!(error("shmrun --tag-outptu app").contains("--tag-output"));
        assert!(error("shmrun -n 2").contains("PROGRAM"));
        assert!(error("shmrun -c 2 app").contains("--cpus-per-rank"));
    }

    #[test]
    fn programs_are_parted_by_colons() {
        let plan = job("shmrun -n 1 a x : -np 2 b : -n1 -- c :").plan;
        let programs: Vec<_> = plan.ranks.iter().map(|rank| rank.program.to_str().unwrap()).collect();
        assert_eq!(programs, ["a", "b", "b", "c"]);
        assert_eq!(*plan.ranks[3].arguments, [":"]);
        assert!(error("shmrun -n 1 a : b").contains("-n N before b"));
        assert!(error("shmrun -n 1 a : -n 2").contains("PROGRAM"));
        assert!(error("shmrun : -n 2 b").contains("PROGRAM"));
        assert!(error("shmrun -n 1 a : -l b").contains("before the first program"));
    }

    #[test]
    fn a_tool_is_one_only_as_the_first_word() {
        for line in
            ["shmrun -n 1 man", "shmrun -- man", "shmrun ./man", "shmrun echo man", "shmrun -n 1 man man"]
        {
            assert!(!job(line).plan.ranks.is_empty(), "{line}");
        }
        let man = ["shmrun", "man"].map(OsString::from);
        assert!(matches!(Shmrun::read(&man), Ok(Request::Tool(Tool::Man, _))));
        let wrong = ["shmrun", "man", "--bind-to", "core"].map(OsString::from);
        assert!(Shmrun::read(&wrong).is_err());
    }

    #[test]
    fn the_name_of_the_subcommand_is_no_argument() {
        for words in [
            &["cargo-shmrun", "shmrun", "-np", "2", "--", "shmrun"][..],
            &["cargo-shmrun", "-np", "2", "--", "shmrun"],
        ] {
            let words: Vec<_> = words.iter().map(OsString::from).collect();
            assert_eq!(CargoShmrun::read(&words).unwrap().command, ["shmrun"]);
        }
        let wrong = ["cargo-shmrun", "shmrun", "app"].map(OsString::from);
        assert!(CargoShmrun::read(&wrong).unwrap_err().to_string().contains("app"));
    }
}
