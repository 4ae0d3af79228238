//! Output in whole lines, input for rank 0.

use crate::harness::{line, shmrun};

/// Checks that `text` holds the lines 0 to `lines` of each rank, whole and in order, each with its rank's tag.
fn check_lines(text: &str, ranks: usize, lines: usize) {
    let mut next = vec![0; ranks];
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [tag, "rank", rank, "line", number, "end"] = words[..] else { panic!("broken line: {line:?}") };
        assert_eq!(tag, format!("[{rank}]"));
        let expected = &mut next[rank.parse::<usize>().unwrap()];
        assert_eq!(number.parse::<usize>().unwrap(), *expected, "line of rank {rank} is missing");
        *expected += 1;
    }
    assert_eq!(next, vec![lines; ranks]);
}

#[test]
fn sixteen_ranks_with_100_000_lines_each_lose_tear_and_mistag_none() {
    let run = line("-n 16 --tag misbehave lines=100000").run().code(0).silent();
    check_lines(&run.stdout, 16, 100_000);
}

/// Buffered by a C library, in full blocks that end anywhere.
#[test]
fn blocks_of_a_c_library_are_put_together_to_lines() {
    let script = "seq -f \"rank $SHMRUN_RANK line %.0f end\" 0 19999";
    let run = shmrun(["-n", "8", "--tag-output", "sh", "-c", script]).run().code(0).silent();
    check_lines(&run.stdout, 8, 20_000);
}

#[test]
fn a_killed_rank_loses_nothing_of_what_it_has_written() {
    let run = line("-n 4 -l --only 2 misbehave 2:lines=100000 2:kill=9 sleep=60000").run().code(137);
    assert_eq!(run.stdout.lines().count(), 100_000);
    assert!(run.stdout.ends_with("[2] rank 2 line 99999 end\n"));
}

/// The others are stopped in the middle of theirs; what comes out is whole lines of theirs, in order, from the first.
#[test]
fn an_aborting_rank_loses_nothing_of_what_it_has_written() {
    let run = line("-n 4 -l misbehave init lines=20000 2:abort=7 hang").run().code(7).says("rank 2 aborted");
    let of_rank =
        |rank: usize| run.stdout.lines().filter(move |line| line.starts_with(&format!("[{rank}] ")));
    for (number, line) in of_rank(2).enumerate() {
        assert_eq!(line, format!("[2] rank 2 line {number} end"));
    }
    assert_eq!(of_rank(2).count(), 20_000);
    for rank in [0, 1, 3] {
        let lines: Vec<&str> = of_rank(rank).collect();
        let (last, whole) = lines.split_last().map_or(("", &[][..]), |(last, whole)| (*last, whole));
        assert!(
            whole
                .iter()
                .enumerate()
                .all(|(number, line)| *line == format!("[{rank}] rank {rank} line {number} end"))
        );
        let expected = format!("[{rank}] rank {rank} line {} end", whole.len());
        assert!(expected.starts_with(last), "{last:?} is torn otherwise than by the death of its rank");
    }
    assert!(run.stdout.lines().all(|line| line.starts_with('[')), "every line has its tag");
}

#[test]
fn output_of_a_failing_rank_arrives() {
    let script = "seq 1 20000; printf 'last words'; exit 3";
    let run = shmrun(["-n", "1", "sh", "-c", script]).run().code(3);
    let expected: String = (1..=20000).map(|number| format!("{number}\n")).collect();
    run.check(run.stdout == expected + "last words", "all lines and the last one without end");
}

#[test]
fn the_streams_stay_apart() {
    shmrun(["-n", "1", "sh", "-c", "echo out; echo err >&2"]).run().code(0).stdout("out\n").says("err\n");
}

#[test]
fn bytes_pass_unchanged_through_one_rank() {
    let input: Vec<u8> = (0..3_000_000u32)
        .map(|i| b"abcdefgh\n  \txyz"[(i.wrapping_mul(2654435761) >> 8) as usize % 15])
        .collect();
    let run = shmrun(["-n", "1", "cat"]).input(input.clone()).run().code(0);
    run.check(run.stdout.as_bytes() == input, "the input");
}

#[test]
fn rank_0_reads_the_input_and_the_others_find_it_empty() {
    let run = shmrun(["-n", "3", "sh", "-c", "echo $SHMRUN_RANK: $(cat)"]).input("hello\n").run().code(0);
    assert_eq!(run.sorted_lines(), ["0: hello", "1:", "2:"]);
}

#[test]
fn a_prompt_is_seen_before_its_line_ends() {
    let mut run =
        shmrun(["-n", "2", "sh", "-c", "[ $SHMRUN_RANK = 1 ] && exit; printf 'name? '; sleep 60"]).start();
    run.await_output("name? ", 1);
    run.signal(rustix::process::Signal::TERM);
    run.finish().code(143).stdout("name? ");
}

#[test]
fn a_closed_output_ends_the_job_quietly() {
    let words = shmrun(["-n", "4", "yes"]).words().join(" ");
    let script = format!("({words}; echo code $? >&2) | head -n 2");
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "y\ny\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "code 141\n");
}

#[test]
fn a_full_device_is_said() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let words = shmrun(["-n", "2", "echo", "hello"]).words();
    let output = std::process::Command::new(&words[0]).args(&words[1..]).stdout(full).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("cannot write the output"), "{stderr}");
}

/// A reader that pauses holds the ranks back and loses nothing.
#[test]
fn a_slow_reader_gets_everything() {
    let words = shmrun(["-n", "2", "seq", "1", "300000"]).words().join(" ");
    let script = format!(
        "{words} | (sleep 1; sort -n | uniq -c | awk '$1 != 2 {{ bad++ }} END {{ print NR, bad + 0 }}')"
    );
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "300000 0\n", "{output:?}");
}

#[test]
fn a_process_that_keeps_the_output_open_does_not_keep_the_job() {
    let script = "echo done; setsid sleep 3 & exit 0";
    let mut run = shmrun(["-n", "1", "sh", "-c", script]).start();
    let status = run.child.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    run.finish().code(0).stdout("done\n");
}

/// What lies in the pipes when the last rank ends is written, however long that takes.
#[test]
fn a_reader_that_comes_late_gets_everything() {
    let words = shmrun(["-n", "4", "seq", "1", "30000"]).words().join(" ");
    let script = format!("{words} | (sleep 2; wc -l)");
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "120000", "{output:?}");
}

#[test]
fn nothing_but_the_programs_bytes_comes_out() {
    let run =
        shmrun(["-n", "1", "--color", "always", "printf", r"a\0\033[1mb\r\n\377"]).run().code(0).silent();
    assert_eq!(run.stdout_bytes, b"a\0\x1b[1mb\r\n\xff");
}
