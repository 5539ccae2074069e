use rpc_core::rpc_service;

#[rpc_service]
trait Greeter {
    async fn hello(&self, (first, last): (String, String)) -> String;
}

fn main() {}
