//! The tests that docs/SECURITY.md names for each bad frame of the protocol and for each limit exist.

use crate::{
    documents::section,
    prose::test_functions,
    sources::{read, root},
};

/// Returns the two cells of each row of a section's table.
fn rows(section: &str) -> Vec<(&str, &str)> {
    let lines = section.lines().filter(|line| line.starts_with("| "));
    lines.map(|line| line.trim_matches(['|', ' ']).split_once(" | ").unwrap()).collect()
}

#[test]
fn security_lists_every_bad_frame() {
    let (protocol, security) = (section("docs/PROTOCOL.md", "Bad frames"), section("docs/SECURITY.md", "Bad frames"));
    let received = |table| rows(table).into_iter().map(|(frame, _)| frame.to_owned()).collect::<Vec<_>>();
    assert_eq!(received(&protocol), received(&security));
}

#[test]
fn security_names_existing_tests() {
    let mut named = 0;
    for heading in ["Encryption and identity", "Bad frames", "Limits"] {
        let section = section("docs/SECURITY.md", heading);
        // Only the last table of a section names tests.
        for (subject, tests) in rows(section.rsplit("\n|---").next().unwrap()) {
            assert!(tests.contains("::"), "`{subject}` has no test");
            for test in tests.split(", ") {
                let (file, name) = test.trim_matches('`').split_once("::").unwrap_or_else(|| panic!("{test}"));
                let file = if file.ends_with(".rs") { file.to_owned() } else { format!("tests/tests/{file}.rs") };
                assert!(root().join(&file).is_file(), "{file} does not exist");
                assert!(test_functions(&read(&file)).iter().any(|test| test == name), "{file} has no test {name}");
                named += 1;
            }
        }
    }
    assert!(named > 150, "only {named} tests are named");
}

#[test]
fn routing_names_existing_tests() {
    let section = section("docs/ROUTING.md", "Verification");
    // Names have no spaces, and are the odd parts between backticks.
    let named: Vec<_> = section.split('`').skip(1).step_by(2).filter(|name| name.contains("::")).collect();
    for test in &named {
        let (file, name) = test.split_once("::").unwrap();
        let file = if file.ends_with(".rs") { file.to_owned() } else { format!("tests/tests/{file}.rs") };
        assert!(root().join(&file).is_file(), "{file} does not exist");
        // A macro declares some tests for each registry server.
        assert!(read(&file).contains(&format!("fn {name}(")), "{file} has no test {name}");
    }
    assert!(named.len() > 35, "only {} tests are named", named.len());
}

#[test]
fn security_lists_every_number_of_the_configs() {
    let limits = section("docs/SECURITY.md", "Limits");
    let choices = ["codec", "compression", "balance", "balancer", "zone", "wait_for_ready", "cache_directory", "seed"];
    for (file, config) in [
        ("rpc-server/src/config.rs", "ServerConfig"),
        ("rpc-client/src/config.rs", "ClientConfig"),
        ("rpc-core/src/transport/config.rs", "TransportConfig"),
        ("rpc-http/src/server/config.rs", "HttpConfig"),
        ("rpc-grpc/src/server/config.rs", "GrpcConfig"),
    ] {
        let text = read(file);
        let (_, fields) = text.split_once(&format!("pub struct {config} {{")).unwrap();
        let fields = fields.split("\n}").next().unwrap().lines();
        let fields: Vec<_> =
            fields.filter_map(|line| Some(line.strip_prefix("    pub ")?.split_once(':')?.0)).collect();
        assert!(fields.len() >= 4, "{config} has {fields:?}");
        for field in fields.into_iter().filter(|field| *field != "transport" && !choices.contains(field)) {
            assert!(limits.contains(&format!("(`{field}`")) || limits.contains(&format!("`{field}`)")), "{field}");
        }
    }
}
