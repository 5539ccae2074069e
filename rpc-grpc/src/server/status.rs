//! The statuses of gRPC, in trailers.

use bytes::BytesMut;
use data_encoding::BASE64_NOPAD as BASE64;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use prost::Message as _;
use rpc_core::{Code, Codec, Delivery, Error, Metadata, Reply};

use super::{headers::is_reserved, routes::Route};
use crate::transcode::{to_json, to_protobuf, to_value};

/// Returns the number of a status in gRPC.
///
/// msnb has the codes of gRPC, and one for the service's own error, which gRPC does not have.
fn number(code: Code) -> u8 {
    match code {
        Code::Application => Code::FailedPrecondition as u8,
        code => code as u8,
    }
}

/// Returns the trailers of a successful call.
pub(super) fn success(metadata: &Metadata) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(STATUS, HeaderValue::from_static("0"));
    add_metadata(metadata, &mut trailers);
    trailers
}

/// Returns the trailers of a call that failed otherwise than with the service's own error.
pub(super) fn failure(error: &Error) -> HeaderMap {
    let mut trailers = with_status(error.code(), error.message());
    trailers.insert(DELIVERY, HeaderValue::from_static(delivery_name(error.delivery())));
    if let Some(wait) = error.retry_after() {
        trailers.insert(PUSHBACK, HeaderValue::from(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
    }
    add_metadata(error.metadata(), &mut trailers);
    trailers
}

/// Returns the trailers of the service's own error: its JSON is the message, and itself the details.
///
/// `is_of_items` is whether it ends a stream. Such an error, and one that is no message, is a `google.protobuf.Value`.
pub(super) fn service_error(route: &Route, reply: &Reply, is_of_items: bool) -> HeaderMap {
    let bytes = &reply.payload.bytes[..];
    let text = to_json(bytes).unwrap_or_default();
    let mut trailers = with_status(Code::Application, &text);
    trailers.insert(DELIVERY, HeaderValue::from_static(delivery_name(Delivery::Answered)));
    let mut value = BytesMut::new();
    let message = route.method().error.as_ref().filter(|_| !is_of_items);
    let converted = match message {
        Some(error) => to_protobuf(&route.proto, error.message, bytes, &mut value),
        None => to_value(&mut &*bytes, &mut value, Codec::MAX_DEPTH),
    };
    if converted.is_ok() {
        let name = message.map_or(VALUE, |error| error.name.as_str());
        let detail = prost_types::Any { type_url: format!("type.googleapis.com/{name}"), value: value.to_vec() };
        let code = i32::from(number(Code::Application));
        let value = BASE64.encode(&RpcStatus { code, message: text, details: vec![detail] }.encode_to_vec());
        if value.len() <= MAX_DETAILS
            && let Ok(value) = HeaderValue::try_from(value)
        {
            trailers.insert(DETAILS, value);
        }
    }
    add_metadata(&reply.metadata, &mut trailers);
    trailers
}

fn with_status(code: Code, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(4);
    trailers.insert(STATUS, HeaderValue::from(u16::from(number(code))));
    let mut end = message.len().min(MAX_MESSAGE);
    let encoded = loop {
        end = message.floor_char_boundary(end);
        let encoded = utf8_percent_encode(&message[..end], ENCODED).to_string();
        if encoded.len() <= MAX_MESSAGE {
            break encoded;
        }
        // Each byte has at most three characters.
        end -= ((encoded.len() - MAX_MESSAGE) / 3).clamp(1, end);
    };
    if let Ok(value) = HeaderValue::try_from(encoded) {
        trailers.insert(MESSAGE, value);
    }
    trailers
}

/// Adds metadata. Values that are not visible ASCII are encoded, under keys that end with `-bin`.
pub(super) fn add_metadata(metadata: &Metadata, headers: &mut HeaderMap) {
    for (key, value) in metadata.iter() {
        let is_text = value.iter().all(|byte| matches!(byte, b' '..=b'~'));
        let (name, value) = match key.ends_with("-bin") {
            true => (HeaderName::try_from(key), HeaderValue::try_from(BASE64.encode(value))),
            false if is_text => (HeaderName::try_from(key), HeaderValue::from_bytes(value)),
            false => (HeaderName::try_from(format!("{key}-bin")), HeaderValue::try_from(BASE64.encode(value))),
        };
        if let (Ok(name), Ok(value)) = (name, value)
            && !is_reserved(name.as_str())
        {
            headers.append(name, value);
        }
    }
}

fn delivery_name(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::NotExecuted => "not-executed",
        Delivery::Answered => "answered",
        Delivery::Unknown => "unknown",
    }
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const DELIVERY: HeaderName = HeaderName::from_static("msnb-delivery");
/// The time after which a caller may repeat the call.
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// The type of details that have no message of their own.
const VALUE: &str = "google.protobuf.Value";
/// The characters that are encoded in `grpc-message`, besides those that are not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');
/// The longest `grpc-message` in bytes. Some callers accept only 8 KiB of headers.
const MAX_MESSAGE: usize = 2048;
/// The longest `grpc-status-details-bin` in bytes.
const MAX_DETAILS: usize = 4096;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rpc_core::Status;

    use super::*;

    #[test]
    fn codes_have_the_numbers_of_grpc() {
        for code in 0..=16 {
            assert_eq!(number(Code::from_u8(code)), code);
        }
        assert_eq!(number(Code::Application), 9);
    }

    #[test]
    fn messages_are_encoded_and_cut() {
        let message = |text: &str| with_status(Code::Internal, text)[MESSAGE].to_str().unwrap().to_owned();
        assert_eq!(message("50% of ä\n"), "50%25 of %C3%A4%0A");
        assert_eq!(message(&"a".repeat(5000)).len(), 2048);
        let long = message(&"ä".repeat(5000));
        assert!((2000..=2048).contains(&long.len()) && long.len() % 6 == 0, "{}", long.len());
    }

    #[test]
    fn failures_state_delivery_and_pushback() {
        let status = Status::unavailable("later").with_retry_after(Duration::from_millis(70));
        let trailers = failure(&Error::from_status(status));
        assert_eq!([&trailers[STATUS], &trailers[DELIVERY], &trailers[PUSHBACK]], ["14", "answered", "70"]);
    }

    #[test]
    fn metadata_is_text_or_encoded() {
        let mut metadata = Metadata::default();
        for (key, value) in [("a", &b"x y"[..]), ("b", &[255]), ("c-bin", b"z"), ("grpc-status", b"1")] {
            metadata.insert(key, value).unwrap();
        }
        let mut headers = HeaderMap::new();
        add_metadata(&metadata, &mut headers);
        let pairs: Vec<_> = headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
        assert_eq!(pairs, ["a=x y", "b-bin=/w", "c-bin=eg"]);
    }
}
