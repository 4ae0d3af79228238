//! Measures ranks beside every MPI library that is set up, in interleaved rounds, and writes what came out.
//!
//! `cargo bench-compare --quick` to see that it works; `docs/benchmarks.md` says how to read what it writes.
//!
//! Data flows one way: arguments → plan → rounds → results → report and plots. `results.json` holds all that was
//! measured; the Markdown and the plots are made from it alone, so `--render` can make them again.

mod arguments;
mod blocks;
mod compare;
mod contender;
mod goals;
mod machine;
mod output;
mod peers;
mod plan;
mod plot;
mod process;
mod report;
mod results;
mod rounds;
mod series;
mod settings;
mod statistics;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use arguments::Arguments;
use plan::Plan;
use results::Results;
use rounds::Rounds;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let folder = arguments.output()?;
    fs::create_dir_all(&folder).with_context(|| format!("no folder {}", folder.display()))?;
    let file = folder.join("results.json");
    let results = if arguments.render { Results::read(&file)? } else { measure(&arguments, &file)? };
    write_pages(&results, &folder)?;
    report_outcome(&results, &folder)
}

/// Writes `file` after each round, so that 40 minutes are not lost to the one that does not end.
fn measure(arguments: &Arguments, file: &Path) -> Result<Results> {
    process::end_children_with_this_process().context("cannot handle signals")?;
    let ours = contender::ours(arguments)?;
    let peers = peers::find(arguments)?;
    let contenders = contender::all(&ours, &peers, arguments);
    let plan = Plan::of(arguments);
    ensure!(!plan.groups.is_empty(), "there is no such test");
    let mut results = Results::new(machine::conditions(&plan)?, &contenders, &peers);
    let mut rounds = Rounds::new(&contenders, &plan);
    rounds.check(&mut results);
    rounds.measure(&mut results, |results| results.write(file))?;
    Ok(results)
}

fn write_pages(results: &Results, folder: &Path) -> Result<()> {
    let page = folder.join("results.md");
    fs::write(&page, report::markdown(results))
        .with_context(|| format!("cannot write {}", page.display()))?;
    plot::write_all(results, folder)
}

/// An exit code other than 0 where ranks itself failed: a peer's failure is a finding, ours is an error.
fn report_outcome(results: &Results, folder: &Path) -> Result<()> {
    eprintln!("bench-compare: wrote {}", folder.display());
    let of_ours = results.failures.iter().find(|failure| failure.contender == contender::OURS);
    match of_ours {
        None => Ok(()),
        Some(failure) => anyhow::bail!("ranks failed in {}: {}", failure.tests.join(","), failure.reason),
    }
}
