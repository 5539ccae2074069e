use rpc_core::rpc_service;

#[rpc_service]
unsafe trait Greeter {
    async unsafe fn hello(&self, name: String) -> String;
}

fn main() {}
