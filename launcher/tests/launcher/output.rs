//! Output in whole lines, input for rank 0.

use std::collections::BTreeMap;

use crate::harness::shmrun;

#[test]
fn lines_of_many_ranks_stay_whole_and_none_is_lost() {
    // Written in pieces, so that lines are broken up on their way.
    let script =
        r#"i=0; while [ $i -lt 2000 ]; do printf "rank $SHMRUN_RANK "; echo "line $i end"; i=$((i+1)); done"#;
    let run = shmrun(["-n", "8", "--tag-output", "sh", "-c", script]).run().code(0).silent();
    let mut next = BTreeMap::new();
    for line in run.stdout.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [tag, "rank", rank, "line", number, "end"] = words[..] else { panic!("broken line: {line:?}") };
        assert_eq!(tag, format!("[{rank}]"));
        let expected = next.entry(rank.to_owned()).or_insert(0);
        assert_eq!(number.parse::<u32>().unwrap(), *expected, "line of rank {rank} is missing");
        *expected += 1;
    }
    assert!(next.len() == 8 && next.values().all(|&count| count == 2000), "{next:?}");
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
