//! docs/reliability.md speaks of tests that exist.

use std::path::Path;

const PAGE: &str = include_str!("../../../docs/reliability.md");

/// The words between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_page_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let rows = PAGE.lines().skip_while(|line| !line.starts_with("## Tests"));
    let rows = rows.take_while(|line| !line.starts_with("## Figures")).filter(|line| line.starts_with("| "));
    let mut tests = 0;
    for row in rows.skip(1) {
        let mut source = String::new();
        let place = row.rsplit('|').nth(1).unwrap();
        for word in quoted(place) {
            if word.ends_with(".rs") {
                let file = if word.contains('/') {
                    root.join(word)
                } else {
                    root.join("launcher/tests/launcher").join(word)
                };
                source = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{word}: {error}"));
            } else if word.starts_with("ci/") {
                assert!(root.join(word).exists(), "{word} does not exist");
                tests += 1;
            } else {
                assert!(source.contains(&format!("fn {word}(")), "{word} is not where the page has it");
                tests += 1;
            }
        }
    }
    assert!(tests > 30, "{tests} tests found in the page");
}
