//! Every refusal by its words, without a compiler.

use std::str::FromStr;

use proc_macro2::TokenStream;

use crate::expand;

fn expanded(attribute: &str, function: &str) -> Result<String, String> {
    let [attribute, function] = [attribute, function].map(|text| TokenStream::from_str(text).unwrap());
    expand(attribute, function).map(|tokens| tokens.to_string()).map_err(|error| error.to_string())
}

const GOOD: &str = "fn ring(world: &World) {}";

#[track_caller]
fn refused(attribute: &str, function: &str, words: &str) {
    let message = expanded(attribute, function).unwrap_err();
    assert!(message.contains(words), "{message}");
}

#[test]
fn short_and_long_forms_are_the_same() {
    let short = expanded("4", GOOD).unwrap();
    assert_eq!(short, expanded("ranks = 4", GOOD).unwrap());
    assert_eq!(short, expanded("4,", GOOD).unwrap());
    let timed = expanded("4, timeout = \"10s\"", GOOD).unwrap();
    assert_eq!(timed, expanded("timeout = \"10000ms\", ranks = 4", GOOD).unwrap());
    assert!(timed.contains("from_millis (10000u64)"), "{timed}");
    let going_on = expanded("4, on_failure = \"continue\"", GOOD).unwrap();
    assert_eq!(going_on, expanded("on_failure = \"continue\", ranks = 4", GOOD).unwrap());
    assert!(going_on.contains("on_failure (:: ranks :: OnFailure :: Continue)"), "{going_on}");
    assert!(!short.contains("on_failure"), "{short}");
    assert!(expanded("4, on_failure = \"kill\"", GOOD).unwrap().contains("OnFailure :: Kill"));
    assert!(expanded("RANKS + 1", GOOD).unwrap().contains("RANKS + 1"));
}

#[test]
fn the_name_and_the_other_attributes_stay() {
    let test =
        expanded("2", "/// Doc.\n#[ignore = \"slow\"] pub(crate) fn r#loop(world: World) -> Result<()> {}");
    let test = test.unwrap();
    for words in
        ["# [doc = \" Doc.\"]", "ignore = \"slow\"", "pub (crate) fn r#loop ()", "\"loop\"", "run_with_world"]
    {
        assert!(test.contains(words), "{words:?} in {test}");
    }
}

#[test]
fn wrong_settings_are_named() {
    refused("", GOOD, "how many ranks? write #[ranks::test(4)]");
    refused("timeout = \"1s\"", GOOD, "how many ranks?");
    refused("0", GOOD, "1 or more");
    refused("-1", GOOD, "1 or more");
    refused("\"4\"", GOOD, "1 or more");
    refused("4.5", GOOD, "1 or more");
    refused("4, ranks = 4", GOOD, "`ranks` is given twice");
    refused("4, timeout = \"1s\", timeout = \"1s\"", GOOD, "`timeout` is given twice");
    refused("4, on_failure = \"kill\", on_failure = \"kill\"", GOOD, "`on_failure` is given twice");
    refused("4, on_failure = \"go on\"", GOOD, "`go on` is none of \"kill\" and \"continue\"");
    refused("4, on_failure = 1", GOOD, "expected string literal");
    refused("4, 5", GOOD, "needs its name");
    refused("timeout = \"1s\", 5", GOOD, "needs its name");
    refused("4, time = \"1s\"", GOOD, "no setting `time`: write #[ranks::test(4)]");
    refused("4 timeout = \"1s\"", GOOD, "expected `,`");
    for time in
        ["10", "0s", "ten s", "10 h", "", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615min"]
    {
        refused(&format!("4, timeout = {time:?}"), GOOD, &format!("`{time}` is no time: write"));
    }
}

#[test]
fn wrong_functions_are_refused() {
    refused("4", "fn ring() {}", "takes the world: write fn name(world: &World)");
    refused("4", "fn ring(world: &World, other: u32) {}", "nothing but the world");
    refused("4", "fn ring(&self) {}", "no method");
    refused("4", "fn ring(world: &mut World) {}", "not borrowed mutably");
    refused("4", "async fn ring(world: &World) {}", "not async");
    refused("4", "unsafe fn ring(world: &World) {}", "not unsafe");
    refused("4", "fn ring<T>(world: &World) {}", "not generic");
    refused("4", "#[test] fn ring(world: &World) {}", "remove #[test]");
    refused("4", "struct Ring;", "expected `fn`");
}
