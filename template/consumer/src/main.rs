//! Calls `{{service}}` once.

use clap::Parser;
use contract::{{service}}Client;
use msnb::{
    Client,
    app::{Failure, RegistryArgs, log_to_stderr},
};

#[derive(Debug, Parser)]
struct Args {
    /// The name to greet.
    #[arg(default_value = "Bo")]
    name: String,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    log_to_stderr("warn");
    let args = Args::parse();
    let registry = args.registry.connect().await?;
    let client = Client::builder().registry(registry).build()?;
    let {{service | downcase}} = {{service}}Client::new(client.clone());
    println!("{}", {{service | downcase}}.hello(args.name).wait_for_ready(true).await?);
    client.close().await;
    Ok(())
}
