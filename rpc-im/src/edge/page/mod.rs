//! The chat page: its files, which the node serves from memory.

use std::sync::LazyLock;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use http_body_util::Full;
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{self, HeaderValue},
};
use sha2::{Digest as _, Sha256};

use super::answer::HttpResponse;

/// A file of the page.
#[derive(Debug)]
struct File {
    path: &'static str,
    media_type: &'static str,
    content: &'static str,
}

/// Returns the response to a request for a path; `None` if the page has no such file.
///
/// Browsers keep the files and revalidate them by their `ETag`, so that a page never mixes the files of two versions.
pub(super) fn response(path: &str, request: &HeaderMap) -> Option<HttpResponse> {
    let file = FILES.iter().find(|file| file.path == path)?;
    let is_known = request.get(header::IF_NONE_MATCH).is_some_and(|tag| tag == *VERSION);
    let body = if is_known { Full::default() } else { Full::new(Bytes::from_static(file.content.as_bytes())) };
    let mut response = Response::new(body);
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::ETAG, VERSION.clone());
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Some(response)
}

/// The `ETag` of all files: a hash of their contents.
static VERSION: LazyLock<HeaderValue> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for file in &FILES {
        hash.update(file.content);
    }
    let tag = format!("\"{}\"", HEXLOWER.encode(&hash.finalize()[..16]));
    HeaderValue::from_str(&tag).expect("quotes and hexadecimal digits are valid in a header")
});

/// The content security policy of the page: it loads only its own files, and connects to nodes.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss: http: \
                      https:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const FILES: [File; 13] = [
    File { path: "/", media_type: HTML, content: include_str!("index.html") },
    File { path: "/page/style.css", media_type: CSS, content: include_str!("style.css") },
    File { path: "/page/thread.css", media_type: CSS, content: include_str!("thread.css") },
    File { path: "/page/main.js", media_type: SCRIPT, content: include_str!("main.js") },
    File { path: "/page/frames.js", media_type: SCRIPT, content: include_str!("frames.js") },
    File { path: "/page/requests.js", media_type: SCRIPT, content: include_str!("requests.js") },
    File { path: "/page/connection.js", media_type: SCRIPT, content: include_str!("connection.js") },
    File { path: "/page/conversation.js", media_type: SCRIPT, content: include_str!("conversation.js") },
    File { path: "/page/sync.js", media_type: SCRIPT, content: include_str!("sync.js") },
    File { path: "/page/state.js", media_type: SCRIPT, content: include_str!("state.js") },
    File { path: "/page/dom.js", media_type: SCRIPT, content: include_str!("dom.js") },
    File { path: "/page/view.js", media_type: SCRIPT, content: include_str!("view.js") },
    File { path: "/page/dialogs.js", media_type: SCRIPT, content: include_str!("dialogs.js") },
];
