//! Two providers and a consumer that discover each other without a registry server. One provider stops and restarts
//! during calls.

use std::{collections::BTreeMap, error::Error, net::SocketAddr, time::Duration};

use lexopt::ValueExt as _;
use msnb::{CallError, Client, ClientConfig, Context, Server, rpc_service};
use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::task::TaskTracker;

/// The contract: the macro generates `GreeterServer` and `GreeterClient`.
#[rpc_service(name = "demo.Greeter", version = "1.0")]
trait Greeter {
    /// Greets `name`; the greeting ends with the address of the provider.
    #[rpc(idempotent)]
    async fn hello(&self, name: String) -> Result<String, GreetError>;
}

/// The error that the service itself returns.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
enum GreetError {
    #[error("the name is empty")]
    EmptyName,
}

/// The implementation that the providers serve.
struct PoliteGreeter;

impl Greeter for PoliteGreeter {
    async fn hello(&self, name: String) -> Result<String, GreetError> {
        if name.is_empty() {
            return Err(GreetError::EmptyName);
        }
        let context = Context::current().expect("a handler has a context");
        let address = context.peer().local_address.expect("the call arrived over a connection");
        Ok(format!("Hello {name}, from {address}"))
    }
}

type Failure = Box<dyn Error + Send + Sync>;

const HELP: &str = "\
Runs two providers and a consumer in one process. One provider stops and restarts during calls; no call fails.

Usage: quickstart [--calls N]

Options:
  --calls N  the number of calls in each of the four steps [default: 300]
  -h, --help print this help";

/// Reads the number of calls from the command line; `None` if the user asks for help.
fn calls_from_arguments() -> Result<Option<usize>, Failure> {
    let (mut calls, mut parser) = (300, lexopt::Parser::from_env());
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("calls") => {
                let value = parser.value()?.string()?;
                calls = value.parse().map_err(|error| format!("invalid value `{value}` of --calls: {error}"))?;
            }
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Some(calls))
}

/// A provider that runs in this process.
struct Provider {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), msnb::Error>>,
}

impl Provider {
    async fn start(tasks: &TaskTracker, registry: &str, listen: SocketAddr) -> Result<Self, Failure> {
        let server = Server::builder()
            .registry(msnb::registry::connect(registry).await?)
            .service(GreeterServer::new(PoliteGreeter))
            .bind(listen)
            .await?;
        let address = server.local_address();
        let (stop, stopped) = oneshot::channel();
        let ended = tasks.spawn(server.run_until(stopped));
        Ok(Self { address, stop, ended })
    }

    /// Drains the provider.
    async fn stop(self) -> Result<(), Failure> {
        // If the server has ended already, `ended` has its result.
        let _ = self.stop.send(());
        Ok(self.ended.await??)
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let Some(calls) = calls_from_arguments()? else {
        println!("{HELP}");
        return Ok(());
    };
    let tasks = TaskTracker::new();
    let directory = tempfile::tempdir()?;
    let registry = format!("local:{}", directory.path().display());
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));

    let (first, second) =
        (Provider::start(&tasks, &registry, any_port).await?, Provider::start(&tasks, &registry, any_port).await?);
    println!("two providers of demo.Greeter:1.0 listen on {} and {}", first.address, second.address);
    let client = Client::builder()
        .registry(msnb::registry::connect(&registry).await?)
        .config(ClientConfig::default().with_wait_for_ready(true))
        .build()?;
    let greeter = GreeterClient::new(client.clone());
    println!("the first call returned: {}", greeter.hello("Bo".to_owned()).timeout(Duration::from_secs(5)).await?);
    match greeter.hello(String::new()).await {
        Err(CallError::Service(GreetError::EmptyName)) => {
            println!("an empty name is rejected: {}", GreetError::EmptyName)
        }
        other => return Err(format!("a call with an empty name returned {other:?}").into()),
    }
    wait_until_used(&greeter, &[first.address, second.address]).await?;
    println!("{calls} calls: {}", count_answers(&greeter, calls).await?);

    let address = second.address;
    let calling = tasks.spawn({
        let greeter = greeter.clone();
        async move { count_answers(&greeter, calls).await }
    });
    second.stop().await?;
    println!("{address} drained during calls: {}", calling.await??);
    println!("{calls} calls: {}", count_answers(&greeter, calls).await?);

    let second = Provider::start(&tasks, &registry, address).await?;
    wait_until_used(&greeter, &[address]).await?;
    println!("{address} restarted: {}", count_answers(&greeter, calls).await?);

    client.close().await;
    first.stop().await?;
    second.stop().await?;
    println!("both providers drained; no call failed");
    Ok(())
}

/// Calls until each address has answered, because discovery takes up to about 200 ms.
async fn wait_until_used(greeter: &GreeterClient<Client>, addresses: &[SocketAddr]) -> Result<(), Failure> {
    for address in addresses {
        tokio::time::timeout(Duration::from_secs(30), async {
            while !greeter.hello("Bo".to_owned()).await?.ends_with(&address.to_string()) {}
            Ok::<_, Failure>(())
        })
        .await??;
    }
    Ok(())
}

/// Makes `calls` calls and returns the number of answers of each provider.
async fn count_answers(greeter: &GreeterClient<Client>, calls: usize) -> Result<String, Failure> {
    let mut answers = BTreeMap::new();
    for _ in 0..calls {
        let greeting = greeter.hello("Bo".to_owned()).await?;
        let provider = greeting.rsplit(' ').next().unwrap_or_default().to_owned();
        *answers.entry(provider).or_insert(0) += 1;
    }
    let parts: Vec<String> = answers.iter().map(|(address, count)| format!("{address} answered {count}")).collect();
    Ok(parts.join(", "))
}
