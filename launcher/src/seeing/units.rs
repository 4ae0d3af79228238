//! Figures as people read them: three digits and a unit.

use std::time::Duration;

/// `1.5 KiB`, `17 B`.
pub(crate) fn bytes(count: f64) -> String {
    scaled(count, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// `1.5 k`, `17`.
pub(crate) fn number(count: f64) -> String {
    scaled(count, 1000.0, &["", "k", "M", "G", "T", "P", "E"])
}

/// `1.50 ms`.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        100.0.. => format!("{seconds:.0} s"),
        1.0.. => format!("{seconds:.2} s"),
        1e-3.. => format!("{:.2} ms", seconds * 1e3),
        _ => format!("{:.1} µs", seconds * 1e6),
    }
}

/// `25 %`, of nothing `-`.
pub(crate) fn share(part: Duration, whole: Duration) -> String {
    match whole.as_secs_f64() {
        0.0 => "-".to_owned(),
        whole => format!("{:.0} %", 100.0 * part.as_secs_f64() / whole),
    }
}

fn scaled(count: f64, base: f64, units: &[&str]) -> String {
    let mut rest = count;
    let mut unit = 0;
    while rest >= base && unit + 1 < units.len() {
        rest /= base;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && rest < 100.0);
    format!("{rest:.digits$} {}", units[unit]).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_get_units() {
        assert_eq!([bytes(17.0), bytes(1536.0), bytes(200.0 * 1048576.0)], ["17 B", "1.5 KiB", "200 MiB"]);
        assert_eq!([number(0.0), number(999.0), number(1_500_000.0)], ["0", "999", "1.5 M"]);
        assert_eq!(bytes(u64::MAX as f64), "16.0 EiB");
        let times = [1, 1_500, 1_500_000, 1_500_000_000, 150_000_000_000].map(Duration::from_nanos);
        assert_eq!(times.map(time), ["0.0 µs", "1.5 µs", "1.50 ms", "1.50 s", "150 s"]);
        assert_eq!(share(Duration::from_secs(1), Duration::from_secs(4)), "25 %");
        assert_eq!(share(Duration::ZERO, Duration::ZERO), "-");
    }
}
