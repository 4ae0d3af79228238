//! Starting a job: its guard, its segment, its processes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{self, Mode, OFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use super::control;
use super::environment as name;
use super::error::LaunchError;
use super::execute::{self, Inheritance};
use super::guard::Guard;
use super::hang::Vigil;
use super::plan::{Event, OnFailure, Output, Plan, RankPlan};
use super::process::{self, FIRST_INHERITED};
use super::program::{Program, Variable, own_variables, variable};
use super::rank::{Process, RankProcesses};
use super::report::Outcome;
use super::streams::{self, End, Streams};
use super::supervise::{Flow, Orders, SWEEP, Supervisor};
use super::{cleanup, cores, create, proc};

/// Runs a job from its start to its end: returns when its last process is gone.
///
/// The calling thread supervises the job; when it ends, the ranks are killed.
///
/// # Errors
///
/// When the job could not be started; nothing of it is left then. A job that failed is no error: see
/// [`Outcome::failure`].
pub fn run(mut plan: Plan) -> Result<Outcome, LaunchError> {
    let ranks = plan.ranks.len();
    LaunchError::check_ranks(ranks)?;
    let begin = Instant::now();
    let id = create::random_id().map_err(LaunchError::system("read /dev/urandom"))?;
    let guard = plan.guard.then(|| Guard::fork(id, ranks)).transpose();
    let _guard = guard.map_err(LaunchError::system("start the guard process"))?;
    let signals = plan.signals.take();
    process::set_memory_policy(&plan.memory).map_err(|source| LaunchError::Memory { source })?;
    let cores = plan.cores.unwrap_or_else(cores::available);
    let job = create::job(id, ranks, cores, &plan.tuning)?;
    job.set_survives(plan.on_failure == OnFailure::Continue);
    create::set_modes(&job, plan.strict, plan.chaos);
    plan.tell(|| create::event(job.segment()));
    let vigil = Vigil::new(&plan);
    let mut starter = Starter::new(&plan, id, job.segment().descriptor())?;
    let outcome = match starter.start_all() {
        Ok(()) => {
            let Starter { started, streams: Streams { forwarder, feeder, .. }, .. } = starter;
            let flow = Flow { output: forwarder, input: feeder };
            Supervisor::new(job, id, started, flow, vigil, Orders::of(&plan, signals, begin)).run()
        }
        Err(error) => {
            abandon(starter.started.ranks, id);
            Err(error)
        }
    };
    create::unlink_bells(id, ranks);
    outcome
}

/// Ends the ranks that run already when a later one could not be started.
fn abandon(ranks: Vec<RankProcesses>, id: u64) {
    for mut rank in ranks {
        rank.child.signal(Signal::KILL);
        rank.child.wait();
    }
    cleanup::kill_all(&name::job_text(id), SWEEP);
}

/// The processes of a job and what the launcher has in common with them.
pub(super) struct Started {
    pub(super) ranks: Vec<RankProcesses>,
    /// The launcher's end of the control pipe.
    pub(super) control: OwnedFd,
    /// The descriptors that the ranks inherit: segment, control pipe. Kept, so that the pipe does not end
    /// between two ranks.
    inherited: [OwnedFd; 2],
}

struct Starter<'p> {
    plan: &'p Plan,
    /// Of this process.
    own_variables: Vec<Variable>,
    /// Of all ranks, and stronger than those that the plan gives them.
    job_variables: Vec<Variable>,
    /// What ranks read and write whose streams lead nowhere.
    null: OwnedFd,
    open_files: Rlimit,
    streams: Streams<'p>,
    started: Started,
}

