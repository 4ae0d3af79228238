//! Containers without a container engine: a root of its own in a mount and pid namespace.

use std::process::{Command, Output};

use crate::harness::{line, misbehave};

/// Makes a read-only root with nothing but the two programs, their libraries, /proc and what `setup` adds below
/// `$root`, and runs `$@` in it with `$enter`.
const CONTAINER: &str = r#"
    set -e
    root=$1; shmrun=$2; misbehave=$3; setup=$4; enter=$5
    shift 5
    mount -t tmpfs -o size=400m tmpfs "$root"
    mkdir -p "$root/proc" "$root/dev" "$root/bin"
    cp "$shmrun" "$root/bin/shmrun"
    cp "$misbehave" "$root/bin/misbehave"
    for library in $(ldd "$shmrun" "$misbehave" | grep -o '/[^ )]*[^ ):]' | sort -u); do
        [ -f "$library" ] && mkdir -p "$root$(dirname "$library")" && cp -L -n "$library" "$root$library"
    done
    mount -t proc proc "$root/proc"
    for device in null urandom; do
        touch "$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    eval "$setup"
    mount -o remount,ro "$root"
    exec $enter "$root" "$@"
"#;

/// As `docker run --read-only`: root inside.
const AS_ROOT: &str = "chroot";
/// As `docker run --read-only --cap-drop ALL --security-opt no-new-privileges --user 65534`.
const AS_NOBODY: &str = "setpriv --no-new-privs --bounding-set=-all,+sys_chroot,+setuid,+setgid chroot --userspec=65534:65534 --groups=65534";

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork"]);
    command
}

/// Runs `shmrun ARGUMENTS` as the first process of a container; `None`, with a word, where that is not allowed.
fn contained(setup: &str, enter: &str, arguments: &str) -> Option<Output> {
    if !unshare().arg("true").output().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: this user may not make mount and pid namespaces");
        return None;
    }
    let root = std::env::temp_dir().join(format!(
        "shmrun-container-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::create_dir_all(&root).unwrap();
    let mut command = unshare();
    command.args(["sh", "-c", CONTAINER, "sh"]).arg(&root).arg(&line("").words()[0]).arg(misbehave());
    command.args([setup, enter, "/bin/shmrun"]);
    command.args(arguments.split(' ').map(|word| if word == "misbehave" { "/bin/misbehave" } else { word }));
    let output = command.env("RUST_BACKTRACE", "0").output().unwrap();
    std::fs::remove_dir(&root).unwrap();
    Some(output)
}

/// Four ranks that use every lane: short and long messages, collectives.
const WORK: &str = "-n 4 -v misbehave init size barrier exchange=100 exchange=3000000 barrier finalize";

#[track_caller]
fn works(output: Option<Output>, said: &str) {
    let Some(output) = output else { return };
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    assert_eq!(stdout, "size 4\n".repeat(4), "{stderr}");
    assert!(stderr.contains(said), "{said:?} in {stderr}");
}

fn shared_memory(size: &str) -> String {
    format!("mkdir \"$root/dev/shm\"; mount -t tmpfs -o size={size},mode=1777 tmpfs \"$root/dev/shm\"")
}

#[test]
fn dev_shm_of_1_mib_is_enough() {
    for enter in [AS_ROOT, AS_NOBODY] {
        works(contained(&shared_memory("1m"), enter, WORK), "anonymous memory");
    }
}

#[test]
fn dev_shm_of_64_mib_is_enough() {
    works(contained(&shared_memory("64m"), AS_NOBODY, WORK), "segment: ");
    // Sixteen ranks could use more than there is.
    let output = contained(&shared_memory("64m"), AS_ROOT, &WORK.replace("-n 4", "-n 16"));
    let Some(output) = output else { return };
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn dev_shm_of_2_gib_is_used() {
    works(contained(&shared_memory("2g"), AS_ROOT, WORK), "in /dev/shm");
}

#[test]
fn without_dev_shm_it_works_too() {
    works(contained("", AS_ROOT, WORK), "anonymous memory");
    works(contained("", AS_NOBODY, WORK), "anonymous memory");
    let read_only = format!("{}; mount -o remount,ro \"$root/dev/shm\"", shared_memory("64m"));
    works(contained(&read_only, AS_ROOT, WORK), "anonymous memory");
}

#[test]
fn failures_are_told_as_elsewhere() {
    let arguments = "-n 4 misbehave init 2:kill=9 hang";
    let Some(output) = contained(&shared_memory("1m"), AS_NOBODY, arguments) else { return };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(137), "{stderr}");
    assert!(stderr.contains("rank 2 was killed by signal 9"), "{stderr}");
}

/// A quota of the second version of control groups, in a file of that name.
#[test]
fn a_quota_counts_as_processors() {
    let quota = |text: &str| {
        format!("mkdir -p \"$root/sys/fs/cgroup\"; echo '{text}' >\"$root/sys/fs/cgroup/cpu.max\"")
    };
    let ranks = |text: &str| {
        let output = contained(&quota(text), AS_ROOT, "misbehave ready")?;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        Some(String::from_utf8_lossy(&output.stdout).matches("ready").count())
    };
    let Some(unlimited) = ranks("max 100000") else { return };
    assert_eq!(unlimited, ranks::launch::allowed_cores().len());
    assert_eq!(ranks("100000 100000"), Some(1));
    assert_eq!(ranks("20000 100000"), Some(1));
    assert_eq!(ranks("150000 100000"), Some(2.min(unlimited)));
}

/// A quota of the first version, in a group of its own.
#[test]
fn a_quota_of_a_control_group_counts_as_processors() {
    let group = format!("/sys/fs/cgroup/cpu/shmrun-test-{}", std::process::id());
    let write = |file: &str, text: &str| std::fs::write(format!("{group}/{file}"), text);
    if std::fs::create_dir(&group).and_then(|()| write("cpu.cfs_quota_us", "100000")).is_err() {
        let _ = std::fs::remove_dir(&group);
        return eprintln!("SKIPPED: no cpu controller of the first version that this user may use");
    }
    let words = line("echo x").words().join(" ");
    let script = format!("echo $$ >{group}/tasks; {words}; {words} -v");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    std::fs::remove_dir(&group).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "x\nx -v\n", "{output:?}");
}

#[test]
fn doctor_says_what_a_container_means() {
    let setup = format!("{}; mkdir -p \"$root/sys/fs/cgroup\"", shared_memory("1m"));
    let setup = format!("{setup}; echo '100000 100000' >\"$root/sys/fs/cgroup/cpu.max\"");
    let Some(output) = contained(&setup, AS_NOBODY, "doctor") else { return };
    let report = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for part in
        ["1 MiB, of which 1 MiB are free", "anonymous memory", "starts 1 ranks", "/dev/ptmx is not there"]
    {
        assert!(report.contains(part), "{part} in {report}");
    }
}
