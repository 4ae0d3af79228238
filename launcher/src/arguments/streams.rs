//! Output and input of the ranks: what is shown, how it is marked, which files it goes to, who reads.

use std::io::{IsTerminal, stderr, stdout};
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use ranks::launch::{Input, Label, LabelPart, Plan, StreamPlan};

use super::pattern::{Facts, Pattern, Piece};
use super::rank_set::RankSet;

/// What happens to what the ranks write, and what they read.
#[derive(Debug, Args)]
#[command(next_help_heading = "Input and output")]
pub(super) struct Streams {
    /// Begin each line with its rank: [3] for the standard output, [3 err] for the standard error
    #[arg(short = 'l', long, visible_alias = "label", aliases = ["tag-output", "prepend-rank"])]
    tag: bool,
    /// Begin each line with this; %r: the rank, %n: the number of ranks, %s: out or err, %T: the time
    #[arg(long, visible_alias = "prepend-pattern", value_name = "PATTERN", value_parser = Pattern::parse)]
    tag_pattern: Option<Pattern>,
    /// Begin each line with the time of day in UTC
    #[arg(long, aliases = ["timestamp-output", "prepend-timestamp"])]
    timestamp: bool,
    /// Color the tags by rank [default: auto, on terminals unless NO_COLOR is set]
    #[arg(long, value_name = "WHEN", value_enum, hide_possible_values = true)]
    color: Option<Color>,
    /// Show only the output of these ranks
    #[arg(long, alias = "local-ranks-filter", value_name = "RANKS", value_parser = RankSet::parse)]
    only: Option<RankSet>,
    /// Write the standard output to files; %r: the rank. Ranks whose names are the same share a file, line by line
    #[arg(short, long, alias = "outfile-pattern", value_name = "PATTERN", value_parser = output)]
    output: Option<OutputWish>,
    /// The same for the standard error
    #[arg(short, long, alias = "errfile-pattern", value_name = "PATTERN", value_parser = Pattern::parse_file)]
    error: Option<Pattern>,
    /// Show what goes to files, too
    #[arg(long)]
    tee: bool,
    /// As Open MPI does it: NAME/1/rank.%r/stdout and stderr, with --tee unless :nocopy
    #[arg(long, value_name = "NAME[:nocopy]", value_parser = output_filename, hide = true)]
    output_filename: Option<OutputWish>,
    /// As torchrun does it: DIR/%r/stdout.log and stderr.log
    #[arg(long, value_name = "DIR", value_parser = log_dir, hide = true)]
    log_dir: Option<OutputWish>,
    /// What ranks write to their standard error goes where their standard output goes, in the order written
    #[arg(long, alias = "merge-stderr-to-stdout")]
    merge_stderr: bool,
    /// Give the ranks pseudo-terminals as standard output, so that they write line by line
    #[arg(short, long)]
    unbuffered: bool,
    /// Who reads the standard input: rank K, all (each a copy) or none [default: 0]
    #[arg(short = 's', long, alias = "input", short_alias = 'i', value_name = "K|all|none", value_parser = input)]
    stdin: Option<Input>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

/// Files, and whatever else Open MPI lets one say with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct OutputWish {
    output: Option<Pattern>,
    error: Option<Pattern>,
    tee: bool,
    tag: bool,
    timestamp: bool,
    merge: bool,
}

/// All wishes together.
struct Wishes<'s> {
    streams: &'s Streams,
    files: OutputWish,
    ranks: usize,
    host: String,
    colored: [bool; 2],
}

impl Streams {
    /// Says for each rank of the plan where its streams go.
    pub(super) fn apply(&self, plan: &mut Plan) -> Result<()> {
        let ranks = plan.ranks.len();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let colored = [self.is_colored(stdout().is_terminal()), self.is_colored(stderr().is_terminal())];
        let wishes = Wishes { streams: self, files: self.files(), ranks, host, colored };
        if self.tee && wishes.files.output.is_none() && wishes.files.error.is_none() {
            bail!(
                "--tee shows what goes to files, but none does\n  help: name them with --output or --error"
            );
        }
        if let Some(only) = &self.only {
            only.check(ranks, "--only")?;
        }
        for (number, rank) in plan.ranks.iter_mut().enumerate() {
            rank.stdout = wishes.stream(number, 0);
            rank.stderr = (!wishes.files.merge).then(|| wishes.stream(number, 1));
            rank.terminal = self.unbuffered;
        }
        plan.input = self.stdin.unwrap_or(Input::Rank(0));
        match plan.input {
            Input::Rank(rank) if rank >= ranks => {
                bail!("--stdin: there is no rank {rank} in a job of {ranks}")
            }
            _ => Ok(()),
        }
    }

    /// What all options for files say together.
    fn files(&self) -> OutputWish {
        let wish = self.output.as_ref().or(self.output_filename.as_ref()).or(self.log_dir.as_ref());
        let wish = wish.cloned().unwrap_or_default();
        OutputWish {
            error: self.error.clone().or(wish.error),
            tee: self.tee || wish.tee,
            tag: self.tag || wish.tag || self.tag_pattern.is_some(),
            timestamp: self.timestamp || wish.timestamp,
            merge: self.merge_stderr || wish.merge,
            output: wish.output,
        }
    }

