//! Serves the second version of `test.Evolving:1.0` until SIGTERM. Usage: `MSNB_REGISTRY=URL tests-evolving-two LISTEN`.

use std::error::Error;

use tests::evolution::{provide, two};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    provide(two::EvolvingServer::new(two::Service)).await
}
