//! What a user sees of the ranks' work: statistics and a timeline when the job has ended.

mod statistics;
mod timeline;
pub(crate) mod units;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use ranks::launch::Observation;

/// What is wanted of a job besides its output.
#[derive(Debug, Default)]
pub(crate) struct Seeing {
    /// Statistics.
    pub(crate) statistics: bool,
    /// A timeline, in this file.
    pub(crate) timeline: Option<PathBuf>,
}

/// [`Seeing`] with what has to be there before the job starts.
#[derive(Debug)]
pub(crate) struct Prepared {
    statistics: bool,
    timeline: Option<(PathBuf, File)>,
}

impl Seeing {
    /// Creates the file of the timeline: a job of hours must not end with the news that it cannot be written.
    ///
    /// # Errors
    ///
    /// It cannot be created.
    pub(crate) fn prepare(self) -> Result<Prepared> {
        let create = |path: PathBuf| {
            let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
            Ok::<_, anyhow::Error>((path, file))
        };
        Ok(Prepared { statistics: self.statistics, timeline: self.timeline.map(create).transpose()? })
    }
}

impl Prepared {
    /// Writes the timeline; returns what there is to say.
    ///
    /// # Errors
    ///
    /// The timeline cannot be written.
    pub(crate) fn show(self, observation: &Observation) -> Result<Vec<String>> {
        let mut said = Vec::new();
        if let Some((path, file)) = self.timeline {
            let mut file = BufWriter::new(file);
            timeline::write(&mut file, observation)
                .and_then(|()| file.flush())
                .with_context(|| format!("cannot write the timeline to {}", path.display()))?;
            said.extend(lost(observation));
        }
        if self.statistics {
            said.push(statistics::text(observation).trim_end().to_owned());
        }
        Ok(said)
    }
}

/// Says that the timeline does not begin where the job does.
fn lost(observation: &Observation) -> Option<String> {
    let lost: u64 = observation.ranks.iter().map(|rank| rank.lost_events).sum();
    let kept: usize = observation.ranks.iter().map(|rank| rank.events.len()).sum();
    (lost > 0).then(|| {
        format!(
            "note: the timeline has the latest {kept} events, {lost} earlier ones had no room\n  help: --trace-events N keeps N events of each rank"
        )
    })
}
