//! Building the target that `cargo shmrun` is to run.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::arguments::{CargoShmrun, Job, Target};

/// Builds the target in release mode, if one is named, and decides what to run.
///
/// # Errors
/// When neither a target nor a program is named, the build fails or yields no or several programs.
pub fn job(mut arguments: CargoShmrun) -> Result<Job> {
    let mut words = std::mem::take(&mut arguments.command);
    if arguments.target.is_named() {
        words.insert(0, build(&arguments.target)?.into_os_string());
    }
    if words.is_empty() {
        bail!("nothing to run\n  help: name a target (--example NAME, --bin NAME) or a program (-- ./app)");
    }
    arguments.into_job(words)
}

impl Target {
    fn is_named(&self) -> bool {
        self.example.is_some() || self.bin.is_some() || self.package.is_some()
    }

    fn options(&self) -> Vec<String> {
        let named = [("--example", &self.example), ("--bin", &self.bin), ("--package", &self.package)];
        let given = named.into_iter().filter_map(|(option, value)| Some((option, value.as_ref()?)));
        given.flat_map(|(option, value)| [option.to_owned(), value.clone()]).collect()
    }
}

fn build(target: &Target) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(&cargo);
    command.args(["build", "--release", "--message-format=json-render-diagnostics"]).args(target.options());
    let mut build = command.stdout(Stdio::piped()).spawn().with_context(|| {
        format!("cannot start `{}`\n  help: install cargo, or put it into PATH", cargo.display())
    })?;
    let messages = build.stdout.take().into_iter().flat_map(|output| BufReader::new(output).lines());
    let programs: Vec<PathBuf> =
        messages.map_while(Result::ok).filter_map(|line| executable(&line)).collect();
    if !build.wait().context("cannot wait for cargo")?.success() {
        bail!("the build failed: see cargo's messages above");
    }
    match <[PathBuf; 1]>::try_from(programs) {
        Ok([program]) => Ok(program),
        Err(programs) if programs.is_empty() => {
            bail!("the build made no program\n  help: name one: --example NAME or --bin NAME")
        }
        Err(programs) => {
            bail!("the build made {} programs: {programs:?}\n  help: name one: --bin NAME", programs.len())
        }
    }
}

/// The program that a message of cargo says it has made.
fn executable(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    message.get("executable")?.as_str().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_the_messages_of_cargo() {
        let artifact = r#"{"reason":"compiler-artifact","executable":"/t/app"}"#;
        assert_eq!(executable(artifact), Some(PathBuf::from("/t/app")));
        assert_eq!(executable(r#"{"reason":"compiler-artifact","executable":null}"#), None);
        assert_eq!(executable("Compiling"), None);
    }
}
