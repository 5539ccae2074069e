//! A small HTTP client for the administration interfaces of the servers under test.

use std::{fmt::Write as _, io, net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// The limit of one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Returns the body of a successful `GET`.
///
/// # Errors
///
/// Returns an error if the port accepts no connection, the server does not answer within 10 s, or the status is not 200.
pub(crate) async fn get(port: u16, path: &str) -> io::Result<String> {
    request("GET", port, path, &[]).await
}

/// Returns the body of a successful request. A `GET` or `DELETE` has its `parameters` in the query, other methods in the form.
///
/// # Errors
///
/// As [`get`].
pub(super) async fn request(method: &str, port: u16, path: &str, parameters: &[(&str, &str)]) -> io::Result<String> {
    let form: Vec<_> = parameters.iter().map(|(key, value)| format!("{key}={}", encoded(value))).collect();
    let form = form.join("&");
    let (query, body) = match method {
        "GET" | "DELETE" if !form.is_empty() => (format!("?{form}"), String::new()),
        _ => (String::new(), form),
    };
    // With version 1.0, the answer is not chunked and ends with the connection.
    let head = format!(
        "{method} {path}{query} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let exchange = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(format!("{head}{body}").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        match head.split(' ').nth(1) {
            Some("200") => Ok(body.to_owned()),
            _ => Err(io::Error::other(format!("{method} {path} failed: {head}: {body}"))),
        }
    };
    timeout(TIMEOUT, exchange).await.map_err(io::Error::from)?
}

fn encoded(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    text
}
