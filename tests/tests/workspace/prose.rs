//! Checks comments and names against the rules of `docs/STYLE.md`.

use crate::sources::{FILES, identifiers, masked, shown};

/// The first words of comments that consist of a headless relative clause.
const HEADLESS: [&str; 5] = ["What", "Who", "Whoever", "Nobody", "Somebody"];

/// Returns whether a line is a comment that starts with one of [`HEADLESS`] and is not a question.
fn is_headless(line: &str) -> bool {
    let Some(rest) = line.trim_start().strip_prefix("//") else { return false };
    let rest = rest.strip_prefix(['/', '!']).unwrap_or(rest);
    let Some((word, rest)) = rest.strip_prefix(' ').and_then(|rest| rest.split_once(' ')) else { return false };
    HEADLESS.contains(&word) && !rest.contains('?')
}

#[test]
fn comments_have_subjects() {
    let mut found = Vec::new();
    for (path, text) in FILES.iter() {
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| is_headless(line)) {
            found.push(format!("{}:{number}: {}", shown(path), line.trim()));
        }
    }
    assert!(found.is_empty(), "{} comments:\n{}", found.len(), found.join("\n"));
}

#[test]
fn headless_comments_are_recognized() {
    for line in ["// Who calls.", "    /// What is refused costs", "//! Nobody else."] {
        assert!(is_headless(line), "{line}");
    }
    for line in ["// What is it?", "// Whatever comes.", "//What", "let a; // Who calls.", "// The caller."] {
        assert!(!is_headless(line), "{line}");
    }
}

/// Former names that the terms of `docs/GLOSSARY.md` replace, each with the only crate to which the ban applies, if any.
const FORBIDDEN: [(&str, Option<&str>); 14] = [
    ("Apart", None),
    ("Papers", None),
    ("Surroundings", None),
    ("Fate", None),
    ("Outlook", None),
    ("Entrance", None),
    ("Me", None),
    ("Kicks", None),
    ("Doubt", None),
    ("Letter", None),
    ("upheavals", None),
    ("Tally", Some("rpc-client")),
    ("Chance", Some("rpc-client")),
    ("Channels", Some("rpc-client")),
];

#[test]
fn identifiers_use_the_agreed_terms() {
    let mut found = Vec::new();
    for (path, text) in FILES.iter() {
        let path = shown(path);
        for (number, line) in (1..).zip(masked(text).lines()) {
            let words: Vec<_> = identifiers(line).collect();
            let applies = |name: &&(&str, Option<&str>)| {
                words.contains(&name.0) && name.1.is_none_or(|directory| path.starts_with(directory))
            };
            found.extend(FORBIDDEN.iter().filter(applies).map(|(name, _)| format!("{path}:{number}: {name}")));
        }
    }
    assert!(found.is_empty(), "{} uses:\n{}", found.len(), found.join("\n"));
}

const MAX_TEST_NAME: usize = 60;

/// Returns the names of the test functions in a file, including those in `proptest!`.
pub(crate) fn test_functions(text: &str) -> Vec<String> {
    let masked = masked(text);
    let mut names = Vec::new();
    let mut rest = masked.as_str();
    while let Some((_, after)) = rest.split_once("#[") {
        rest = after;
        let Some((attribute, mut item)) = after.split_once(']') else { break };
        let path = attribute.split(['(', ' ']).next().unwrap_or_default();
        if path != "test" && !path.ends_with("::test") {
            continue;
        }
        while let Some(attribute) = item.trim_start().strip_prefix("#[") {
            item = attribute.split_once(']').map_or("", |(_, after)| after);
        }
        let mut words = item.split_whitespace().take_while(|word| ["pub", "async", "fn"].contains(word));
        if words.any(|word| word == "fn") {
            let (_, signature) = item.split_once("fn ").unwrap();
            names.extend(identifiers(signature).next().map(str::to_owned));
        }
    }
    names
}

#[test]
fn test_names_have_at_most_60_characters() {
    let mut found = Vec::new();
    for (path, text) in FILES.iter() {
        let long = test_functions(text).into_iter().filter(|name| name.len() > MAX_TEST_NAME);
        found.extend(
            long.map(|name| format!("{}: {name} has {} characters, limit is {MAX_TEST_NAME}", shown(path), name.len())),
        );
    }
    assert!(found.is_empty(), "{} names:\n{}", found.len(), found.join("\n"));
}

#[test]
fn test_functions_are_found() {
    let text = "#[test]\nfn a() {} #[tokio::test(flavor = \"x\")]\n#[ignore = \"why\"]\nasync fn b() {}\n\
                proptest! { #[test] fn c(x in 0..1) {} }\n#[cfg(test)] mod d { fn e() {} } // #[test] fn f() {}";
    assert_eq!(test_functions(text), ["a", "b", "c"]);
}
