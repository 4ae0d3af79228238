//! Who is measured, and with which command: ranks, and each peer in each of its configurations.

use std::collections::BTreeMap;
use std::env::consts::EXE_SUFFIX;
use std::path::PathBuf;

use anyhow::Result;

use crate::arguments::Arguments;
use crate::machine;
use crate::peers::{Peer, Peers, Ready};
use crate::settings::{CONFIGURATIONS, Configuration, DEFAULT, Settings};

/// The name of ours, beside `openmpi4-default` and the like.
pub(crate) const OURS: &str = "ranks";

pub(crate) struct Contender {
    pub(crate) name: String,
    /// The name of the peer for its defaults, with the configuration's for the others.
    pub(crate) title: String,
    pub(crate) peer: String,
    pub(crate) version: String,
    pub(crate) purpose: &'static str,
    pub(crate) source: &'static str,
    pub(crate) is_default: bool,
    how: How,
}

enum How {
    Ours(Ours),
    Peer { place: Place, settings: Settings, crowded: Settings },
}

#[derive(Clone)]
pub(crate) struct Ours {
    launcher: PathBuf,
    program: PathBuf,
}

struct Place {
    launcher: PathBuf,
    program: PathBuf,
    library_path: Option<PathBuf>,
    root: Option<PathBuf>,
}

/// A command line with the variables that are added to the environment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Invocation {
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) words: Vec<String>,
}

/// The launcher and the benchmark program, built as users get them.
pub(crate) fn ours(arguments: &Arguments) -> Result<Ours> {
    let folder = machine::target_folder()?.join("release");
    if !arguments.no_setup {
        machine::run("cargo", &["build", "--release", "--package", "shmrun", "--package", "ranks-bench"])?;
    }
    let binary = |name: &str| folder.join(format!("{name}{EXE_SUFFIX}"));
    Ok(Ours { launcher: binary("shmrun"), program: binary("ranks-bench") })
}

/// Ours first, then the peers that are ready, in the order of their table.
pub(crate) fn all(ours: &Ours, peers: &Peers, arguments: &Arguments) -> Vec<Contender> {
    let configurations = CONFIGURATIONS.iter().filter_map(|configuration| {
        let Some(Peer::Ready(ready)) = peers.get(configuration.peer) else { return None };
        let contender = of_peer(configuration, ready);
        arguments.wants_peer(configuration.peer, &contender.name).then_some(contender)
    });
    std::iter::once(of_ours(ours)).chain(configurations).collect()
}

fn of_ours(ours: &Ours) -> Contender {
    Contender {
        name: OURS.to_owned(),
        title: "ranks".to_owned(),
        peer: OURS.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        purpose: "at its defaults",
        source: "",
        is_default: true,
        how: How::Ours(ours.clone()),
    }
}

fn of_peer(configuration: &Configuration, ready: &Ready) -> Contender {
    let Configuration { peer, name, .. } = *configuration;
    let is_default = name == DEFAULT;
    let title = peer_title(peer);
    Contender {
        name: format!("{peer}-{name}"),
        title: if is_default { title.to_owned() } else { format!("{title}, {name}") },
        peer: peer.to_owned(),
        version: ready.version.clone(),
        purpose: configuration.purpose,
        source: configuration.source,
        is_default,
        how: How::Peer {
            place: Place {
                launcher: ready.launcher.clone(),
                program: ready.program.clone(),
                library_path: ready.library_path.clone(),
                root: ready.root.clone(),
            },
            settings: configuration.settings,
            crowded: configuration.crowded,
        },
    }
}

pub(crate) fn peer_title(peer: &str) -> &str {
    match peer {
        "openmpi4" => "Open MPI 4.1",
        "openmpi5" => "Open MPI 5",
        "mpich5" => "MPICH 5",
        "impi" => "Intel MPI",
        other => other,
    }
}

impl Contender {
    /// Its benchmark program with `arguments` as `ranks` ranks: one per core where there are enough, else unbound.
    pub(crate) fn invocation(&self, ranks: usize, arguments: &[String]) -> Invocation {
        let crowded = ranks > machine::cores();
        let mut invocation = match &self.how {
            How::Ours(ours) => of_shmrun(ours, ranks, crowded),
            How::Peer { place, settings, crowded: additional } => {
                let mut invocation = of_launcher(&self.peer, place, ranks, crowded);
                invocation.add(settings);
                if crowded {
                    invocation.add(additional);
                }
                invocation.words.push(place.program.display().to_string());
                invocation
            }
        };
        invocation.words.extend_from_slice(arguments);
        invocation
    }

