//! Options that place ranks on machines: accepted as long as they mean this one.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

/// Machines and ranks per machine.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "This machine")]
pub(super) struct Hosts {
    /// Machines: localhost or this machine's name
    #[arg(short = 'H', long, aliases = ["hosts", "nodelist", "master-addr"], short_alias = 'w', value_name = "LIST", value_delimiter = ',')]
    host: Vec<String>,
    /// A file of machines, one per line: this one only
    #[arg(long, aliases = ["machinefile", "default-hostfile"], short_alias = 'f', value_name = "FILE")]
    hostfile: Vec<PathBuf>,
    /// Ranks on each machine: as many as there are
    #[arg(short = 'N', long, aliases = ["ppn", "perhost", "ntasks-per-node"], value_name = "N")]
    npernode: Option<usize>,
    /// Number of machines: 1
    #[arg(long, alias = "nodes", value_name = "1")]
    nnodes: Option<String>,
    /// Number of this machine: 0
    #[arg(long, value_name = "0", hide = true)]
    node_rank: Option<usize>,
}

const ONE_MACHINE: &str = "shmrun runs jobs on one machine only";

impl Hosts {
    /// The number of ranks, if it follows from the ranks per machine.
    pub(super) fn ranks(&self) -> Option<usize> {
        self.npernode
    }

    /// Checks that `ranks` ranks on these machines are all on this one.
    pub(super) fn check(&self, ranks: usize) -> Result<()> {
        let here = this_machine();
        let mut hosts: Vec<String> = self.host.clone();
        for file in &self.hostfile {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read the machines in {}", file.display()))?;
            hosts.extend(text.lines().filter_map(host_of_line));
        }
        if let Some(other) = hosts.iter().find(|host| !is_here(host, &here)) {
            bail!("{other} is not this machine ({here}): {ONE_MACHINE}\n  help: leave the machines out");
        }
        if let Some(number) = self.nnodes.as_deref().filter(|number| !matches!(*number, "1" | "1:1" | "1-1"))
        {
            bail!("{number} machines were asked for: {ONE_MACHINE}\n  help: leave the number out");
        }
        if let Some(number) = self.node_rank.filter(|&number| number != 0) {
            bail!("machine {number} was asked for: {ONE_MACHINE}\n  help: leave the number out");
        }
        // srun means the number of machines by -N 1, mpirun one rank on each.
        match self.npernode {
            Some(each) if each != 1 && each < ranks => bail!(
                "{ranks} ranks, {each} on each machine, need several: {ONE_MACHINE}\n  help: leave the {each} out"
            ),
            _ => Ok(()),
        }
    }
}

fn this_machine() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// `name`, `name:4` or `name slots=4` in a file, where `#` begins a comment.
fn host_of_line(line: &str) -> Option<String> {
    let line = line.split('#').next().unwrap_or_default();
    line.split_whitespace().next().map(str::to_owned)
}

fn is_here(host: &str, here: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, slots)) if !name.contains(':') && (is_number(slots) || slots == "*") => name,
        _ => host,
    };
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_lowercase();
    matches!(name, "localhost" | "127.0.0.1" | "::1") || name == here || short(name) == short(here)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(hosts: Hosts, ranks: usize) -> String {
        hosts.check(ranks).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn this_machine_has_several_names() {
        for name in
            ["localhost", "127.0.0.1", "::1", "localhost:4", "box", "box:2", "BOX.example.org", "box:*"]
        {
            assert!(is_here(name, "box"), "{name}");
        }
        for name in ["other", "box2", "10.0.0.1:4", "::2", ""] {
            assert!(!is_here(name, "box"), "{name}");
        }
    }

    #[test]
    fn other_machines_are_refused() {
        let host = Hosts { host: vec!["localhost".into(), "elsewhere".into()], ..Hosts::default() };
        assert!(message(host, 2).contains("elsewhere is not this machine"));
        let nodes = |nnodes: &str| Hosts { nnodes: Some(nnodes.into()), ..Hosts::default() };
        assert_eq!(message(nodes("1"), 2), "");
        assert!(message(nodes("2"), 2).contains("2 machines"));
        assert!(message(Hosts { node_rank: Some(1), ..Hosts::default() }, 2).contains("machine 1"));
    }

    #[test]
    fn ranks_per_machine_must_be_all_of_them() {
        let each = |npernode| Hosts { npernode: Some(npernode), ..Hosts::default() };
        assert_eq!(message(each(4), 4), "");
        assert_eq!(message(each(8), 4), "");
        assert_eq!(message(each(1), 4), "");
        assert!(message(each(2), 4).contains("2 on each machine"));
    }

    #[test]
    fn a_line_of_a_file_names_a_machine() {
        assert_eq!(host_of_line("box slots=4 # mine").as_deref(), Some("box"));
        assert_eq!(host_of_line("  # nothing"), None);
    }
}