impl<'p> Starter<'p> {
    fn new(plan: &'p Plan, id: u64, segment: BorrowedFd<'_>) -> Result<Self, LaunchError> {
        let open_files = allow_open_files(plan);
        let (control, control_write) =
            control::pipe().map_err(LaunchError::system("create the control pipe"))?;
        let inherited = high_number(segment)
            .and_then(|segment| Ok([segment, high_number(control_write.as_fd())?]))
            .map_err(LaunchError::system("duplicate a descriptor for the ranks"))?;
        let null = fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(LaunchError::system("open /dev/null"))?;
        let variables = || Ok((own_variables()?, job_variables(plan.ranks.len(), id, &inherited)?));
        let (own_variables, job_variables) =
            variables().map_err(LaunchError::system::<io::Error>("put the environment into words"))?;
        let streams = Streams::new(plan)?;
        let started = Started { ranks: Vec::new(), control, inherited };
        Ok(Self { plan, own_variables, job_variables, null, open_files, streams, started })
    }

    fn start_all(&mut self) -> Result<(), LaunchError> {
        for (rank, plan) in self.plan.ranks.iter().enumerate() {
            let streams = self.streams.of_rank(rank)?;
            self.start(rank, plan, streams).map_err(|source| explain(plan, rank, source))?;
        }
        Ok(())
    }

    fn start(&mut self, rank: usize, plan: &RankPlan, streams: [End; 3]) -> io::Result<()> {
        let null = self.null.as_fd();
        let mut variables = self.rank_variables(rank, plan)?;
        let mut inheritance = Inheritance {
            streams: streams.each_ref().map(|end| end.descriptor(null)),
            descriptors: self.started.inherited.iter().map(AsFd::as_fd).collect(),
            processors: (!plan.processors.is_empty()).then(|| cores::set(&plan.processors)),
            // Where one rank has the terminal, the others leave it alone.
            own_group: self.plan.has_foreground() && !plan.foreground,
            open_files: self.open_files,
        };
        let spawn_output;
        if let (Output::Print { drop_before_spawn: true }, End::Descriptor(output)) =
            (self.plan.output, &streams[1])
        {
            spawn_output = high_number(output.as_fd())?;
            inheritance.streams[1] = Some(null);
            inheritance.descriptors.push(spawn_output.as_fd());
            variables.push(variable(name::SPAWN_OUTPUT_FD, spawn_output.as_raw_fd().to_string())?);
        }
        let own = if plan.inherit_environment { &self.own_variables[..] } else { &[] };
        let variables = own.iter().chain(&variables).chain(&self.job_variables);
        let program = Program::new(&plan.program, &plan.arguments, variables, plan.directory.as_deref())?;
        let (pid, pidfd) = execute::start(&program, &inheritance)?;
        self.plan.tell(|| Event::Started { rank, pid: pid.as_raw_nonzero().get() as u32 });
        self.started.ranks.push(RankProcesses { child: Process::new(pid, pidfd), attached: None });
        Ok(())
    }

    fn rank_variables(&self, rank: usize, plan: &RankPlan) -> io::Result<Vec<Variable>> {
        let planned = self.plan.variables.iter().chain(&plan.variables);
        let planned = planned.map(|(name, value)| variable(name, value));
        let numbers = [name::RANK, name::LOCAL_RANK].map(|name| variable(name, rank.to_string()));
        planned.chain(numbers).collect()
    }
}

fn job_variables(ranks: usize, id: u64, [segment, control]: &[OwnedFd; 2]) -> io::Result<Vec<Variable>> {
    let launcher = std::process::id();
    let mut variables = vec![
        variable(name::SIZE, ranks.to_string())?,
        variable(name::JOB, name::job_text(id))?,
        variable(name::LAUNCHER, format!("{launcher}:{}", proc::start_time(launcher).unwrap_or(0)))?,
        variable(name::SEGMENT_FD, segment.as_raw_fd().to_string())?,
        variable(name::CONTROL_FD, control.as_raw_fd().to_string())?,
        variable(name::PROTOCOL, name::PROTOCOL_VERSION.to_string())?,
    ];
    if let Some(outer) = outer_jobs() {
        variables.push(variable(name::OUTER_JOBS, outer)?);
    }
    Ok(variables)
}

