//! The private directory in which the processes of one user share files.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Returns the path of this user's directory.
///
/// This is `$XDG_RUNTIME_DIR/msnb` if that variable names a directory, otherwise `msnb-<user id>` in the directory for
/// temporary files.
pub(crate) fn path() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(runtime) if runtime.is_absolute() && runtime.is_dir() => runtime.join("msnb"),
        _ => std::env::temp_dir().join(format!("msnb-{}", user_name())),
    }
}

/// Creates a directory that only this user can access, with its parents.
///
/// An existing directory keeps its permissions.
pub(crate) fn create(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Rejects a directory that another user owns or can write to.
///
/// Every user can write to the directory for temporary files: another user could create this directory first and
/// announce false providers in it.
#[cfg(unix)]
pub(crate) fn check_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;

    let metadata = fs::symlink_metadata(directory)?;
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if !metadata.is_dir() || owner != user || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} must be a directory that only user {user} owns and can write to", directory.display()),
        ));
    }
    Ok(())
}

/// Accepts every directory: this system has no Unix permissions to check.
#[cfg(not(unix))]
pub(crate) fn check_private(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn user_name() -> String {
    rustix::process::geteuid().as_raw().to_string()
}

#[cfg(not(unix))]
fn user_name() -> String {
    std::env::var("USERNAME").unwrap_or_else(|_| "user".to_owned())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn check_rejects_directories_writable_by_others() {
        let scratch = tempfile::tempdir().unwrap();
        let private = scratch.path().join("a/b");
        create(&private).unwrap();
        check_private(&private).unwrap();
        assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o700);

        fs::set_permissions(&private, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(check_private(&private).is_err());

        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(scratch.path(), &link).unwrap();
        assert!(check_private(&link).is_err());
    }
}
