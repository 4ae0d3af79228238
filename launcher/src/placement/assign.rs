//! From wishes to processors. Pure: the machine is a list of processors that stand in order of nearness.

use anyhow::{Result, bail};

use super::topology::{Level, Processor, Topology};
use super::{Bind, PerRank, Placement, Policy};

/// Decides which processors each of `ranks` ranks may use.
pub(super) fn assign(topology: &Topology, policy: &Policy, ranks: usize) -> Result<Placement> {
    if topology.processors.is_empty() {
        return Ok(everywhere(ranks));
    }
    Ok(match (&policy.bind, policy.per_rank, policy.map) {
        (Bind::None, ..) => everywhere(ranks),
        (Bind::Each(list), ..) => each(list, ranks),
        (_, Some(per_rank), map) => blocks(topology, per_rank, map, ranks)?,
        (Bind::To(level), None, map) => in_turn(topology, *level, map, ranks),
        // Where a rank is mapped to, there it is bound.
        (Bind::Share, None, Some(level)) => in_turn(topology, level, Some(level), ranks),
        (Bind::Share, None, None) => shares(topology, ranks),
    })
}

fn everywhere(ranks: usize) -> Placement {
    Placement { processors: vec![Vec::new(); ranks], note: None }
}

fn each(list: &[usize], ranks: usize) -> Placement {
    let one = |rank: usize| vec![list[rank % list.len()]];
    Placement { processors: (0..ranks).map(one).collect(), note: None }
}

/// Rank r gets a group of `level`, r-th in turn over the groups of `map`. More ranks than groups share them.
fn in_turn(topology: &Topology, level: Level, map: Option<Level>, ranks: usize) -> Placement {
    let groups = topology.by(level);
    let places = map.map_or_else(|| vec![topology.processors.clone()], |map| topology.by(map));
    let one = |rank: usize| {
        let place = &places[rank % places.len()];
        // Groups of the wished level in this place; where the place is the smaller one, the group around it.
        let here: Vec<_> =
            groups.iter().filter(|group| place.iter().any(|processor| group.contains(processor))).collect();
        numbers(here[rank / places.len() % here.len()])
    };
    Placement { processors: (0..ranks).map(one).collect(), note: None }
}

/// Rank r gets the r-th block of processors or cores, if possible of one memory node, in turn over the places of
/// `map`. More ranks than blocks share them.
fn blocks(topology: &Topology, per_rank: PerRank, map: Option<Level>, ranks: usize) -> Result<Placement> {
    let (level, each) = match per_rank {
        PerRank::Processors(each) => (Level::Hwthread, each),
        PerRank::Cores(each) => (Level::Core, each),
    };
    let units = topology.by(level);
    let kind = match (level, each) {
        (Level::Core, 1) => "core",
        (Level::Core, _) => "cores",
        (_, 1) => "processor",
        _ => "processors",
    };
    if each > units.len() {
        bail!("each rank is to get {each} {kind}, but only {} may be used", units.len());
    }
    let places = topology.by(map.filter(|&map| map > level).unwrap_or(Level::Numa));
    let per_place: Vec<Vec<Vec<usize>>> = places.iter().map(|place| cut(&units, place, each)).collect();
    let whole = if map.is_some_and(|map| map > level) { alternate(per_place) } else { per_place.concat() };
    let straddling = cut(&units, &topology.processors, each);
    // Blocks that lie in one node, unless others give room for more ranks.
    let blocks = if whole.len() >= ranks.min(straddling.len()) { whole } else { straddling };
    let note = (blocks.len() < ranks)
        .then(|| format!("{ranks} ranks of {each} {kind} each share the room for {}", blocks.len()));
    Ok(Placement { processors: (0..ranks).map(|rank| blocks[rank % blocks.len()].clone()).collect(), note })
}

/// The blocks of `each` units that lie in `place`.
fn cut(units: &[Vec<Processor>], place: &[Processor], each: usize) -> Vec<Vec<usize>> {
    let here: Vec<_> = units.iter().filter(|unit| place.contains(&unit[0])).cloned().collect();
    here.chunks_exact(each).map(|block| numbers(&block.concat())).collect()
}

/// The first of each list, then the second of each, and so on.
fn alternate(lists: Vec<Vec<Vec<usize>>>) -> Vec<Vec<usize>> {
    let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|index| lists.iter().filter_map(move |list| list.get(index).cloned())).collect()
}

/// Even shares: of whole cores where there are as many as ranks, otherwise of hardware threads; of one memory
/// node where the ranks can be divided among the nodes.
fn shares(topology: &Topology, ranks: usize) -> Placement {
    let cores = topology.by(Level::Core);
    let units = if ranks <= cores.len() { cores } else { topology.by(Level::Hwthread) };
    if ranks > units.len() {
        return everywhere(ranks);
    }
    let by_node = divide(&units, ranks).unwrap_or_else(|| even(&units, ranks));
    Placement { processors: by_node, note: None }
}

fn even(units: &[Vec<Processor>], ranks: usize) -> Vec<Vec<usize>> {
    let bound = |rank: usize| rank * units.len() / ranks;
    (0..ranks).map(|rank| numbers(&units[bound(rank)..bound(rank + 1)].concat())).collect()
}

/// Gives each node its part of the ranks; `None` if a node would get none, or more than it has units.
fn divide(units: &[Vec<Processor>], ranks: usize) -> Option<Vec<Vec<usize>>> {
    let mut shares = Vec::new();
    let nodes = units.chunk_by(|a, b| a[0].group(Level::Numa) == b[0].group(Level::Numa));
    let mut before = 0;
    // Rounded to the nearest.
    let bound = |units_before: usize| (2 * units_before * ranks + units.len()) / (2 * units.len());
    for node in nodes {
        let here = bound(before + node.len()) - bound(before);
        if !(1..=node.len()).contains(&here) {
            return None;
        }
        shares.extend(even(node, here));
        before += node.len();
    }
    Some(shares)
}

