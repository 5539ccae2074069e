//! [`Http`]: requests to the HTTP interface of the servers.

use std::time::Duration;

use rpc_core::{Code, Error};

/// An HTTP client without TLS.
pub(super) struct Http(reqwest::Client);

/// A response of any status.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) text: String,
}

/// The longest that one server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The largest body that is read, in bytes: the list of some 40 000 instances.
const MAX_BODY: usize = 16 << 20;

impl Http {
    pub(super) fn new() -> Result<Self, Error> {
        reqwest::Client::builder()
            .timeout(TIMEOUT)
            // A proxy of the environment must not see the password.
            .no_proxy()
            // It is used from our runtime and from the SDK's: a connection must not outlive the runtime that made it.
            .pool_max_idle_per_host(0)
            .build()
            .map(Self)
            .map_err(|cause| Error::not_executed(Code::Internal, "no HTTP client can be made").with_source(cause))
    }

    /// Sends `parameters` in the query.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the server does not answer within 3 s, or with more than 16 MiB. No error repeats a parameter.
    pub(super) async fn get(&self, url: &str, parameters: &[(&str, &str)]) -> Result<Response, Error> {
        read(self.0.get(url).query(parameters)).await
    }

    /// Sends `parameters` in the body, which servers do not write to their logs.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub(super) async fn post(&self, url: &str, parameters: &[(&str, &str)]) -> Result<Response, Error> {
        read(self.0.post(url).form(parameters)).await
    }
}

async fn read(request: reqwest::RequestBuilder) -> Result<Response, Error> {
    let unavailable = |cause: reqwest::Error| {
        Error::not_executed(Code::Unavailable, "a Nacos server does not answer over HTTP")
            .with_source(cause.without_url())
    };
    let mut response = request.send().await.map_err(unavailable)?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
        if body.len() + chunk.len() > MAX_BODY {
            let message = format!("a Nacos server answers with more than {MAX_BODY} bytes over HTTP");
            return Err(Error::not_executed(Code::Unavailable, message));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response { status, text: String::from_utf8_lossy(&body).into_owned() })
}
