//! Options of other launchers that have no effect here, or that cannot mean anything.

/// What becomes of such an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Foreign {
    /// Left out, with the words of its values; a note says so.
    Ignored { words: usize, why: &'static str },
    /// Asks for what is done in any case: nothing has to be said.
    Granted,
    /// An error.
    Refused { help: &'static str },
}

const OPEN_MPI: &str = "a setting inside Open MPI";
const ANY_NUMBER: &str = "more ranks than processors are always allowed";
const KILL: &str = "a job ends with its first failure, unless --on-failure=continue says otherwise";
const PROCESSES: &str = "ranks are processes of this machine";

/// Names without dashes, number of values, reason.
const IGNORED: &[(&[&str], usize, &str)] = &[
    (&["mca", "omca", "gmca", "pmca", "prtemca", "pmixmca", "gpmixmca"], 2, OPEN_MPI),
    (&["tune", "am", "personality"], 1, OPEN_MPI),
    (&["prefix", "app-prefix", "path"], 1, "nothing has to be found on other machines"),
    (&["noprefix", "enable-orterun-prefix-by-default"], 0, "nothing has to be found on other machines"),
    (&["allow-run-as-root"], 0, "any user may run jobs"),
    (&["oversubscribe", "overcommit"], 0, ANY_NUMBER),
    (&["use-hwthread-cpus"], 0, "hardware threads count as processors"),
    (&["hint"], 1, "hardware threads count as processors"),
    (&["distribution"], 1, "--map-by says over what the ranks go in turn"),
    (&["signals-to-handle"], 1, "all signals are passed on"),
    (&["rank-by"], 1, "ranks are numbered in the order in which they are mapped"),
    (
        &["get-stack-traces"],
        0,
        "at the time limit the call of each rank is told, with its line, instead of stacks",
    ),
    (&["standalone", "disable-hostname-propagation"], 0, PROCESSES),
    (
        &["launcher", "bootstrap", "launcher-exec", "bootstrap-exec", "rmk", "iface", "usize", "mpi"],
        1,
        PROCESSES,
    ),
    (&["genvall", "envall"], 0, "the environment is inherited"),
    (&["kill-on-bad-exit"], 0, KILL),
];

/// Single letters.
const IGNORED_LETTERS: &[(char, usize, &str)] =
    &[('O', 0, ANY_NUMBER), ('m', 1, "--map-by says over what the ranks go in turn"), ('K', 0, KILL)];

/// What they ask for is done in any case.
const GRANTED: &[&str] = &["report-state-on-timeout"];

const REFUSED: &[(&[&str], &str)] = &[
    (
        &["multi-prog"],
        "write several programs as -n 1 ./a : -n 3 ./b, or one per line of a file for --app FILE",
    ),
    (
        &["dvm", "dvm-uri", "hnp", "ompi-server", "report-uri", "nameserver", "server-file", "xml"],
        "there is no daemon to talk to: every job is for itself",
    ),
    (
        &["rankfile", "rf"],
        "choose processors with --bind-to, --map-by and --cpu-set, and see --report-bindings",
    ),
    (
        &["rdzv-backend", "rdzv-endpoint", "rdzv-id", "rdzv-conf"],
        "ranks find each other without a rendezvous",
    ),
    (&["gdb", "tv", "ddd"], "write --debug R to run rank R under a debugger"),
    (&["gtool"], "write --wrap 'CMD' --ranks 0,3-5"),
    (&["xterm"], "write --debug R to give rank R the terminal, or --wrap 'xterm -e' --ranks R"),
    (&["pty"], "rank 0 reads the terminal itself; -u gives the ranks pseudo-terminals for their output"),
    (&["redirects"], "write --output DIR/%r.out --error DIR/%r.err, and --tee to see the output as well"),
    (&["numa-binding"], "write --bind-to numa, socket, l3cache or core"),
    (
        &["signal"],
        "no signal announces the time limit: at its end ranks get SIGTERM, and SIGKILL after --grace",
    ),
    (&["info"], "see shmrun --version, and shmrun doctor for what of this machine matters"),
    (&["wait"], "a job ends with its last rank, or with the first that fails; --timeout limits its time"),
];

const REFUSED_LETTERS: &[(char, &str)] = &[
    (
        'c',
        "it means the number of ranks to mpirun, and the processors of each rank to srun: write -n N for ranks, \
         --cpus-per-rank N for processors",
    ),
    ('r', "write --output DIR/%r.out --error DIR/%r.err, and --tee to see the output as well"),
    ('W', "a job ends with its last rank, or with the first that fails; --timeout limits its time"),
];

/// What becomes of the option `name`, written with two dashes or one.
pub(super) fn find(name: &str, double: bool) -> Option<Foreign> {
    let mut letters = name.chars();
    if let (Some(letter), None, false) = (letters.next(), letters.next(), double) {
        let ignored = IGNORED_LETTERS.iter().find(|(known, ..)| *known == letter);
        let refused = REFUSED_LETTERS.iter().find(|(known, _)| *known == letter);
        return ignored
            .map(|&(_, words, why)| Foreign::Ignored { words, why })
            .or(refused.map(|&(_, help)| Foreign::Refused { help }));
    }
    if GRANTED.contains(&name) {
        return Some(Foreign::Granted);
    }
    let ignored = IGNORED.iter().find(|(names, ..)| names.contains(&name));
    let refused = REFUSED.iter().find(|(names, _)| names.contains(&name));
    ignored
        .map(|&(_, words, why)| Foreign::Ignored { words, why })
        .or(refused.map(|&(_, help)| Foreign::Refused { help }))
}

/// The long names, for finding the nearest one.
pub(super) fn names<'n>() -> impl Iterator<Item = &'n str> {
    let ignored = IGNORED.iter().flat_map(|(names, ..)| names.iter());
    ignored.chain(GRANTED).chain(REFUSED.iter().flat_map(|(names, _)| names.iter())).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_in_one_table_once() {
        let mut all: Vec<&str> = names().collect();
        all.sort_unstable();
        let number = all.len();
        all.dedup();
        assert_eq!(all.len(), number);
    }

    #[test]
    fn letters_have_one_dash() {
        assert!(matches!(find("c", false), Some(Foreign::Refused { .. })));
        assert_eq!(find("c", true), None);
        assert!(matches!(find("mca", false), Some(Foreign::Ignored { words: 2, .. })));
        assert_eq!(find("no-such-option", true), None);
    }
}
