//! Calls, ranks, sizes and times as text.

use std::time::Duration;

use super::snapshot::{Awaits, Wait};

/// Operations whose name says whether they send or receive.
const PLAIN: [&str; 8] =
    ["send", "synchronous_send", "send_object", "recv", "recv_vec", "recv_object", "probe", "matched_probe"];
/// Operations that all ranks take part in which are left, and that wait for those that have not come.
const AGREEMENTS: [&str; 2] = ["agree", "shrink"];
/// Contexts of the users' own messages are even, those of collectives odd.
const COLLECTIVE_BIT: u32 = 1;

/// `rank 2`, `ranks 0, 1`, `ranks 0-3, 5`.
pub(super) fn ranks(list: &[usize]) -> String {
    let noun = if list.len() == 1 { "rank" } else { "ranks" };
    format!("{noun} {}", numbers(list))
}

/// Ascending numbers, three in a row and more as a range.
pub(super) fn numbers(list: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &number in list {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let words = ranges.into_iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first}-{last}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// `is` for one rank, `are` for several; any pair of words.
pub(super) fn verb<'a>(list: &[usize], one: &'a str, several: &'a str) -> &'a str {
    if list.len() == 1 { one } else { several }
}

/// `24 B`, `8.0 KiB`, `1.5 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

pub(super) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// `send(to 1, tag 7, 1.0 MiB)`, `wait: recv(from 0, tag 0)`, `barrier`.
pub(super) fn call(wait: &Wait) -> String {
    let operation = wait.operation;
    match &wait.awaits {
        Awaits::Message(source) => part(wait, "recv", message(wait, *source)),
        Awaits::Receiver(destination) => part(wait, "send", outgoing(wait, *destination)),
        Awaits::Entry(_) if wait.bytes > 0 => format!("{operation}({})", size(wait.bytes)),
        Awaits::Entry(_) | Awaits::Unknown => operation.to_owned(),
        Awaits::OneOf(others) if AGREEMENTS.contains(&operation) => {
            format!("{operation}(with {})", ranks(others))
        }
        Awaits::OneOf(others) => format!("{operation}(of {})", ranks(others)),
    }
}

/// A call that consists of sending or receiving, or a part of one that does more.
fn part(wait: &Wait, direction: &str, arguments: String) -> String {
    match wait.operation {
        operation if PLAIN.contains(&operation) => format!("{operation}({arguments})"),
        operation => format!("{operation}: {direction}({arguments})"),
    }
}

fn message(wait: &Wait, source: Option<usize>) -> String {
    let source = source.map_or_else(|| "any".to_owned(), |rank| rank.to_string());
    let room = if wait.bytes > 0 { format!(", {} B", wait.bytes) } else { String::new() };
    match wait.tag {
        _ if is_collective(wait) => format!("from {source}"),
        Some(tag) => format!("from {source}, tag {tag}{room}"),
        None => format!("from {source}, any tag{room}"),
    }
}

fn outgoing(wait: &Wait, destination: usize) -> String {
    let length = size(wait.bytes);
    match wait.tag {
        Some(tag) if !is_collective(wait) => format!("to {destination}, tag {tag}, {length}"),
        _ if wait.bytes > 0 => format!("to {destination}, {length}"),
        _ => format!("to {destination}"),
    }
}

fn is_collective(wait: &Wait) -> bool {
    wait.context & COLLECTIVE_BIT != 0
}

/// ` at src/main.rs:7:5`, or nothing where the place is not known.
pub(super) fn at(site: Option<&String>) -> String {
    site.map_or_else(String::new, |site| format!(" at {site}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_in_a_row_are_a_range() {
        assert_eq!(ranks(&[2]), "rank 2");
        assert_eq!(ranks(&[0, 1, 3]), "ranks 0, 1, 3");
        assert_eq!(ranks(&[0, 1, 2, 3, 7, 9, 10, 11]), "ranks 0-3, 7, 9-11");
        assert_eq!(numbers(&[]), "");
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(
            [0, 1023, 1024, 1 << 20, 3 << 30, u64::MAX].map(size),
            ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "3.0 GiB", "16777216.0 TiB"]
        );
    }
}
