//! A program and all that it is executed with, in the form that the kernel takes.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{env, io, iter};

/// What a rank executes.
pub(super) struct Program<'a> {
    /// The places where it may be, to be tried in this order.
    pub(super) files: Vec<CString>,
    pub(super) arguments: Vec<CString>,
    pub(super) environment: Vec<&'a CStr>,
    pub(super) directory: Option<CString>,
}

/// A variable of an environment. Ranks share most of them, so they are put into words once.
pub(super) struct Variable {
    name: OsString,
    /// `NAME=value`
    text: CString,
}

/// The search path of an environment that has none, as in glibc.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

impl<'a> Program<'a> {
    /// A program to be executed in `directory`, `None` for the current one. Of several variables of one name the
    /// last counts. Without a slash in its name the program is looked up in PATH as these variables have it.
    pub(super) fn new(
        file: &OsStr,
        arguments: &[OsString],
        variables: impl IntoIterator<Item = &'a Variable>,
        directory: Option<&Path>,
    ) -> io::Result<Self> {
        let pair = |variable: &'a Variable| (variable.name.as_os_str(), variable.text.as_c_str());
        let environment: BTreeMap<_, _> = variables.into_iter().map(pair).collect();
        let path = environment.get(OsStr::new("PATH")).map(|text| &text.to_bytes()["PATH=".len()..]);
        let words = iter::once(file).chain(arguments.iter().map(OsString::as_os_str));
        Ok(Self {
            files: places(file, path).into_iter().map(string).collect::<Result<_, _>>()?,
            arguments: words.map(string).collect::<Result<_, _>>()?,
            environment: environment.into_values().collect(),
            directory: directory.map(string).transpose()?,
        })
    }
}

fn places(file: &OsStr, path: Option<&[u8]>) -> Vec<PathBuf> {
    if file.as_bytes().contains(&b'/') {
        return vec![file.into()];
    }
    let path = path.map_or(OsStr::new(DEFAULT_PATH), OsStr::from_bytes);
    env::split_paths(path).map(|directory| directory.join(file)).collect()
}

/// The variables of this process.
pub(super) fn own_variables() -> io::Result<Vec<Variable>> {
    env::vars_os().map(|(name, value)| variable(name, value)).collect()
}

pub(super) fn variable(name: impl Into<OsString>, value: impl AsRef<OsStr>) -> io::Result<Variable> {
    let name = name.into();
    let mut text = name.clone();
    text.push("=");
    text.push(value);
    Ok(Variable { name, text: string(text)? })
}

fn string(text: impl AsRef<OsStr>) -> io::Result<CString> {
    Ok(CString::new(text.as_ref().as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_several_variables_counts() {
        let variables = [("A", "1"), ("PATH", "/a:/b"), ("A", "2")].map(|(n, v)| variable(n, v).unwrap());
        let program = Program::new(OsStr::new("app"), &[], &variables, None).unwrap();
        assert_eq!(program.environment, [c"A=2", c"PATH=/a:/b"]);
        assert_eq!(program.files, [c"/a/app".to_owned(), c"/b/app".to_owned()]);
    }

    #[test]
    fn a_path_is_not_looked_up_and_no_nul_gets_through() {
        let file = |name| Program::new(OsStr::new(name), &[], &[], None).map(|program| program.files);
        assert_eq!(file("./app").unwrap(), [c"./app".to_owned()]);
        assert_eq!(file("app").unwrap()[0], c"/bin/app".to_owned());
        assert_eq!(file("a\0b").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
