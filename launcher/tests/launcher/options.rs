//! What options do, seen from outside: numbers, programs, directories, variables, machines, notes.

use crate::harness::{line, shmrun};

/// Prints a line of the shell words `text` for each rank.
fn echo(options: &str, text: &str) -> crate::harness::Shmrun {
    let words = options.split_whitespace().map(str::to_owned);
    shmrun(words.chain(["sh", "-c", &format!("echo {text}")].map(str::to_owned)))
}

#[test]
fn the_number_of_ranks_has_many_spellings() {
    for options in [
        "-n 3",
        "-np 3",
        "--np 3",
        "--np=3",
        "-n3",
        "--ntasks 3",
        "-ntasks=3",
        "--nproc-per-node 3",
        "-N 3",
        "-ppn 3",
    ] {
        let run = echo(options, "$SHMRUN_SIZE").run().code(0).silent();
        assert_eq!(run.stdout, "3\n3\n3\n", "{options}");
    }
    let available = ranks::launch::available_cores();
    for options in ["", "-n auto", "--nproc_per_node=cpu"] {
        let run = echo(options, "x").run().code(0);
        assert_eq!(run.stdout.lines().count(), available, "{options}");
    }
}

#[test]
fn options_of_other_launchers_are_noted_once_and_have_no_effect() {
    let options = "--mca btl self,vader --allow-run-as-root --oversubscribe -np 2 --map-by :OVERSUBSCRIBE";
    let run = echo(options, "ran").run().code(0).stdout("ran\nran\n");
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    for told in ["note: without effect", "--mca btl self,vader", "--allow-run-as-root", "--oversubscribe"] {
        run.check(run.stderr.contains(told), told);
    }
    echo(&format!("-q {options}"), "ran").run().code(0).stdout("ran\nran\n").silent();
}

#[test]
fn unknown_options_are_never_passed_to_the_program() {
    let runs = [
        ("--bind-too core echo x", "--bind-to"),
        ("-bindto core echo x", "--bind-to"),
        ("-n 2 --unknown-thing echo x", "--unknown-thing"),
        ("-c 4 echo x", "--cpus-per-rank"),
        ("-n 2 -z echo x", "'-z'"),
        ("-n 1 echo x : -n 1 --zzz echo", "'--zzz'"),
        ("-n 1 echo x : -z echo", "write '--' before the program"),
        ("--xml echo x", "refused"),
        ("--multi-prog f", "--app FILE"),
        ("-n", "--np"),
        ("-n --tag echo", "--np"),
    ];
    for (arguments, message) in runs {
        line(arguments).run().code(125).stdout("").says(message);
    }
}

#[test]
fn several_programs_are_one_job() {
    let run =
        shmrun(["-n", "1", "echo", "a", ":", "-np", "2", "sh", "-c", "echo b $SHMRUN_RANK of $SHMRUN_SIZE"])
            .run();
    let run = run.code(0).silent();
    assert_eq!(run.sorted_lines(), ["a", "b 1 of 3", "b 2 of 3"]);
    let run = line("-n 1 misbehave init size barrier : -n 2 misbehave init barrier size").run().code(0);
    run.stdout(&"size 3\n".repeat(3));
    // Behind the separator a colon is the program's.
    line("-n 1 -- echo a : b").run().code(0).stdout("a : b\n");
    line("-n 1 echo a: b").run().code(0).stdout("a: b\n");
    line("-n 1 echo a : echo b").run().code(125).says("-n N before echo");
    line("-n 1 echo a : -n 1 --tag echo b").run().code(125).says("before the first program");
}

#[test]
fn programs_come_from_a_file() {
    let programs = "# a job\n-n 1 echo 'a  b'\n\n-np 2 -x WHO=me sh -c 'echo $WHO $EACH $SHMRUN_RANK'\n";
    let run = shmrun(["-x", "EACH=all", "--app", "job"]).file("job", programs, 0o644).run().code(0);
    assert_eq!(run.sorted_lines(), ["a  b", "me all 1", "me all 2"]);
    shmrun(["--app", "job"])
        .file("job", "-n 2 'echo\n", 0o644)
        .run()
        .code(125)
        .says("line 1")
        .says("not closed");
    shmrun(["--app", "job"]).file("job", "\n-n 2 --zz echo\n", 0o644).run().code(125).says("line 2 of job");
    shmrun(["--app", "job"]).file("job", "\n", 0o644).run().code(125).says("no program");
    line("--app no-such-file").run().code(125).says("no-such-file");
    line("--app file echo").run().code(125).says("--app");
}

