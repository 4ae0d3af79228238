//! Executing a program as a child that the kernel kills when the calling thread ends.
//!
//! The child shares this process's memory until it executes the program, and the calling thread waits for that
//! (`CLONE_VM`, `CLONE_VFORK`, as in glibc's `posix_spawn`). A fork would copy page tables, and every page that the
//! launcher writes afterwards would be copied too; a caller of `spawn` may be a large process. On a 2-core Xeon a
//! job that starts and ends took 3.2 ms with forks and 2.9 with this for 2 ranks, 7.6 and 6.8 for 8, 94 and 84
//! for 128.
//!
//! # Safety
//!
//! Trusted for what the child does on its own stack in shared memory: system calls, and one store of the error.
//! It neither allocates nor takes a lock, and no signal handler of this process runs in it.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::{io, ptr};

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, chdir, getpid, getppid, set_parent_process_death_signal,
    setpgid, setrlimit, waitpid,
};
use rustix::stdio;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::program::Program;

/// What a rank gets from its launcher besides the program.
pub(super) struct Inheritance<'a> {
    /// Standard input, output and error; `None` for the launcher's own.
    pub(super) streams: [Option<BorrowedFd<'a>>; 3],
    /// Descriptors that stay open in the program.
    pub(super) descriptors: Vec<BorrowedFd<'a>>,
    /// The processors that it may use, `None` for all.
    pub(super) processors: Option<CpuSet>,
    /// A process group of its own: what is typed at the terminal does not reach it.
    pub(super) own_group: bool,
    /// The limit of open files that the launcher itself was started with.
    pub(super) open_files: Rlimit,
}

/// Bytes of stack that the child may use: more than its few system calls need.
const STACK_BYTES: usize = 64 << 10;

/// What the child needs, read by it from this process's memory.
struct Child<'a> {
    launcher: Pid,
    program: &'a Program<'a>,
    inheritance: &'a Inheritance<'a>,
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    /// For a script that does not say what interprets it: a shell, the script's place, its arguments.
    shell: Vec<Cell<*const c_char>>,
    /// Why the program was not executed; 0 if it was.
    error: AtomicI32,
}

/// Executes `program` as a child; the descriptor becomes readable when it ends.
///
/// # Errors
///
/// What kept the system from making the process, or the process from executing the program.
pub(super) fn start(program: &Program<'_>, inheritance: &Inheritance<'_>) -> io::Result<(Pid, OwnedFd)> {
    let arguments = pointers(&program.arguments);
    let shell = [SHELL.as_ptr(), ptr::null()].into_iter().chain(arguments[1..].iter().copied());
    let child = Child {
        launcher: getpid(),
        program,
        inheritance,
        shell: shell.map(Cell::new).collect(),
        arguments,
        environment: pointers(&program.environment),
        error: AtomicI32::new(0),
    };
    let mut stack = Box::new_uninit_slice(STACK_BYTES / size_of::<u128>());
    // Handlers of this process must not run in the child, where they would find its memory but not its threads.
    let before = set_signal_mask(&signals(libc::sigfillset));
    let started = clone(&child, &mut stack);
    set_signal_mask(&before);
    let (pid, pidfd) = started?;
    match child.error.load(Relaxed) {
        0 => Ok((pid, pidfd)),
        error => {
            // It has ended already.
            let _ = waitpid(Some(pid), WaitOptions::empty());
            Err(io::Error::from_raw_os_error(error))
        }
    }
}

/// The strings as the kernel takes them: a null pointer is the last.
fn pointers(strings: &[impl AsRef<CStr>]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ref().as_ptr()).chain([ptr::null()]).collect()
}

/// Runs [`execute`] in a new process; returns when that executes its program or has ended.
fn clone(child: &Child<'_>, stack: &mut [MaybeUninit<u128>]) -> io::Result<(Pid, OwnedFd)> {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let argument: *const Child<'_> = child;
    let mut pidfd: c_int = -1;
    // SAFETY: the stack is exclusively the child's until this returns, and so lives `child`: the kernel suspends
    // this thread until the other process has left the shared memory. `pidfd` is valid for writes.
    let pid = unsafe {
        libc::clone(execute, stack.as_mut_ptr_range().end.cast(), flags, argument as *mut c_void, &mut pidfd)
    };
    if pid == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok((Pid::from_raw(pid).ok_or_else(io::Error::last_os_error)?, pidfd))
}

