//! Several programs in one job: `A : B` on the command line, or lines of a file.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The words up to a `:` of its own, and those behind it. Behind `--` all words belong to the program.
pub(super) fn cut(words: &[OsString], separated: bool) -> (&[OsString], Option<&[OsString]>) {
    match words.iter().position(|word| word == ":").filter(|_| !separated) {
        Some(colon) => (&words[..colon], Some(&words[colon + 1..])),
        None => (words, None),
    }
}

/// The programs in a file: words of each line that is not empty, with the line's number.
pub(super) fn read(file: &Path) -> Result<Vec<(usize, Vec<OsString>)>> {
    let text =
        std::fs::read(file).with_context(|| format!("cannot read the programs in {}", file.display()))?;
    let mut programs = Vec::new();
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let words = words(line).with_context(|| format!("{}, line {}", file.display(), index + 1))?;
        if !words.is_empty() {
            programs.push((index + 1, words));
        }
    }
    if programs.is_empty() {
        bail!("{} names no program", file.display());
    }
    Ok(programs)
}

/// Splits a line as a shell does: blanks, quotes, backslashes, and a comment behind `#`.
pub(crate) fn words(line: &[u8]) -> Result<Vec<OsString>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (Some(open), _) if byte == open => quote = None,
            (Some(b'\''), _) => word.get_or_insert_default().push(byte),
            (_, b'\\') => {
                let Some(next) = bytes.next() else { bail!("nothing follows the backslash at its end") };
                // Within quotes a shell keeps the backslash before most characters.
                if quote.is_some() && !matches!(next, b'"' | b'\\' | b'$' | b'`') {
                    word.get_or_insert_default().push(b'\\');
                }
                word.get_or_insert_default().push(next);
            }
            (Some(_), _) => word.get_or_insert_default().push(byte),
            (None, b'\'' | b'"') => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (None, b' ' | b'\t' | b'\r') => words.extend(word.take()),
            (None, b'#') if word.is_none() => break,
            (None, _) => word.get_or_insert_default().push(byte),
        }
    }
    if let Some(quote) = quote {
        bail!("a {} is not closed", char::from(quote));
    }
    words.extend(word);
    Ok(words.into_iter().map(OsString::from_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_a_shell_does() {
        let split = |line: &str| words(line.as_bytes()).unwrap();
        assert_eq!(split("-n 2 ./a  x"), ["-n", "2", "./a", "x"]);
        assert_eq!(split(r#"a 'b c' "d \" e" f\ g '' h"i"j"#), ["a", "b c", "d \" e", "f g", "", "hij"]);
        assert_eq!(split("a#b # c"), ["a#b"]);
        assert_eq!(split("# nothing"), [""; 0]);
        assert!(words(b"'a").unwrap_err().to_string().contains("not closed"));
        assert!(words(b"a\\").is_err());
    }

    #[test]
    fn a_colon_of_its_own_ends_a_program() {
        let line = ["a", "b:c", ":", "d"].map(OsString::from);
        let (first, rest) = cut(&line, false);
        assert_eq!((first.len(), rest.map(<[_]>::len)), (2, Some(1)));
        assert_eq!(cut(&line, true), (&line[..], None));
    }
}
