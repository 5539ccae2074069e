use rpc_core::rpc_service;

#[rpc_service]
trait Greeter {
    async fn hello(&self);
    #[rpc(name = "hello")]
    async fn greet(&self);
    async fn say_hi(&self);
    async fn say__hi(&self);
}

fn main() {}
