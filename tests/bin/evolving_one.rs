//! Serves the first version of `test.Evolving:1.0` until SIGTERM. Usage: `MSNB_REGISTRY=URL tests-evolving-one LISTEN`.

use std::error::Error;

use tests::evolution::{one, provide};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    provide(one::EvolvingServer::new(one::Service)).await
}
