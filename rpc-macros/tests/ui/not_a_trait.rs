use rpc_core::rpc_service;

#[rpc_service]
struct Greeter {
    name: String,
}

fn main() {}
