//! Where output goes and how it is marked, and who reads the input.

use std::time::Instant;

use crate::harness::{Finished, Shmrun, line, shmrun};

/// Each rank writes a line to both streams.
fn both(options: &str) -> Shmrun {
    let script = "echo out $SHMRUN_RANK; echo err $SHMRUN_RANK >&2";
    shmrun(options.split_whitespace().chain(["sh", "-c", script]))
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[track_caller]
fn has_files(run: &Finished, expected: &[(&str, &str)]) {
    let files: Vec<(&str, &str)> = run.files.iter().map(|(name, text)| (&**name, &**text)).collect();
    assert_eq!(files, expected);
}

#[test]
fn tags_name_the_rank_and_mark_the_error_output() {
    for option in ["-l", "--tag", "--label", "--tag-output", "-prepend-rank", "--output tag"] {
        let run = both(&format!("-n 2 {option}")).run().code(0);
        assert_eq!(sorted(&run.stdout), ["[0] out 0", "[1] out 1"], "{option}");
        assert_eq!(sorted(&run.stderr), ["[0 err] err 0", "[1 err] err 1"], "{option}");
    }
}

#[test]
fn tags_follow_a_pattern() {
    for option in ["--tag-pattern", "-prepend-pattern"] {
        let run = shmrun(["-n", "2", option, "%3r/%n %s%%: ", "echo", "x"]).run().code(0);
        assert_eq!(sorted(&run.stdout), ["000/2 out%: x", "001/2 out%: x"]);
    }
    line("-n 1 --tag-pattern %q true").run().code(125).says("%q stands for nothing");
}

#[test]
fn lines_begin_with_the_time() {
    let is_time = |text: &str| {
        let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        shape == "0000-00-00T00:00:00.000Z"
    };
    for option in ["--timestamp", "--timestamp-output", "-prepend-timestamp", "--output timestamp"] {
        let run = both(&format!("-n 1 {option}")).run().code(0);
        let (time, rest) = run.stdout.trim_end().split_once(' ').unwrap();
        assert!(is_time(time) && rest == "out 0", "{option}: {}", run.stdout);
    }
    let run = both("-n 1 --timestamp --tag").run().code(0);
    assert_eq!(run.stdout.split_once(' ').unwrap().1, "[0] out 0\n");
    let run = shmrun(["-n", "1", "--tag-pattern", "<%T> ", "echo", "x"]).run().code(0);
    assert!(is_time(run.stdout.strip_prefix('<').unwrap().strip_suffix("> x\n").unwrap()), "{}", run.stdout);
}

#[test]
fn colors_are_for_tags_and_only_where_they_are_wanted() {
    let run = both("-n 2 --tag --color always").run().code(0);
    assert_eq!(sorted(&run.stdout), ["\x1b[33m[1] \x1b[0mout 1", "\x1b[36m[0] \x1b[0mout 0"]);
    let run = both("-n 1 --tag --color never").run().code(0);
    assert_eq!(run.stdout, "[0] out 0\n");
    assert_eq!(both("-n 1 --color always").run().stdout, "out 0\n");
}

#[test]
fn only_some_ranks_are_shown() {
    let run = both("-n 4 --only 1,3").run().code(0);
    assert_eq!(sorted(&run.stdout), ["out 1", "out 3"]);
    assert_eq!(sorted(&run.stderr), ["err 1", "err 3"]);
    let run = both("-n 4 --local-ranks-filter 0-1").run().code(0);
    assert_eq!(sorted(&run.stdout), ["out 0", "out 1"]);
    both("-n 2 --only 2").run().code(125).says("no rank 2 in a job of 2");
    both("-n 2 --only x").run().code(125).says("0,3-5");
    // A failure of a rank that is not shown is told all the same.
    line("-n 2 --only 0 misbehave init 1:panic hang").run().code(101).says("rank 1 panicked");
}

#[test]
fn the_streams_can_be_merged_in_the_order_written() {
    let script = "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done";
    for option in ["--merge-stderr", "--merge-stderr-to-stdout", "--output merge"] {
        let words = ["-n", "1"].into_iter().chain(option.split(' ')).chain(["sh", "-c", script]);
        let run = shmrun(words).run().code(0).silent();
        let expected: String = (1..=5).map(|i| format!("out {i}\nerr {i}\n")).collect();
        assert_eq!(run.stdout, expected, "{option}");
    }
}

#[test]
fn each_rank_has_files_of_its_own() {
    for option in ["--output", "-o", "-outfile-pattern"] {
        let run =
            both(&format!("-n 2 {option} log/%r.out --error log/%t.%s")).run().code(0).stdout("").silent();
        let expected = [
            ("log/0.err", "err 0\n"),
            ("log/0.out", "out 0\n"),
            ("log/1.err", "err 1\n"),
            ("log/1.out", "out 1\n"),
        ];
        has_files(&run, &expected);
    }
    let run = both("-n 1 -o f%2r").run().code(0).stdout("");
    assert_eq!(run.stderr, "err 0\n");
    has_files(&run, &[("f00", "out 0\n")]);
    let run = both("-n 1 -e errors").run().code(0).stdout("out 0\n").silent();
    has_files(&run, &[("errors", "err 0\n")]);
    let run = both("-n 1 -o all --merge-stderr").run().code(0).stdout("").silent();
    has_files(&run, &[("all", "out 0\nerr 0\n")]);
}

#[test]
fn files_can_be_shown_too() {
    let run = both("-n 2 -o %r.out -e %r.err --tee --tag").run().code(0);
    assert_eq!(sorted(&run.stdout), ["[0] out 0", "[1] out 1"]);
    assert_eq!(sorted(&run.stderr), ["[0 err] err 0", "[1 err] err 1"]);
    // The file of one rank holds what it wrote, as it is.
    has_files(
        &run,
        &[("0.err", "err 0\n"), ("0.out", "out 0\n"), ("1.err", "err 1\n"), ("1.out", "out 1\n")],
    );
    let run = both("-n 3 -o %r --tee --only 1").run().code(0);
    assert_eq!(run.stdout, "out 1\n");
    assert_eq!(run.files.len(), 3);
    both("-n 1 --tee").run().code(125).says("--output");
}

#[test]
fn ranks_can_share_a_file_line_by_line() {
    let run = line("-n 8 --tag --output all misbehave lines=2000").run().code(0).stdout("");
    let all = &run.files["all"];
    assert_eq!(all.lines().count(), 16_000);
    for line in all.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [tag, "rank", rank, "line", _, "end"] = words[..] else { panic!("broken line: {line:?}") };
        assert_eq!(tag, format!("[{rank}]"));
    }
    let run = both("-n 1 --tag -o all -e all").run().code(0).stdout("").silent();
    assert_eq!(sorted(&run.files["all"]), ["err 0", "out 0"]);
}

