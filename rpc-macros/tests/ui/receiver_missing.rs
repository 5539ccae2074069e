use rpc_core::rpc_service;

#[rpc_service]
trait Greeter {
    async fn hello(name: String) -> String;
}

fn main() {}
