//! The placement of the ranks as a table.

use super::topology::Level;
use super::{Machine, Placement, write_list};

/// A line about the machine, and a line per rank or per sequence of ranks with the same processors.
pub(crate) fn table(machine: &Machine, placement: &Placement) -> String {
    let available = ranks::launch::available_cores();
    let quota = match available < machine.topology.by(Level::Hwthread).len() {
        true => format!(", processor time for {available}"),
        false => String::new(),
    };
    let mut text = format!("{}{quota}\n", summary(machine));
    let mut rows = vec![["rank", "processors", "cores", "node"].map(str::to_owned)];
    let mut rank = 0;
    for same in placement.processors.chunk_by(|a, b| a == b) {
        rows.push(row(machine, rank, same.len(), &same[0]));
        rank += same.len();
    }
    let widths = [0, 1, 2, 3].map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    for [rank, processors, cores, node] in &rows {
        let [a, b, c, d] = widths;
        let line = format!("  {rank:>a$}  {processors:<b$}  {cores:>c$}  {node:<d$}");
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// The machine in a line.
pub(crate) fn summary(machine: &Machine) -> String {
    let [processors, cores, packages, nodes] = [Level::Hwthread, Level::Core, Level::Package, Level::Numa]
        .map(|level| machine.topology.by(level).len());
    format!(
        "{} in {}, {}, {}",
        count(processors, "processor"),
        count(cores, "core"),
        count(packages, "socket"),
        count(nodes, "memory node"),
    )
}

fn row(machine: &Machine, first: usize, ranks: usize, processors: &[usize]) -> [String; 4] {
    let rank = match ranks {
        1 => first.to_string(),
        _ => format!("{first}-{}", first + ranks - 1),
    };
    if processors.is_empty() {
        let cores = machine.topology.by(Level::Core).len();
        return [rank, "any (not bound)".to_owned(), cores.to_string(), String::new()];
    }
    let within = |level: Level| {
        let groups = machine.topology.by(level).into_iter();
        groups.filter(|group| group.iter().any(|processor| processors.contains(&processor.number)))
    };
    let nodes: Vec<usize> = within(Level::Numa).map(|group| group[0].node).collect();
    [rank, write_list(processors), within(Level::Core).count().to_string(), write_list(&nodes)]
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::topology::Topology;
    use super::*;

    #[test]
    fn equal_ranks_share_a_line() {
        let topology = Topology::read(Path::new("/no/such/directory"), &[0, 1, 2]);
        let machine = Machine { topology, whole: true };
        let placement = Placement { processors: vec![vec![0, 1], vec![], vec![]], note: None };
        let table = table(&machine, &placement);
        let lines: Vec<&str> = table.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "  rank  processors       cores  node",
                "     0  0-1                  2  0",
                "   1-2  any (not bound)      3"
            ]
        );
        assert!(table.starts_with("3 processors in 3 cores, 1 socket, 1 memory node"), "{table}");
    }
}
