//! `docs/LIMITS.md` lists every limit: each row names an existing setting or constant and states its value.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use rpc_client::ClientConfig;
use rpc_core::transport::TransportConfig;
use rpc_grpc::GrpcConfig;
use rpc_http::{HttpCallerConfig, HttpConfig};
use rpc_im::{NodeConfig, edge::EdgeConfig};
use rpc_server::ServerConfig;
use syn::{ImplItem, Item, Type, ext::IdentExt};

use crate::{
    constants::{Constant, Constants, Value, place},
    documents::section,
    modules::Crate,
    sources::libraries,
};

const DOCUMENT: &str = "docs/LIMITS.md";

/// Returns the rows of the table in the section `heading`, each as the texts of its cells.
fn table(heading: &str) -> Vec<Vec<String>> {
    let section = section(DOCUMENT, heading);
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// Parses the name and the crate in a cell such as `` `Type::field` (rpc-core) ``.
fn symbol(cell: &str) -> Option<(&str, &str)> {
    let (name, package) = cell.strip_prefix('`')?.split_once("` (")?;
    Some((name, package.strip_suffix(')')?))
}

/// Returns the defaults of the public config types.
fn defaults() -> BTreeMap<&'static str, Value> {
    let (server, client, transport) = (ServerConfig::default(), ClientConfig::default(), TransportConfig::default());
    let (edge, grpc) = (EdgeConfig::default(), GrpcConfig::default());
    let (http, http_caller) = (HttpConfig::default(), HttpCallerConfig::default());
    let registry = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let node = NodeConfig::new(registry.block_on(rpc_registry::connect("memory:")).unwrap(), "ws://localhost/ws");
    let count = |number: usize| Value::Number(number as f64);
    let number = |number: u32| Value::Number(f64::from(number));
    let time = Value::Time;
    BTreeMap::from([
        ("ServerConfig::read_idle", time(server.read_idle)),
        ("ServerConfig::default_timeout", time(server.default_timeout)),
        ("ServerConfig::max_timeout", time(server.max_timeout)),
        ("ServerConfig::max_in_flight", count(server.max_in_flight)),
        ("ServerConfig::max_running", count(server.max_running)),
        ("ServerConfig::max_queued", count(server.max_queued)),
        ("ServerConfig::queue_time", time(server.queue_time)),
        ("ServerConfig::max_unattended", time(server.max_unattended)),
        ("ServerConfig::max_connections", count(server.max_connections)),
        ("ServerConfig::max_connections_per_ip", count(server.max_connections_per_ip)),
        ("ServerConfig::max_connection_age", time(server.max_connection_age)),
        ("ServerConfig::handshake_time", time(server.handshake_time)),
        ("ServerConfig::max_pings", number(server.max_pings)),
        ("ServerConfig::max_decompressed", count(server.max_decompressed)),
        ("ServerConfig::once_kept", time(server.once_kept)),
        ("ServerConfig::max_once_calls", count(server.max_once_calls)),
        ("ServerConfig::max_once_bytes", count(server.max_once_bytes)),
        ("ServerConfig::max_stream_memory", count(server.max_stream_memory)),
        ("ServerConfig::max_streams", count(server.max_streams)),
        ("ServerConfig::drain_notice", time(server.drain_notice)),
        ("ServerConfig::drain_timeout", time(server.drain_timeout)),
        ("HttpConfig::max_head", count(http.max_head)),
        ("HttpConfig::max_headers", count(http.max_headers)),
        ("HttpConfig::max_body", count(http.max_body)),
        ("HttpConfig::head_time", time(http.head_time)),
        ("HttpConfig::body_time", time(http.body_time)),
        ("HttpConfig::idle_time", time(http.idle_time)),
        ("HttpConfig::write_stall", time(http.write_stall)),
        ("HttpConfig::max_streams", number(http.max_streams)),
        ("HttpConfig::max_resets", count(http.max_resets)),
        ("HttpCallerConfig::timeout", time(http_caller.timeout)),
        ("HttpCallerConfig::connect_timeout", time(http_caller.connect_timeout)),
        ("HttpCallerConfig::max_connections", count(http_caller.max_connections)),
        ("HttpCallerConfig::idle_time", time(http_caller.idle_time)),
        ("HttpCallerConfig::max_body", count(http_caller.max_body)),
        ("HttpCallerConfig::retries", number(http_caller.retries)),
        ("ClientConfig::timeout", time(client.timeout)),
        ("ClientConfig::connect_timeout", time(client.connect_timeout)),
        ("ClientConfig::ping_after", time(client.ping_after)),
        ("ClientConfig::pong_timeout", time(client.pong_timeout)),
        ("ClientConfig::delisted_grace", time(client.delisted_grace)),
        ("ClientConfig::max_in_flight", count(client.max_in_flight)),
        ("ClientConfig::lanes", count(client.lanes)),
        ("ClientConfig::max_decompressed", count(client.max_decompressed)),
        ("ClientConfig::registry_patience", time(client.registry_patience)),
        ("ClientConfig::retries", number(client.retries)),
        ("ClientConfig::slow_start", time(client.slow_start)),
        ("TransportConfig::max_frame", number(transport.max_frame)),
        ("TransportConfig::outbox", count(transport.outbox)),
        ("TransportConfig::frame_time", time(transport.frame_time)),
        ("TransportConfig::write_stall", time(transport.write_stall)),
        ("TransportConfig::min_write", count(transport.min_write)),
        ("TransportConfig::stream_window", number(transport.stream_window)),
        ("TransportConfig::stream_memory", count(transport.stream_memory)),
        ("GrpcConfig::max_message", count(grpc.max_message)),
        ("GrpcConfig::request_memory", count(grpc.request_memory)),
        ("GrpcConfig::max_head", count(grpc.max_head)),
        ("GrpcConfig::max_streams", number(grpc.max_streams)),
        ("GrpcConfig::max_resets", count(grpc.max_resets)),
        ("GrpcConfig::max_idle_frames", number(grpc.max_idle_frames)),
        ("GrpcConfig::head_time", time(grpc.head_time)),
        ("GrpcConfig::message_time", time(grpc.message_time)),
        ("GrpcConfig::idle_time", time(grpc.idle_time)),
        ("GrpcConfig::ping_interval", time(grpc.ping_interval)),
        ("GrpcConfig::ping_time", time(grpc.ping_time)),
        ("GrpcConfig::write_stall", time(grpc.write_stall)),
        ("EdgeConfig::idle", time(edge.idle)),
        ("EdgeConfig::login_time", time(edge.login_time)),
        ("EdgeConfig::write_stall", time(edge.write_stall)),
        ("EdgeConfig::max_frame", count(edge.max_frame)),
        ("EdgeConfig::rate", number(edge.rate)),
        ("EdgeConfig::burst", number(edge.burst)),
        ("EdgeConfig::groups_per_hour", number(edge.groups_per_hour)),
        ("EdgeConfig::additions_per_hour", number(edge.additions_per_hour)),
        ("EdgeConfig::additions_of_user_per_day", number(edge.additions_of_user_per_day)),
        ("EdgeConfig::bytes_per_day", Value::Number(edge.bytes_per_day as f64)),
        ("EdgeConfig::max_connections", count(edge.max_connections)),
        ("EdgeConfig::max_connections_per_ip", count(edge.max_connections_per_ip)),
        ("EdgeConfig::max_entering", count(edge.max_entering)),
        ("EdgeConfig::max_entering_per_ip", count(edge.max_entering_per_ip)),
        ("EdgeConfig::max_rooms", count(edge.max_rooms)),
        ("EdgeConfig::max_rooms_per_ip", count(edge.max_rooms_per_ip)),
        ("EdgeConfig::http_time", time(edge.http_time)),
        ("NodeConfig::lease", time(node.lease)),
        ("NodeConfig::beat", time(node.beat)),
        ("NodeConfig::presence_delay", time(node.presence_delay)),
        ("NodeConfig::drain_rate", number(node.drain_rate)),
    ])
}

