use rpc_core::rpc_service;

#[rpc_service]
trait Greeter {
    #[rpc(twice)]
    async fn unknown(&self);
    #[rpc(once = "planet")]
    async fn place(&self);
    #[rpc(once, idempotent)]
    async fn contradiction(&self);
    #[rpc(idempotent = true, one_way())]
    async fn flags(&self);
    #[rpc]
    async fn none(&self);
    #[rpc(idempotent)]
    #[rpc(one_way)]
    async fn apart(&self);
    #[rpc(name = "say hello")]
    async fn name(&self);
    #[rpc(idempotent timeout = "1s")]
    async fn comma(&self);
}

fn main() {}
