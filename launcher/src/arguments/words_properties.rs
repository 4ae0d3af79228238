//! The pre-pass on made-up and on random command lines.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::LazyLock;

use clap::CommandFactory;
use proptest::prelude::*;

use super::words::{Grammar, Mistake, Split};
use super::{Request, Shmrun};

fn grammar() -> &'static Grammar {
    static GRAMMAR: LazyLock<Grammar> = LazyLock::new(|| {
        let mut parser = Shmrun::command();
        parser.build();
        Grammar::of(&parser)
    });
    &GRAMMAR
}

fn split(line: &str) -> Split {
    let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
    grammar().split(&words).unwrap()
}

fn mistake(line: &str) -> Mistake {
    let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
    grammar().split(&words).unwrap_err()
}

#[test]
fn one_dash_is_as_good_as_two() {
    for (line, options) in [
        ("-np 4 a", &["--np=4"][..]),
        ("-n 4 a", &["--np=4"]),
        ("-n4 a", &["--np=4"]),
        ("-n=4 a", &["--np=4"]),
        ("--np=4 a", &["--np=4"]),
        ("--n 4 a", &["--np=4"]),
        ("-nproc_per_node=4 a", &["--np=4"]),
        ("-bind-to core a", &["--bind-to=core"]),
        ("-genv A 1 a", &["--genv=A=1"]),
        ("-genv A=1 a", &["--genv=A=1"]),
        ("-x A=1 a", &["--variable=A=1"]),
        ("-x A a", &["--variable=A"]),
        ("-genv CFLAGS -O2 a", &["--genv=CFLAGS=-O2"]),
        ("-env A -1 a", &["--env=A=-1"]),
        ("-prepend-rank a", &["--tag"]),
        ("-lv a", &["--tag", "--verbose"]),
        ("-ln 2 a", &["--tag", "--np=2"]),
        ("-C/x a", &["--wdir=/x"]),
        ("-V a", &["--version"]),
        ("-help a", &["--help"]),
    ] {
        let split = split(line);
        assert_eq!(split.options, options, "{line}");
        assert_eq!(split.program, line.split(' ').count() - 1, "{line}");
    }
}

#[test]
fn a_forgotten_value_is_left_to_the_parser() {
    assert_eq!(split("-n --tag a").options, ["--np", "--tag"]);
    assert_eq!(split("-n").options, ["--np"]);
    assert_eq!(split("-genv A").options, ["--genv"]);
    // A number is a value even with a sign: the parser names it.
    assert_eq!(split("-n -3 a").options, ["--np=-3"]);
}

#[test]
fn the_program_begins_at_the_first_word_that_is_no_option() {
    assert_eq!(split("a -n 4").program, 0);
    assert_eq!(split("-n 4 - x").program, 2);
    let separated = split("-n 4 -- -l a");
    assert_eq!((separated.program, separated.separated), (3, true));
    assert_eq!(split("-n 4").program, 2);
}

#[test]
fn options_of_others_are_taken_out_with_their_values() {
    let split = split("--mca btl self -n 2 --allow-run-as-root -O --tune=f a");
    assert_eq!(split.options, ["--np=2"]);
    let written: Vec<_> = split.ignored.iter().map(|ignored| ignored.written.as_str()).collect();
    assert_eq!(written, ["--mca btl self", "--allow-run-as-root", "-O", "--tune=f"]);
}

#[test]
fn unknown_options_get_the_nearest_known_one() {
    for (line, nearest) in [
        ("--bindto core a", Some("--bind-to")),
        ("-bindto core a", Some("--bind-to")),
        ("--tag-outptu a", Some("--tag-output")),
        ("--alow-run-as-root a", Some("--allow-run-as-root")),
        ("-nq a", None),
        ("--zzzzzz a", None),
        ("-z a", None),
    ] {
        let Mistake::Unknown { similar, .. } = mistake(line) else { panic!("{line}") };
        assert_eq!(similar.as_deref(), nearest, "{line}");
    }
}

#[test]
fn a_bare_c_is_refused_in_every_spelling() {
    for line in ["-c 4 a", "-c4 a", "-c=4 a"] {
        let Mistake::Refused { help, .. } = mistake(line) else { panic!("{line}") };
        assert!(help.contains("--cpus-per-rank"), "{help}");
    }
}

/// Words that look like options more often than not, and any bytes.
fn word() -> impl Strategy<Value = OsString> {
    let fragments =
        "(-|--|)(n|np|c|l|x|genv|env|mca|bind-to|bind_to|tag|O|q|v|zz|:|=|=4|4|core|)(=|=4|=a=b|4|)";
    prop_oneof![
        6 => fragments.prop_map(OsString::from),
        1 => proptest::collection::vec(1u8..=255, 0..12).prop_map(OsString::from_vec),
        1 => Just(OsString::from("--")),
        1 => Just(OsString::from(":")),
    ]
}

/// Complete options, which take nothing of what follows.
fn option() -> impl Strategy<Value = Vec<OsString>> {
    const COMPLETE: &[&str] = &[
        "-n 4",
        "-np 4",
        "--np=4",
        "-n4",
        "-l",
        "--tag",
        "-lq",
        "-genv A 1",
        "-genv A=1",
        "-x A",
        "-env B -2",
        "--mca a b",
        "-O",
        "-bind-to core",
        "--bind_to=core",
        "-C/tmp",
        "--wdir /tmp",
        "-H localhost",
        "--standalone",
    ];
    proptest::sample::select(COMPLETE).prop_map(|text| text.split(' ').map(OsString::from).collect())
}

proptest! {
    /// Whatever is written: no panic, and the words from the program on are the last ones, untouched.
    #[test]
    fn any_line_is_split_or_refused(words in proptest::collection::vec(word(), 0..12)) {
        if let Ok(split) = grammar().split(&words) {
            prop_assert!(split.program <= words.len());
            if split.separated {
                prop_assert_eq!(&words[split.program - 1], "--");
            } else if let Some(program) = words.get(split.program) {
                prop_assert!(!program.as_encoded_bytes().starts_with(b"-") || program == "-");
            }
            prop_assert_eq!(split.options.len(), split.names.len());
            prop_assert!(split.options.iter().all(|option| option.as_encoded_bytes().starts_with(b"--")));
        }
    }

    /// Behind any complete options the program is found, and its words are the job's.
    #[test]
    fn the_words_of_the_program_are_never_changed(
        options in proptest::collection::vec(option(), 0..6),
        separated in any::<bool>(),
        arguments in proptest::collection::vec(word(), 0..8),
    ) {
        let mut words: Vec<OsString> = options.concat();
        words.insert(0, "shmrun".into());
        words.extend(["-n".into(), "1".into()]);
        words.extend(separated.then(|| OsString::from("--")));
        words.push("./program".into());
        words.extend(arguments.iter().cloned());
        let split = grammar().split(&words[1..]).unwrap();
        prop_assert_eq!(&words[1 + split.program], "./program");
        // A lone colon begins another program unless the program was separated.
        let kept = arguments.iter().position(|word| word == ":" && !separated).unwrap_or(arguments.len());
        if kept == arguments.len() {
            let Request::Job(job) = Shmrun::read(&words).unwrap() else { panic!("a program is no tool") };
            prop_assert_eq!(&*job.plan.ranks[0].arguments, &arguments[..]);
        }
    }
}
