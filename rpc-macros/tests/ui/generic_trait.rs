use rpc_core::rpc_service;

#[rpc_service]
trait Greeter<T> {
    async fn hello(&self, name: T) -> String;
}

fn main() {}
