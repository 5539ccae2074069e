//! Calls `test.Probe:1.0` at an address, for tests of a client whose process lacks resources. Usage: `tests-caller ADDRESS`.
//!
//! It reads commands from stdin and answers each with one line:
//!
//! | command | action |
//! |---|---|
//! | `call` | calls `echo`, which is not idempotent, and prints `ok` or the error |
//! | `wait` | calls `again`, which is idempotent, and waits for the provider |
//! | `counts` | prints the numbers of failed connects and of evictions |

use std::{env, error::Error, io::BufRead as _, net::SocketAddr, time::Duration};

use rpc_cli::log_to_stderr;
use rpc_client::{Client, ClientConfig};
use tests::probe::ProbingClient;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let address: SocketAddr = env::args().nth(1).ok_or("missing argument ADDRESS")?.parse()?;
    log_to_stderr("error");
    let config = ClientConfig::default().with_ping_after(PING_AFTER);
    let client = Client::builder().config(config).build()?;
    let probing = ProbingClient::new(client.clone());
    for command in std::io::stdin().lock().lines() {
        match command?.as_str() {
            command @ ("call" | "wait") => {
                let outcome = match command {
                    "wait" => {
                        probing.again("x".to_owned()).address(address).timeout(TIMEOUT).wait_for_ready(true).await
                    }
                    _ => probing.echo("x".to_owned()).address(address).timeout(TIMEOUT).await,
                };
                match outcome {
                    Ok(_) => println!("ok"),
                    Err(error) => println!("{error}"),
                }
            }
            "counts" => println!("{} {}", client.counts().connect_failures, client.counts().evictions),
            other => return Err(format!("unknown command {other}").into()),
        }
    }
    Ok(())
}

/// Shorter than the idle time of the tests' servers.
const PING_AFTER: Duration = Duration::from_millis(30);
const TIMEOUT: Duration = Duration::from_secs(50);