/// Returns whether the name of a constant contains `LIMIT` or `MAX` as a word.
fn is_limit(name: &str) -> bool {
    name.split('_').any(|word| word == "LIMIT" || word == "MAX")
}

/// Checks one row of the table of limits, and returns its error if it has one.
fn fault(row: &[String], constants: &Constants, defaults: &BTreeMap<&str, Value>) -> Option<String> {
    let [_, value, setting, _] = row else { return Some(format!("{} cells instead of 4", row.len())) };
    let Some((name, package)) = symbol(setting) else {
        return Some(format!("`{setting}` is not of the form `name` (crate)"));
    };
    let Some(stated) = Value::read(value) else { return Some(format!("`{value}` is not a quantity")) };
    let actual = match constants.settings.get(name) {
        Some(owner) if *owner != package => return Some(format!("{name} is a setting of {owner}")),
        Some(_) => defaults.get(name).cloned(),
        None => match constants.named(package, name)[..] {
            [constant] => constants.value(constant),
            [] => {
                let same = constants.all.iter().filter(|other| constants.value(other).as_ref() == Some(&stated));
                let same: Vec<_> = same.filter(|other| other.package == package).map(place).collect();
                return Some(format!(
                    "{name} ({package}) does not exist; constants with this value: {}",
                    same.join(", ")
                ));
            }
            ref several => {
                let several: Vec<_> = several.iter().map(|constant| place(constant)).collect();
                return Some(format!("{name} is ambiguous: {}", several.join(", ")));
            }
        },
    };
    match actual {
        None => Some(format!("this test cannot determine the value of {name} ({package})")),
        Some(actual) if actual != stated => Some(format!("{name} ({package}) is {actual}, the row has {value}")),
        Some(_) => None,
    }
}