fn numbers(processors: &[Processor]) -> Vec<usize> {
    let mut numbers: Vec<usize> = processors.iter().map(|processor| processor.number).collect();
    numbers.sort_unstable();
    numbers
}

#[cfg(test)]
mod tests {
    use super::super::topology::tests::machine;
    use super::*;

    /// `packages` x `cores` x 2 threads.
    fn placed(packages: usize, cores: usize, policy: Policy, ranks: usize) -> Vec<Vec<usize>> {
        let sys = machine(packages, cores);
        let all: Vec<usize> = (0..packages * cores * 2).collect();
        assign(&Topology::read(sys.path(), &all), &policy, ranks).unwrap().processors
    }

    fn bound(level: Level) -> Policy {
        Policy { bind: Bind::To(level), ..Policy::default() }
    }

    #[test]
    fn shares_are_whole_cores_of_one_node() {
        assert_eq!(placed(2, 2, Policy::default(), 2), [[0, 1, 4, 5], [2, 3, 6, 7]]);
        assert_eq!(placed(2, 2, Policy::default(), 4), [[0, 4], [1, 5], [2, 6], [3, 7]]);
        assert_eq!(
            placed(2, 4, Policy::default(), 3),
            [vec![0, 1, 8, 9], vec![2, 3, 10, 11], vec![4, 5, 6, 7, 12, 13, 14, 15]]
        );
        assert_eq!(placed(1, 2, Policy::default(), 4), [[0], [2], [1], [3]]);
    }

    #[test]
    fn every_share_is_disjoint_and_together_they_are_everything() {
        for (packages, cores) in [(1, 1), (1, 3), (2, 2), (2, 3), (3, 4)] {
            for ranks in 1..=2 * packages * cores {
                let mut all = placed(packages, cores, Policy::default(), ranks).concat();
                all.sort_unstable();
                assert_eq!(all, (0..2 * packages * cores).collect::<Vec<_>>(), "{packages} {cores} {ranks}");
            }
        }
    }

    #[test]
    fn more_ranks_than_processors_are_not_bound() {
        assert_eq!(placed(1, 2, Policy::default(), 5), vec![Vec::<usize>::new(); 5]);
    }

    #[test]
    fn levels_are_given_in_turn() {
        assert_eq!(placed(2, 2, bound(Level::Core), 5), [[0, 4], [1, 5], [2, 6], [3, 7], [0, 4]]);
        assert_eq!(placed(2, 2, bound(Level::Hwthread), 3), [[0], [4], [1]]);
        assert_eq!(placed(2, 1, bound(Level::Package), 3), [[0, 2], [1, 3], [0, 2]]);
    }

    #[test]
    fn mapping_goes_round_the_places() {
        let mapped = Policy { map: Some(Level::Numa), ..bound(Level::Core) };
        assert_eq!(placed(2, 2, mapped, 4), [[0, 4], [2, 6], [1, 5], [3, 7]]);
        let mapped = Policy { map: Some(Level::Core), ..bound(Level::Package) };
        assert_eq!(placed(2, 1, mapped, 2), [[0, 2], [1, 3]]);
        let mapped = Policy { map: Some(Level::Package), ..Policy::default() };
        assert_eq!(placed(2, 1, mapped, 2), [[0, 2], [1, 3]]);
    }

    #[test]
    fn blocks_stay_in_a_node_where_they_can() {
        let cores = |each| Policy { per_rank: Some(PerRank::Cores(each)), ..Policy::default() };
        assert_eq!(placed(2, 3, cores(2), 2), [[0, 1, 6, 7], [3, 4, 9, 10]]);
        // Three fit only if one of them straddles.
        assert_eq!(placed(2, 3, cores(2), 3), [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]);
        let threads = Policy { per_rank: Some(PerRank::Processors(2)), ..Policy::default() };
        assert_eq!(placed(1, 2, threads, 3), [[0, 2], [1, 3], [0, 2]]);
        let mapped = Policy { map: Some(Level::Package), ..cores(1) };
        assert_eq!(placed(2, 2, mapped, 3), [[0, 4], [2, 6], [1, 5]]);
    }

    #[test]
    fn a_rank_that_wants_more_than_there_is_is_refused() {
        let sys = machine(1, 2);
        let topology = Topology::read(sys.path(), &[0, 1]);
        let policy = Policy { per_rank: Some(PerRank::Cores(3)), ..Policy::default() };
        let message = assign(&topology, &policy, 1).err().unwrap().to_string();
        assert!(message.contains("3 cores") && message.contains("only 2"), "{message}");
    }

    #[test]
    fn ranks_that_share_are_told_so() {
        let sys = machine(1, 2);
        let topology = Topology::read(sys.path(), &[0, 1]);
        let note = |each, ranks| {
            let policy = Policy { per_rank: Some(PerRank::Cores(each)), ..Policy::default() };
            assign(&topology, &policy, ranks).unwrap().note
        };
        assert_eq!(note(2, 2).unwrap(), "2 ranks of 2 cores each share the room for 1");
        assert_eq!(note(1, 3).unwrap(), "3 ranks of 1 core each share the room for 2");
        assert_eq!(note(1, 2), None);
    }

    #[test]
    fn a_list_is_followed_in_its_order() {
        let policy = Policy { bind: Bind::Each(vec![3, 1]), ..Policy::default() };
        assert_eq!(placed(1, 2, policy, 3), [[3], [1], [3]]);
    }
}
