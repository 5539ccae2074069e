use rpc_core::rpc_service;

#[rpc_service]
trait Greeter {
    #[rpc(timeout = "5 minutes")]
    async fn unit(&self);
    #[rpc(timeout = "1.5s")]
    async fn fraction(&self);
    #[rpc(timeout = "0ms")]
    async fn nothing(&self);
    #[rpc(timeout = "4294967296ms")]
    async fn forever(&self);
    #[rpc(timeout = 500)]
    async fn number(&self);
    #[rpc(timeout)]
    async fn none(&self);
}

fn main() {}
