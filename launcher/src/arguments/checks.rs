//! Finding mistakes in a program: hangs, reliance on buffering, races.

use std::time::Duration;

use clap::{Args, ValueEnum};
use ranks::launch::{Hang, HangAction, Plan};

use super::duration;
use super::ending::whole_number;

/// How closely the job is watched, and what its ranks may not rely on.
#[derive(Debug, Args)]
#[command(next_help_heading = "Finding mistakes")]
pub(super) struct Checks {
    /// What to do when nothing moves: explain it, and for kill also end the job if it is a deadlock
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = OnHang::Warn)]
    hang: OnHang,
    /// How long ranks wait before it counts as a hang, for example 30s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration::parse)]
    hang_after: Duration,
    /// Let every send wait for its receiver: finds programs that hang with longer messages
    #[arg(long)]
    strict: bool,
    /// Run one rank at a time, in an order that SEED gives: races repeat exactly
    #[arg(long, value_name = "SEED", value_parser = whole_number::<u64>)]
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
