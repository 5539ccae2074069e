use rpc_core::rpc_service;

#[rpc_service]
trait Greeter {
    async fn hello(&self, name: &str, titles: Option<&[String]>) -> &'static String;
}

fn main() {}
