//! What a line of output begins with.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The beginning of every line of one stream; empty for lines as they are.
pub type Label = Vec<LabelPart>;

/// A part of a [`Label`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelPart {
    /// These bytes.
    Text(Vec<u8>),
    /// The time of day in UTC, as `2026-01-31T23:59:59.999Z`.
    Time,
}

/// Knows the time of day of every moment of this process, in steps of equal length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    begin: Instant,
    /// Since 1970.
    begin_of_day: Duration,
}

impl Clock {
    pub(super) fn new() -> Self {
        let begin_of_day = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { begin: Instant::now(), begin_of_day }
    }

    fn time(&self, now: Instant) -> Duration {
        self.begin_of_day + now.saturating_duration_since(self.begin)
    }
}

/// Appends a label as it is at `now`.
pub(super) fn push(output: &mut Vec<u8>, label: &[LabelPart], clock: Clock, now: Instant) {
    for part in label {
        match part {
            LabelPart::Text(text) => output.extend_from_slice(text),
            LabelPart::Time => output.extend_from_slice(text_of(clock.time(now)).as_bytes()),
        }
    }
}

/// A time since 1970 as RFC 3339 writes it.
fn text_of(time: Duration) -> String {
    let seconds = time.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = time.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of a day since 1970.
///
/// Years are counted from March, so that a leap day is the last of its year, and days from the year 0.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let days = days + 719_468;
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let january_or_later = month >= 10;
    let month = if january_or_later { month - 9 } else { month + 3 };
    (400 * era + year + u64::from(january_or_later), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_other_tools_write_them() {
        // As `date --utc --iso-8601=seconds --date=@N` has it.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000Z"),
            (1_798_761_599, "2026-12-31T23:59:59.000Z"),
            (4_102_444_800, "2100-01-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(text_of(Duration::from_secs(seconds)), text);
        }
        assert_eq!(text_of(Duration::from_millis(1007)), "1970-01-01T00:00:01.007Z");
    }

    #[test]
    fn a_label_is_its_parts_one_after_the_other() {
        let clock = Clock { begin: Instant::now(), begin_of_day: Duration::ZERO };
        let label = [LabelPart::Text(b"[".to_vec()), LabelPart::Time, LabelPart::Text(b"] ".to_vec())];
        let mut text = Vec::new();
        push(&mut text, &label, clock, clock.begin + Duration::from_secs(61));
        assert_eq!(text, b"[1970-01-01T00:01:01.000Z] ");
    }
}