#[test]
fn a_rank_works_where_it_is_told_to() {
    for option in ["--wdir", "-wdir", "--wd", "-C", "--chdir", "-D"] {
        let run = shmrun(["-n", "1", option, "/", "pwd"]).run().code(0);
        assert_eq!(run.stdout, "/\n", "{option}");
    }
    let run = line("-n 1 --wdir / pwd : -n 1 -C /usr pwd : -n 1 pwd").run().code(0);
    assert_eq!(run.sorted_lines(), ["/", "/", "/usr"]);
    line("-n 1 --wdir /usr bin/true").run().code(0).silent();
    line("-n 2 --wdir /no/such/place true").run().code(125).says("/no/such/place").says("--wdir");
    line("-n 1 --wdir /usr ./no-such-program").run().code(127);
}

#[test]
fn variables_are_set_and_passed_on() {
    let runs = [
        ("-x A=1", "1"),
        ("-x A=a=b", "a=b"),
        ("-x A=", ""),
        ("-genv A 2", "2"),
        ("-genv A=2", "2"),
        ("--env A -3", "-3"),
        ("--export=ALL,A=4", "4"),
        ("--export A=5", "5"),
    ];
    for (options, value) in runs {
        let run = echo(&format!("-n 1 {options}"), "$A").run().code(0).silent();
        assert_eq!(run.stdout, format!("{value}\n"), "{options}");
    }
    let run = echo("-n 1 -x A=1 -x B=2 -genv C 3", "$A$B$C").run().code(0);
    run.stdout("123\n");
    echo("-n 1 -x NO_SUCH_VARIABLE", "x").run().code(0).says("NO_SUCH_VARIABLE is not set");
    line("-n 1 -x =1 true").run().code(125).says("name");
}

#[test]
fn an_environment_can_be_cleared() {
    let kept = |options: &str| {
        let run = echo(&format!("-n 1 {options}"), "[$KEPT] [$OTHER] $SHMRUN_RANK");
        run.env("KEPT", "k").env("OTHER", "o").run().code(0).silent().stdout
    };
    assert_eq!(kept(""), "[k] [o] 0\n");
    assert_eq!(kept("--env-clear"), "[] [] 0\n");
    assert_eq!(kept("-genvnone -x KEPT"), "[k] [] 0\n");
    assert_eq!(kept("--export=NONE"), "[] [] 0\n");
    assert_eq!(kept("--export=KEPT"), "[k] [] 0\n");
    assert_eq!(kept("-genvlist KEPT,OTHER"), "[k] [o] 0\n");
    assert_eq!(kept("--export=ALL,OTHER=x"), "[k] [x] 0\n");
    // A job with a bare environment is a job all the same.
    line("-n 2 --env-clear misbehave init size barrier").run().code(0).stdout("size 2\nsize 2\n");
}

#[test]
fn variables_of_one_program_stay_with_it() {
    let script = "echo $SHMRUN_RANK $A $B $C";
    let first = ["-n", "1", "-x", "A=1", "-env", "B", "2", "sh", "-c", script];
    let second = [":", "-n", "1", "-env", "C", "3", "sh", "-c", script];
    let run = shmrun(first.into_iter().chain(second)).run().code(0);
    assert_eq!(run.sorted_lines(), ["0 1 2", "1 1 3"]);
}

#[test]
fn other_launchers_variables_are_set_on_request() {
    let runs = [
        ("ompi", "$OMPI_COMM_WORLD_RANK/$OMPI_COMM_WORLD_SIZE/$OMPI_COMM_WORLD_LOCAL_RANK", "1/2/1"),
        ("pmi", "$PMI_RANK/$PMI_SIZE/$MPI_LOCALRANKID", "1/2/1"),
        ("slurm", "$SLURM_PROCID/$SLURM_NTASKS/$SLURM_LOCALID", "1/2/1"),
        ("torch", "$RANK/$WORLD_SIZE/$LOCAL_RANK/$MASTER_ADDR:$MASTER_PORT", "1/2/1/127.0.0.1:29500"),
        ("torch --master-port 4", "$MASTER_PORT", "4"),
        ("ompi,pmi", "$OMPI_COMM_WORLD_RANK$PMI_RANK", "11"),
        ("none", "[$OMPI_COMM_WORLD_RANK$PMI_RANK$SLURM_PROCID$RANK]", "[]"),
    ];
    for (whose, text, expected) in runs {
        let run = echo(&format!("-n 2 --env-compat {whose}"), text).run().code(0).silent();
        run.check(run.stdout.lines().any(|line| line == expected), expected);
    }
    line("-n 1 --env-compat hat true").run().code(125).says("'hat'").says("slurm");
}