    fn is_colored(&self, on_terminal: bool) -> bool {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match self.color {
            Some(Color::Always) => true,
            Some(Color::Never) => false,
            // See no-color.org.
            _ => {
                on_terminal
                    && !is_set("NO_COLOR")
                    && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }
}

impl Wishes<'_> {
    /// The standard output (0) or error (1) of a rank.
    fn stream(&self, rank: usize, which: usize) -> StreamPlan {
        let stream = ["out", "err"][which];
        let facts = Facts { rank, ranks: self.ranks, host: &self.host, stream };
        let pattern = [&self.files.output, &self.files.error][which];
        let file = pattern.as_ref().map(|pattern| PathBuf::from(pattern.text(facts)));
        let shown = self.streams.only.as_ref().is_none_or(|only| only.contains(rank));
        StreamPlan {
            shown: shown && (file.is_none() || self.files.tee),
            file,
            label: self.label(facts, which),
        }
    }

    /// What `--tag` and its relatives put before each line.
    fn label(&self, facts: Facts<'_>, which: usize) -> Label {
        let own = self.streams.tag_pattern.as_ref().map(|pattern| pattern.pieces(facts));
        let usual = || match which == 1 && !self.files.merge {
            true => vec![Piece::Text(format!("[{} err] ", facts.rank))],
            false => vec![Piece::Text(format!("[{}] ", facts.rank))],
        };
        let mut pieces = match (own, self.files.tag) {
            (Some(own), _) => own,
            (None, true) => usual(),
            (None, false) => Vec::new(),
        };
        if self.files.timestamp {
            pieces.splice(0..0, [Piece::Time, Piece::Text(" ".to_owned())]);
        }
        if self.colored[which] && !pieces.is_empty() {
            pieces.insert(0, Piece::Text(color(facts.rank)));
            pieces.push(Piece::Text("\x1b[0m".to_owned()));
        }
        let part = |piece| match piece {
            Piece::Text(text) => LabelPart::Text(text.into_bytes()),
            Piece::Time => LabelPart::Time,
        };
        pieces.into_iter().map(part).filter(|part| *part != LabelPart::Text(Vec::new())).collect()
    }
}

/// The colors of ranks: those of a terminal without black and white, plain ones first.
fn color(rank: usize) -> String {
    const COLORS: [u8; 12] = [36, 33, 32, 35, 34, 31, 96, 93, 92, 95, 94, 91];
    format!("\x1b[{}m", COLORS[rank % COLORS.len()])
}

/// A pattern, or what Open MPI 5 says with the same option: `tag,timestamp,dir=DIR`.
fn output(text: &str) -> Result<OutputWish, String> {
    let mut wish = OutputWish::default();
    for word in text.split([',', ':']) {
        match word.split_once('=').unwrap_or((word, "")) {
            ("tag" | "tag-detailed" | "tag-fullname" | "rank", "") => wish.tag = true,
            ("timestamp", "") => wish.timestamp = true,
            ("merge" | "merge-stderr-to-stdout", "") => wish.merge = true,
            ("copy" | "nocopy" | "raw", "") => {}
            ("file" | "filename", name) if !name.is_empty() => {
                wish.output = Some(Pattern::parse_file(&format!("{name}.%r"))?);
                wish.error.clone_from(&wish.output);
            }
            ("dir" | "directory", name) if !name.is_empty() => {
                let files = output_filename(name)?;
                (wish.output, wish.error) = (files.output, files.error);
            }
            _ => {
                let output = Some(Pattern::parse_file(text)?);
                return Ok(OutputWish { output, ..OutputWish::default() });
            }
        }
    }
    wish.tee = wish.output.is_some() && !text.split([',', ':']).any(|word| word == "nocopy");
    Ok(wish)
}

fn output_filename(text: &str) -> Result<OutputWish, String> {
    let (name, copy) = text.strip_suffix(":nocopy").map_or((text, true), |name| (name, false));
    let file = |stream: &str| Pattern::parse_file(&format!("{name}/1/rank.%r/std{stream}")).map(Some);
    Ok(OutputWish { output: file("out")?, error: file("err")?, tee: copy, ..OutputWish::default() })
}

fn log_dir(text: &str) -> Result<OutputWish, String> {
    let file = |stream: &str| Pattern::parse_file(&format!("{text}/%r/std{stream}.log")).map(Some);
    Ok(OutputWish { output: file("out")?, error: file("err")?, ..OutputWish::default() })
}

fn input(text: &str) -> Result<Input, String> {
    match (text, text.parse()) {
        ("all", _) => Ok(Input::All),
        ("none", _) => Ok(Input::None),
        (_, Ok(rank)) => Ok(Input::Rank(rank)),
        _ => Err("the number of a rank, all or none".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_mpis_words_are_told_from_names_of_files() {
        let wish = output("tag,timestamp").unwrap();
        assert!(wish.tag && wish.timestamp && !wish.tee && wish.output.is_none());
        let wish = output("dir=logs:nocopy").unwrap();
        assert_eq!(wish.output, Some(Pattern::parse("logs/1/rank.%r/stdout").unwrap()));
        assert!(!wish.tee);
        let wish = output("file=log").unwrap();
        assert!(wish.tee && wish.output == wish.error && wish.output.is_some());
        assert_eq!(output("logs/tag,x").unwrap().output, Some(Pattern::parse("logs/tag,x").unwrap()));
        assert_eq!(output("./tag").unwrap().output, Some(Pattern::parse("./tag").unwrap()));
    }
}
