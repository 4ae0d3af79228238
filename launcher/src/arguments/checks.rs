//! Finding mistakes in a program: hangs, reliance on buffering, races.

use std::time::Duration;

use clap::{Args, ValueEnum};
use ranks::launch::{Hang, HangAction, Plan};

/// How closely the job is watched, and what its ranks may not rely on.
#[derive(Debug, Args)]
#[command(next_help_heading = "Finding mistakes")]
pub(super) struct Checks {
    /// What to do when nothing moves: explain it, and for kill also end the job if it is a deadlock
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = OnHang::Warn)]
    hang: OnHang,
    /// How long ranks wait before it counts as a hang, for example 30s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    hang_after: Duration,
    /// Let every send wait for its receiver: finds programs that hang with longer messages
    #[arg(long)]
    strict: bool,
    /// Run one rank at a time, in an order that SEED gives: races repeat exactly
    #[arg(long, value_name = "SEED")]
    chaos: Option<u64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OnHang {
    /// explain it once, on the standard error
    Warn,
    /// explain it, and end the job with exit code 123 if it is a deadlock
    Kill,
    /// do not look
    Off,
}

impl Checks {
    pub(super) fn apply(&self, plan: &mut Plan) {
        let action = match self.hang {
            OnHang::Warn => HangAction::Warn,
            OnHang::Kill => HangAction::Kill,
            OnHang::Off => HangAction::Off,
        };
        plan.hang = Hang { action, after: self.hang_after };
        plan.strict = self.strict;
        plan.chaos = self.chaos;
    }
}

/// `5s`, `500ms`, `2m`, `1h`, or seconds without a unit.
fn time(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 5] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("", 1.0)];
    let problem = || "a time is a number with a unit, for example 500ms, 5s or 2m".to_owned();
    let split = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic()).len();
    let (number, unit) = text.split_at(split);
    let factor = UNITS.iter().find(|(known, _)| *known == unit).map(|(_, factor)| *factor);
    let seconds = number.parse::<f64>().ok().zip(factor).map(|(number, factor)| number * factor);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| !time.is_zero()).ok_or_else(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let times = ["500ms", "5s", "5", "1.5m", "1h"].map(|text| time(text).unwrap().as_millis());
        assert_eq!(times, [500, 5000, 5000, 90_000, 3_600_000]);
        for wrong in ["", "s", "0s", "-1s", "5d", "1e999s", "NaN", "5 s"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
