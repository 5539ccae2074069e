use rpc_core::rpc_service;

#[rpc_service]
trait Grüßer {
    async fn grüße(&self);
}

fn main() {}
