use rpc_core::rpc_service;

#[rpc_service]
trait Greeter {
    async fn hello(self: std::sync::Arc<Self>, name: String) -> String;
}

fn main() {}
