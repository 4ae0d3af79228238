//! What the C library is told that ranks run on when they share processors.
//!
//! glibc registers each thread for restartable sequences (rseq, since 2.35). With each switch to a thread the kernel then writes to
//! the thread's memory, although hardly a program uses that. Ranks that share processors switch with each wait: 2 processors of a Zen 4
//! machine, µs, registered and not: barrier 1.80 and 1.67 with 4 ranks, all_reduce of 8 bytes 1.95 and 1.82, with 8 ranks 9.27 and 8.52
//! (80 to 99 alternating runs). A program that uses such sequences by itself sees that glibc has not registered them, and does it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use ranks::launch::Plan;

const VARIABLE: &str = "GLIBC_TUNABLES";
const NAME: &[u8] = b"glibc.pthread.rseq=";
const SETTING: &str = "glibc.pthread.rseq=0";

/// Sets the variable of each rank, unless it says something of that already.
pub(super) fn suit_switches(plan: &mut Plan) {
    // Elsewhere a rank asks the kernel on which processor it is when the C library is not told.
    let asks_cheaply = cfg!(target_arch = "x86_64");
    if !asks_cheaply || plan.cores.is_none_or(|cores| plan.ranks.len() <= cores) {
        return;
    }
    for rank in &mut plan.ranks {
        let own =
            rank.variables.iter().rev().find(|(name, _)| name == VARIABLE).map(|(_, value)| value.clone());
        if own.as_ref().is_some_and(|value| value.is_empty()) {
            // Nothing is to be set.
            continue;
        }
        let inherited = || rank.inherit_environment.then(|| std::env::var_os(VARIABLE)).flatten();
        if let Some(value) = with_setting(own.or_else(inherited).as_deref()) {
            rank.variables.push((VARIABLE.into(), value));
        }
    }
}

/// The tunables with the setting, if they do not say what it is.
fn with_setting(tunables: Option<&OsStr>) -> Option<OsString> {
    let Some(tunables) = tunables.filter(|tunables| !tunables.is_empty()) else {
        return Some(SETTING.into());
    };
    if tunables.as_bytes().split(|&byte| byte == b':').any(|one| one.starts_with(NAME)) {
        return None;
    }
    let mut all = tunables.to_owned();
    all.push(":");
    all.push(SETTING);
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_added_to_what_is_there_unless_that_says_it() {
        let with = |text: &str| with_setting(Some(text.as_ref())).map(|all| all.into_string().unwrap());
        assert_eq!(with_setting(None), Some(SETTING.into()));
        assert_eq!(with(""), Some(SETTING.to_owned()));
        assert_eq!(with("glibc.malloc.check=3"), Some(format!("glibc.malloc.check=3:{SETTING}")));
        assert_eq!(with("glibc.malloc.check=3:glibc.pthread.rseq=1"), None);
        assert_eq!(with("glibc.pthread.rseq=0:glibc.malloc.check=3"), None);
    }
}
