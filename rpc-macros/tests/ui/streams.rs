use rpc_core::{Status, Streaming, rpc_service};

#[rpc_service]
trait Feed {
    async fn nested(&self, lists: Vec<Streaming<u8>>);
    async fn nested_result(&self) -> Option<Streaming<u8>>;
    async fn not_last(&self, items: Streaming<u8>, name: String);
    async fn with_error(&self, items: Streaming<u8, Status>);
    #[rpc(once)]
    async fn once(&self, items: Streaming<u8>) -> u8;
    #[rpc(one_way)]
    async fn one_way(&self, items: Streaming<u8>);
    #[rpc(stream_timeout = "1m")]
    async fn timeout_without_stream(&self, items: Streaming<u8>) -> u8;
    async fn cursor_without_stream(&self, #[rpc(cursor)] after: Option<u64>) -> u8;
    async fn cursor_of_another_type(&self, #[rpc(cursor)] after: u64) -> Streaming<u8>;
    async fn two_cursors(&self, #[rpc(cursor)] a: Option<u8>, #[rpc(cursor)] b: Option<u8>) -> Streaming<u8>;
    async fn unknown_option(&self, #[rpc(position)] after: Option<u64>) -> Streaming<u8>;
}

fn main() {}
