//! Which processors: `--bind-to` and its relatives, as several launchers spell them.

use clap::Args;
use ranks::launch::Memory;

use crate::placement::{Bind, Level, PerRank, Policy, memory_nodes, parse_list};

/// Which processors the ranks use.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Placement")]
pub(super) struct PlacementOptions {
    /// Bind each rank to one core, hwthread, l3cache, numa node or socket, to an even share, or to none [default: share]
    #[arg(long, value_name = "WHAT", value_parser = bind)]
    bind_to: Option<Bind>,
    /// The same as srun spells it: none, cores, threads, sockets, ldoms, map_cpu:LIST, verbose
    #[arg(long, value_name = "WHAT", value_parser = cpu_bind, hide = true)]
    cpu_bind: Option<CpuBind>,
    /// Ranks go in turn over each core, l3cache, numa node or socket; slot: one after the other. :PE=N gives each N cores
    #[arg(long, value_name = "WHAT[:PE=N]", value_parser = map)]
    map_by: Option<Map>,
    /// Each rank gets N processors for itself
    #[arg(long, aliases = ["cpus-per-task", "cpus-per-proc"], value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    cpus_per_rank: Option<u16>,
    /// Use only these processors
    #[arg(long, visible_alias = "cpu-list", value_name = "LIST", value_parser = processors)]
    cpu_set: Option<Processors>,
    /// Memory: local to each rank's processors, or interleave over all nodes
    #[arg(long, alias = "membind", value_name = "WHAT", value_parser = memory)]
    mem_bind: Option<MemoryWish>,
    /// Refuse to run more ranks than there are processors
    #[arg(long, alias = "no-oversubscribe")]
    nooversubscribe: bool,
    /// Print a table of the processors of each rank
    #[arg(long, aliases = ["display-map", "display-allocation", "display-devel-map", "print-rank-map"])]
    report_bindings: bool,
    /// The same as Open MPI spells it
    #[arg(long, value_name = "map", hide = true)]
    display: Option<String>,
}

/// What `--cpu-bind` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct CpuBind {
    bind: Option<Bind>,
    report: bool,
}

/// What `--map-by` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Map {
    level: Option<Level>,
    cores: Option<usize>,
    oversubscribe: Option<bool>,
    /// What was left out of account.
    unknown: Option<String>,
}

/// What `--mem-bind` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemoryWish {
    None,
    Local,
    Interleave,
}

/// A list of processors.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Processors(Vec<usize>);

impl PlacementOptions {
    pub(super) fn policy(&self) -> Policy {
        let map = self.map_by.clone().unwrap_or_default();
        let cores = map.cores.map(PerRank::Cores);
        let per_rank = self.cpus_per_rank.map(|number| PerRank::Processors(usize::from(number)));
        let cpu_bind = self.cpu_bind.clone().unwrap_or_default();
        Policy {
            bind: self.bind_to.clone().or(cpu_bind.bind).unwrap_or_default(),
            map: map.level,
            per_rank: cores.or(per_rank),
            subset: self.cpu_set.clone().map(|Processors(list)| list),
        }
    }

    pub(super) fn memory(&self) -> Memory {
        match self.mem_bind {
            None | Some(MemoryWish::None) => Memory::Inherited,
            Some(MemoryWish::Local) => Memory::Local,
            Some(MemoryWish::Interleave) => Memory::Interleaved(memory_nodes()),
        }
    }

    pub(super) fn report(&self) -> bool {
        self.report_bindings
            || self.display.is_some()
            || self.cpu_bind.as_ref().is_some_and(|bind| bind.report)
    }

    pub(super) fn refuses_oversubscription(&self) -> bool {
        self.nooversubscribe || self.map_by.as_ref().is_some_and(|map| map.oversubscribe == Some(false))
    }

    /// What was asked for and does not exist here.
    pub(super) fn note(&self) -> Option<String> {
        let unknown = self.map_by.as_ref()?.unknown.as_ref()?;
        Some(format!("--map-by {unknown} is left out of account: see --help for what there is"))
    }
}

const LEVELS: [(&str, Level); 7] = [
    ("hwthread", Level::Hwthread),
    ("core", Level::Core),
    ("l3cache", Level::L3cache),
    ("l3", Level::L3cache),
    ("numa", Level::Numa),
    ("socket", Level::Package),
    ("package", Level::Package),
];

fn level(word: &str) -> Option<Level> {
    LEVELS.iter().find(|(name, _)| *name == word).map(|(_, level)| *level)
}

fn bind(text: &str) -> Result<Bind, String> {
    let text = text.to_lowercase();
    // Whatever qualifies it is so here: sharing a core is always allowed.
    let (word, qualifier) = text.split_once(':').unwrap_or((&text, ""));
    match (word, level(word), qualifier) {
        ("user", _, list) => parse_list(list).map(Bind::Each).ok_or_else(|| wrong_list(list)),
        ("share", ..) => Ok(Bind::Share),
        ("none" | "machine" | "board", ..) => Ok(Bind::None),
        (_, Some(level), _) => Ok(Bind::To(level)),
        _ => {
            Err("one of share, none, hwthread, core, l3cache, numa, socket (or package), user:LIST"
                .to_owned())
        }
    }
}

