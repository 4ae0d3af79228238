//! What rank 0 prints: a table as the OSU programs print them, or one JSON document.

use crate::arguments::Format;
use crate::timing::Summary;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Microseconds,
    MegabytesPerSecond,
    Milliseconds,
    /// Of one core.
    Percent,
    Bytes,
}

/// The columns of a table, see [`Output::row`] and [`Output::checked`].
pub(crate) const VALUES: &str = "size median min max";
pub(crate) const VALUES_AND_RATE: &str = "size median min max messages/s";
pub(crate) const CHECKED: &str = "size content";

/// Prints on rank 0, and nothing elsewhere.
pub(crate) struct Output {
    format: Option<Format>,
    tests: usize,
    rows: usize,
}

impl Output {
    pub(crate) fn begin(rank: usize, format: Format) -> Self {
        let format = (rank == 0).then_some(format);
        if format == Some(Format::Json) {
            print!("{{\"program\":\"ranks {}\",\"tests\":[", env!("CARGO_PKG_VERSION"));
        }
        Self { format, tests: 0, rows: 0 }
    }

    pub(crate) fn begin_test(&mut self, name: &str, ranks: usize, unit: Unit, columns: &str) {
        let (unit, better) = match unit {
            Unit::Microseconds => ("us", "lower"),
            Unit::MegabytesPerSecond => ("MB/s", "higher"),
            Unit::Milliseconds => ("ms", "lower"),
            Unit::Percent => ("%", "lower"),
            Unit::Bytes => ("bytes", "lower"),
        };
        match self.format {
            Some(Format::Table) => {
                println!("# {name}, {ranks} ranks, {unit} ({better} is better)");
                println!("# {columns}");
            }
            Some(Format::Json) => {
                let comma = if self.tests > 0 { "," } else { "" };
                print!(
                    "{comma}\n{{\"test\":\"{name}\",\"ranks\":{ranks},\"unit\":\"{unit}\",\"better\":\"{better}\",\"rows\":["
                );
            }
            None => {}
        }
        self.tests += 1;
        self.rows = 0;
    }

    /// The row of one size; `rate` is in messages per second.
    pub(crate) fn row(&mut self, size: usize, summary: &Summary, rate: Option<f64>) {
        let Summary { median, min, max, batches } = summary;
        match self.format {
            Some(Format::Table) => {
                print!("{size:<9} {median:>12.4} {min:>12.4} {max:>12.4}");
                println!("{}", rate.map_or(String::new(), |rate| format!(" {rate:>14.0}")));
            }
            Some(Format::Json) => {
                let comma = if self.rows > 0 { "," } else { "" };
                print!(
                    "{comma}\n {{\"size\":{size},\"median\":{median:.4},\"min\":{min:.4},\"max\":{max:.4}"
                );
                print!(",\"batches\":{batches}");
                print!("{}}}", rate.map_or(String::new(), |rate| format!(",\"rate\":{rate:.0}")));
            }
            None => {}
        }
        self.rows += 1;
    }

    /// The row of a size whose content was verified.
    pub(crate) fn checked(&mut self, size: usize, calls: usize) {
        match self.format {
            Some(Format::Table) => println!("{size:<9} intact"),
            Some(Format::Json) => {
                let comma = if self.rows > 0 { "," } else { "" };
                print!("{comma}\n {{\"size\":{size},\"intact\":{calls}}}");
            }
            None => {}
        }
        self.rows += 1;
    }

    pub(crate) fn end_test(&mut self) {
        if self.format == Some(Format::Json) {
            print!("]}}");
        }
    }

    pub(crate) fn end(self) {
        if self.format == Some(Format::Json) {
            println!("\n]}}");
        }
    }
}
