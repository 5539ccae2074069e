use rpc_core::rpc_service;

#[rpc_service]
trait Greeter {
    async fn hello(&self, name: impl Into<String>) -> impl ToString;
}

fn main() {}
