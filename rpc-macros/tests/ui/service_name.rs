use rpc_core::rpc_service;

#[rpc_service(name = "demo/Greeter", version = "1:0")]
trait Greeter {
    async fn hello(&self);
}

fn main() {}
