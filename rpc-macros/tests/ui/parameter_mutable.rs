use rpc_core::rpc_service;

#[rpc_service]
trait Greeter {
    async fn hello(&self, mut name: String) -> String;
}

fn main() {}
