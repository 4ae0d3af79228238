//! Settings of the library: `--set NAME=VALUE`, and `SHMRUN_SET` in the environment.

use anyhow::{Result, anyhow, bail};
use clap::Args;
use ranks::launch::Plan;

/// What a setting does to a plan.
type Apply = fn(&mut Plan, &str) -> Result<(), String>;

/// Names, what they are, what they do.
const SETTINGS: &[(&str, &str, Apply)] = &[
    (
        "unexpected-bound",
        "bytes of unreceived messages that a rank buffers from each other one, as 8M",
        |plan, value| bytes(value).map(|bytes| plan.tuning.unexpected_bound = bytes),
    ),
    (
        "direct",
        "copy long messages directly from process to process: on or off; by default where the system is fast at it",
        |plan, value| switch(value).map(|on| plan.tuning.direct = Some(on)),
    ),
];

/// Settings of the library.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Job")]
pub(super) struct Settings {
    /// Change a setting of the library: unexpected-bound=BYTES, direct=on|off. Also: SHMRUN_SET=NAME=VALUE,...
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
}

impl Settings {
    pub(super) fn apply(&self, plan: &mut Plan) -> Result<()> {
        let environment = std::env::var("SHMRUN_SET").unwrap_or_default();
        let environment = environment.split(',').filter(|setting| !setting.is_empty());
        for setting in environment {
            apply(plan, setting).map_err(|error| error.context("SHMRUN_SET"))?;
        }
        let from_option = |setting| apply(plan, setting).map_err(|error| anyhow!("--set: {error}"));
        self.set.iter().map(String::as_str).try_for_each(from_option)
    }
}

fn apply(plan: &mut Plan, setting: &str) -> Result<()> {
    let (name, value) = setting
        .split_once('=')
        .ok_or_else(|| anyhow!("{setting:?} has no value\n  help: write --set NAME=VALUE"))?;
    let Some((_, _, apply)) = SETTINGS.iter().find(|(known, ..)| *known == name) else {
        let known: Vec<String> = SETTINGS.iter().map(|(name, what, _)| format!("{name}: {what}")).collect();
        bail!("there is no setting {name:?}\n  help: there is {}", known.join("; "));
    };
    apply(plan, value).map_err(|problem| anyhow!("{setting}: {problem}"))
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("it is on or off".to_owned()),
    }
}

/// `65536`, `64K`, `8M`, `1G`.
fn bytes(text: &str) -> Result<u64, String> {
    let number = text.trim_end_matches(['K', 'M', 'G', 'k', 'm', 'g']);
    let shift = match text[number.len()..].to_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return Err("a number of bytes is written as 65536, 64K, 8M or 1G".to_owned()),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| "a number of bytes is written as 65536, 64K, 8M or 1G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!(bytes("0"), Ok(0));
        assert_eq!(bytes("64K"), Ok(65_536));
        assert_eq!(bytes("8m"), Ok(8 << 20));
        for wrong in ["", "K", "1KK", "x", "-1", "99999999999G"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
