//! Health checks: `grpc.health.v1.Health`.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::Response;
use prost::Message as _;
use rpc_core::{Code, Error, Metadata};
use rpc_server::{EndpointConnection, Http2Connection};
use tokio::{sync::mpsc, time::sleep};

use super::{
    body::{AnswerBody, Part, write_message},
    messages::Messages,
    response,
    routes::Routes,
    status,
};

/// Answers a health check. The state of a service is that of the server.
pub(super) async fn answer(
    routes: &Routes,
    connection: &Http2Connection,
    mut messages: Messages,
    is_watch: bool,
) -> Result<Response<AnswerBody>, Error> {
    let received = messages.only().await?;
    let request = CheckRequest::decode(received.bytes)
        .map_err(|_| Error::not_executed(Code::InvalidArgument, "the message is no HealthCheckRequest"))?;
    let is_known = request.service.is_empty() || routes.has_service(&request.service);
    if is_watch {
        let (sender, parts) = mpsc::channel(1);
        let task = connection.spawn(watch(connection.endpoint().clone(), is_known, sender));
        return Ok(response::answer(AnswerBody::parts(parts, task), &Metadata::default(), false));
    }
    if !is_known {
        return Err(Error::not_executed(Code::NotFound, format!("no such service here: {}", request.service)));
    }
    let message = message(state(connection.endpoint()));
    let body = AnswerBody::message(message, status::success(&Metadata::default()), None);
    Ok(response::answer(body, &Metadata::default(), false))
}

/// Sends the state, and each change of it, until the connection drains.
async fn watch(connection: EndpointConnection, is_known: bool, sender: mpsc::Sender<Part>) {
    let mut sent = None;
    loop {
        let state = if is_known { state(&connection) } else { Health::ServiceUnknown };
        if sent.replace(state) != Some(state) && sender.send(Part::Message(message(state))).await.is_err() {
            return;
        }
        // Both are safe to drop.
        tokio::select! {
            () = connection.draining() => break,
            () = sleep(WATCH_TIME) => {}
        }
    }
    let state = if is_known { Health::NotServing } else { Health::ServiceUnknown };
    if sent != Some(state) && sender.send(Part::Message(message(state))).await.is_err() {
        return;
    }
    let error = Error::answered(Code::Unavailable, "the connection is draining");
    // Fails if the caller is gone.
    let _ = sender.send(Part::End(status::failure(&error))).await;
}

fn state(connection: &EndpointConnection) -> Health {
    if connection.is_leaving() { Health::NotServing } else { Health::Serving }
}

fn message(state: Health) -> Bytes {
    let mut out = BytesMut::new();
    // A short message has no error.
    let _ = write_message(&mut out, false, |out| {
        out.extend_from_slice(&CheckResponse { status: state as i32 }.encode_to_vec());
        Ok(())
    });
    out.freeze()
}

/// `HealthCheckResponse.ServingStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

/// `HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct CheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct CheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The time after which a watched state is read again.
const WATCH_TIME: Duration = Duration::from_millis(500);
