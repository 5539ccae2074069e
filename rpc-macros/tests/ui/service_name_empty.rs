use rpc_core::rpc_service;

#[rpc_service(name = "", version = "")]
trait Greeter {
    async fn hello(&self);
}

fn main() {}
