use rpc_core::rpc_service;

#[rpc_service]
trait Factory {
    async fn new(&self) -> u32;
    async fn local(&self) -> u32;
    async fn contract(&self) -> u32;
}

fn main() {}
