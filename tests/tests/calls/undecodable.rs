//! Requests that a server cannot decode: their handlers do not execute, and the response states it.

use rpc_client::Client;
use rpc_core::{Code, Codec, Delivery, rpc_service};
use tests::{patient, probe::Probe, serving::Serving};

/// Another contract of the service, with another type of argument.
#[rpc_service(name = "test.Probe", version = "1.0")]
trait Other {
    async fn echo(&self, text: u8) -> String;
}

#[tokio::test]
async fn undecodable_request_states_that_nothing_executed() {
    // With a description of the server's contract, the client would not send the request.
    let server = rpc_server::Server::builder().service(Probe::default().server()).reflection(false);
    let serving = Serving::start(server).await;
    let client = Client::builder().config(patient()).build().unwrap();
    let call = OtherClient::new(client).echo(7).codec(Codec::Json).address(serving.address());
    let error = call.await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::InvalidArgument, Delivery::NotExecuted), "{error:?}");
}
