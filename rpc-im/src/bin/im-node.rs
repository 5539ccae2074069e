//! The `im-node` command: runs one node of the IM cluster.

use std::io::{self, BufRead as _};

use clap::Parser;
use rpc_im::{auth::Users, command::NodeArguments};
use tokio::signal::unix::{SignalKind, signal};

/// Runs a node of the IM cluster: clients connect by WebSocket, other nodes by RPC. Ctrl-C or SIGTERM drains the node.
#[derive(Debug, Parser)]
#[command(name = "im-node")]
struct Arguments {
    #[command(flatten)]
    node: NodeArguments,
    /// Reads a password from standard input, prints the line for the --users file, and exits.
    #[arg(long, value_name = "USER")]
    hash: Option<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    if let Some(user) = arguments.hash {
        let password = io::stdin().lock().lines().next().ok_or("standard input has no password")??;
        println!("{}", Users::line(&user, &password));
        return Ok(());
    }
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    let mut terminate = signal(SignalKind::terminate())?;
    let node = arguments.node.start().await?;
    println!("{node}");
    node.run_until(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    })
    .await;
    println!("drained");
    Ok(())
}
