//! r-nacos: its binary, which is built once, and how a process of it is started.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{GRPC_OFFSET, tools};

/// The version that is built.
const VERSION: &str = "0.8.8";

/// The command that serves on `http` and keeps its data below `directory`.
pub(super) fn command(http: u16, directory: &Path, user: Option<(&str, &str)>) -> Command {
    let mut command = Command::new(binary());
    command
        .env_clear()
        .env("RNACOS_HTTP_PORT", http.to_string())
        .env("RNACOS_GRPC_PORT", (http + GRPC_OFFSET).to_string())
        .env("RNACOS_HTTP_CONSOLE_PORT", "0")
        .env("RNACOS_SDK_HOST", "127.0.0.1")
        .env("RNACOS_DATA_DIR", directory.join("data"))
        // With persistence the first metadata of an address would stay for ever.
        .env("RNACOS_NAMING_INSTANCE_METADATA_PERSISTENCE_ENABLE", "false")
        .env("RUST_LOG", "warn");
    if let Some((username, password)) = user {
        command
            .env("RNACOS_ENABLE_OPEN_API_AUTH", "true")
            .env("RNACOS_INIT_ADMIN_USERNAME", username)
            .env("RNACOS_INIT_ADMIN_PASSWORD", password)
            // The start of a test logs in until the user exists, and each attempt counts.
            .env("RNACOS_API_LOGIN_ONE_MINUTE_LIMIT", "100000");
    }
    command
}

/// The binary that `RNACOS_BIN` names, else `target/tools/bin/rnacos`, which is built if it does not exist.
fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("RNACOS_BIN") {
        return named.into();
    }
    let tools = tools();
    let binary = tools.join("bin/rnacos");
    if !binary.is_file() {
        // Several test binaries may need it at the same time: one builds it, the others wait.
        let lock = File::create(tools.join("rnacos.lock")).expect("a file to lock can be made");
        lock.lock().expect("a file can be locked");
        if !binary.is_file() {
            build(&tools);
        }
    }
    binary
}

/// Builds the server into `tools`/bin.
fn build(tools: &Path) {
    eprintln!("building r-nacos {VERSION} into {}: this takes minutes, once", tools.display());
    let scratch = tools.join("build");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let status = Command::new(cargo)
        .args(["install", "rnacos", "--version", VERSION, "--locked", "--debug", "--root"])
        .arg(tools)
        .env("CARGO_TARGET_DIR", &scratch)
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_DEV_STRIP", "symbols")
        .stdin(Stdio::null())
        .status()
        .expect("cargo runs");
    // It is large, and not needed again.
    let _ = fs::remove_dir_all(&scratch);
    assert!(status.success(), "r-nacos cannot be built; RNACOS_BIN may name a binary instead");
}
