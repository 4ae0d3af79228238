//! Sets of ranks on the command line: `0,3-5`, `all`.

use anyhow::{Result, bail};

use crate::placement::parse_list;

/// Some ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RankSet {
    /// All of them.
    All,
    /// These.
    Some(Vec<usize>),
}

impl RankSet {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match (text, parse_list(text)) {
            ("all", _) => Ok(Self::All),
            (_, Some(ranks)) => Ok(Self::Some(ranks)),
            _ => Err("ranks are written as 0,3-5 or all".to_owned()),
        }
    }

    pub(super) fn contains(&self, rank: usize) -> bool {
        match self {
            Self::All => true,
            Self::Some(ranks) => ranks.contains(&rank),
        }
    }

    /// Checks that the ranks exist in a job of `ranks`.
    pub(super) fn check(&self, ranks: usize, option: &str) -> Result<()> {
        match self {
            Self::Some(chosen) => match chosen.iter().find(|&&rank| rank >= ranks) {
                Some(rank) => bail!("{option}: there is no rank {rank} in a job of {ranks}"),
                None => Ok(()),
            },
            Self::All => Ok(()),
        }
    }
}
