//! The private directory in which the processes of one user share files.

use std::path::PathBuf;

/// Returns the path of this user's directory.
///
/// This is `$XDG_RUNTIME_DIR/msnb` if that variable names a directory, otherwise `msnb-<user id>` in the directory for
/// temporary files. There another user could create this directory first and announce false providers in it: callers
/// check it with [`check_private_directory`](rpc_core::files::check_private_directory).
pub(crate) fn path() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(runtime) if runtime.is_absolute() && runtime.is_dir() => runtime.join("msnb"),
        _ => std::env::temp_dir().join(format!("msnb-{}", user_name())),
    }
}

#[cfg(unix)]
fn user_name() -> String {
    rustix::process::geteuid().as_raw().to_string()
}

#[cfg(not(unix))]
fn user_name() -> String {
    std::env::var("USERNAME").unwrap_or_else(|_| "user".to_owned())
}
