//! A directory of this user's own, for what processes of one user share.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where this user's processes keep what they share: `$XDG_RUNTIME_DIR/msnb`, else a directory named after the user in the
/// directory for temporary files.
pub(crate) fn path() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(runtime) if runtime.is_absolute() && runtime.is_dir() => runtime.join("msnb"),
        _ => std::env::temp_dir().join(format!("msnb-{}", user())),
    }
}

/// Makes a directory that only this user may enter, with those above it. One that exists keeps its permissions.
pub(crate) fn create(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Refuses a directory that somebody else owns or may write to.
///
/// The directory for temporary files belongs to all: another user could have made ours beforehand and announce providers in it.
#[cfg(unix)]
pub(crate) fn check_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;

    let found = fs::symlink_metadata(directory)?;
    let (owner, me) = (found.uid(), rustix::process::geteuid().as_raw());
    if !found.is_dir() || owner != me || found.mode() & 0o022 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} must be a directory that only user {me} may write to", directory.display()),
        ));
    }
    Ok(())
}

/// Refuses a directory that somebody else owns or may write to; not known on this system.
#[cfg(not(unix))]
pub(crate) fn check_private(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn user() -> String {
    rustix::process::geteuid().as_raw().to_string()
}

#[cfg(not(unix))]
fn user() -> String {
    std::env::var("USERNAME").unwrap_or_else(|_| "user".to_owned())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_others_may_write_to_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let ours = scratch.path().join("a/b");
        create(&ours).unwrap();
        check_private(&ours).unwrap();
        assert_eq!(fs::metadata(&ours).unwrap().permissions().mode() & 0o777, 0o700);

        fs::set_permissions(&ours, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(check_private(&ours).is_err());

        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(scratch.path(), &link).unwrap();
        assert!(check_private(&link).is_err());
    }
}
