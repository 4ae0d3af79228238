//! The command line before the parser sees it.
//!
//! Other launchers write `-np 4`, `-bind-to core`, `-genv NAME VALUE`: one dash before long names, values in the next
//! words. Here each option becomes `--name=value`, up to the program, and the options of other launchers that mean
//! nothing here are taken out. What the options are is the parser's business: the grammar is read off it.
//! The words from the program on are never looked at, let alone changed.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::{ArgAction, Command};

use super::foreign::{self, Foreign};

/// Options that take a name and a value in two words.
const PAIRS: [&str; 2] = ["genv", "env"];

const TEE: &str = "torchrun's --tee 3 is --output DIR/%r.out --error DIR/%r.err --tee";

/// The options that the parser knows.
pub(super) struct Grammar {
    longs: HashMap<String, Shape>,
    shorts: HashMap<char, Shape>,
}

#[derive(Clone, PartialEq, Eq)]
struct Shape {
    /// The name by which the parser is told.
    name: String,
    values: Values,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    None,
    /// Only behind an equals sign.
    Attached,
    One,
    /// NAME=VALUE, or both in words of their own.
    Pair,
}

/// A command line in two halves.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Split {
    /// Options as the parser understands them.
    pub(super) options: Vec<OsString>,
    /// Their names.
    pub(super) names: Vec<String>,
    /// What was taken out, as it was written, and why it has no effect.
    pub(super) ignored: Vec<Ignored>,
    /// Index of the first word that is no option.
    pub(super) program: usize,
    /// It was preceded by `--`.
    pub(super) separated: bool,
}

/// An option without effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ignored {
    pub(super) written: String,
    pub(super) why: &'static str,
}

/// Why a command line cannot be split.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    /// An option that nobody knows, and the one that may be meant.
    Unknown { word: String, similar: Option<String> },
    /// An option of another launcher that cannot mean anything here, and what to do instead.
    Refused { word: String, help: &'static str },
}

impl Grammar {
    /// Reads the options off the parser, which must have been built.
    pub(super) fn of(parser: &Command) -> Self {
        let (mut longs, mut shorts) = (HashMap::new(), HashMap::new());
        for option in parser.get_arguments().filter(|argument| !argument.is_positional()) {
            let Some(name) = option.get_long() else { continue };
            let attached = option.get_num_args().is_some_and(|number| number.min_values() == 0);
            let values = match option.get_action() {
                ArgAction::Set | ArgAction::Append if attached => Values::Attached,
                ArgAction::Set | ArgAction::Append if PAIRS.contains(&name) => Values::Pair,
                ArgAction::Set | ArgAction::Append => Values::One,
                _ => Values::None,
            };
            let shape = Shape { name: name.to_owned(), values };
            let aliases = option.get_all_aliases().unwrap_or_default();
            longs.extend(aliases.into_iter().chain([name]).map(|name| (name.to_owned(), shape.clone())));
            let letters = option.get_all_short_aliases().unwrap_or_default();
            shorts.extend(letters.into_iter().chain(option.get_short()).map(|short| (short, shape.clone())));
        }
        Self { longs, shorts }
    }

