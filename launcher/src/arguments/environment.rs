//! The environment of the ranks.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};

/// Variables. All of the launcher's own are inherited unless something here says otherwise.
#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "Environment")]
pub(super) struct Environment {
    /// Set a variable; without =VALUE pass on the present one, which matters with --env-clear
    #[arg(short = 'x', long, value_name = "NAME[=VALUE]", value_parser = OsStringValueParser::new().try_map(variable))]
    variable: Vec<Variable>,
    /// The same as MPICH writes it: --genv NAME VALUE
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = OsStringValueParser::new().try_map(variable))]
    genv: Vec<Variable>,
    /// Set a variable for this one of several programs only: --env NAME VALUE
    #[arg(long, value_name = "NAME=VALUE", value_parser = OsStringValueParser::new().try_map(variable))]
    env: Vec<Variable>,
    /// Inherit only these, or ALL and set these
    #[arg(long, aliases = ["genvlist", "envlist"], value_name = "ALL|NONE|NAME[=VALUE],...", value_delimiter = ',', value_parser = OsStringValueParser::new().try_map(variable))]
    export: Vec<Variable>,
    /// Inherit nothing
    #[arg(long, aliases = ["genvnone", "envnone"])]
    env_clear: bool,
}

/// Variables that are the same for the whole job.
#[derive(Debug, Args)]
#[command(next_help_heading = "Environment")]
pub(super) struct RankVariables {
    /// Set what these launchers set too: OMPI_COMM_WORLD_RANK, PMI_RANK, SLURM_PROCID, RANK ...
    #[arg(long, value_name = "WHOSE,...", value_enum, value_delimiter = ',')]
    env_compat: Vec<Compat>,
    /// Set OMP_NUM_THREADS and RAYON_NUM_THREADS, where they are not set: the share of each rank, or N
    #[arg(long, value_name = "auto|N|keep", default_value = "auto", value_parser = threads)]
    pub(super) threads: Threads,
    /// MASTER_PORT for --env-compat=torch
    #[arg(long, value_name = "PORT", default_value_t = 29500, hide = true)]
    master_port: u16,
}

/// A variable, and its value if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variable {
    name: OsString,
    value: Option<OsString>,
}

/// Whose variables are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Compat {
    /// none
    None,
    /// Open MPI
    Ompi,
    /// MPICH and Intel MPI
    Pmi,
    /// srun
    Slurm,
    /// torchrun
    Torch,
}

/// Threads that each rank is told to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// As many as it has processors to itself.
    Auto,
    /// So many.
    Number(usize),
    /// As the environment says.
    Keep,
}

/// What a program inherits and what is set for it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) inherit: bool,
    pub(super) variables: Vec<(OsString, OsString)>,
    /// Variables that were to be passed on, but are not set.
    pub(super) missing: Vec<String>,
}

impl Environment {
    /// What is so for all programs: everything but `--env`.
    pub(super) fn common(&self) -> Self {
        Self { env: Vec::new(), ..self.clone() }
    }

    /// These settings, and then those of one program.
    pub(super) fn and(mut self, own: Self) -> Self {
        self.variable.extend(own.variable);
        self.genv.extend(own.genv);
        self.env.extend(own.env);
        self.export.extend(own.export);
        self.env_clear |= own.env_clear;
        self
    }

    /// Looks up what is to be passed on.
    pub(super) fn resolve(&self, present: impl Fn(&OsStr) -> Option<OsString>) -> Resolved {
        let is = |variable: &Variable, word: &str| variable.value.is_none() && variable.name == word;
        let all = self.export.iter().any(|variable| is(variable, "ALL"));
        let mut resolved =
            Resolved { inherit: !self.env_clear && (self.export.is_empty() || all), ..Resolved::default() };
        let named = self.export.iter().filter(|variable| !is(variable, "ALL") && !is(variable, "NONE"));
        for variable in named.chain(&self.variable).chain(&self.genv).chain(&self.env) {
            match variable.value.clone().or_else(|| present(&variable.name)) {
                Some(value) => resolved.variables.push((variable.name.clone(), value)),
                None => resolved.missing.push(variable.name.to_string_lossy().into_owned()),
            }
        }
        resolved
    }
}

