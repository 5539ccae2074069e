//! [`Exchange`]: one request, from its head to its response.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::{Body as _, Incoming},
    header::{ACCEPT, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use rpc_core::{Code, Codec, Service, ServiceId};
use rpc_server::{EndpointConnection, EndpointReply, EndpointRequest};
use tokio::time::{Instant, timeout_at};

use super::{
    arguments::{ArgumentParts, arguments},
    body::{AnswerBody, ItemFormat},
    caller_headers,
    config::HttpConfig,
    openapi,
    origins::{Origins, preflight},
    response::{self, JSON, Rejected},
    routes::{Found, Route, Routes},
};
use crate::headers;

/// The endpoint of a server: its options, and its services by their paths.
pub(super) struct State {
    pub(super) config: HttpConfig,
    pub(super) origins: Origins,
    pub(super) tokens_without_tls: bool,
    pub(super) routes: Routes,
    pub(super) services: Vec<(ServiceId, Arc<dyn Service>)>,
    pub(super) openapi: OnceLock<Bytes>,
}

/// Answers the requests of one connection.
#[derive(Clone)]
pub(super) struct Exchange {
    pub(super) state: Arc<State>,
    pub(super) connection: EndpointConnection,
}

/// A request without its body.
struct Head<'a> {
    method: &'a Method,
    path: &'a str,
    query: &'a str,
    headers: &'a HeaderMap,
}

impl Exchange {
    /// Answers a request. Dropping the future cancels the call.
    pub(super) async fn answer(self, request: Request<Incoming>) -> Response<AnswerBody> {
        let (parts, body) = request.into_parts();
        let head = Head {
            method: &parts.method,
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            headers: &parts.headers,
        };
        let (origin, checked) = match self.state.origins.check(head.headers) {
            Ok(origin) => (origin, Ok(())),
            Err(rejected) => (None, Err(rejected)),
        };
        let answered = match checked {
            Err(rejected) => Err(rejected),
            Ok(()) => match preflight(head.method, head.headers) {
                Some(response) => Ok(response),
                None => self.dispatch(&head, body).await,
            },
        };
        let mut response = answered.unwrap_or_else(Rejected::into_response);
        if let Some(origin) = origin {
            self.state.origins.permit(origin, &mut response);
        }
        let headers = response.headers_mut();
        if parts.version >= Version::HTTP_2 {
            headers.remove(CONNECTION);
        } else if self.connection.is_leaving() {
            // A silent close of a kept connection would fail the next request of some callers.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn dispatch(&self, head: &Head<'_>, body: Incoming) -> Result<Response<AnswerBody>, Rejected> {
        // The parser of HTTP/1.1 has the same limit. Many short headers occupy far more memory than their length.
        let max_headers = self.state.config.max_headers;
        if head.headers.len() > max_headers {
            let detail = format!(
                "the request has {} headers, limit is {max_headers} (HttpConfig::max_headers)",
                head.headers.len()
            );
            return Err(Rejected::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Code::ResourceExhausted, detail));
        }
        if head.path == OPENAPI {
            return self.openapi(head).await;
        }
        let found = self.state.routes.find(head.method, head.path).map_err(Rejected::invalid)?;
        let (route, path) = match found {
            Found::Route(route, values) => (route, values),
            Found::Unknown(route) => return self.unknown(head, route).await,
            Found::OtherVerbs(verbs) => {
                let detail = format!("{} is not a verb of this path", head.method);
                let rejected = Rejected::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, detail);
                return Err(Rejected { allow: Some(verbs), ..rejected });
            }
            Found::Nothing => {
                let detail = format!("no method has the path {}", head.path);
                return Err(Rejected::new(StatusCode::NOT_FOUND, Code::Unimplemented, detail));
            }
        };
        if route.method.is_sending_items() {
            let detail = "methods with a stream as their argument cannot be called by HTTP";
            return Err(Rejected::new(StatusCode::NOT_IMPLEMENTED, Code::Unimplemented, detail));
        }
        // Before the body is read, so that only callers with a token occupy memory.
        let request = self.request(head, &route)?;
        let body = self.read(body).await?;
        let is_once = route.method.once_scope().is_some();
        if is_once && body.is_empty() && !head.headers.contains_key(headers::KEY) {
            let detail =
                "some callers repeat requests without a body: a once method needs a body or an Idempotency-Key";
            return Err(Rejected::invalid(detail));
        }
        let content_type = text(head.headers, &CONTENT_TYPE);
        let parts = ArgumentParts { path, query: head.query, content_type, body };
        let request = request.arguments(arguments(&route, parts)?);
        match self.connection.call(request).await {
            Ok(reply) => Ok(respond(&route, reply, text(head.headers, &ACCEPT))),
            Err(error) => Ok(response::error(&error)),
        }
    }

    /// Returns the call of a request, without its arguments.
    fn request(&self, head: &Head<'_>, route: &Route) -> Result<EndpointRequest, Rejected> {
        let token = caller_headers::token(&self.connection, head.headers, self.state.tokens_without_tls)?;
        let identity = self.connection.peer().identity().clone();
        let identity = match &token {
            Some(token) => identity.with_token(token.name()),
            None => identity,
        };
        let mut request = EndpointRequest::new(&route.route, Codec::Json, Bytes::from_static(b"{}"))
            .form(&route.method)
            .metadata(caller_headers::metadata(head.headers)?);
        if let Some(timeout) = caller_headers::timeout(head.headers)? {
            request = request.timeout(timeout);
        }
        if let Some(key) = caller_headers::once_key(head.headers, &identity, &route.route)? {
            request = request.once_key(key);
        }
        Ok(match token {
            Some(token) => request.token(token),
            None => request,
        })
    }

    /// Calls a method that the server does not have, so that the server counts and describes the error.
    async fn unknown(&self, head: &Head<'_>, route: String) -> Result<Response<AnswerBody>, Rejected> {
        let token = caller_headers::token(&self.connection, head.headers, self.state.tokens_without_tls)?;
        let request = EndpointRequest::new(route, Codec::Json, Bytes::from_static(b"{}"));
        let request = token.into_iter().fold(request, EndpointRequest::token);
        match self.connection.call(request).await {
            // A service that is not described, such as reflection itself.
            Ok(EndpointReply { reply, unread }) => {
                let body = AnswerBody::answer(reply.payload.bytes, unread);
                Ok(response::with_body(StatusCode::OK, JSON, body))
            }
            Err(error) => Ok(response::error(&error)),
        }
    }

    /// Answers with the description of the services, to callers that may use reflection.
    async fn openapi(&self, head: &Head<'_>) -> Result<Response<AnswerBody>, Rejected> {
        if *head.method != Method::GET && *head.method != Method::HEAD {
            let rejected = Rejected::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, "expected GET");
            return Err(Rejected { allow: Some("GET, HEAD".to_owned()), ..rejected });
        }
        let token = caller_headers::token(&self.connection, head.headers, self.state.tokens_without_tls)?;
        let request = EndpointRequest::new(REFLECTION, Codec::Json, Bytes::from_static(b"{}"));
        let request = token.into_iter().fold(request, EndpointRequest::token);
        if let Err(error) = self.connection.call(request).await {
            return Ok(response::error(&error));
        }
        let document = self
            .state
            .openapi
            .get_or_init(|| openapi::document(&self.state.services, self.connection.requires_token()));
        Ok(response::with_body(StatusCode::OK, JSON, AnswerBody::bytes(document.clone())))
    }

    /// Reads the body of a request, within the limits.
    async fn read(&self, mut body: Incoming) -> Result<Bytes, Rejected> {
        let HttpConfig { max_body, body_time, .. } = self.state.config;
        let too_long = || {
            let detail = format!("the body is longer than {max_body} bytes (HttpConfig::max_body)");
            Rejected::new(StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, detail).closing()
        };
        if body.size_hint().lower() > max_body as u64 {
            return Err(too_long());
        }
        let begun = Instant::now();
        let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
        loop {
            let length = (first.len() + rest.len()) as u64;
            let time = body_time.saturating_add(Duration::from_secs(length / BYTES_PER_SECOND));
            let frame = timeout_at(rpc_core::deadline_after(begun, time), body.frame()).await;
            let Ok(frame) = frame else {
                let detail = format!("the body did not arrive within {time:?} (HttpConfig::body_time)");
                return Err(Rejected::new(StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded, detail).closing());
            };
            let Some(frame) = frame else { break };
            let frame =
                frame.map_err(|error| Rejected::invalid(format!("the body is malformed: {error}")).closing())?;
            // Trailers have no meaning here.
            let Ok(data) = frame.into_data() else { continue };
            if length + data.len() as u64 > max_body as u64 {
                return Err(too_long());
            }
            // A body that arrives in one part is not copied.
            if first.is_empty() && rest.is_empty() {
                first = data;
                continue;
            }
            rest.extend_from_slice(&std::mem::take(&mut first));
            rest.extend_from_slice(&data);
        }
        Ok(if rest.is_empty() { first } else { rest.freeze() })
    }
}

