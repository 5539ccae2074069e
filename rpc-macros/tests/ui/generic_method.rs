use rpc_core::rpc_service;

#[rpc_service]
trait Greeter {
    async fn hello<'a, T>(&self, name: T) -> String
    where
        T: ToString;
}

fn main() {}