impl RankVariables {
    /// What other launchers would set for a rank.
    pub(super) fn of_rank(&self, rank: usize, size: usize) -> Vec<(OsString, OsString)> {
        let (rank, size) = (rank.to_string(), size.to_string());
        let port = self.master_port.to_string();
        let pairs: Vec<(&str, &str)> =
            self.env_compat.iter().flat_map(|whose| whose.of_rank(&rank, &size, &port)).collect();
        pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    /// How many threads a rank is told to use that has `share` processors to itself, and in which variables.
    pub(super) fn threads_of(
        &self,
        share: usize,
        is_set: impl Fn(&str) -> bool,
    ) -> Vec<(OsString, OsString)> {
        let number = match self.threads {
            Threads::Auto => share,
            Threads::Number(number) => number,
            Threads::Keep => return Vec::new(),
        };
        // A number that was asked for goes before what the environment happens to say.
        let wanted = |name: &&str| matches!(self.threads, Threads::Number(_)) || !is_set(name);
        let names = ["OMP_NUM_THREADS", "RAYON_NUM_THREADS"].into_iter().filter(wanted);
        names.map(|name| (name.into(), number.to_string().into())).collect()
    }
}

impl Compat {
    fn of_rank<'t>(self, rank: &'t str, size: &'t str, port: &'t str) -> Vec<(&'static str, &'t str)> {
        match self {
            Self::None => Vec::new(),
            Self::Ompi => vec![
                ("OMPI_COMM_WORLD_RANK", rank),
                ("OMPI_COMM_WORLD_SIZE", size),
                ("OMPI_COMM_WORLD_LOCAL_RANK", rank),
                ("OMPI_COMM_WORLD_LOCAL_SIZE", size),
                ("OMPI_COMM_WORLD_NODE_RANK", rank),
            ],
            Self::Pmi => vec![
                ("PMI_RANK", rank),
                ("PMI_SIZE", size),
                ("MPI_LOCALRANKID", rank),
                ("MPI_LOCALNRANKS", size),
            ],
            Self::Slurm => vec![
                ("SLURM_PROCID", rank),
                ("SLURM_NTASKS", size),
                ("SLURM_NPROCS", size),
                ("SLURM_LOCALID", rank),
                ("SLURM_NODEID", "0"),
                ("SLURM_NNODES", "1"),
            ],
            Self::Torch => vec![
                ("RANK", rank),
                ("WORLD_SIZE", size),
                ("LOCAL_RANK", rank),
                ("LOCAL_WORLD_SIZE", size),
                ("GROUP_RANK", "0"),
                ("MASTER_ADDR", "127.0.0.1"),
                ("MASTER_PORT", port),
            ],
        }
    }
}

fn variable(text: OsString) -> Result<Variable, String> {
    let bytes = text.as_bytes();
    let (name, value) = match bytes.iter().position(|&byte| byte == b'=') {
        Some(equals) => (&bytes[..equals], Some(OsString::from_vec(bytes[equals + 1..].to_vec()))),
        None => (bytes, None),
    };
    match name {
        b"" => Err("a variable needs a name, for example -x NAME=VALUE".to_owned()),
        _ => Ok(Variable { name: OsString::from_vec(name.to_vec()), value }),
    }
}

fn threads(text: &str) -> Result<Threads, String> {
    match (text, text.parse()) {
        ("auto", _) => Ok(Threads::Auto),
        ("keep", _) => Ok(Threads::Keep),
        (_, Ok(number @ 1..)) => Ok(Threads::Number(number)),
        _ => Err("a number from 1 on, auto or keep".to_owned()),
    }
}
