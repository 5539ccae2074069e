use rpc_core::rpc_service;

#[rpc_service]
trait Files {
    async fn read(&self, name: String) -> std::io::Result<Vec<u8>>;
}

fn main() {}
