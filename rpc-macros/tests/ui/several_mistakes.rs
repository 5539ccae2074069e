use rpc_core::rpc_service;

#[rpc_service(name = "demo Greeter", verson = "1.0")]
pub trait Greeter {
    #[rpc(timeout = "soon")]
    fn hello(&mut self, name: &str) -> std::io::Result<String>;
}

struct Polite;

// Neither the trait nor its method is unknown because of the mistakes.
impl Greeter for Polite {
    fn hello(&mut self, name: &str) -> std::io::Result<String> {
        Ok(name.to_owned())
    }
}

fn main() {}
