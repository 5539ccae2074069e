//! `msnb check`: the changes of a contract, and what they break.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use rpc_core::descriptor::{Change, Contract, compare};
use serde_json::json;

use crate::{
    command_error::{CommandError, Exit},
    output,
    printable::printable,
    target::{Target, is_address, is_registry},
};

/// Compares a contract with an earlier one, and exits with 1 if the changes break calls.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The new contract, a file from `msnb describe --json` or `Contract::to_json`.
    #[arg(value_name = "CONTRACT.json")]
    contract: PathBuf,
    /// The old contract: a file, the host and port of a server that serves it, or the URL of a registry with providers of
    /// it, such as nacos://127.0.0.1:8848.
    #[arg(long, value_name = "FILE|ADDRESS|URL")]
    against: String,
    /// The changes that are breaks.
    #[arg(long, value_enum, default_value_t = Level::Name)]
    level: Level,
    /// The form of the output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    target: Target,
    /// Prints a JSON document, as --format json.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One line for each change.
    Text,
    /// A JSON document.
    Json,
    /// Annotations of GitHub Actions.
    Github,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    /// Changes that break calls in JSON and MessagePack, and in bincode between peers with digests.
    Name,
    /// Also changes that break calls in bincode with peers without digests.
    Position,
    /// Also changes that break the source of callers or providers.
    Source,
}

impl Level {
    fn is_broken_by(self, change: &Change) -> bool {
        let breaks = change.breaks;
        match self {
            Self::Name => breaks.name,
            Self::Position => breaks.name || breaks.position,
            Self::Source => !breaks.is_empty(),
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

impl Check {
    pub(crate) fn is_json(&self) -> bool {
        self.json || self.format == Format::Json
    }

    pub(crate) async fn run(self) -> Result<Exit, CommandError> {
        let new = read(&self.contract).await?;
        let old = self.old(&new).await?;
        let changes = compare(&old, &new);
        let breaks = changes.iter().filter(|change| self.level.is_broken_by(change)).count();
        match self.format {
            _ if self.is_json() => output::json(&json!({
                "service": format!("{}:{}", new.name, new.version),
                "level": self.level.name(),
                "breaks": breaks,
                "changes": changes,
            }))?,
            Format::Github => output::text(&self.annotations(&changes))?,
            _ => output::text(&self.report(&changes, breaks))?,
        };
        Ok(if breaks > 0 { Exit::Negative } else { Exit::Success })
    }

    /// Reads the old contract from a file, if there is one with this name, or from a server or a provider in a registry.
    async fn old(&self, new: &Contract) -> Result<Contract, CommandError> {
        let file = Path::new(&self.against);
        if file.exists() {
            return read(file).await;
        }
        let target = match &self.against {
            url if is_registry(url) => self.target.in_registry(url),
            address if is_address(address) => self.target.at(address),
            _ => return read(file).await,
        };
        target.contract(&new.service_id()?).await
    }

    fn report(&self, changes: &[Change], breaks: usize) -> String {
        let mut text = String::new();
        for change in changes {
            let mark = if self.level.is_broken_by(change) { "BREAK" } else { "ok   " };
            text += &format!("{mark} {change}\n");
        }
        text += &format!("changes: {}, breaks at level {}: {breaks}\n", changes.len(), self.level.name());
        printable(&text)
    }

    fn annotations(&self, changes: &[Change]) -> String {
        let file = escaped(&self.contract.display().to_string()).replace(':', "%3A").replace(',', "%2C");
        let lines = changes.iter().map(|change| {
            let kind = if self.level.is_broken_by(change) { "error" } else { "notice" };
            let title = change.rule.name();
            format!("::{kind} file={file},title={title}::{}\n", escaped(&change.to_string()))
        });
        lines.collect()
    }
}

/// Escapes the message of a workflow command of GitHub Actions.
fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Reads a contract from a file.
pub(crate) async fn read(file: &Path) -> Result<Contract, CommandError> {
    let shown = file.display();
    let text = tokio::fs::read_to_string(file).await.map_err(|error| {
        let fix = "write the path of a contract, or the host and port of a server, such as 127.0.0.1:7788";
        CommandError::input(format!("cannot read {shown}: {error}")).with_fix(fix)
    })?;
    Contract::from_json(&text).map_err(|error| {
        let fix = "`msnb describe SERVICE --json > FILE` writes the contract of a server";
        CommandError::input(format!("cannot read {shown}: {}", error.message())).with_fix(fix)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_escape_separators() {
        assert_eq!(escaped("50%\r\n::error::x"), "50%25%0D%0A::error::x");
    }
}
