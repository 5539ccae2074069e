//! The directory of the programs that tests download or build.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Returns the directory `target/tools` of the workspace, and creates it if it does not exist.
pub(super) fn tools() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is in the workspace");
    let tools = workspace.join("target/tools");
    fs::create_dir_all(&tools).expect("the directory of the tools can be created");
    tools
}