fn cpu_bind(text: &str) -> Result<CpuBind, String> {
    let mut wish = CpuBind::default();
    let mut rest = text;
    for talk in ["verbose", "v", "quiet", "q"] {
        let after = rest.strip_prefix(talk).filter(|after| after.is_empty() || after.starts_with(','));
        if let Some(after) = after {
            wish.report |= talk.starts_with('v');
            rest = after.trim_start_matches(',');
        }
    }
    wish.bind = match rest.split_once(':').unwrap_or((rest, "")) {
        ("", _) => None,
        ("none" | "no" | "off", _) => Some(Bind::None),
        ("rank", _) => Some(Bind::To(Level::Hwthread)),
        ("ldoms" | "rank_ldom", _) => Some(Bind::To(Level::Numa)),
        ("map_cpu", list) => Some(Bind::Each(parse_list(list).ok_or_else(|| wrong_list(list))?)),
        (word, _) => Some(
            level(word.strip_suffix('s').unwrap_or(word))
                .or((word == "threads" || word == "thread").then_some(Level::Hwthread))
                .map(Bind::To)
                .ok_or("one of none, cores, threads, sockets, ldoms, rank, map_cpu:LIST, verbose")?,
        ),
    };
    Ok(wish)
}

fn memory(text: &str) -> Result<MemoryWish, String> {
    match text {
        "none" | "default" => Ok(MemoryWish::None),
        "local" | "firsttouch" => Ok(MemoryWish::Local),
        "interleave" => Ok(MemoryWish::Interleave),
        _ => Err("one of local, interleave, none".to_owned()),
    }
}

fn map(text: &str) -> Result<Map, String> {
    let mut map = Map::default();
    let lower = text.to_lowercase();
    let (object, modifiers) = lower.split_once(':').unwrap_or((&lower, ""));
    match (object, level(object)) {
        ("" | "slot" | "node" | "seq", _) => {}
        (_, Some(level)) => map.level = Some(level),
        _ => {
            map.unknown = Some(text.to_owned());
            return Ok(map);
        }
    }
    for modifier in modifiers.split([':', ',']).filter(|modifier| !modifier.is_empty()) {
        match (modifier, modifier.strip_prefix("pe=")) {
            (_, Some(number)) => {
                let cores = number.parse().ok().filter(|&cores| cores > 0);
                map.cores = Some(cores.ok_or("PE is a number of cores, for example --map-by slot:PE=2")?);
            }
            ("oversubscribe", _) => map.oversubscribe = Some(true),
            ("nooversubscribe", _) => map.oversubscribe = Some(false),
            // All of these hold anyhow on one machine.
            ("span" | "inherit" | "noinherit" | "ordered" | "hwtcpus", _) => {}
            _ => map.unknown = Some(text.to_owned()),
        }
    }
    Ok(map)
}

fn processors(text: &str) -> Result<Processors, String> {
    parse_list(text).map(Processors).ok_or_else(|| wrong_list(text))
}

fn wrong_list(text: &str) -> String {
    format!("{text:?} is no list of processors such as 0-3,8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_have_the_words_of_several_launchers() {
        assert_eq!(bind("package"), bind("socket"));
        assert_eq!(bind("core:overload-allowed"), Ok(Bind::To(Level::Core)));
        assert_eq!(bind("user:3,1"), Ok(Bind::Each(vec![3, 1])));
        assert!(bind("hat").is_err() && bind("user:x").is_err());
        let cores = CpuBind { bind: Some(Bind::To(Level::Core)), report: true };
        assert_eq!(cpu_bind("verbose,cores"), Ok(cores));
        assert_eq!(cpu_bind("threads").unwrap().bind, Some(Bind::To(Level::Hwthread)));
        assert_eq!(cpu_bind("quiet").unwrap(), CpuBind::default());
        assert_eq!(cpu_bind("map_cpu:1,0").unwrap().bind, Some(Bind::Each(vec![1, 0])));
        assert!(cpu_bind("hats").is_err());
    }

    #[test]
    fn mapping_is_a_place_and_what_qualifies_it() {
        let map = |text| map(text).unwrap();
        assert_eq!(map("slot:PE=2").cores, Some(2));
        assert_eq!(map(":OVERSUBSCRIBE").oversubscribe, Some(true));
        assert_eq!(map("numa:PE=4:NOOVERSUBSCRIBE").oversubscribe, Some(false));
        assert_eq!(map("numa").level, Some(Level::Numa));
        assert_eq!(map("ppr:2:socket").unknown.as_deref(), Some("ppr:2:socket"));
        assert!(super::map("core:pe=0").is_err());
    }
}