    /// Ours alone: a benchmark that needs no MPI.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.how, How::Ours(_))
    }

    /// What is special about its command, as people write it.
    pub(crate) fn settings(&self) -> (String, String) {
        let text = |settings: &Settings| {
            let words = [settings.environment, settings.arguments];
            words.iter().filter(|words| !words.is_empty()).copied().collect::<Vec<_>>().join(" ")
        };
        match &self.how {
            How::Ours(_) => Default::default(),
            How::Peer { settings, crowded, .. } => (text(settings), text(crowded)),
        }
    }
}

impl Invocation {
    fn add(&mut self, settings: &Settings) {
        for variable in settings.environment.split_whitespace() {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            self.environment.insert(name.to_owned(), value.to_owned());
        }
        self.words.extend(settings.arguments.split_whitespace().map(str::to_owned));
    }
}

fn of_shmrun(ours: &Ours, ranks: usize, crowded: bool) -> Invocation {
    let bound = if crowded { "none" } else { "core" };
    let mut words = words(&format!("--bind-to {bound} -n {ranks} --"));
    words.insert(0, ours.launcher.display().to_string());
    words.push(ours.program.display().to_string());
    Invocation { environment: BTreeMap::new(), words }
}

/// A peer's launcher with its way to bind each rank to a core of its own, or none to any.
fn of_launcher(peer: &str, place: &Place, ranks: usize, crowded: bool) -> Invocation {
    let mut environment = BTreeMap::new();
    let binding = match (peer, crowded) {
        ("openmpi4", false) | ("openmpi5", false) => "--map-by core --bind-to core",
        ("openmpi4", true) => "--oversubscribe --bind-to none",
        ("openmpi5", true) => "--map-by :oversubscribe --bind-to none",
        ("mpich5", false) => "-map-by core -bind-to core",
        ("mpich5", true) => "-bind-to none",
        ("impi", false) => {
            environment.extend(variables("I_MPI_PIN_DOMAIN=core I_MPI_PIN_ORDER=compact"));
            ""
        }
        ("impi", true) => {
            environment.extend(variables("I_MPI_PIN=0"));
            ""
        }
        _ => unreachable!("{peer} is in the table of settings, but nobody says how it starts"),
    };
    if peer == "impi" {
        environment.extend(variables("I_MPI_FABRICS=shm"));
    } else if peer.starts_with("openmpi") && machine::is_root() {
        environment.extend(variables("OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"));
    }
    let path = |path: &PathBuf| path.display().to_string();
    environment.extend(place.library_path.as_ref().map(|place| ("LD_LIBRARY_PATH".to_owned(), path(place))));
    environment.extend(place.root.as_ref().map(|place| ("I_MPI_ROOT".to_owned(), path(place))));
    let mut words = words(&format!("{binding} -n {ranks}"));
    words.insert(0, path(&place.launcher));
    Invocation { environment, words }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn variables(text: &str) -> impl Iterator<Item = (String, String)> {
    text.split_whitespace()
        .filter_map(|word| word.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Ready {
        Ready {
            version: "5.0".to_owned(),
            launcher: "/peer/mpirun".into(),
            program: "/peer/ranks_bench".into(),
            library_path: None,
            root: None,
        }
    }

    fn line(contender: &Contender, ranks: usize) -> String {
        contender.invocation(ranks, &["latency".to_owned()]).words.join(" ")
    }

    #[test]
    fn every_configuration_has_a_command() {
        for configuration in &CONFIGURATIONS {
            let contender = of_peer(configuration, &ready());
            assert!(line(&contender, 1).starts_with("/peer/mpirun"));
            assert!(line(&contender, 1).ends_with("-n 1 /peer/ranks_bench latency") || !contender.is_default);
        }
    }

    #[test]
    fn settings_for_crowds_are_added_beyond_one_rank_per_core() {
        let is_crowded = |configuration: &&Configuration| !configuration.crowded.arguments.is_empty();
        let configuration = CONFIGURATIONS.iter().find(is_crowded).unwrap();
        let contender = of_peer(configuration, &ready());
        let additional = configuration.crowded.arguments;
        assert!(!line(&contender, machine::cores()).contains(additional));
        assert!(line(&contender, machine::cores() + 1).contains(additional));
    }

    #[test]
    fn ours_and_theirs_are_bound_alike() {
        let ours = of_ours(&Ours { launcher: "shmrun".into(), program: "ranks-bench".into() });
        let theirs = of_peer(&CONFIGURATIONS[0], &ready());
        for contender in [&ours, &theirs] {
            assert!(line(contender, 1).contains("--bind-to core"));
            assert!(line(contender, machine::cores() + 1).contains("--bind-to none"));
        }
    }
}
