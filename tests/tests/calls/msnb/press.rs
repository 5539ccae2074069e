//! `msnb press`: load tests.

use std::fs;

use serde_json::json;
use tests::process::Provider;

use super::{document, fails, msnb};

#[tokio::test]
async fn press_reports_latencies_and_providers() {
    let provider = Provider::start("memory:").await;
    let (address, directory) = (provider.address().to_string(), tempfile::tempdir().unwrap());
    let chart = directory.path().join("chart.svg");
    let press = ["press", "demo.Greeter:1.0/hello", r#"{"name": "Bo"}"#, "--address", &address];
    let closed = ["--seconds", "300ms", "--concurrency", "2", "--svg", chart.to_str().unwrap()];
    let (code, report) = document(&[&press[..], &closed].concat()).await;
    assert_eq!((code, &report["failed"], &report["method"]), (0, &json!(0), &json!("demo.Greeter:1.0/hello")));
    let calls = report["calls"].as_u64().unwrap();
    assert!(calls > 0 && report["providers"][&address] == json!(calls) && report["ok"] == json!(calls), "{report}");
    let buckets = report["histogram"].as_array().unwrap();
    let counted: u64 = buckets.iter().map(|bucket| bucket["calls"].as_u64().unwrap()).sum();
    assert_eq!(counted, calls);
    let drawn = fs::read_to_string(&chart).unwrap();
    assert!(drawn.contains("demo.Greeter:1.0/hello: latency over time"));
    assert_eq!(drawn.matches("<polyline").count(), 3);

    let open = ["--seconds", "500ms", "--rate", "20"];
    let (code, text, stderr) = msnb(&[&press[..], &open].concat()).await;
    assert_eq!((code, &*stderr), (0, ""), "stderr is no terminal, so that it has no progress");
    let calls: u64 = text.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!((1..=11).contains(&calls) && text.contains("p99.9") && text.contains("<= "), "{text}");

    // The service's own errors are failures.
    let fail = ["press", "demo.Greeter:1.0/hello", r#"{"name": ""}"#, "--address", &address, "--seconds", "100ms"];
    let (code, report) = document(&fail).await;
    assert_eq!((code, &report["failures"][0]["kind"]), (1, &json!("the service's own error")));
    let invalid = ["press", "demo.Greeter:1.0/hello", "--address", &address];
    fails(&invalid, 2, &["InvalidArgument", "`name`"]).await;
    fails(&["press", "demo.Greeter:1.0", "--address", &address], 2, &["a method is required"]).await;
    let unknown = ["press", "demo.Greeter:1.0/ekho", "--address", &address];
    fails(&unknown, 4, &["no such method", "`msnb call demo.Greeter:1.0/ekho`"]).await;
    fails(&[&press[..], &["--seconds", "100ms", "--svg", "/missing/x"]].concat(), 2, &["cannot write"]).await;
    let (code, _, stderr) = msnb(&["press", "demo.Greeter:1.0/hello", "--concurrency", "0"]).await;
    assert!(code == 2 && stderr.contains("expected a number"), "{stderr}");
}
