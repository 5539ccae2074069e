use rpc_core::rpc_service;

#[rpc_service]
trait Greeter {
    async fn hello(&self, _: String) -> String;
}

fn main() {}
