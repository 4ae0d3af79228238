//! Spans of time on the command line.

use std::time::Duration;

/// Units by the seconds that they have.
const UNITS: [(&str, f64); 9] = [
    ("ms", 0.001),
    ("s", 1.0),
    ("sec", 1.0),
    ("m", 60.0),
    ("min", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
    ("us", 0.000_001),
    ("", 1.0),
];

const HELP: &str = "a time is written as 30 or 30s, 500ms, 1.5m, 2h, 1:30 (minutes:seconds) or 1:00:00";

/// `30`, `1.5m`, `500ms`, `1:30`, `1:00:00`: longer than nothing.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    positive(seconds(text))
}

/// The same, or nothing at all.
pub(super) fn parse_or_zero(text: &str) -> Result<Duration, String> {
    seconds(text).and_then(duration).ok_or_else(|| HELP.to_owned())
}

/// As srun has it: a number of its own is minutes; `D-HH`, `D-HH:MM` begin with days.
pub(super) fn parse_srun(text: &str) -> Result<Duration, String> {
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (days.parse::<u32>().ok(), rest),
        None => (None, text),
    };
    let seconds = match (days, rest.split(':').count(), rest.bytes().all(|byte| byte.is_ascii_digit())) {
        (None, _, _) if text.contains('-') => None,
        (None, 1, true) => clock(&format!("{rest}:0")),
        (None, ..) => self::seconds(rest),
        (Some(_), 1, _) => clock(&format!("{rest}:0:0")),
        (Some(_), 2, _) => clock(&format!("{rest}:0")),
        (Some(_), ..) => clock(rest),
    };
    positive(seconds.map(|seconds| seconds + 86_400.0 * f64::from(days.unwrap_or(0)))).map_err(|_| {
        "a time is written as srun has it: MINUTES, MM:SS, HH:MM:SS, DAYS-HH, or with a unit, 30s".to_owned()
    })
}

fn positive(seconds: Option<f64>) -> Result<Duration, String> {
    seconds.and_then(duration).filter(|time| !time.is_zero()).ok_or_else(|| HELP.to_owned())
}

fn duration(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

fn seconds(text: &str) -> Option<f64> {
    if text.contains(':') {
        return clock(text);
    }
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = text.strip_suffix(unit)?;
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    Some(number.parse::<f64>().ok()? * factor)
}

/// `MM:SS` or `HH:MM:SS`.
fn clock(text: &str) -> Option<f64> {
    let fields: Option<Vec<u32>> = text.split(':').map(|field| field.parse().ok()).collect();
    let fields = fields.filter(|fields| fields.len() <= 3)?;
    Some(fields.into_iter().fold(0.0, |sum, field| 60.0 * sum + f64::from(field)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, millis) in [
            ("30", 30_000),
            ("30s", 30_000),
            ("500ms", 500),
            ("1.5m", 90_000),
            ("2h", 7_200_000),
            ("1:30", 90_000),
            ("1:00:01", 3_601_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for wrong in
            ["", "x", "0", "-1", "1x", "1:2:3:4", "1e400", "inf", "nan", "99999999999999999999h", "s", ":"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_or_zero("0"), Ok(Duration::ZERO));
    }

    #[test]
    fn srun_counts_minutes() {
        for (text, seconds) in [
            ("10", 600),
            ("0:30", 30),
            ("1:00:00", 3600),
            ("1-0", 86_400),
            ("1-12:30", 131_400),
            ("2-0:0:1", 172_801),
            ("30s", 30),
        ] {
            assert_eq!(parse_srun(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "x", "0", "-1", "a-1", "1-", "1-x"] {
            assert!(parse_srun(wrong).is_err(), "{wrong}");
        }
    }
}
