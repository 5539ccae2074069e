//! Temporary.
use rpc_core::rpc_service;
#[rpc_service(name = "demo.Greeter", version = "1.0")]
trait Greeter {
    async fn echo(&self, text: String) -> String;
    async fn large(&self, length: u64) -> String;
}
struct My;
impl Greeter for My {
    async fn echo(&self, text: String) -> String {
        text
    }
    async fn large(&self, length: u64) -> String {
        "x".repeat(length as usize)
    }
}
#[tokio::main]
async fn main() {
    let s = rpc_server::Server::builder()
        .service(GreeterServer::new(My))
        .endpoint(rpc_http::Http::new())
        .bind("127.0.0.1:7799")
        .await
        .unwrap();
    s.run().await.unwrap();
}
