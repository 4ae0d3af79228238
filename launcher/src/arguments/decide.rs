//! From options to decisions: a [`Job`].

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use ranks::launch::{self, LaunchError, Plan, RankPlan};

use super::environment::Resolved;
use super::info::Info;
use super::job::{Common, Count, Program};
use super::words::Ignored;
use super::{JobOptions, tunables};
use crate::placement::{self, Bind, Machine, Placement};
use crate::seeing::Seeing;

/// A job, decided on.
#[derive(Debug)]
pub struct Job {
    /// What is to be run.
    pub(crate) plan: Plan,
    /// What the user should know beforehand, unless it is to be quiet.
    pub(crate) notes: Vec<String>,
    /// The placement as a table, if it is to be shown.
    pub(crate) table: Option<String>,
    /// Say what is done.
    pub(crate) verbose: bool,
    /// What is to be seen of the ranks' work.
    pub(crate) seeing: Seeing,
    /// Run nothing.
    pub(crate) dry_run: bool,
    /// Print the exit code of every rank.
    pub(crate) exit_codes: bool,
    /// Where the launcher's process id is to be written.
    pub(crate) report_pid: Option<PathBuf>,
    /// How many times the job is started again after a failure.
    pub(crate) restarts: u32,
}

/// Decides what was left open.
pub(super) fn job(
    options: JobOptions,
    common: &Common,
    programs: Vec<Program>,
    ignored: &[Ignored],
) -> Result<Job> {
    let policy = options.placement.policy();
    let machine = Machine::read(policy.subset.as_deref())?;
    let counts = counts(&options, &programs, || machine.ranks(&policy))?;
    let ranks = counts.iter().fold(0, |sum: usize, &count| sum.saturating_add(count));
    LaunchError::check_ranks(ranks)?;
    options.hosts.check(ranks)?;
    let available = launch::available_cores();
    if ranks > available && options.placement.refuses_oversubscription() {
        bail!(
            "{ranks} ranks are more than the {available} processors that may be used\n  help: leave --nooversubscribe out"
        );
    }
    let placement = machine.place(&policy, ranks).context("cannot place the ranks")?;
    let mut notes: Vec<String> = ignored_note(ignored).into_iter().collect();
    notes.extend(options.placement.note());
    notes.extend(placement.note.clone());
    let mut plan = Plan::new(rank_plans(&options, common, programs, &counts, &mut notes));
    plan.cores = Some(machine.used(&placement));
    plan.memory = options.placement.memory();
    options.checks.apply(&mut plan);
    options.streams.apply(&mut plan)?;
    options.debugging.apply(&mut plan)?;
    options.settings.apply(&mut plan)?;
    plan.tuning.observe = options.seeing.observe();
    plan.limits = options.endings.limits()?;
    plan.on_failure = options.endings.on_failure();
    let show = options.placement.report() || options.info.verbose || options.info.dry_run;
    let table = show.then(|| placement::table(&machine, &placement));
    place(&mut plan, placement, &options, policy.bind == Bind::None);
    tunables::suit_switches(&mut plan);
    if options.info.quiet {
        notes.clear();
    }
    let Info { verbose, dry_run, print_all_exitcodes: exit_codes, report_pid, .. } = options.info;
    let (seeing, restarts) = (options.seeing.seeing(), options.endings.max_restarts);
    Ok(Job { plan, notes, table, verbose, seeing, dry_run, exit_codes, report_pid, restarts })
}

/// How many ranks each program has.
fn counts(options: &JobOptions, programs: &[Program], auto: impl Fn() -> usize) -> Result<Vec<usize>> {
    if let [program] = programs {
        return Ok(vec![match (program.options.ranks, options.hosts.ranks()) {
            (Some(Count::Number(ranks)), _) | (None, Some(ranks)) => ranks,
            _ => auto(),
        }]);
    }
    let count = |program: &Program| match program.options.ranks {
        Some(Count::Number(ranks)) => Ok(ranks),
        _ => bail!(
            "each of several programs needs its number of ranks\n  help: write -n N before {}",
            program.words[0].display()
        ),
    };
    programs.iter().map(count).collect()
}

/// One line for all that has no effect.
fn ignored_note(ignored: &[Ignored]) -> Option<String> {
    let mut told: Vec<String> =
        ignored.iter().map(|Ignored { written, why }| format!("{written} ({why})")).collect();
    told.dedup();
    (!told.is_empty()).then(|| format!("without effect: {}", told.join(", ")))
}

fn rank_plans(
    options: &JobOptions,
    common: &Common,
    programs: Vec<Program>,
    counts: &[usize],
    notes: &mut Vec<String>,
) -> Vec<RankPlan> {
    let ranks: usize = counts.iter().sum();
    let mut plans = Vec::with_capacity(ranks);
    for (program, &count) in programs.into_iter().zip(counts) {
        let environment = common.environment.clone().and(program.options.environment);
        let Resolved { inherit, variables, missing } = environment.resolve(|name| std::env::var_os(name));
        notes
            .extend(missing.into_iter().map(|name| format!("the variable {name} is not set: not passed on")));
        let mut words = program.words.into_iter();
        let plan = RankPlan {
            inherit_environment: inherit,
            variables,
            directory: program.options.wdir.or_else(|| common.wdir.clone()),
            ..RankPlan::new(words.next().unwrap_or_default(), words.collect())
        };
        plans.extend(std::iter::repeat_n(plan, count));
    }
    for (rank, plan) in plans.iter_mut().enumerate() {
        plan.variables.extend(options.variables.of_rank(rank, ranks));
    }
    plans
}

/// Binds the ranks and tells them how many threads that is good for.
fn place(plan: &mut Plan, placement: Placement, options: &JobOptions, unbound: bool) {
    let available = launch::available_cores();
    let alone = if unbound { available } else { (available / plan.ranks.len()).max(1) };
    for (rank, processors) in plan.ranks.iter_mut().zip(placement.processors) {
        let share = if processors.is_empty() { alone } else { processors.len().min(available) };
        let own = rank.variables.clone();
        let is_set = |name: &str| {
            own.iter().any(|(known, _)| known == name)
                || rank.inherit_environment && std::env::var_os(name).is_some()
        };
        rank.variables.extend(options.variables.threads_of(share, is_set));
        rank.processors = processors;
    }
}