#[test]
fn other_launchers_files_have_other_names() {
    let run = both("-n 1 --output-filename log").run().code(0).stdout("out 0\n");
    has_files(&run, &[("log/1/rank.0/stderr", "err 0\n"), ("log/1/rank.0/stdout", "out 0\n")]);
    let run = both("-n 1 --output-filename log:nocopy").run().code(0).stdout("").silent();
    assert_eq!(run.files.len(), 2);
    let run = both("-n 1 --output dir=log").run().code(0).stdout("out 0\n");
    assert_eq!(run.files.len(), 2);
    let run = both("-n 1 --output file=log:nocopy").run().code(0).stdout("").silent();
    assert_eq!(sorted(&run.files["log.0"]), ["err 0", "out 0"]);
    let run = both("-n 1 --log-dir log").run().code(0).stdout("").silent();
    has_files(&run, &[("log/0/stderr.log", "err 0\n"), ("log/0/stdout.log", "out 0\n")]);
}

#[test]
fn files_that_cannot_be_written_are_named() {
    let run = both("-n 2 -o file/%r").file("file", "", 0o644).run();
    run.code(125).says("file/0").says("--output");
    both("-n 2 -o log/").run().code(125).says("log/%r.out");
    both("-n 2 -o /dev/full --tag").run().code(125).says("/dev/full");
    both("-n 2 -o /dev/null -e /dev/null").run().code(0).stdout("").silent();
}

