//! `msnb completion`: a script with which a shell completes the command line.

use clap_complete::{Shell, generate};

use crate::{
    command_error::{CommandError, Exit},
    output,
};

/// Prints a script with which a shell completes the commands and options of msnb.
#[derive(Debug, clap::Args)]
pub(crate) struct Completion {
    /// The shell.
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

impl Completion {
    /// Prints the script for `command`, the whole command line.
    pub(crate) fn run(self, mut command: clap::Command) -> Result<Exit, CommandError> {
        let mut script = Vec::new();
        generate(self.shell, &mut command, "msnb", &mut script);
        output::text(&String::from_utf8_lossy(&script))
    }
}
