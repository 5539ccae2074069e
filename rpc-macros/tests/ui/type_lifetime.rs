use rpc_core::rpc_service;

use std::borrow::Cow;

#[rpc_service]
trait Greeter {
    async fn hello(&self, name: Cow<'_, str>) -> String;
}

fn main() {}
