//! docs/SECURITY.md names the test of each row of the protocol's table of bad frames and of each bound: they are there.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::{collections::BTreeSet, fs, path::Path};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn section(document: &str, heading: &str) -> String {
    let text = fs::read_to_string(root().join(document)).unwrap();
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    section.split("\n## ").next().unwrap().to_owned()
}

/// The cells of a section's table.
fn rows(section: &str) -> Vec<(&str, &str)> {
    let lines = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    lines.map(|line| line.trim_matches(['|', ' ']).split_once(" | ").unwrap()).collect()
}

#[test]
fn every_bad_frame_has_its_row() {
    let (protocol, security) = (section("docs/PROTOCOL.md", "Bad frames"), section("docs/SECURITY.md", "Bad frames"));
    let arrives = |table| rows(table).into_iter().map(|(what, _)| what.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(arrives(&protocol), arrives(&security));
}

#[test]
fn every_test_that_is_named_is_there() {
    let mut named = 0;
    for heading in ["Bad frames", "Bounds"] {
        let section = section("docs/SECURITY.md", heading);
        for (what, tests) in rows(&section) {
            assert!(tests.contains("::"), "`{what}` has no test");
            for test in tests.split(", ") {
                let (file, name) = test.trim_matches('`').split_once("::").unwrap_or_else(|| panic!("{test}"));
                let file = if file.ends_with(".rs") { file.to_owned() } else { format!("tests/tests/{file}.rs") };
                let text = fs::read_to_string(root().join(&file)).unwrap_or_else(|_| panic!("{file} is not there"));
                assert!(is_a_test(&text, name), "{file} has no test {name}");
                named += 1;
            }
        }
    }
    assert!(named > 80, "{named}");
}

/// Whether a function of this name has the attribute of a test, or is a property.
fn is_a_test(text: &str, name: &str) -> bool {
    let Some(at) = text.find(&format!("fn {name}(")) else { return false };
    let before = text[..at].trim_end().trim_end_matches("async").trim_end();
    let attributes = before.rsplit('}').next().unwrap();
    attributes.contains("test]") || attributes.contains("test(")
}