/// The jobs that this process itself runs in.
fn outer_jobs() -> Option<String> {
    let job = std::env::var(name::JOB).ok()?;
    Some(match std::env::var(name::OUTER_JOBS) {
        Ok(outer) => format!("{outer}:{job}"),
        Err(_) => job,
    })
}

/// A duplicate with a number that no shell script uses, see [`FIRST_INHERITED`], or any where the limit of open
/// files is below that.
fn high_number(descriptor: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    match fcntl_dupfd_cloexec(descriptor, FIRST_INHERITED) {
        Err(Errno::INVAL) => Ok(fcntl_dupfd_cloexec(descriptor, 0)?),
        duplicate => Ok(duplicate?),
    }
}

/// Raises the limit of open files if the job needs more; returns the limit that the ranks are to have.
fn allow_open_files(plan: &Plan) -> Rlimit {
    // Per rank three pipes and two pidfds, and some for everything else.
    let needed = (5 * plan.ranks.len() + streams::open_files(plan) + 128) as u64;
    let before = getrlimit(Resource::Nofile);
    if before.current.is_some_and(|current| current < needed) {
        let current = before.maximum.map_or(needed, |maximum| maximum.min(needed));
        // Where this fails, opening the pipes will, and says so.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: before.maximum });
    }
    before
}

/// Says why a rank could not be started.
fn explain(plan: &RankPlan, rank: usize, source: io::Error) -> LaunchError {
    if let Some(directory) = plan.directory.as_deref()
        && let Err(source) = std::fs::metadata(directory.join("."))
    {
        let here = std::env::current_dir().unwrap_or_default().display().to_string();
        return LaunchError::Directory { rank, directory: directory.display().to_string(), here, source };
    }
    let program = plan.program.to_string_lossy().into_owned();
    // A relative program is looked up in the directory of its rank.
    let path = plan.directory.as_deref().unwrap_or(Path::new("")).join(&plan.program);
    let path = path.as_path();
    match source.raw_os_error() {
        Some(libc::ENOENT) if program.contains('/') && path.exists() => {
            let help =
                "its interpreter does not exist: see its first line, or `file` for the loader".to_owned();
            LaunchError::NotExecutable { program, source, help }
        }
        Some(libc::ENOENT | libc::ENOTDIR) => {
            let help = missing_help(&program, path);
            LaunchError::NotFound { program, help }
        }
        Some(libc::EACCES | libc::ENOEXEC | libc::EPERM | libc::ELIBBAD) => {
            let help = unexecutable_help(&program, path, source.raw_os_error());
            LaunchError::NotExecutable { program, source, help }
        }
        _ => LaunchError::Start { rank, source },
    }
}

fn missing_help(program: &str, path: &Path) -> String {
    match (program.contains('/'), path.is_file()) {
        (false, true) => format!("a file of that name is in this directory: write ./{program}"),
        (false, false) => {
            "check the spelling and PATH; a program in this directory is written ./PROGRAM".to_owned()
        }
        _ => "check the path, or build the program first".to_owned(),
    }
}

fn unexecutable_help(program: &str, path: &Path, error: Option<i32>) -> String {
    if path.is_dir() {
        "it is a directory: name a program in it".to_owned()
    } else if error == Some(libc::ENOEXEC) {
        "it is neither a program for this machine nor a script with a #! line".to_owned()
    } else {
        format!("make it executable: chmod +x {program}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(program: &str, error: i32) -> LaunchError {
        explain(&RankPlan::new(program, Vec::new()), 0, io::Error::from_raw_os_error(error))
    }

    #[test]
    fn exec_errors_get_the_exit_codes_of_a_shell() {
        assert_eq!(explained("./no-such-program", libc::ENOENT).exit_code(), 127);
        assert_eq!(explained("/dev/null", libc::ENOENT).exit_code(), 126);
        assert_eq!(explained("/", libc::EACCES).exit_code(), 126);
        assert_eq!(explained("x", libc::EAGAIN).exit_code(), 125);
        let message = explained("/", libc::EACCES).to_string();
        assert!(message.contains("directory"), "{message}");
    }
}
