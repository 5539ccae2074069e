use rpc_core::rpc_service;

#[rpc_service(name = "demo.Greeter", name = "demo.Greeter")]
trait Greeter {
    async fn hello(&self);
}

fn main() {}