#[test]
fn ranks_are_told_how_many_threads_they_are_good_for() {
    let told = |options: &str, set: &str| {
        let run = echo(options, "$OMP_NUM_THREADS $RAYON_NUM_THREADS");
        let run = if set.is_empty() { run } else { run.env("OMP_NUM_THREADS", set) };
        run.run().code(0).silent().stdout.lines().next().unwrap_or_default().to_owned()
    };
    let available = ranks::launch::available_cores();
    assert_eq!(told("-n 1", ""), format!("{available} {available}"));
    assert_eq!(told(&format!("-n {}", 4 * available), ""), "1 1");
    assert_eq!(told("-n 1", "7"), format!("7 {available}"));
    assert_eq!(told("-n 1 --threads 3", "7"), "3 3");
    assert_eq!(told("-n 1 --threads keep", ""), "");
    assert_eq!(told("-n 1 --threads keep", "7"), "7");
    assert_eq!(told("-n 1 -x OMP_NUM_THREADS=5", "7"), format!("5 {available}"));
    line("-n 1 --threads none true").run().code(125).says("--threads");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn ranks_that_share_processors_are_not_registered_for_restartable_sequences() {
    let told = |options: &str, set: &str| {
        echo(options, "[$GLIBC_TUNABLES]")
            .env("GLIBC_TUNABLES", set)
            .run()
            .code(0)
            .silent()
            .stdout
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let shared = format!("-n {}", ranks::launch::available_cores() + 1);
    assert_eq!(told("-n 1", ""), "[]");
    assert_eq!(told(&shared, ""), "[glibc.pthread.rseq=0]");
    assert_eq!(told(&shared, "glibc.pthread.rseq=1"), "[glibc.pthread.rseq=1]");
    let own = format!("{shared} -x GLIBC_TUNABLES=glibc.malloc.check=3");
    assert_eq!(told(&own, "glibc.pthread.rseq=1"), "[glibc.malloc.check=3:glibc.pthread.rseq=0]");
    assert_eq!(told(&format!("{shared} -x GLIBC_TUNABLES="), ""), "[]");
    assert_eq!(told(&format!("{shared} --env-clear"), "glibc.malloc.check=3"), "[glibc.pthread.rseq=0]");
}

#[test]
fn machines_are_accepted_when_they_are_this_one() {
    let here = rustix::system::uname().nodename().to_string_lossy().into_owned();
    for options in [
        "-H localhost".to_owned(),
        "-host localhost:4,127.0.0.1".to_owned(),
        format!("--host {here}"),
        format!("-w {here}"),
        "--nnodes 1".to_owned(),
        "-N 1".to_owned(),
        "--npernode 2".to_owned(),
        "--nodes=1 --ntasks-per-node=2".to_owned(),
        "--standalone --master-addr localhost".to_owned(),
        "--hostfile hosts".to_owned(),
        "-f hosts".to_owned(),
    ] {
        let run =
            echo(&format!("-n 2 {options}"), "x").file("hosts", "# mine\nlocalhost slots=2\n", 0o644).run();
        run.code(0).stdout("x\nx\n");
    }
    for (options, message) in [
        ("-H elsewhere.example.org", "elsewhere.example.org is not this machine"),
        ("--nnodes 2", "2 machines"),
        ("-N 2", "2 on each machine"),
        ("--hostfile hosts", "elsewhere is not this machine"),
        ("--hostfile no-such-file", "no-such-file"),
        ("--node-rank 1", "machine 1"),
    ] {
        let run = echo(&format!("-n 4 {options}"), "x").file("hosts", "elsewhere\n", 0o644).run();
        let run = run.code(125).stdout("").says(message);
        run.check(run.stderr.contains("one machine only") || options.contains("no-such"), "the reason");
    }
}

#[test]
fn a_dry_run_says_what_would_run_and_runs_nothing() {
    line("-n 2 --dry-run echo ran").run().code(0).stdout("").says("rank").says("processors");
    line("-n 2 --do-not-launch --display map echo ran").run().code(0).stdout("").says("processors");
    let run = line("--test-only -n 1 -C / echo a : -n 2 echo b").run().code(0).stdout("");
    run.says("  0: in /: echo a\n  1-2: in /: echo b\n");
}

#[test]
fn verbose_tells_what_is_done() {
    line("-n 2 -v true").run().code(0).says("segment: ").says("rank 1: process ").says("processors");
}

#[test]
fn the_version_is_told() {
    for option in ["-V", "--version", "-version"] {
        let run = line(option).run().code(0).silent();
        assert_eq!(run.stdout, format!("shmrun {}\n", env!("CARGO_PKG_VERSION")), "{option}");
    }
}
