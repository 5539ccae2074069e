//! Serves `test.Ledger:1.0` for tests until SIGTERM. Usage: `tests-provider REGISTRY LISTEN DIRECTORY`.

use std::{env, error::Error, path::PathBuf, time::Duration};

use rpc_cli::{log_to_stderr, shutdown_signal};
use rpc_server::Server;
use tests::ledger::Clerk;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let mut argument = |missing| arguments.next().ok_or(missing);
    let (registry, listen) = (argument("missing argument REGISTRY")?, argument("missing argument LISTEN")?);
    let directory = PathBuf::from(argument("missing argument DIRECTORY")?);
    log_to_stderr("error");
    let registry = rpc_registry::connect(&registry).await?;
    let url = registry.url().to_owned();
    let clerk = Clerk::new(&directory, LONGEST_CALL);
    let server = Server::builder().registry(registry).service(clerk.server()).bind(listen).await?;
    let shutdown = shutdown_signal();
    println!("serving on {}, listed as {} in {url}", server.local_address(), server.advertised_address());
    server.run_until(shutdown).await?;
    println!("drained");
    Ok(())
}

/// Long enough that calls are in flight at every kill.
const LONGEST_CALL: Duration = Duration::from_millis(20);
