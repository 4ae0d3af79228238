//! The machine, the sources and the moment: what has to stand beside a figure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::plan::Plan;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Conditions {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) compilers: String,
    pub(crate) pinning: String,
    pub(crate) commit: String,
    pub(crate) date: String,
    pub(crate) mode: String,
    pub(crate) load_at_begin: f64,
    pub(crate) load_at_end: f64,
}

pub(crate) fn conditions(plan: &Plan) -> Result<Conditions> {
    Ok(Conditions {
        processor: processor(),
        cores: cores(),
        kernel: output("uname", &["-sr"])?,
        compilers: compilers()?,
        pinning: "one rank per core where there are no more ranks than cores, otherwise unbound; all alike"
            .to_owned(),
        commit: commit()?,
        date: output("date", &["-u", "+%Y-%m-%d %H:%M UTC"])?,
        mode: plan.mode.clone(),
        load_at_begin: load(),
        load_at_end: 0.0,
    })
}

/// As many as this process may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Of the last minute.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}

pub(crate) fn repository() -> Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(package.parent().context("the package has no parent folder")?.to_owned())
}

pub(crate) fn target_folder() -> Result<PathBuf> {
    let text = output("cargo", &["metadata", "--no-deps", "--format-version", "1"])?;
    let metadata: serde_json::Value = serde_json::from_str(&text)?;
    Ok(metadata["target_directory"].as_str().context("cargo names no target folder")?.into())
}

/// Runs a step whose output people may want to see: it goes to standard error.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let mut command = command(program, arguments)?;
    let status =
        command.stdout(std::io::stderr()).status().with_context(|| format!("cannot run {program}"))?;
    ensure!(status.success(), "{program} {} failed: {status}", arguments.join(" "));
    Ok(())
}

fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = command(program, arguments)?.output().with_context(|| format!("cannot run {program}"))?;
    ensure!(output.status.success(), "{program} {} failed: {}", arguments.join(" "), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn command(program: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(repository()?).stdin(Stdio::null());
    Ok(command)
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let (_, name) = name.unwrap_or(("", std::env::consts::ARCH));
    let virtual_machine = if text.contains("hypervisor") { ", a virtual machine" } else { "" };
    format!("{}{virtual_machine}", name.trim())
}

fn compilers() -> Result<String> {
    let c = output("cc", &["--version"])?;
    Ok(format!("{}; {}", output("rustc", &["--version"])?, c.lines().next().unwrap_or_default()))
}

/// With a mark where files differ from it: such figures are not for publication.
fn commit() -> Result<String> {
    let changed = output("git", &["status", "--porcelain", "--untracked-files=no"])?;
    let mark = if changed.is_empty() { "" } else { " with uncommitted changes" };
    Ok(format!("{}{mark}", output("git", &["rev-parse", "--short=12", "HEAD"])?))
}