/// What the child runs. It returns, and ends with that, only if the program could not be executed.
extern "C" fn execute(child: *mut c_void) -> c_int {
    // SAFETY: `clone` passes a reference that lives until this process executes the program or ends.
    let child: &Child<'_> = unsafe { &*child.cast_const().cast() };
    let error = match child.become_rank() {
        Ok(()) => child.execute(),
        Err(error) => error,
    };
    child.error.store(error.raw_os_error().unwrap_or(libc::EINVAL), Relaxed);
    127
}

impl Child<'_> {
    fn become_rank(&self) -> io::Result<()> {
        let Inheritance { streams, descriptors, processors, open_files, own_group } = self.inheritance;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() != Some(self.launcher) {
            // The launcher ended before the line above took effect: no signal will come.
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        if let Some(directory) = &self.program.directory {
            chdir(directory)?;
        }
        let [input, output, error] = streams;
        input.map_or(Ok(()), stdio::dup2_stdin)?;
        output.map_or(Ok(()), stdio::dup2_stdout)?;
        error.map_or(Ok(()), stdio::dup2_stderr)?;
        for descriptor in descriptors {
            fcntl_setfd(descriptor, FdFlags::empty())?;
        }
        if let Some(processors) = processors {
            sched_setaffinity(None, processors)?;
        }
        setrlimit(Resource::Nofile, *open_files)?;
        if *own_group {
            setpgid(None, None)?;
        }
        allow_signals();
        Ok(())
    }

    /// Returns why the program could not be executed: in none of its places, as a shell would tell it.
    fn execute(&self) -> io::Error {
        let mut denied = None;
        let mut error = Errno::NOENT;
        for file in &self.program.files {
            error = self.execute_file(file);
            match error {
                Errno::ACCESS => denied = Some(error),
                Errno::NOENT | Errno::NOTDIR => {}
                _ => break,
            }
        }
        denied.filter(|_| matches!(error, Errno::NOENT | Errno::NOTDIR)).unwrap_or(error).into()
    }

    fn execute_file(&self, file: &CStr) -> Errno {
        let environment = self.environment.as_ptr();
        // SAFETY: a string and two arrays of strings that end with a null pointer, alive in the suspended parent.
        unsafe { libc::execve(file.as_ptr(), self.arguments.as_ptr(), environment) };
        let error = last_error();
        if error == Errno::NOEXEC {
            self.shell[1].set(file.as_ptr());
            // SAFETY: as above; a cell has the layout of what it holds.
            unsafe { libc::execve(SHELL.as_ptr(), self.shell.as_ptr().cast(), environment) };
        }
        error
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// What runs scripts that do not say what interprets them, as in a shell and in `execvp`.
const SHELL: &CStr = c"/bin/sh";

/// Lets all signals come in, none of which may run a handler of the parent's.
fn allow_signals() {
    (1..=libc::SIGRTMAX()).for_each(forget_handler);
    set_signal_mask(&signals(libc::sigemptyset));
}

/// Gives a signal that this process handles the meaning that it will have in the program.
fn forget_handler(signal: c_int) {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null pointer changes nothing; `action` is valid for writes.
    if unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } != 0 {
        return;
    }
    // SAFETY: the call has filled it.
    let before = unsafe { action.assume_init() }.sa_sigaction;
    let after = match signal {
        // Ignored by the Rust runtime, not by who started this process.
        libc::SIGPIPE => libc::SIG_DFL,
        _ if before == libc::SIG_IGN => return,
        // A child that Ctrl-Z stopped here would stop its parent for good. The program gets the default action.
        libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => {
            swallow as extern "C" fn(c_int) as libc::sighandler_t
        }
        _ if before == libc::SIG_DFL => return,
        _ => libc::SIG_DFL,
    };
    // SAFETY: the default action, or a function that does nothing.
    unsafe { libc::signal(signal, after) };
}

extern "C" fn swallow(_signal: c_int) {}

fn signals(fill: unsafe extern "C" fn(*mut libc::sigset_t) -> c_int) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the pointer is valid for one signal set.
    unsafe { fill(set.as_mut_ptr()) };
    // SAFETY: sigemptyset and sigfillset initialise it, and cannot fail for a valid pointer.
    unsafe { set.assume_init() }
}

