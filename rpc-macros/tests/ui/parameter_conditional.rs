use rpc_core::rpc_service;

#[rpc_service]
trait Greeter {
    async fn hello(&self, #[cfg(unix)] name: String) -> String;
}

fn main() {}
