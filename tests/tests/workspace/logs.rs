//! Checks that no log sink can end a task: each event of a library is logged inside `contained`.

use proc_macro2::{TokenStream, TokenTree};

use crate::{
    sources::{libraries, rust_files, shown},
    tokens::{render, without_tests},
};

/// The macros that pass an event to the program's subscriber.
const EVENTS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "event"];
/// The functions that catch a panic of the closure in their arguments.
const CONTAINING: [&str; 2] = ["contained", "log"];

/// Returns the events that are outside of the arguments of a containing function.
fn uncontained(tokens: TokenStream) -> Vec<String> {
    let trees: Vec<_> = tokens.into_iter().collect();
    let mut found = Vec::new();
    for (at, tree) in trees.iter().enumerate() {
        let TokenTree::Group(group) = tree else { continue };
        let before = |distance: usize| at.checked_sub(distance).map(|index| trees[index].to_string());
        let is_event =
            before(1).as_deref() == Some("!") && EVENTS.iter().any(|name| before(2).as_deref() == Some(name));
        let is_contained = CONTAINING.iter().any(|name| before(1).as_deref() == Some(name));
        if is_event {
            found.push(render(group.stream()));
        } else if !is_contained {
            found.extend(uncontained(group.stream()));
        }
    }
    found
}

#[test]
fn events_of_libraries_are_contained() {
    let mut found = Vec::new();
    for library in libraries() {
        for (path, text) in rust_files(&library.directory().join("src")) {
            let tokens = without_tests(text.parse().unwrap());
            found.extend(uncontained(tokens).into_iter().map(|event| format!("{}: {event}", shown(&path))));
        }
    }
    assert!(found.is_empty(), "log these inside of `rpc_core::contained`:\n{}", found.join("\n"));
}

#[test]
fn uncontained_events_are_found() {
    let text = r#"fn f() {
        contained(|| warn!(a, "one"));
        rpc_core::contained(|| { if b { tracing::info!("two") } });
        log(|| debug!("three"));
        match c { _ => tracing::error!(%d, "four"), }
        g(|| trace!("five"));
        debug_assert!(e, "six");
    }"#;
    assert_eq!(uncontained(text.parse().unwrap()), [r#"% d, "four""#, r#""five""#]);
}