/// Sets the signals that the calling thread blocks; returns those that it blocked before.
fn set_signal_mask(mask: &libc::sigset_t) -> libc::sigset_t {
    let mut before = signals(libc::sigemptyset);
    // SAFETY: both sets are initialised.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, &mut before) };
    before
}

#[cfg(test)]
mod tests {
    use std::ffi::{OsStr, OsString};
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use rustix::pipe::{PipeFlags, pipe_with};
    use rustix::process::getrlimit;

    use super::super::program::variable;
    use super::*;

    fn nothing() -> Inheritance<'static> {
        Inheritance {
            streams: [None; 3],
            descriptors: Vec::new(),
            processors: None,
            own_group: false,
            open_files: getrlimit(Resource::Nofile),
        }
    }

    /// What the program writes, and how it ended.
    fn run(program: &Program<'_>) -> io::Result<(String, Option<i32>)> {
        let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let streams = [None, Some(write_end.as_fd()), None];
        let (pid, _pidfd) = start(program, &Inheritance { streams, ..nothing() })?;
        drop(write_end);
        let mut text = String::new();
        File::from(read_end).read_to_string(&mut text).unwrap();
        let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
        Ok((text, status.exit_status()))
    }

    fn run_script(script: &str, path: &str) -> io::Result<(String, Option<i32>)> {
        let arguments = ["-c", script].map(OsString::from);
        let variables = [variable("PATH", path)?, variable("WORDS", "two words")?];
        run(&Program::new(OsStr::new("sh"), &arguments, &variables, Some(Path::new("/dev")))?)
    }

    #[test]
    fn arguments_variables_directory_and_streams_arrive() {
        let (text, code) = run_script("echo $WORDS; pwd; exit 3", "/no-such-directory:/bin").unwrap();
        assert_eq!((text.as_str(), code), ("two words\n/dev\n", Some(3)));
    }

    #[test]
    fn the_program_starts_with_signals_as_this_process_got_them() {
        // Blocked, ignored and caught signals as hexadecimal masks; Rust's runtime ignores SIGPIPE (13).
        let (text, _) = run_script("grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status", "/bin:/usr/bin").unwrap();
        let masks: Vec<u64> =
            text.split_whitespace().filter_map(|word| u64::from_str_radix(word, 16).ok()).collect();
        let [blocked, ignored, _caught] = masks[..] else { panic!("{text}") };
        assert_eq!((blocked, ignored & (1 << 12)), (0, 0), "{text}");
    }

    #[test]
    fn the_search_ends_with_the_most_telling_error() {
        let error = |path| run_script("", path).unwrap_err().raw_os_error();
        assert_eq!(error("/no-such-directory:/dev/null"), Some(libc::ENOTDIR));
        let directories = std::env::temp_dir().join(format!("execute-{}", std::process::id()));
        std::fs::create_dir_all(directories.join("sh")).unwrap();
        let path = format!("{}:/no-such-directory", directories.display());
        // A directory of that name cannot be executed.
        assert_eq!(error(&path), Some(libc::EACCES));
        std::fs::remove_dir_all(directories).unwrap();
    }

    #[test]
    fn a_script_without_interpreter_is_run_by_a_shell() {
        let script = std::env::temp_dir().join(format!("execute-{}.script", std::process::id()));
        std::fs::write(&script, "echo $1 of $0").unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let program = Program::new(script.as_os_str(), &["argument".into()], &[], None);
        let (text, _) = run(&program.unwrap()).unwrap();
        std::fs::remove_file(&script).unwrap();
        assert_eq!(text, format!("argument of {}\n", script.display()));
    }
}
