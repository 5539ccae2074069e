use rpc_core::rpc_service;

#[rpc_service(name = "demo Greeter", verson = "1.0")]
pub trait Greeter {
    #[rpc(timeout = "soon")]
    fn hello(&mut self, name: &str) -> std::io::Result<String>;
}

struct Polite;

// The errors above must not make the trait or its method unknown to the compiler.
impl Greeter for Polite {
    fn hello(&mut self, name: &str) -> std::io::Result<String> {
        Ok(name.to_owned())
    }
}

fn main() {}
