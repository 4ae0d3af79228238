//! Completions, the manual page, the help: all made from the parser.

use std::process::{Command, Stdio};

use crate::harness::{line, shmrun};

/// Long options that the help names.
fn options() -> Vec<String> {
    let help = line("--help").run().code(0).silent().stdout;
    let words =
        help.lines().filter(|line| line.trim_start().starts_with('-')).flat_map(str::split_whitespace);
    let options = words.filter_map(|word| word.strip_prefix("--"));
    options.map(|word| word.trim_end_matches(|c: char| !c.is_ascii_alphabetic()).to_owned()).collect()
}

#[test]
fn help_is_grouped_and_has_examples() {
    let options = options();
    assert!(options.len() > 30 && options.iter().any(|option| option == "bind-to"), "{options:?}");
    for option in ["-h", "--help", "-help"] {
        let run = line(option).run().code(0).silent();
        for part in [
            "Job:",
            "Placement:",
            "Environment:",
            "Input and output:",
            "End of the job:",
            "Debugging:",
            "Information:",
            "Tools:",
            "Examples:",
            "shmrun -n 4 ./app",
            "completions",
            "126",
        ] {
            run.check(run.stdout.contains(part), part);
        }
        let long = run.stdout.lines().find(|line| line.chars().count() > 120);
        assert_eq!(long, None, "a line too long for a screen");
    }
}

#[test]
fn the_manual_page_names_every_option() {
    let page = line("man").run().code(0).silent().stdout;
    assert!(page.contains(".TH shmrun 1"), "{page}");
    for option in options() {
        // Dashes are escaped.
        let written = option.replace('-', "\\-");
        assert!(page.contains(&format!("\\-\\-{written}")), "{option} is missing");
    }
}

#[test]
fn completions_are_scripts_of_each_shell() {
    for (shell, check) in
        [("bash", "bash -n"), ("zsh", "zsh -n"), ("fish", "fish -n"), ("elvish", ""), ("powershell", "")]
    {
        let script = line(&format!("completions {shell}")).run().code(0).silent().stdout;
        assert!(script.contains("bind-to"), "{shell}: {script}");
        let Some((program, option)) = check.split_once(' ') else { continue };
        let Ok(mut child) = Command::new(program).arg(option).stdin(Stdio::piped()).spawn() else {
            eprintln!("SKIPPED: no {shell}");
            continue;
        };
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{shell}: {script}");
    }
    line("completions hat").run().code(125).says("'hat'").says("bash");
}

#[test]
fn a_shell_completes_options() {
    let words = line("completions bash").words().join(" ");
    let script = format!(
        "source <({words}); COMP_WORDS=(shmrun --bin); COMP_CWORD=1; _shmrun shmrun --bin shmrun; echo ${{COMPREPLY[*]}}"
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "--bind-to\n", "{output:?}");
}

#[test]
fn a_program_named_like_a_tool_is_run() {
    let program = "#!/bin/sh\necho program $*\n";
    for words in
        [&["-n", "1", "--", "./man", "x"][..], &["./man", "x"], &["-n", "1", "man", "x"], &["--", "man", "x"]]
    {
        let run =
            shmrun(words).file("man", program, 0o755).env("PATH", ".:/bin:/usr/bin").run().code(0).silent();
        assert_eq!(run.stdout.lines().next(), Some("program x"), "{words:?}");
    }
    line("man x").run().code(125).says("'x'");
}
