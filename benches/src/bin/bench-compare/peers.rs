//! The MPI libraries that `benches/peers` has set up, as it says in `peers.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::arguments::Arguments;
use crate::machine;

/// By the names of `settings.rs`.
pub(crate) type Peers = BTreeMap<String, Peer>;

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Peer {
    Ready(Ready),
    /// It could not be set up, and why.
    Missing {
        unavailable: String,
    },
}

#[derive(Debug, Deserialize)]
pub(crate) struct Ready {
    pub(crate) version: String,
    pub(crate) launcher: PathBuf,
    /// The C benchmark program, compiled with this peer's compiler wrapper.
    pub(crate) program: PathBuf,
    /// Where its libraries are, if the program does not know.
    pub(crate) library_path: Option<PathBuf>,
    /// Where it is installed, if it does not know.
    pub(crate) root: Option<PathBuf>,
}

/// Runs `benches/peers`, which keeps what is there and builds the C program again if its source is newer.
///
/// With `--no-setup` there may be none: ranks alone is measured then.
pub(crate) fn find(arguments: &Arguments) -> Result<Peers> {
    let folder = machine::target_folder()?.join("peers");
    if !arguments.no_setup {
        set_up(&folder)?;
    }
    let file = folder.join("peers.json");
    if !file.exists() {
        return Ok(Peers::new());
    }
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    parse(&text).with_context(|| format!("{} is damaged: remove it", file.display()))
}

fn set_up(folder: &Path) -> Result<()> {
    let script = machine::repository()?.join("benches/peers");
    let status = Command::new(&script).arg("--into").arg(folder).stdin(Stdio::null()).status();
    let status = status.with_context(|| format!("cannot run {}", script.display()))?;
    ensure!(status.success(), "{} failed: {status}", script.display());
    Ok(())
}

fn parse(text: &str) -> Result<Peers> {
    Ok(serde_json::from_str(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_ready_or_says_why_not() {
        let peers = parse(
            r#"{"openmpi4": {"version": "4.1.4", "launcher": "/usr/bin/mpirun", "program": "/p/ranks_bench"},
                "impi": {"unavailable": "no wheel for this machine"}}"#,
        )
        .unwrap();
        assert!(matches!(&peers["openmpi4"], Peer::Ready(ready) if ready.version == "4.1.4"));
        assert!(matches!(&peers["impi"], Peer::Missing { unavailable } if unavailable.contains("wheel")));
    }
}
