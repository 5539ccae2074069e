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

/// The time a server has to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The maximum length of a response body, in bytes: a list of about 40 000 instances.
const MAX_BODY: usize = 16 << 20;

impl Http {
    pub(super) fn new() -> Result<Self, Error> {
        reqwest::Client::builder()
            .timeout(TIMEOUT)
            // A proxy that the environment configures must not receive the password.
            .no_proxy()
            // The client runs on our runtime and on the SDK's: a connection must not outlive the runtime that opened
            // it.
            .pool_max_idle_per_host(0)
            .build()
            .map(Self)
            .map_err(|cause| Error::not_executed(Code::Internal, "cannot create an HTTP client").with_source(cause))
    }

    /// Sends a GET request with `parameters` in the query.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the server does not answer within 3 s, or with more than 16 MiB. No error contains a parameter.
    pub(super) async fn get(&self, url: &str, parameters: &[(&str, &str)]) -> Result<Response, Error> {
        read(self.0.get(url).query(parameters)).await
    }

    /// Sends a POST request with `parameters` in the body, which servers do not log.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub(super) async fn post(&self, url: &str, parameters: &[(&str, &str)]) -> Result<Response, Error> {
        read(self.0.post(url).form(parameters)).await
    }

    /// Sends a PUT request with `query` in the query and `form` in the body.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub(super) async fn put(
        &self,
        url: &str,
        query: &[(&str, &str)],
        form: &[(&str, &str)],
    ) -> Result<Response, Error> {
        read(self.0.put(url).query(query).form(form)).await
    }
}

async fn read(request: reqwest::RequestBuilder) -> Result<Response, Error> {
    let unavailable = |cause: reqwest::Error| {
        Error::not_executed(Code::Unavailable, "an HTTP request to a Nacos server failed")
            .with_source(cause.without_url())
    };
    let mut response = request.send().await.map_err(unavailable)?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
        if body.len() + chunk.len() > MAX_BODY {
            let message = format!("HTTP response of a Nacos server is longer than {MAX_BODY} bytes");
            return Err(Error::not_executed(Code::Unavailable, message));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response { status, text: String::from_utf8_lossy(&body).into_owned() })
}
