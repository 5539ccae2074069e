//! r-nacos: its binary, which Cargo builds once, and the command that starts it.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{ports::GRPC_OFFSET, tools::tools};

/// The version that Cargo builds.
const VERSION: &str = "0.8.8";

/// Returns the command of a server with this HTTP port and its data below `directory`.
pub(super) fn command(http: u16, directory: &Path, user: Option<(&str, &str)>) -> Command {
    let mut command = Command::new(binary());
    command
        .env_clear()
        .env("RNACOS_HTTP_PORT", http.to_string())
        .env("RNACOS_GRPC_PORT", (http + GRPC_OFFSET).to_string())
        .env("RNACOS_HTTP_CONSOLE_PORT", "0")
        .env("RNACOS_SDK_HOST", "127.0.0.1")
        .env("RNACOS_DATA_DIR", directory.join("data"))
        // With persistence, an address would keep its first metadata forever.
        .env("RNACOS_NAMING_INSTANCE_METADATA_PERSISTENCE_ENABLE", "false")
        .env("RUST_LOG", "warn");
    if let Some((username, password)) = user {
        command
            .env("RNACOS_ENABLE_OPEN_API_AUTH", "true")
            .env("RNACOS_INIT_ADMIN_USERNAME", username)
            .env("RNACOS_INIT_ADMIN_PASSWORD", password)
            // The test logs in repeatedly until the user exists, and each attempt counts.
            .env("RNACOS_API_LOGIN_ONE_MINUTE_LIMIT", "100000");
    }
    command
}

/// Returns the binary that `RNACOS_BIN` names, or else `target/tools/bin/rnacos`, which it builds if it does not exist.
pub(super) fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("RNACOS_BIN") {
        return named.into();
    }
    let tools = tools();
    let binary = tools.join("bin/rnacos");
    if !binary.is_file() {
        // One of several concurrent test binaries builds the server; the others wait.
        let lock = File::create(tools.join("rnacos.lock")).expect("the lock file can be created");
        lock.lock().expect("the file can be locked");
        if !binary.is_file() {
            build(&tools);
        }
    }
    binary
}

/// Builds the server and installs it in `bin` below `tools`.
fn build(tools: &Path) {
    eprintln!("building r-nacos {VERSION} in {}: takes minutes, once", tools.display());
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
    // The build directory is large, and no later test needs it.
    let _ = fs::remove_dir_all(&scratch);
    assert!(status.success(), "the build of r-nacos failed; RNACOS_BIN can name a binary instead");
}
