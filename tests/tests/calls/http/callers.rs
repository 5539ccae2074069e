//! Tokens, TLS, HTTP/2, and callers of other programs.

use std::process::Stdio;

use rpc_core::Tokens;
use rpc_http::Http;
use serde_json::json;
use tests::{certificates::Authority, http::RawHttp, in_time, probe::Probe, serving::Serving};
use tokio::{net::TcpStream, process::Command};

use super::server;

/// Runs curl, and returns its output; `None` without curl.
async fn curl(arguments: &[&str]) -> Option<String> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--noproxy", "*"]).args(arguments).stdin(Stdio::null());
    match in_time(curl.output()).await {
        Ok(output) => Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()),
        Err(_) => {
            println!("SKIPPED: curl does not run here");
            None
        }
    }
}

#[tokio::test]
async fn bearer_and_basic_present_tokens() {
    let tokens =
        Tokens::new().with("ann", "a-long-secret-of-ann").unwrap().with("bob", "a-long-secret-of-bob").unwrap();
    let start = async |http: Http| {
        let builder = server(&Probe::default(), http).require_token(tokens.clone());
        Serving::start(builder.allow("test.Probe:1.0/context", ["ann"])).await
    };
    let serving = start(Http::new().tokens_without_tls(true)).await;
    let mut http = RawHttp::connect(serving.address()).await;
    let basic = data_encoding::BASE64.encode(b"ann:a-long-secret-of-ann");
    for (headers, status) in [
        ("".to_owned(), 401),
        ("Authorization: Bearer a-long-secret-of-eve\r\n".to_owned(), 401),
        ("Authorization: Bearer a-long-secret-of-bob\r\n".to_owned(), 403),
        ("Authorization: Bearer a-long-secret-of-ann\r\n".to_owned(), 200),
        (format!("Authorization: Basic {basic}\r\n"), 200),
    ] {
        let response = http.request("POST", "/test.Probe/context", &headers, "").await;
        assert_eq!(response.status, status, "{headers} {}", response.text());
        match status {
            401 => assert_eq!(response.header("www-authenticate"), "Bearer"),
            200 => assert_eq!(response.json()["identity"], "ann"),
            _ => {}
        }
    }
    assert_eq!(http.get("/openapi.json").await.status, 401);
    let strict = start(Http::new()).await;
    let mut http = RawHttp::connect(strict.address()).await;
    let response =
        http.request("POST", "/test.Probe/context", "Authorization: Bearer a-long-secret-of-ann\r\n", "").await;
    assert_eq!(response.status, 401, "a token is sent over TLS only");
    assert!(response.text().contains("tokens_without_tls"));
}

/// Without `-H`, curl sends the type of a form.
#[tokio::test]
async fn curl_sends_json_without_its_type() {
    let probe = Probe::default();
    let serving = Serving::start(server(&probe, Http::new())).await;
    let url = format!("http://{}/test.Probe:1.0/echo", serving.address());
    let Some(output) = curl(&["-d", r#"{"text":"Bo"}"#, &url]).await else { return };
    assert_eq!(output, r#""Bo""#);
    let Some(output) = curl(&["-d", "text=Bo", &url]).await else { return };
    assert_eq!(output, r#""Bo""#);
}

#[tokio::test]
async fn tls_offers_both_versions() {
    let (probe, authority) = (Probe::default(), Authority::new());
    let serving =
        Serving::start(server(&probe, Http::new()).tls(authority.issue("server", &["127.0.0.1"]).server())).await;
    for alpn in [&["http/1.1"][..], &[]] {
        let stream = authority.connect(TcpStream::connect(serving.address()).await.unwrap(), alpn).await.unwrap();
        let response = RawHttp::over(stream).post("/test.Probe/echo", r#"{"text":"a"}"#).await;
        assert_eq!(response.json(), json!("a"), "{alpn:?}");
    }
    let (ca, url) = (authority.ca(), format!("https://{}/test.Probe/echo", serving.address()));
    for (version, expected) in [("--http2", "\"b\" 2"), ("--http1.1", "\"b\" 1.1")] {
        let body = ["-d", r#"{"text":"b"}"#, "-H", "Content-Type: application/json", "-w", " %{http_version}"];
        let arguments = [&body[..], &["--cacert", ca.to_str().unwrap(), version, &url]].concat();
        let Some(output) = curl(&arguments).await else { return };
        assert_eq!(output, expected);
    }
}

#[tokio::test]
async fn curl_calls_by_http2_in_plain_text() {
    let serving = Serving::start(server(&Probe::default(), Http::new())).await;
    let url = |path: &str| format!("http://{}{path}", serving.address());
    let (echo, order, large) = (url("/test.Probe/echo"), url("/orders/7"), url("/test.Probe/large"));
    let text = "x".repeat(300_000);
    let body = format!(r#"{{"text":"{text}"}}"#);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &body).unwrap();
    let from_file = format!("@{}", file.path().display());
    let json = "Content-Type: application/json";
    let Some(echoed) = curl(&["--http2-prior-knowledge", "-H", json, "-d", &from_file, &echo]).await else { return };
    assert!(echoed == format!("\"{text}\""), "{} bytes", echoed.len());
    let answer = curl(&["--http2-prior-knowledge", "-w", " %{http_version} %{http_code}", &order]).await.unwrap();
    assert!(answer.contains("item 7") && answer.ends_with(" 2 200"), "{answer}");
    let length = 3_000_000;
    let body = format!(r#"{{"length":{length}}}"#);
    let answer = curl(&["--http2-prior-knowledge", "-H", json, "-d", &body, &large]).await.unwrap();
    assert_eq!(answer.len(), length + 2);
    let missing = curl(&["--http2-prior-knowledge", "-w", " %{http_code}", &url("/orders/404")]).await.unwrap();
    assert!(missing.ends_with(" 404"), "{missing}");
    let numbers = curl(&["--http2-prior-knowledge", &url("/numbers/3")]).await.unwrap();
    assert_eq!(numbers, "1\n2\n3\n");
}
