//! Two users on one machine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::harness::{line, misbehave};

/// The programs where every user may execute them: the checkout may be in a home directory.
struct Programs {
    directory: PathBuf,
}

impl Programs {
    fn copy() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let directory = std::env::temp_dir().join(format!("shmrun-users-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let shmrun = line("").words().remove(0);
        for (program, name) in [(shmrun.as_str(), "shmrun"), (misbehave(), "misbehave")] {
            std::fs::copy(program, directory.join(name)).unwrap();
        }
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).unwrap();
        Self { directory }
    }

    /// A job of four ranks that use every lane, as this user or as `nobody`.
    fn start(&self, as_nobody: bool) -> Child {
        let mut command = match as_nobody {
            false => Command::new(self.path("shmrun")),
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
                command.arg(self.path("shmrun"));
                command
            }
        };
        let actions = "init size barrier exchange=100 exchange=3000000 barrier finalize";
        command.args(["-n", "4"]).arg(self.path("misbehave")).args(actions.split(' '));
        command.current_dir("/").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(&self.directory).join(name)
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn two_users_run_two_jobs_each_at_the_same_time() {
    let probe = Command::new("setpriv").args(["--reuid", "65534", "--clear-groups", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return eprintln!("SKIPPED: this user may not become another one");
    }
    let programs = Programs::copy();
    for _ in 0..5 {
        let jobs = [false, true, false, true].map(|as_nobody| programs.start(as_nobody));
        for job in jobs {
            let output = job.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            assert_eq!(String::from_utf8_lossy(&output.stdout), "size 4\n".repeat(4), "{output:?}");
        }
    }
}

/// Another user's jobs are neither shown nor ended: their environment cannot be read.
#[test]
fn another_users_jobs_are_left_alone() {
    let programs =
        Programs { directory: std::env::temp_dir().join(format!("shmrun-others-{}", std::process::id())) };
    std::fs::create_dir_all(&programs.directory).unwrap();
    let shmrun = line("").words().remove(0);
    std::fs::copy(shmrun, programs.path("shmrun")).unwrap();
    let mut job = Command::new(programs.path("shmrun"))
        .args(["-n", "1", "sh", "-c", "echo ready; read line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(job.stdout.as_mut().unwrap(), &mut ready).unwrap();
    for tool in ["ps", "clean"] {
        let output = Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(programs.path("shmrun"))
            .arg(tool)
            .current_dir("/")
            .output();
        let Ok(output) = output.map(|output| (output.status.success(), output.stdout)) else { break };
        if !output.0 {
            eprintln!("SKIPPED: this user may not become another one");
            break;
        }
        let text = String::from_utf8_lossy(&output.1).into_owned();
        assert!(!text.contains(&job.id().to_string()), "{tool}: {text}");
    }
    drop(job.stdin.take());
    assert_eq!(job.wait().unwrap().code(), Some(1), "the rank reads the end of its input");
}
