//! `msnb export`: the contracts of services as schemas of other systems.

use std::path::{Path, PathBuf};

use rpc_core::{ServiceId, descriptor::Contract};

use crate::{
    check,
    command_error::{CommandError, Exit},
    output,
    target::Target,
};

/// Writes the contracts of services as Protocol Buffers, OpenAPI or TypeScript.
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// Services, such as demo.Greeter:1.0, or files from `msnb describe --json`; default: all services at --address.
    #[arg(value_name = "SERVICE|FILE")]
    sources: Vec<String>,
    #[command(flatten)]
    format: Format,
    /// The file to write, or with --proto the directory of a file for each service; default: stdout.
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Clone, Copy, clap::Args)]
#[group(required = true, multiple = false)]
struct Format {
    /// Writes a .proto file for each service.
    #[arg(long)]
    proto: bool,
    /// Writes an OpenAPI 3.1 document of the calls over HTTP.
    #[arg(long)]
    openapi: bool,
    /// Writes the types and the interfaces of the services in TypeScript.
    #[arg(long)]
    typescript: bool,
}

impl Export {
    pub(crate) async fn run(self) -> Result<Exit, CommandError> {
        let contracts = self.contracts().await?;
        let Format { proto, openapi, .. } = self.format;
        let text = match (&contracts[..], &self.output) {
            (contracts, Some(directory)) if proto => return write_protos(contracts, directory).await,
            ([contract], None) if proto => rpc_schema::proto(contract).to_string(),
            (_, None) if proto => {
                let fix = "write a file for each with --output DIRECTORY, or name one service";
                return Err(CommandError::input("a .proto file has one service").with_fix(fix));
            }
            (contracts, _) if openapi => to_text(&rpc_schema::openapi(contracts)),
            (contracts, _) => rpc_schema::typescript(contracts),
        };
        match &self.output {
            Some(file) => write(file, &text).await,
            None => output::text(&text),
        }
    }

    /// Reads the contracts from servers and files.
    async fn contracts(&self) -> Result<Vec<Contract>, CommandError> {
        let mut contracts = Vec::new();
        for source in &self.sources {
            contracts.push(match source.parse::<ServiceId>() {
                Ok(service) => self.target.contract(&service).await?,
                Err(_) => check::read(Path::new(source)).await?,
            });
        }
        if self.sources.is_empty() {
            let Some(address) = self.target.stated_address().await? else {
                let fix = "name services, such as demo.Greeter:1.0, files, or a server with --address";
                return Err(CommandError::input("nothing is to be exported").with_fix(fix));
            };
            for service in self.target.services(address).await? {
                // Tools call the reflection of a server, and no program of a user does.
                let Ok(id) = service.service.parse::<ServiceId>() else { continue };
                if service.digest.is_some() && !matches!(id.name(), "msnb.Reflection" | "msnb.Admin") {
                    contracts.push(self.target.contract(&id).await?);
                }
            }
        }
        Ok(contracts)
    }
}

/// Returns an OpenAPI document as indented text.
pub(crate) fn to_text(document: &serde_json::Value) -> String {
    let mut text = serde_json::to_string_pretty(document).expect("the document has only string keys");
    text.push('\n');
    text
}

async fn write_protos(contracts: &[Contract], directory: &Path) -> Result<Exit, CommandError> {
    tokio::fs::create_dir_all(directory).await.map_err(|error| unwritable(directory, &error))?;
    for contract in contracts {
        // The id of a service contains no separator of paths.
        let service = contract.service_id()?;
        let file = directory.join(format!("{}-{}.proto", service.name(), service.version()));
        write(&file, &rpc_schema::proto(contract).to_string()).await?;
    }
    Ok(Exit::Success)
}

async fn write(file: &Path, text: &str) -> Result<Exit, CommandError> {
    tokio::fs::write(file, text).await.map_err(|error| unwritable(file, &error))?;
    Ok(Exit::Success)
}

fn unwritable(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::input(format!("cannot write {}: {error}", path.display()))
        .with_fix("write --output with a path in an existing directory that this user can write to")
}