/// Returns the response of a call that the handler answered.
fn respond(route: &Route, EndpointReply { reply, unread }: EndpointReply, accept: &str) -> Response<AnswerBody> {
    let mut response = match reply.items {
        Some(items) => {
            let format = ItemFormat::accepted(accept);
            response::with_body(StatusCode::OK, format.media_type(), AnswerBody::items(items, format))
        }
        None if route.method.is_one_way() => {
            response::with_body(StatusCode::ACCEPTED, JSON, AnswerBody::bytes(Bytes::from_static(b"null")))
        }
        None if reply.is_application_error => {
            let bytes = reply.payload.bytes;
            let status = variant(&bytes).and_then(|variant| route.method.http_status(&variant));
            let status = status.and_then(|status| StatusCode::from_u16(status).ok());
            let status = status.unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
            let mut response = response::with_body(status, JSON, AnswerBody::answer(bytes, unread));
            response.headers_mut().insert(headers::SERVICE_ERROR, HeaderValue::from_static("true"));
            response
        }
        None => response::with_body(StatusCode::OK, JSON, AnswerBody::answer(reply.payload.bytes, unread)),
    };
    response::add_metadata(&mut response, &reply.metadata);
    response
}

/// Returns the variant of an error: the text itself, or the only member of the object.
fn variant(error: &[u8]) -> Option<String> {
    match serde_json::from_slice(error).ok()? {
        serde_json::Value::String(name) => Some(name),
        serde_json::Value::Object(members) if members.len() == 1 => members.into_iter().next().map(|(name, _)| name),
        _ => None,
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &hyper::header::HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The path of the description of the services.
const OPENAPI: &str = "/openapi.json";
/// The method that a caller of the description must be permitted to call.
const REFLECTION: &str = "msnb.Reflection:1.0/list";
/// The number of bytes of a body that extend its time by a second.
const BYTES_PER_SECOND: u64 = 64 << 10;
