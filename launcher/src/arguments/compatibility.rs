//! Every option of the other launchers that scripts use, in every spelling, and what becomes of it here.
//!
//! One table per subject. Nothing is started: what the options do is tested from outside (`tests/launcher`).

use std::ffi::OsString;

use ranks::OnFailure;

use super::decide::Job;
use super::{Request, Shmrun};

/// What becomes of a command line.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    /// It is understood, and nothing is said.
    Understood,
    /// It runs, and a note contains this.
    Noted(&'static str),
    /// It is an error whose text contains this.
    Refused(&'static str),
}
use Outcome::{Noted, Refused, Understood};

fn read(line: &str) -> anyhow::Result<Job> {
    let words = std::iter::once("shmrun").chain(line.split(' ').filter(|word| !word.is_empty()));
    match Shmrun::read(&words.map(OsString::from).collect::<Vec<_>>())? {
        Request::Job(job) => Ok(*job),
        Request::Tool(..) => panic!("{line} is no job"),
    }
}

/// Checks each line with ` app` behind it.
#[track_caller]
fn check(lines: &[(&str, Outcome)]) {
    for &(options, expected) in lines {
        let line = format!("{options} app");
        match (read(&line), expected) {
            (Ok(job), Understood) => {
                assert_eq!(job.notes, Vec::<String>::new(), "{line}");
                assert_eq!(job.plan.ranks[0].program, "app", "{line}");
            }
            (Ok(job), Noted(part)) => {
                assert!(job.notes.iter().any(|note| note.contains(part)), "{line}: {:?}", job.notes);
                assert_eq!(job.plan.ranks[0].program, "app", "{line}");
            }
            (Err(error), Refused(part)) => {
                assert!(error.to_string().contains(part), "{line}: {part:?} in {error}");
            }
            (Ok(job), Refused(_)) => panic!("{line} was accepted: {:?}", job.notes),
            (Err(error), _) => panic!("{line} was refused: {error}"),
        }
    }
}

#[test]
fn number_of_ranks() {
    for line in [
        "-n 2",
        "-np 2",
        "--np 2",
        "--np=2",
        "-n2",
        "--n 2",
        "--ntasks 2",
        "-ntasks=2",
        "--nproc-per-node 2",
        "--nproc_per_node=2",
    ] {
        assert_eq!(read(&format!("{line} app")).unwrap().plan.ranks.len(), 2, "{line}");
    }
    let available = ranks::launch::available_cores();
    for line in ["", "-n auto", "--nproc-per-node auto", "--nproc_per_node=cpu"] {
        assert_eq!(read(&format!("{line} app")).unwrap().plan.ranks.len(), available, "{line}");
    }
    // The number of ranks to mpirun, the processors of each rank to srun.
    check(&[("-c 2", Refused("-n N")), ("-c2", Refused("--cpus-per-rank")), ("-c=2", Refused("srun"))]);
}

#[test]
fn programs() {
    let job = read("-n 1 app -n 5 --help -- : x").unwrap_err();
    assert!(job.to_string().contains("-n N"), "a colon begins another program: {job}");
    assert_eq!(read("-n 1 -- app -n 5 : x").unwrap().plan.ranks[0].arguments.len(), 4);
    assert_eq!(read("-n 1 a : -n 2 b").unwrap().plan.ranks.len(), 3);
    check(&[
        ("-n 1 --multi-prog FILE", Refused("--app FILE")),
        ("--app FILE", Refused("cannot be used with")),
        ("-configfile FILE", Refused("cannot be used with")),
    ]);
}

#[test]
fn more_ranks_than_processors() {
    check(&[
        ("-n 500", Understood),
        ("-n 500 --oversubscribe", Noted("always allowed")),
        ("-n 500 --map-by :OVERSUBSCRIBE", Understood),
        ("-n 500 -map-by :oversubscribe", Understood),
        ("-n 500 --overcommit", Noted("always allowed")),
        ("-n 500 -O", Noted("always allowed")),
        ("-n 500 --nooversubscribe", Refused("--nooversubscribe")),
        ("-n 500 --map-by core:NOOVERSUBSCRIBE", Refused("500 ranks")),
    ]);
}

#[test]
fn users_and_machines() {
    let here = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert!(read(&format!("-n 2 -host {here}:2 app")).is_ok());
    check(&[
        ("--allow-run-as-root", Noted("any user")),
        ("-N 2", Understood),
        ("--npernode 2", Understood),
        ("-n 2 -N 1", Understood),
        ("-ppn 2", Understood),
        ("-n 2 -perhost 2", Understood),
        ("--ntasks-per-node=2", Understood),
        ("-H localhost", Understood),
        ("--host localhost:8", Understood),
        ("-hosts localhost", Understood),
        ("-w localhost", Understood),
        ("--nodelist=localhost", Understood),
        ("--nnodes 1", Understood),
        ("--nnodes=1:1", Understood),
        ("--nodes 1", Understood),
        ("--master-addr 127.0.0.1 --master-port 29500", Understood),
        ("--node-rank 0", Understood),
        ("--standalone", Noted("this machine")),
        ("-launcher fork", Noted("this machine")),
        ("-bootstrap fork", Noted("this machine")),
        ("-H elsewhere", Refused("one machine only")),
        ("--hostfile no-such-file", Refused("no-such-file")),
        ("-f no-such-file", Refused("no-such-file")),
        ("--nnodes 2", Refused("one machine only")),
        ("-n 4 -N 2", Refused("one machine only")),
        ("--node-rank 1", Refused("one machine only")),
    ]);
}

#[test]
fn environment() {
    check(&[
        ("-x PATH", Understood),
        ("-x A=1", Understood),
        ("-genv A 1", Understood),
        ("-env A 1", Understood),
        ("-genvlist PATH,HOME", Understood),
        ("-envlist PATH", Understood),
        ("-genvnone", Understood),
        ("-envnone", Understood),
        ("-genvall", Noted("inherited")),
        ("-envall", Noted("inherited")),
        ("--export=ALL,A=1", Understood),
        ("--export=NONE", Understood),
        ("--env-clear", Understood),
        ("--env-compat=ompi,pmi,slurm,torch", Understood),
        ("-x NO_SUCH_VARIABLE", Noted("NO_SUCH_VARIABLE")),
        ("--env-compat hat", Refused("torch")),
    ]);
}

#[test]
fn directories() {
    for option in ["--wdir", "-wdir", "--wd", "-C", "-D", "--chdir"] {
        let job = read(&format!("{option} /tmp app")).unwrap();
        assert_eq!(job.plan.ranks[0].directory.as_deref(), Some("/tmp".as_ref()), "{option}");
    }
    check(&[("--prefix /opt", Noted("other machines")), ("--path /opt", Noted("other machines"))]);
}

#[test]
fn marks_on_lines() {
    for option in [
        "-l",
        "--tag",
        "--tag-output",
        "--output tag",
        "--prepend-rank",
        "-prepend-rank",
        "--label",
        "-prepend-pattern %r",
        "--tag-pattern [%t]",
        "--timestamp",
        "--timestamp-output",
        "-prepend-timestamp",
        "--output tag,timestamp",
    ] {
        let job = read(&format!("-n 1 {option} app")).unwrap();
        assert!(!job.plan.ranks[0].stdout.label.is_empty(), "{option}");
    }
}

#[test]
fn files_and_streams() {
    for option in [
        "--output-filename d",
        "--output dir=d",
        "--output file=f",
        "-outfile-pattern f.%r -errfile-pattern e.%r",
        "-o f.%t -e e.%t",
        "--log-dir d",
        "-o f --tee",
    ] {
        let job = read(&format!("-n 1 {option} app")).unwrap();
        assert!(job.plan.ranks[0].stdout.file.is_some(), "{option}");
    }
    for option in ["--merge-stderr", "--merge-stderr-to-stdout", "--output merge"] {
        assert!(read(&format!("-n 1 {option} app")).unwrap().plan.ranks[0].stderr.is_none(), "{option}");
    }
    for option in ["--only 1", "--local-ranks-filter 1"] {
        let job = read(&format!("-n 2 {option} app")).unwrap();
        assert_eq!([0, 1].map(|rank: usize| job.plan.ranks[rank].stdout.shown), [false, true], "{option}");
    }
    for option in ["-u", "--unbuffered"] {
        assert!(read(&format!("{option} app")).unwrap().plan.ranks[0].terminal, "{option}");
    }
    check(&[
        ("-r 3", Refused("--output DIR")),
        ("--redirects 3", Refused("--tee")),
        ("--log-dir d --tee 3", Refused("--output DIR")),
        ("--log-dir d --tee 0:1,1:2", Refused("--output DIR")),
        ("-n 2 --stdin 1", Understood),
        ("--stdin all", Understood),
        ("-stdin none", Understood),
        ("-s all", Understood),
        ("-i none", Understood),
        ("--input=all", Understood),
        ("--pty", Refused("-u")),
    ]);
}

#[test]
fn ends_of_jobs() {
    for option in ["--timeout 90", "--timeout 90s", "-timeout 1:30", "-t 1:30", "--time 1:30"] {
        let timeout = read(&format!("{option} app")).unwrap().plan.limits.timeout;
        assert_eq!(timeout.map(|time| time.as_secs()), Some(90), "{option}");
    }
    for option in ["--on-failure=continue", "--enable-recovery", "--continuous", "-disable-auto-cleanup"] {
        assert_eq!(read(&format!("{option} app")).unwrap().plan.on_failure, OnFailure::Continue, "{option}");
    }
    assert_eq!(read("--on-failure=kill app").unwrap().plan.on_failure, OnFailure::Kill);
    check(&[
        ("--on-failure=hat", Refused("continue")),
        ("--timeout 9 --get-stack-traces", Noted("with its line, instead of stacks")),
        ("--timeout 9 --report-state-on-timeout", Understood),
        ("--grace 5s", Understood),
        ("--max-restarts 3", Understood),
        ("--max_restarts=3", Understood),
        ("-K", Noted("first failure")),
        ("--kill-on-bad-exit", Noted("first failure")),
        ("-W 30", Refused("--timeout")),
        ("--wait 30", Refused("--timeout")),
        ("--signal=USR1@60", Refused("--grace")),
        ("--signals-to-handle SIGTERM", Noted("passed on")),
        ("-print-all-exitcodes", Understood),
        ("--print-all-exitcodes", Understood),
    ]);
}

#[test]
fn placement() {
    check(&[
        ("--bind-to none", Understood),
        ("-bind-to core", Understood),
        ("--bind-to hwthread", Understood),
        ("--bind-to l3cache", Understood),
        ("--bind-to numa", Understood),
        ("--bind-to package", Understood),
        ("--bind-to socket", Understood),
        ("--bind-to core:overload-allowed", Understood),
        ("-bind-to user:0", Understood),
        ("-cpu-bind none", Understood),
        ("--cpu-bind=cores", Understood),
        ("--cpu-bind=threads", Understood),
        ("--cpu-bind=sockets", Understood),
        ("--cpu-bind=ldoms", Understood),
        ("--cpu-bind=rank", Understood),
        ("--cpu-bind=map_cpu:0", Understood),
        ("--numa-binding node", Refused("--bind-to numa")),
        ("--map-by core", Understood),
        ("--map-by numa", Understood),
        ("--map-by socket", Understood),
        ("--map-by slot:PE=1", Understood),
        ("--map-by ppr:1:socket", Noted("ppr:1:socket")),
        ("--rank-by core", Noted("in the order")),
        ("-m block", Noted("--map-by")),
        ("--distribution=cyclic", Noted("--map-by")),
        ("-n 1 --cpus-per-rank 1", Understood),
        ("-n 1 --cpus-per-task=1", Understood),
        ("-n 1 --cpus-per-proc 1", Understood),
        ("--use-hwthread-cpus", Noted("hardware threads")),
        ("--hint=nomultithread", Noted("hardware threads")),
        ("--mem-bind local", Understood),
        ("--mem-bind=interleave", Understood),
        ("-membind local", Understood),
        ("--bind-to hat", Refused("socket")),
        ("--cpu-set 99999", Refused("may use")),
        ("--rankfile f", Refused("--report-bindings")),
    ]);
    let first = ranks::launch::allowed_cores()[0];
    for option in ["--cpu-set", "--cpu-list", "-cpu-list"] {
        assert_eq!(read(&format!("{option} {first} app")).unwrap().plan.ranks.len(), 1, "{option}");
    }
    for option in
        ["--report-bindings", "--display map", "--display-map", "-print-rank-map", "--cpu-bind=verbose"]
    {
        assert!(read(&format!("-n 1 {option} app")).unwrap().table.is_some(), "{option}");
    }
}

#[test]
fn settings_and_debuggers() {
    check(&[
        ("--mca btl self", Noted("inside Open MPI")),
        ("-mca btl self", Noted("inside Open MPI")),
        ("--gmca btl self", Noted("inside Open MPI")),
        ("--tune f", Noted("inside Open MPI")),
        ("--mpi=pmix", Noted("this machine")),
        ("--set direct=off", Understood),
        ("--set hat=1", Refused("direct")),
        ("--xterm 0", Refused("--debug R")),
        ("-gdb", Refused("--debug R")),
        ("-gtool gdb:0", Refused("--wrap")),
    ]);
    let wrapped = |line: &str| {
        read(line).unwrap().plan.ranks.iter().map(|rank| rank.program == "env").collect::<Vec<_>>()
    };
    assert_eq!(wrapped("-n 2 --wrap env app"), [true, true]);
    assert_eq!(wrapped("-n 2 --wrap env --ranks 1 app"), [false, true]);
    assert_eq!(wrapped("-n 2 --wrap env --debug 1 app"), [false, true]);
}

#[test]
fn information() {
    for option in ["-q", "--quiet", "-Q"] {
        let job = read(&format!("{option} --mca a b app")).unwrap();
        assert!(job.notes.is_empty(), "{option}");
    }
    for option in ["-v", "--verbose", "-verbose"] {
        assert!(read(&format!("{option} app")).unwrap().verbose, "{option}");
    }
    for option in ["--dry-run", "--do-not-launch --display map", "--test-only"] {
        assert!(read(&format!("{option} app")).unwrap().dry_run, "{option}");
    }
    check(&[
        ("-V", Refused(env!("CARGO_PKG_VERSION"))),
        ("--version", Refused(env!("CARGO_PKG_VERSION"))),
        ("-version", Refused(env!("CARGO_PKG_VERSION"))),
        ("-h", Refused("Examples:")),
        ("--help", Refused("Examples:")),
        ("-help", Refused("Examples:")),
        ("-info", Refused("doctor")),
        ("--report-pid pid", Understood),
        ("--dvm", Refused("daemon")),
        ("--dvm-uri u", Refused("daemon")),
        ("--xml", Refused("daemon")),
        ("-nameserver n", Refused("daemon")),
        ("--rdzv-backend c10d", Refused("rendezvous")),
        ("--rdzv_endpoint=h:1", Refused("rendezvous")),
    ]);
}

#[test]
fn mistyped_options_get_the_nearest_one() {
    check(&[
        ("--bind-too core", Refused("'--bind-to'")),
        ("-bindto core", Refused("'--bind-to'")),
        ("--oversubscibe", Refused("'--oversubscribe'")),
        ("--timout 3", Refused("'--timeout'")),
        ("-nq 3", Refused("-nq")),
    ]);
}