    /// Whether the parser knows an option by the name that [`Split::names`] gives it.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.longs.contains_key(name)
    }

    /// Splits the words, which do not contain the launcher's own name.
    pub(super) fn split(&self, words: &[OsString]) -> Result<Split, Mistake> {
        let mut split = Split::default();
        let mut rest = Rest { words, next: 0 };
        loop {
            split.program = rest.next;
            let Some(word) = rest.words.get(rest.next) else { return Ok(split) };
            let bytes = word.as_bytes();
            if bytes == b"--" {
                split.program += 1;
                split.separated = true;
                return Ok(split);
            }
            if !bytes.starts_with(b"-") || bytes == b"-" {
                return Ok(split);
            }
            rest.next += 1;
            self.option(word, &mut rest, &mut split)?;
        }
    }

    fn option(&self, word: &OsStr, rest: &mut Rest<'_>, split: &mut Split) -> Result<(), Mistake> {
        let bytes = word.as_bytes();
        let double = bytes.starts_with(b"--");
        let text = &bytes[if double { 2 } else { 1 }..];
        let (name, value) = match text.iter().position(|&byte| byte == b'=') {
            Some(equals) => (&text[..equals], Some(&text[equals + 1..])),
            None => (text, None),
        };
        // Scripts of some launchers write underscores.
        let name = String::from_utf8_lossy(name).replace('_', "-");
        let is_word = double || name.chars().count() > 1;
        if let Some(shape) = self.longs.get(&name).filter(|_| is_word) {
            if shape.name == "tee" && value.is_none() && rest.begins_with_streams() {
                return Err(Mistake::Refused { word: "--tee with a value".into(), help: TEE });
            }
            split.push(shape, value, rest);
            return Ok(());
        }
        if let Some(shape) = self.short(&name).filter(|_| !double) {
            split.push(shape, value, rest);
            return Ok(());
        }
        match foreign::find(&name, double) {
            Some(Foreign::Ignored { words, why }) => {
                let words = if value.is_some() { words.saturating_sub(1) } else { words };
                split.ignore(word, rest.take(words), why);
                return Ok(());
            }
            Some(Foreign::Granted) => return Ok(()),
            Some(Foreign::Refused { help }) => {
                let word = word.to_string_lossy().into_owned();
                return Err(Mistake::Refused { word, help });
            }
            None => {}
        }
        if !double && self.cluster(text, rest, split) {
            return Ok(());
        }
        // `-c4`.
        let letter = name.trim_end_matches(|end: char| end.is_ascii_digit());
        if let Some(Foreign::Refused { help }) = foreign::find(letter, double) {
            let word = word.to_string_lossy().into_owned();
            return Err(Mistake::Refused { word, help });
        }
        Err(Mistake::Unknown { word: written(word), similar: self.similar(&name) })
    }

    fn short(&self, name: &str) -> Option<&Shape> {
        let mut letters = name.chars();
        let letter = letters.next()?;
        self.shorts.get(&letter).filter(|_| letters.next().is_none())
    }

    /// Letters in one word: `-lv`, `-ln 4`, `-n4`. A value in the same word must not begin with a letter, or a
    /// mistyped long name would become one.
    fn cluster(&self, text: &[u8], rest: &mut Rest<'_>, split: &mut Split) -> bool {
        let mut found = Vec::new();
        let mut value = None;
        for (index, &byte) in text.iter().enumerate() {
            let Some(shape) = self.shorts.get(&char::from(byte)) else { return false };
            found.push(shape);
            if shape.values != Values::None {
                value = Some(&text[index + 1..]).filter(|value| !value.is_empty());
                break;
            }
        }
        if value.is_some_and(|value| value[0].is_ascii_alphabetic()) {
            return false;
        }
        let value = value.map(|value| value.strip_prefix(b"=").unwrap_or(value));
        let last = found.len() - 1;
        for (index, shape) in found.into_iter().enumerate() {
            split.push(shape, value.filter(|_| index == last), rest);
        }
        true
    }

    /// The known option whose name is most like this one.
    fn similar(&self, name: &str) -> Option<String> {
        let names = self.longs.keys().map(String::as_str).chain(foreign::names());
        let names = names.filter(|known| known.len() > 1);
        let likeness = |known: &str| (strsim::jaro_winkler(name, known) * 1000.0) as u32;
        // The same among equals in every run.
        let best = names.map(|known| (likeness(known), known)).max()?;
        (best.0 > 800).then(|| format!("--{}", best.1))
    }
}

/// The part of an unknown option that names it.
fn written(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    text.split_once('=').map_or(&*text, |(name, _)| name).to_owned()
}

/// The words that are not yet looked at.
struct Rest<'w> {
    words: &'w [OsString],
    next: usize,
}

impl<'w> Rest<'w> {
    /// Up to `count` words.
    fn take(&mut self, count: usize) -> &'w [OsString] {
        let end = (self.next + count).min(self.words.len());
        let taken = &self.words[self.next..end];
        self.next = end;
        taken
    }

    /// Whether the next word says which streams are meant as torchrun does, `3` or `0:1,1:2`: taken for a program,
    /// it would be looked for in vain.
    fn begins_with_streams(&self) -> bool {
        let is_part = |byte: &u8| byte.is_ascii_digit() || b":,".contains(byte);
        self.words.get(self.next).is_some_and(|word| word.as_bytes().iter().all(is_part) && !word.is_empty())
    }

    /// The next word if it can be a value. What looks like an option is none: its value was forgotten.
    fn value(&mut self) -> Option<&'w [u8]> {
        let word = self.words.get(self.next)?.as_bytes();
        let option = word.len() > 1 && word[0] == b'-' && !word[1].is_ascii_digit();
        if option {
            return None;
        }
        self.next += 1;
        Some(word)
    }
}

impl Split {
    fn push(&mut self, shape: &Shape, attached: Option<&[u8]>, rest: &mut Rest<'_>) {
        let pair;
        let value = match (shape.values, attached) {
            (Values::None | Values::Attached, value) => value,
            (Values::One, value) => value.or_else(|| rest.value()),
            (Values::Pair, None) => {
                pair = Self::pair(rest);
                pair.as_deref()
            }
            (Values::Pair, value) => value,
        };
        let mut option = format!("--{}", shape.name).into_bytes();
        if let Some(value) = value {
            option.push(b'=');
            option.extend_from_slice(value);
        }
        self.options.push(OsString::from_vec(option));
        self.names.push(shape.name.clone());
    }

    /// `NAME=VALUE` in one word, or NAME and VALUE in two; the value may begin with a dash.
    fn pair(rest: &mut Rest<'_>) -> Option<Vec<u8>> {
        let name = rest.value()?;
        if name.contains(&b'=') {
            return Some(name.to_vec());
        }
        let value = rest.take(1).first()?;
        Some([name, b"=", value.as_bytes()].concat())
    }

    fn ignore(&mut self, option: &OsStr, values: &[OsString], why: &'static str) {
        let words = [option].into_iter().chain(values.iter().map(OsString::as_os_str));
        let written = words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
        self.ignored.push(Ignored { written, why });
    }
}
