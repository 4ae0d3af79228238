//! Which processors each rank may use: facts from /sys, the user's wishes, and a table of what came of them.

mod assign;
mod report;
mod topology;

use std::path::Path;

use anyhow::{Result, bail};

pub(crate) use report::{summary, table};
pub(crate) use topology::Level;
use topology::{Processor, Topology};
pub(crate) use topology::{parse_list, write_list};

/// What the user wishes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    /// What each rank is bound to.
    pub(crate) bind: Bind,
    /// Ranks go in turn over these; `None` is one after the other.
    pub(crate) map: Option<Level>,
    /// How much of it each rank gets.
    pub(crate) per_rank: Option<PerRank>,
    /// The processors to be used, `None` for all that may be used.
    pub(crate) subset: Option<Vec<usize>>,
}

/// What a rank is bound to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Bind {
    /// An even share of the processors, if there are enough for all ranks; otherwise nothing.
    #[default]
    Share,
    /// Nothing: any processor.
    None,
    /// One group of processors of this level.
    To(Level),
    /// The processors of this list, in turn.
    Each(Vec<usize>),
}

/// A number of processors, or of whole cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PerRank {
    /// Processors as the system counts them.
    Processors(usize),
    /// Cores with all their hardware threads.
    Cores(usize),
}

/// The machine as far as it may be used.
pub(crate) struct Machine {
    topology: Topology,
    /// The job may not use all that the machine has.
    whole: bool,
}

/// What came of the wishes.
pub(crate) struct Placement {
    /// For each rank its processors; empty means all that may be used.
    pub(crate) processors: Vec<Vec<usize>>,
    /// Why it is not as wished, where it is not.
    pub(crate) note: Option<String>,
}

impl Machine {
    /// Reads what may be used of this machine.
    ///
    /// # Errors
    ///
    /// When the subset is not part of it.
    pub(crate) fn read(subset: Option<&[usize]>) -> Result<Self> {
        let allowed = ranks::launch::allowed_cores();
        let chosen = match subset {
            Some(subset) => check_subset(subset, &allowed)?,
            None => &allowed,
        };
        Ok(Self { topology: Topology::read(Path::new("/sys"), chosen), whole: chosen.len() == allowed.len() })
    }

    /// How many ranks `auto` means.
    pub(crate) fn ranks(&self, policy: &Policy) -> usize {
        let processors = ranks::launch::available_cores().min(self.topology.processors.len()).max(1);
        let cores = self.topology.by(Level::Core).len();
        match policy.per_rank {
            None => processors,
            Some(PerRank::Processors(each)) => processors / each,
            Some(PerRank::Cores(each)) => cores.min(processors) / each,
        }
        .max(1)
    }

    /// Decides which processors each of `ranks` ranks may use.
    ///
    /// # Errors
    ///
    /// When a single rank wants more than there is.
    pub(crate) fn place(&self, policy: &Policy, ranks: usize) -> Result<Placement> {
        let mut placement = assign::assign(&self.topology, policy, ranks)?;
        if !self.whole {
            // Not bound otherwise means: to the subset.
            let all = self.topology.processors.iter().map(|processor| processor.number);
            let mut all: Vec<usize> = all.collect();
            all.sort_unstable();
            let unbound = placement.processors.iter_mut().filter(|processors| processors.is_empty());
            unbound.for_each(|processors| processors.clone_from(&all));
        }
        Ok(placement)
    }

    /// The processors that ranks placed like this use together.
    pub(crate) fn used(&self, placement: &Placement) -> usize {
        let used = |processor: &&Processor| {
            placement.processors.iter().any(|list| list.is_empty() || list.contains(&processor.number))
        };
        self.topology.processors.iter().filter(used).count().min(ranks::launch::available_cores()).max(1)
    }
}

/// The nodes that have memory.
pub(crate) fn memory_nodes() -> Vec<usize> {
    topology::memory_nodes(Path::new("/sys"))
}

fn check_subset<'s>(subset: &'s [usize], allowed: &[usize]) -> Result<&'s [usize]> {
    match subset.iter().find(|number| !allowed.contains(number)) {
        Some(number) => {
            bail!("processor {number} may not be used\n  help: this process may use {}", write_list(allowed))
        }
        None => Ok(subset),
    }
}
