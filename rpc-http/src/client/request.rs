//! [`Prepared`]: the request of a call.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request,
    header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rpc_core::{Metadata, MethodInfo, Status};
use serde_json::{Map, Value};

use crate::headers;

/// The request of a call, for each of its attempts.
#[derive(Debug)]
pub(super) struct Prepared {
    verb: Method,
    target: String,
    body: Option<Bytes>,
    metadata: Vec<(HeaderName, HeaderValue)>,
    /// The key of a once call, which is the same for each attempt.
    key: Option<String>,
}

impl Prepared {
    /// Creates the request of a call with these arguments, a JSON object.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for arguments or metadata that a request cannot contain, `Unimplemented` for streams.
    pub(super) fn new(method: &MethodInfo, arguments: Bytes, metadata: &Metadata) -> Result<Self, Status> {
        if method.is_sending_items() || method.is_returning_items() {
            return Err(Status::unimplemented("calls with streams cannot be made by HTTP"));
        }
        let (verb, target, body) = match method.http_path() {
            None => (Method::POST, format!("/{}", method.route()), Some(arguments)),
            Some(http) => on_path(http, &arguments)?,
        };
        let key = method.once_scope().map(|_| format!("{:032x}", rand::random::<u128>()));
        Ok(Self { verb, target, body, metadata: headers_of(metadata)?, key })
    }

    /// Returns the request of an attempt that the caller awaits for `timeout`.
    pub(super) fn attempt(&self, host: &str, timeout: Duration) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let mut request = Request::builder()
            .method(self.verb.clone())
            .uri(&self.target)
            .header(HOST, host)
            .header("accept", "application/json")
            .header(headers::TIMEOUT, timeout.as_millis().max(1).to_string());
        for (name, value) in &self.metadata {
            request = request.header(name, value);
        }
        if let Some(key) = &self.key {
            request = request.header(headers::KEY, key);
        }
        if self.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request.body(Full::new(self.body.clone().unwrap_or_default()))
    }
}

/// Returns the verb, the path with its query, and the body of a method with a path of its own.
fn on_path(http: &str, arguments: &[u8]) -> Result<(Method, String, Option<Bytes>), Status> {
    let invalid = |detail: String| Status::invalid_argument(detail);
    let (verb, path) = http.split_once(' ').ok_or_else(|| invalid(format!("`{http}` is not a verb and a path")))?;
    let verb = Method::from_bytes(verb.as_bytes()).map_err(|_| invalid(format!("`{verb}` is not a verb")))?;
    let mut rest: Map<String, Value> = serde_json::from_slice(arguments)
        .map_err(|error| invalid(format!("the arguments are not an object: {error}")))?;
    let mut target = String::new();
    for segment in path.split('/').skip(1) {
        target.push('/');
        match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => {
                let value = rest.remove(name).unwrap_or_default();
                let text = text(&value).filter(|text| !text.is_empty());
                let text = text.ok_or_else(|| invalid(format!("`{name}` has no form in a path")))?;
                target.extend(utf8_percent_encode(&text, ESCAPED));
            }
            None => target.push_str(segment),
        }
    }
    if matches!(verb, Method::GET | Method::DELETE) {
        let mut separator = '?';
        for (name, value) in rest {
            let values = match value {
                Value::Null => Vec::new(),
                Value::Array(values) => values,
                value => vec![value],
            };
            for value in values {
                let text = text(&value).ok_or_else(|| invalid(format!("`{name}` has no form in a query")))?;
                target.push(separator);
                target.extend(utf8_percent_encode(&name, ESCAPED));
                target.push('=');
                target.extend(utf8_percent_encode(&text, ESCAPED));
                separator = '&';
            }
        }
        return Ok((verb, target, None));
    }
    // A controller of Spring takes one value as the body.
    let body = match rest.len() {
        0 => None,
        1 => rest.into_iter().next().map(|(_, value)| value),
        _ => Some(Value::Object(rest)),
    };
    Ok((verb, target, body.map(|body| Bytes::from(body.to_string()))))
}

/// Returns a value as the text of a path or a query; `None` for lists, objects and null.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

fn headers_of(metadata: &Metadata) -> Result<Vec<(HeaderName, HeaderValue)>, Status> {
    let header = |(key, value): (&str, &[u8])| {
        let name = if headers::TRACE.contains(&key) { key.to_owned() } else { format!("{}{key}", headers::METADATA) };
        let name = HeaderName::try_from(name);
        match (name, HeaderValue::from_bytes(value)) {
            (Ok(name), Ok(value)) => Ok((name, value)),
            _ => Err(Status::invalid_argument(format!("metadata `{key}` has no form in a header"))),
        }
    };
    metadata.iter().map(header).collect()
}

/// The characters that a path or a query cannot contain as they are.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use rpc_core::ServiceId;

    use super::*;

    fn sent(http: &'static str, arguments: &str) -> (String, String) {
        let method = MethodInfo::new(ServiceId::new("a", "1").unwrap(), "m").http(http);
        let arguments = Bytes::copy_from_slice(arguments.as_bytes());
        let prepared = Prepared::new(&method, arguments, &Metadata::default()).unwrap();
        let body = prepared.body.map(|body| String::from_utf8(body.to_vec()).unwrap());
        (format!("{} {}", prepared.verb, prepared.target), body.unwrap_or_default())
    }

    #[test]
    fn arguments_become_path_query_and_body() {
        let of = |line: &str, body: &str| (line.to_owned(), body.to_owned());
        assert_eq!(
            sent("GET /a/{id}", r#"{"id":"b/c d","x":1,"n":null,"l":[true,"y&z"]}"#),
            of("GET /a/b%2Fc%20d?l=true&l=y%26z&x=1", "")
        );
        assert_eq!(sent("PUT /a/{id}", r#"{"id":7,"order":{"x":1}}"#), of("PUT /a/7", r#"{"x":1}"#));
        assert_eq!(sent("POST /a", r#"{"x":1,"y":"z"}"#), of("POST /a", r#"{"x":1,"y":"z"}"#));
        assert_eq!(sent("POST /a", "{}"), of("POST /a", ""));
        let method = MethodInfo::new(ServiceId::new("a", "1").unwrap(), "m").http("GET /a/{id}");
        for bad in [r#"{"id":null}"#, r#"{"id":""}"#, r#"{"id":[1]}"#, r#"{"id":1,"x":{}}"#, "[]"] {
            let arguments = Bytes::copy_from_slice(bad.as_bytes());
            assert!(Prepared::new(&method, arguments, &Metadata::default()).is_err(), "{bad}");
        }
    }
}
