use rpc_core::rpc_service;

#[rpc_service]
trait Greeter {
    fn hello(&self, name: String) -> String;
}

fn main() {}