#[test]
fn a_pseudo_terminal_makes_programs_write_at_once() {
    let program = "import sys, time; print(sys.stdout.isatty()); time.sleep(60)";
    for option in ["-u", "--unbuffered"] {
        let mut run = shmrun(["-n", "2", option, "python3", "-c", program]).start();
        run.await_output("True\n", 2);
        run.signal(rustix::process::Signal::TERM);
        run.finish().code(143).stdout("True\nTrue\n");
    }
    let run = line("-n 4 -u --tag misbehave lines=5000").run().code(0).silent();
    assert_eq!(run.stdout.lines().count(), 20_000);
    let run = shmrun(["-n", "1", "-u", "printf", r"a\r\n\tb\033x"]).run().code(0);
    assert_eq!(run.stdout, "a\r\n\tb\x1bx");
}

/// A time would only be measured by the acceptance script; here, that it does not wait for the line's end.
#[test]
fn a_prompt_appears_while_other_ranks_write() {
    let script = "[ $SHMRUN_RANK = 1 ] && while sleep 0.2; do echo tick; done; printf 'name? '; sleep 60";
    let begin = Instant::now();
    let mut run = shmrun(["-n", "2", "sh", "-c", script]).start();
    run.await_output("name? ", 1);
    assert!(begin.elapsed().as_secs() < 50);
    run.await_output("tick\n", 2);
    run.signal(rustix::process::Signal::TERM);
    run.finish().code(143);
}

#[test]
fn one_rank_reads_the_very_input() {
    for (options, expected) in [
        ("", ["0: hello", "1:", "2:"]),
        ("--stdin 2", ["0:", "1:", "2: hello"]),
        ("-s 1", ["0:", "1: hello", "2:"]),
        ("-stdin none", ["0:", "1:", "2:"]),
        ("-i none", ["0:", "1:", "2:"]),
        ("--input=all", ["0: hello", "1: hello", "2: hello"]),
    ] {
        let words = ["-n", "3"].into_iter().chain(options.split_whitespace());
        let run =
            shmrun(words.chain(["sh", "-c", "echo $SHMRUN_RANK: $(cat)"])).input("hello\n").run().code(0);
        assert_eq!(run.sorted_lines(), expected, "{options}");
    }
    line("-n 2 --stdin 2 true").run().code(125).says("no rank 2 in a job of 2");
    line("-n 2 --stdin some true").run().code(125).says("'some'");
}

#[test]
fn every_rank_gets_all_of_a_long_input() {
    let input: Vec<u8> = (0..10_000_000u32).map(|i| (i.wrapping_mul(2654435761) >> 13) as u8).collect();
    let sum =
        |input: &[u8]| input.iter().fold(0u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let program = "import sys\nsum = 0\nfor byte in sys.stdin.buffer.read():\n    sum = (sum * 31 + byte) % 2**64\nprint(sum)";
    let run =
        shmrun(["-n", "2", "--stdin", "all", "python3", "-c", program]).input(input.clone()).run().code(0);
    assert_eq!(run.stdout, format!("{0}\n{0}\n", sum(&input)));
}

/// Rank 1 does not read, rank 2 ends in the middle: rank 0 gets everything as soon as they are gone.
#[test]
fn a_rank_that_does_not_read_holds_the_input_back_only_while_it_lives() {
    let script = "case $SHMRUN_RANK in 0) wc -c;; 1) sleep 1;; 2) head -c 10 >&2;; esac";
    let run = shmrun(["-n", "3", "-s", "all", "sh", "-c", script]).input(vec![b'x'; 1_000_000]).run().code(0);
    assert_eq!(run.stdout.trim(), "1000000");
}

#[test]
fn ten_megabytes_reach_rank_0_unchanged() {
    let input: Vec<u8> = (0..10_000_000u32).map(|i| (i.wrapping_mul(2654435761) >> 13) as u8).collect();
    let run = shmrun(["-n", "4", "sh", "-c", "[ $SHMRUN_RANK = 0 ] && cat; true"])
        .input(input.clone())
        .run()
        .code(0);
    assert!(run.stdout_bytes == input, "{} bytes", run.stdout_bytes.len());
}

/// Nobody but the rank itself reads: what it leaves is there for the next command.
#[test]
fn the_launcher_eats_no_input() {
    let words =
        shmrun(["-n", "2", "sh", "-c", "[ $SHMRUN_RANK = 0 ] && read line; true"]).words().join("' '");
    let script = format!("printf 'one\\ntwo\\nthree\\n' | ('{words}'; cat)");
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "two\nthree\n", "{output:?}");
}
