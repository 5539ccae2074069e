#[rpc_core::rpc_service]
trait Greeter {
    #[rpc(http = "/hello")]
    async fn no_verb(&self);
    #[rpc(http = "get /hello")]
    async fn unknown_verb(&self);
    #[rpc(http = "GET hello")]
    async fn relative(&self);
    #[rpc(http = "GET /hello/{name}")]
    async fn no_parameter(&self);
    #[rpc(http = "GET /{a}/{a}")]
    async fn repeated(&self, a: u8);
    #[rpc(http = "GET /a b")]
    async fn space(&self);
    #[rpc(http = "POST /sum")]
    async fn stream(&self, numbers: rpc_core::Streaming<u8>) -> u8;
    #[rpc(status(NotFound = 200))]
    async fn success(&self) -> Result<u8, u8>;
    #[rpc(status(NotFound = 429))]
    async fn reserved(&self) -> Result<u8, u8>;
    #[rpc(status(NotFound = 404, NotFound = 410))]
    async fn twice(&self) -> Result<u8, u8>;
    #[rpc(status = 404)]
    async fn no_variant(&self) -> Result<u8, u8>;
}

fn main() {}
