//! [`Exchange`]: one call, from its head to its response.

use std::{future::poll_fn, sync::Arc};

use bytes::{Bytes, BytesMut};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, body::Incoming, http::request::Parts};
use rpc_core::{Code, Codec, Error, Metadata, ProvedToken, deadline_after};
use rpc_server::{EndpointReply, EndpointRequest, Http2Connection};
use tokio::time::Instant;

use super::{
    body::{AnswerBody, Items, write_message, write_payload},
    compression::Encodings,
    headers, health,
    memory::Memory,
    messages::Messages,
    reflection, response,
    routes::{Route, Target},
    sending::{Begun, Sending, faulty},
    state::State,
    status,
};
use crate::{schema::Requests, transcode::to_messagepack};

/// Answers the calls of one connection.
#[derive(Clone)]
pub(super) struct Exchange {
    pub(super) state: Arc<State>,
    pub(super) connection: Http2Connection,
    pub(super) memory: Memory,
}

impl Exchange {
    /// Answers a call. Dropping the future cancels it.
    pub(super) async fn answer(self, request: Request<Incoming>) -> Response<AnswerBody> {
        let (parts, body) = request.into_parts();
        if parts.method != Method::POST {
            response::not_grpc(StatusCode::METHOD_NOT_ALLOWED)
        } else if !response::is_grpc(&parts.headers) {
            response::not_grpc(StatusCode::UNSUPPORTED_MEDIA_TYPE)
        } else {
            self.dispatch(parts, body).await.unwrap_or_else(|error| response::failed(&error))
        }
    }

    async fn dispatch(&self, parts: Parts, body: Incoming) -> Result<Response<AnswerBody>, Error> {
        let (state, headers) = (&self.state, &parts.headers);
        let begun = Instant::now();
        let encodings = Encodings::of(headers)?;
        let deadline = headers::timeout(headers)?.map(|timeout| deadline_after(begun, timeout));
        let messages = Messages::new(body, encodings.request_is_gzip, &state.config, &self.memory, deadline);
        let target = state.routes.find(parts.uri.path());
        if let Some(Target::Health { is_watch }) = target {
            // Probes have no tokens.
            return health::answer(&state.routes, &self.connection, messages, *is_watch).await;
        }
        // Before messages are read, so that only callers with a token occupy memory.
        let token = headers::token(self.connection.endpoint(), headers, state.tokens_without_tls)?;
        match target {
            Some(Target::Method(route)) => {
                let request = self.request(route, headers, token)?;
                // A map of headers occupies a multiple of their length, and the messages of the call may take long.
                drop(parts);
                let call = Call { route: Arc::clone(route), request, deadline, compresses: encodings.compresses };
                self.call(call, messages).await
            }
            Some(_) => {
                self.permit_reflection(token).await?;
                Ok(reflection::answer(Arc::clone(state), &self.connection, messages))
            }
            None => {
                let message = format!("no such method here: {}", parts.uri.path());
                Err(Error::not_executed(Code::Unimplemented, message))
            }
        }
    }

    /// Fails if the caller may not use the reflection of the server.
    async fn permit_reflection(&self, token: Option<ProvedToken>) -> Result<(), Error> {
        let request = EndpointRequest::new(REFLECTION, Codec::Json, Bytes::from_static(b"{}"));
        let request = token.into_iter().fold(request, EndpointRequest::token);
        self.connection.endpoint().call(request).await.map(|_| ())
    }

    async fn call(&self, call: Call, mut messages: Messages) -> Result<Response<AnswerBody>, Error> {
        let Call { route, request, deadline, compresses } = call;
        // Computed when the request is complete.
        let timed = |request: EndpointRequest| match deadline {
            Some(deadline) => request.timeout(deadline.saturating_duration_since(Instant::now())),
            None => request,
        };
        let limit = self.state.max_arguments;
        let (reply, sending) = match route.method().request {
            Requests::One(message) => {
                let received = messages.only().await?;
                let mut arguments = BytesMut::with_capacity(received.bytes.len() + ARGUMENTS);
                to_messagepack(&route.proto, message, &received.bytes, limit, &mut arguments).map_err(faulty)?;
                let request = timed(request.arguments(received.share.keep(arguments.freeze())));
                (self.connection.endpoint().call(request).await?, None)
            }
            Requests::Stream { .. } => {
                let begun = Begun::read(&mut messages, &route, limit).await?;
                let request = timed(request.arguments(begun.arguments.clone()));
                let (mut sending, items) = Sending::start(&self.connection, messages, begun, &route, limit);
                // Both are safe to drop: an item that could not be sent fails the call.
                let reply = tokio::select! {
                    biased;
                    reply = self.connection.endpoint().call(request.items(items)) => reply?,
                    error = poll_fn(|cx| sending.poll_failed(cx)) => return Err(error),
                };
                (reply, Some(sending))
            }
        };
        self.respond(route, reply, sending, compresses)
    }

    /// Returns a call without its arguments and its timeout.
    fn request(
        &self,
        route: &Route,
        headers: &HeaderMap,
        token: Option<ProvedToken>,
    ) -> Result<EndpointRequest, Error> {
        let identity = self.connection.endpoint().peer().identity().clone();
        let identity = match &token {
            Some(token) => identity.with_token(token.name()),
            None => identity,
        };
        let mut request = EndpointRequest::new(&route.route, Codec::MessagePack, Bytes::new())
            .form(&route.info)
            .metadata(headers::metadata(headers)?);
        if let Some(key) = headers::once_key(headers, &identity, &route.route)? {
            request = request.once_key(key);
        }
        Ok(token.into_iter().fold(request, EndpointRequest::token))
    }

    /// Returns the response of a call that the handler answered.
    fn respond(
        &self,
        route: Arc<Route>,
        EndpointReply { mut reply, unread }: EndpointReply,
        sending: Option<Sending>,
        compresses: bool,
    ) -> Result<Response<AnswerBody>, Error> {
        if reply.is_application_error {
            return Ok(response::trailers_only(status::service_error(&route, &reply, false)));
        }
        if let Some(items) = reply.items.take() {
            let items = Items { items: Some(items), route, compresses, sending, trailers: None };
            return Ok(response::answer(AnswerBody::items(items), &reply.metadata, compresses));
        }
        let mut message = BytesMut::with_capacity(reply.payload.bytes.len() + RESULT);
        write_message(&mut message, compresses, |out| write_payload(&route, &reply.payload, out))?;
        let body = AnswerBody::message(message.freeze(), status::success(&Metadata::default()), Some(unread));
        Ok(response::answer(body, &reply.metadata, compresses))
    }
}

/// A call whose messages were not read yet.
struct Call {
    route: Arc<Route>,
    request: EndpointRequest,
    deadline: Option<Instant>,
    compresses: bool,
}

/// The method that a caller of the reflection must be permitted to call.
const REFLECTION: &str = "msnb.Reflection:1.0/list";
/// The bytes by which arguments are usually longer than their message: the names of the parameters.
const ARGUMENTS: usize = 64;
/// The bytes by which the message of a result is usually longer than the result: its prefix, and its tags.
const RESULT: usize = 16;
