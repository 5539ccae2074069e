use rpc_core::rpc_service;

#[rpc_service]
trait Greeter {
    async fn hello(&self, other: Vec<Self>) -> Self;
}

fn main() {}
