//! A real terminal: a pseudo-terminal driven by Python's `pty`, with a shell that has job control.

use std::process::Command;

use crate::harness::{misbehave, shmrun};

/// Runs `driver.py` with the command line of a run; the driver prints what went wrong, or `fine`.
fn drive(scene: &str, words: &[String]) {
    let driver = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/launcher/driver.py");
    let output = match Command::new("python3").arg(driver).arg(scene).args(words).output() {
        Ok(output) => output,
        Err(error) => return eprintln!("SKIPPED: no python3: {error}"),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.ends_with("fine\n"),
        "{scene}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn rank_0_reads_a_line_after_its_prompt() {
    let script = "[ $SHMRUN_RANK = 0 ] || exit 0; printf 'name? '; read name; echo \"hello $name\"";
    drive("read", &shmrun(["-n", "2", "sh", "-c", script]).words());
}

#[test]
fn ctrl_c_arrives_exactly_once() {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/launcher/interrupts.py");
    drive("interrupt", &shmrun(["-n", "4", "python3", program]).words());
}

#[test]
fn ctrl_z_and_fg_work() {
    let script = "echo ready; read line; echo \"got $line\"";
    drive("stop", &shmrun(["-n", "1", "sh", "-c", script]).words());
}

#[test]
fn ctrl_z_while_ranks_are_being_started_does_not_hang() {
    // Rank 0 says on the terminal itself that it runs: output is forwarded when all have been started.
    let script = "[ $SHMRUN_RANK = 0 ] && echo ready >/dev/tty; sleep 0.1";
    drive("stop_early", &shmrun(["-n", "64", "sh", "-c", script]).words());
}

#[test]
fn the_shell_is_usable_after_kill_9() {
    let script = "echo ready $$; sleep 600; true";
    drive("kill", &shmrun(["-n", "2", "sh", "-c", script]).words());
}

#[test]
fn labels_have_colors_on_a_terminal_unless_no_color_is_set() {
    drive("color", &shmrun(["-n", "1", "--tag", "echo", "colored"]).words());
}

#[test]
fn a_job_in_the_background_is_not_stopped() {
    drive("background", &shmrun(["-n", "2", "sh", "-c", "sleep 0.3; echo done"]).words());
}

#[test]
fn type_ahead_is_left_to_the_shell() {
    let script = "echo ready; sleep 0.5; echo done";
    drive("type_ahead", &shmrun(["-n", "1", "sh", "-c", script]).words());
}

#[test]
fn ctrl_c_in_a_debugger_is_the_debuggers() {
    if std::process::Command::new("gdb").arg("--version").output().is_err() {
        return eprintln!("SKIPPED: no gdb");
    }
    drive("debug", &shmrun(["-n", "2", "--debug", "1", misbehave(), "init", "ready", "hang"]).words());
}

#[test]
fn top_shows_a_job_until_one_leaves_or_it_ends() {
    drive("top", &shmrun(["-n", "2", misbehave(), "init", "ready", "0:sleep=60000", "hang"]).words());
}

#[test]
fn top_can_be_stopped_and_continued() {
    drive("top_stop", &shmrun(["-n", "2", misbehave(), "init", "ready", "0:sleep=60000", "hang"]).words());
}

#[test]
fn a_view_ends_when_its_terminal_is_closed() {
    drive("closed", &shmrun(["-n", "2", misbehave(), "init", "ready", "0:sleep=60000", "hang"]).words());
}
