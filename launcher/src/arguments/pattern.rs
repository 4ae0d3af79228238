//! Patterns with `%r`: for tags and names of files.

use std::fmt::Write;

/// What stands for what.
pub(super) const LETTERS: &str = "%r or %t: the rank, %n: the number of ranks, %h: this machine's name, \
     %s: out or err, %T: the time (in tags), %%: a %; %3r: the rank with 3 digits";

/// A parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// With at least so many digits.
    Rank(usize),
    Ranks,
    Host,
    Stream,
    Time,
}

/// What a pattern stands for: text, and the time between pieces of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// This text.
    Text(String),
    /// The time when it is written.
    Time,
}

/// What the letters stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'f> {
    pub(super) rank: usize,
    pub(super) ranks: usize,
    pub(super) host: &'f str,
    /// `out` or `err`.
    pub(super) stream: &'static str,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                push(&mut parts, letter);
                continue;
            }
            let mut width = String::new();
            while let Some(digit) = letters.next_if(char::is_ascii_digit) {
                width.push(digit);
            }
            let digits = width.parse().unwrap_or(0);
            match letters.next() {
                Some('r' | 't') if digits <= 9 => parts.push(Part::Rank(digits)),
                Some('n') if width.is_empty() => parts.push(Part::Ranks),
                Some('h') if width.is_empty() => parts.push(Part::Host),
                Some('s') if width.is_empty() => parts.push(Part::Stream),
                Some('T') if width.is_empty() => parts.push(Part::Time),
                Some('%') if width.is_empty() => push(&mut parts, '%'),
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(format!("%{width}{other} stands for nothing; {LETTERS}"));
                }
            }
        }
        Ok(Self(parts))
    }

    /// A pattern for names of files.
    pub(super) fn parse_file(text: &str) -> Result<Self, String> {
        let pattern = Self::parse(text)?;
        match text {
            "" => Err("a file needs a name".to_owned()),
            _ if pattern.0.contains(&Part::Time) => Err("%T stands for the time in tags only".to_owned()),
            _ if text.ends_with('/') => {
                Err(format!("a directory: name files in it, for example {text}%r.out"))
            }
            _ => Ok(pattern),
        }
    }

    /// The pieces for one stream of one rank.
    pub(super) fn pieces(&self, facts: Facts<'_>) -> Vec<Piece> {
        let mut pieces = vec![String::new()];
        for part in &self.0 {
            let last = pieces.last_mut().expect("there is always a last one");
            // Writing to a String cannot fail.
            let _ = match part {
                Part::Text(text) => write!(last, "{text}"),
                Part::Rank(digits) => write!(last, "{:0digits$}", facts.rank),
                Part::Ranks => write!(last, "{}", facts.ranks),
                Part::Host => write!(last, "{}", facts.host),
                Part::Stream => write!(last, "{}", facts.stream),
                Part::Time => {
                    pieces.push(String::new());
                    Ok(())
                }
            };
        }
        let mut texts = pieces.into_iter().map(Piece::Text);
        let first = texts.next();
        first.into_iter().chain(texts.flat_map(|text| [Piece::Time, text])).collect()
    }

    /// The text for one stream of one rank, without times.
    pub(super) fn text(&self, facts: Facts<'_>) -> String {
        let text = |piece| if let Piece::Text(text) = piece { text } else { String::new() };
        self.pieces(facts).into_iter().map(text).collect()
    }
}

fn push(parts: &mut Vec<Part>, letter: char) {
    match parts.last_mut() {
        Some(Part::Text(text)) => text.push(letter),
        _ => parts.push(Part::Text(letter.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pattern: &str) -> String {
        let facts = Facts { rank: 7, ranks: 12, host: "box", stream: "err" };
        Pattern::parse(pattern).unwrap().text(facts)
    }

    #[test]
    fn letters_stand_for_facts() {
        assert_eq!(text("%r of %n on %h: %s 100%%"), "7 of 12 on box: err 100%");
        assert_eq!(text("%t %3r %03t"), "7 007 007");
        assert_eq!(text("plain äöü"), "plain äöü");
    }

    #[test]
    fn other_letters_are_refused() {
        for wrong in ["%x", "%", "%3", "a%3n", "%99r", "%3%"] {
            let message = Pattern::parse(wrong).unwrap_err();
            assert!(message.contains("%r or %t"), "{message}");
        }
        assert!(Pattern::parse_file("log/%T").is_err());
        assert!(Pattern::parse_file("log/").unwrap_err().contains("log/%r.out"));
        assert!(Pattern::parse_file("").is_err());
    }

    #[test]
    fn the_time_stands_between_texts() {
        let facts = Facts { rank: 1, ranks: 2, host: "box", stream: "out" };
        let pieces = Pattern::parse("%T [%r] ").unwrap().pieces(facts);
        let expected = [Piece::Text(String::new()), Piece::Time, Piece::Text(" [1] ".to_owned())];
        assert_eq!(pieces, expected);
    }
}
