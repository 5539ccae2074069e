use rpc_core::rpc_service;

#[rpc_service]
trait Greeter {
    #[cfg(unix)]
    async fn hello(&self);
}

fn main() {}