#[test]
fn limits_are_those_of_the_code() {
    let (constants, defaults) = (Constants::of_libraries(), defaults());
    let rows = table("Limits");
    let mut faults: Vec<_> =
        rows.iter().filter_map(|row| Some((row.join(" | "), fault(row, &constants, &defaults)?))).collect();
    let named: Vec<_> = rows.iter().filter_map(|row| symbol(row.get(2)?)).collect();
    let mut seen = BTreeSet::new();
    faults.extend(
        named.iter().filter(|name| !seen.insert(**name)).map(|(name, _)| (format!("`{name}`"), "has two rows".into())),
    );
    for (setting, package) in &constants.settings {
        if !seen.contains(&(setting.as_str(), *package)) {
            faults.push((format!("`{setting}` ({package})"), "the setting has no row".into()));
        }
    }
    let of_rows: Vec<_> = named.iter().flat_map(|(name, package)| constants.named(package, name)).collect();
    // A row for a constant also covers its aliases and the constant of which it is an alias.
    let originals: Vec<_> = of_rows.iter().filter_map(|constant| constants.original(constant)).collect();
    let has_row = |constant: &Constant| of_rows.iter().chain(&originals).any(|other| std::ptr::eq(*other, constant));
    for constant in constants.all.iter().filter(|constant| is_limit(&constant.name)) {
        if !has_row(constant) && !constants.original(constant).is_some_and(has_row) {
            let value = constants.value(constant).map_or("?".to_owned(), |value| value.to_string());
            faults.push((place(constant), format!("the constant has no row; its value is {value}")));
        }
    }
    let hidden = constants.hidden.iter().filter(|name| is_limit(name.rsplit(' ').next().unwrap()));
    faults.extend(
        hidden
            .map(|name| (name.clone(), "the constant is inside a function; declare it in a module or an impl".into())),
    );
    let faults: Vec<_> = faults.into_iter().map(|(row, fault)| format!("{row}\n    {fault}")).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Returns the functions that create an error or status with the code `ResourceExhausted`, as `name (crate)`, with one
/// entry for each occurrence.
fn exhausted() -> Vec<String> {
    let mut found = Vec::new();
    for package in libraries() {
        let source = Crate::load(&package.library().unwrap().src_path, &|path| fs::read_to_string(path).ok());
        for (module, part) in &source.modules {
            let holder = module.last().cloned().unwrap_or_default();
            for item in &part.items {
                let functions: Vec<(String, TokenStream)> = match item {
                    Item::Fn(item) => vec![(format!("{holder}::{}", item.sig.ident.unraw()), item.to_token_stream())],
                    Item::Impl(block) => {
                        let holder = type_name(&block.self_ty).unwrap_or_else(|| holder.clone());
                        let functions = block.items.iter().filter_map(|item| match item {
                            ImplItem::Fn(item) => {
                                Some((format!("{holder}::{}", item.sig.ident.unraw()), item.to_token_stream()))
                            }
                            _ => None,
                        });
                        functions.collect()
                    }
                    _ => Vec::new(),
                };
                for (name, tokens) in functions {
                    let site = format!("{name} ({})", package.name);
                    found.extend(std::iter::repeat_n(site, count_made(tokens)));
                }
            }
        }
    }
    found.sort();
    found
}

/// Counts the occurrences of `Code::ResourceExhausted` before a comma: arguments, but not patterns or comparisons.
fn count_made(tokens: TokenStream) -> usize {
    let trees: Vec<_> = tokens.into_iter().collect();
    let inside = trees.iter().map(|tree| match tree {
        TokenTree::Group(group) => count_made(group.stream()),
        _ => 0,
    });
    let is = |tree: Option<&TokenTree>, text: &str| tree.is_some_and(|tree| tree.to_string() == text);
    let here = (0..trees.len()).filter(|&at| {
        is(trees.get(at), "Code") && is(trees.get(at + 3), "ResourceExhausted") && is(trees.get(at + 4), ",")
    });
    inside.sum::<usize>() + here.count()
}

fn type_name(of: &Type) -> Option<String> {
    let Type::Path(path) = of else { return None };
    Some(path.path.segments.last()?.ident.unraw().to_string())
}

#[test]
fn resource_exhausted_sites_are_listed() {
    let limits = table("Limits");
    let value = |setting: &str| {
        let named =
            limits.iter().find(|row| row.get(2).and_then(|cell| symbol(cell)).is_some_and(|(name, _)| name == setting));
        named.unwrap_or_else(|| panic!("the table of limits has no row for {setting}"))[1].as_str()
    };
    let mut listed = Vec::new();
    for row in table("ResourceExhausted") {
        let [site, _, limit, settings] = &row[..] else {
            panic!("{} cells instead of 4: {}", row.len(), row.join(" | "))
        };
        let (name, package) = symbol(site).unwrap_or_else(|| panic!("{site} is not of the form `name` (crate)"));
        listed.push(format!("{name} ({package})"));
        let values: Vec<_> = settings.split('`').skip(1).step_by(2).map(value).collect();
        assert_eq!(values.join(", "), *limit, "{name}: {settings}");
    }
    listed.sort();
    assert_eq!(listed, exhausted(), "left: {DOCUMENT}; right: the code");
}

#[test]
fn faulty_rows_are_found() {
    let (constants, defaults) = (Constants::of_libraries(), defaults());
    let found = |value: &str, setting: &str| {
        fault(&["a".into(), value.into(), setting.into(), "b".into()], &constants, &defaults)
    };
    assert_eq!(found("1024", "`ServerConfig::max_in_flight` (rpc-server)"), None);
    assert_eq!(found("4096 bytes", "`Status::MAX_MESSAGE` (rpc-core)"), None);
    for (value, setting) in [
        ("1025", "`ServerConfig::max_in_flight` (rpc-server)"),
        ("1024", "`ServerConfig::max_in_flight` (rpc-client)"),
        ("4095", "`Status::MAX_MESSAGE` (rpc-core)"),
        ("4096", "`Status::NO_SUCH_LIMIT` (rpc-core)"),
        ("many", "`Status::MAX_MESSAGE` (rpc-core)"),
        ("4096", "Status::MAX_MESSAGE"),
    ] {
        assert!(found(value, setting).is_some(), "{value} {setting}");
    }
}
