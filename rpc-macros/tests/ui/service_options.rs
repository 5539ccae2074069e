use rpc_core::rpc_service;

#[rpc_service(name, version = 1.0, crate = "no crate", group = "x", codec = "xml")]
trait Greeter {
    async fn hello(&self);
}

fn main() {}
