//! Server reflection: the services of a server, and the files that describe them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hyper::Response;
use prost::Message as _;
use rpc_core::{Code, Error, Metadata};
use rpc_server::Http2Connection;
use tokio::sync::mpsc;

use super::{
    body::{AnswerBody, Part, write_message},
    files::Files,
    messages::Messages,
    response,
    state::State,
    status,
};

fn respond(files: &Files, request: Request) -> Reply {
    let found = |files: Option<&[Bytes]>, what: &str| match files {
        Some(files) => Answer::Files(FileResponse { files: files.iter().map(|file| file.to_vec()).collect() }),
        None => not_found(what),
    };
    let answer = match &request.question {
        Some(Question::FileByName(name)) => found(files.by_name(name), name),
        Some(Question::FileOfSymbol(symbol)) => found(files.of_symbol(symbol), symbol),
        Some(Question::ListServices(_)) => {
            let services = files.services().iter().map(|name| ServiceResponse { name: name.clone() });
            Answer::Services(ListResponse { services: services.collect() })
        }
        Some(Question::ExtensionNumbers(name)) if files.of_symbol(name).is_some() => {
            Answer::ExtensionNumbers(NumbersResponse { name: name.clone() })
        }
        Some(Question::ExtensionNumbers(name)) => not_found(name),
        Some(Question::FileOfExtension(extension)) => not_found(&extension.containing_type),
        None => {
            let message = "the request has no question".to_owned();
            Answer::Error(ErrorResponse { code: Code::InvalidArgument as i32, message })
        }
    };
    Reply { host: request.host.clone(), request: Some(request), answer: Some(answer) }
}

fn not_found(what: &str) -> Answer {
    Answer::Error(ErrorResponse { code: Code::NotFound as i32, message: format!("not found: {what}") })
}

/// Answers the questions of a caller until it ends its stream, or the connection drains.
pub(super) fn answer(state: Arc<State>, connection: &Http2Connection, mut messages: Messages) -> Response<AnswerBody> {
    let (sender, parts) = mpsc::channel(1);
    let endpoint = connection.endpoint().clone();
    let task = connection.spawn(async move {
        let end = loop {
            // Both are safe to drop: the stream ends then.
            let received = tokio::select! {
                biased;
                received = messages.next() => received,
                () = endpoint.draining() => Err(Error::answered(Code::Unavailable, "the connection is draining")),
            };
            let reply = match received {
                Ok(Some(received)) => match Request::decode(received.bytes) {
                    Ok(request) => respond(&state.files, request),
                    Err(_) => {
                        let message = "the message is no ServerReflectionRequest";
                        break status::failure(&Error::answered(Code::InvalidArgument, message));
                    }
                },
                Ok(None) => break status::success(&Metadata::default()),
                Err(error) => break status::failure(&error),
            };
            let mut out = BytesMut::new();
            let written = write_message(&mut out, false, |out| {
                out.extend_from_slice(&reply.encode_to_vec());
                Ok(())
            });
            if written.is_err() || sender.send(Part::Message(out.freeze())).await.is_err() {
                return;
            }
        };
        // Fails if the caller is gone.
        let _ = sender.send(Part::End(end)).await;
    });
    response::answer(AnswerBody::parts(parts, task), &Metadata::default(), false)
}

/// `ServerReflectionRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(oneof = "Question", tags = "3, 4, 5, 6, 7")]
    question: Option<Question>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Question {
    #[prost(string, tag = "3")]
    FileByName(String),
    #[prost(string, tag = "4")]
    FileOfSymbol(String),
    #[prost(message, tag = "5")]
    FileOfExtension(ExtensionRequest),
    #[prost(string, tag = "6")]
    ExtensionNumbers(String),
    #[prost(string, tag = "7")]
    ListServices(String),
}

/// `ExtensionRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct ExtensionRequest {
    #[prost(string, tag = "1")]
    containing_type: String,
    #[prost(int32, tag = "2")]
    number: i32,
}

/// `ServerReflectionResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct Reply {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(message, optional, tag = "2")]
    request: Option<Request>,
    #[prost(oneof = "Answer", tags = "4, 5, 6, 7")]
    answer: Option<Answer>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Answer {
    #[prost(message, tag = "4")]
    Files(FileResponse),
    #[prost(message, tag = "5")]
    ExtensionNumbers(NumbersResponse),
    #[prost(message, tag = "6")]
    Services(ListResponse),
    #[prost(message, tag = "7")]
    Error(ErrorResponse),
}

/// `FileDescriptorResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct FileResponse {
    #[prost(bytes = "vec", repeated, tag = "1")]
    files: Vec<Vec<u8>>,
}

/// `ExtensionNumberResponse`, without numbers, because no message has extensions.
#[derive(Clone, PartialEq, prost::Message)]
struct NumbersResponse {
    #[prost(string, tag = "1")]
    name: String,
}

/// `ListServiceResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct ListResponse {
    #[prost(message, repeated, tag = "1")]
    services: Vec<ServiceResponse>,
}

/// `ServiceResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct ServiceResponse {
    #[prost(string, tag = "1")]
    name: String,
}

/// `ErrorResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct ErrorResponse {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}
