//! The `im-node` command: runs one node of the IM cluster.

use std::io::{self, BufRead as _};

use clap::Parser;
use rpc_cli::{Failure, log_to_stderr, shutdown_signal};
use rpc_im::{auth::Users, command::NodeArguments};

/// Runs a node of the IM cluster: clients connect by WebSocket, other nodes by RPC. Ctrl-C or SIGTERM drains the node.
#[derive(Debug, Parser)]
#[command(name = "im-node")]
struct Arguments {
    #[command(flatten)]
    node: NodeArguments,
    /// Reads a password from standard input, prints the line for the --users file, and exits.
    #[arg(long, value_name = "USER")]
    hash: Option<String>,
    /// Gives each conversation of --store a new incarnation, and exits. Run it once after the store was restored from a
    /// backup, and before a node uses it, so that clients detect that they have another history.
    #[arg(long)]
    renew_incarnations: bool,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    if let Some(user) = arguments.hash {
        let password = io::stdin().lock().lines().next().ok_or("standard input has no password")??;
        println!("{}", Users::line(&user, &password));
        return Ok(());
    }
    log_to_stderr("info");
    if arguments.renew_incarnations {
        let count = arguments.node.engines.renew_incarnations().await?;
        println!("{count} conversations have new incarnations");
        return Ok(());
    }
    let node = arguments.node.start().await?;
    let shutdown = shutdown_signal();
    println!("{node}");
    node.run_until(shutdown).await;
    println!("drained");
    Ok(())
}
