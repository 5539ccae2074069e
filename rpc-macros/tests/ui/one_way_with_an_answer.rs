use rpc_core::rpc_service;

#[rpc_service]
trait Log {
    #[rpc(one_way)]
    async fn write(&self, line: String) -> bool;
}

fn main() {}
