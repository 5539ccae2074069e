//! `msnb press`: load tests.

use std::fs;

use serde_json::json;
use tests::process::Provider;

use super::{document, fails, msnb, streams::Feed};

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

#[tokio::test]
async fn press_reads_and_sends_streams() {
    let feed = Feed::start().await;
    let at = ["--address", &*feed.address];
    let press = async |arguments: &[&str]| document(&[&["press"][..], arguments, &at].concat()).await;
    // The prices have no end.
    let prices = ["shop.Feed:1.0/prices", r#"{"good": "tea"}"#, "--concurrency", "2", "--seconds", "500ms"];
    let (code, report) = press(&prices).await;
    assert_eq!((code, &report["open"], &report["failed"]), (0, &json!(2), &json!(0)), "{report}");
    assert!(report["items"]["received"].as_u64().unwrap() >= 2 && report["items"]["sent"] == json!(0), "{report}");
    assert_eq!(report["latency_us"]["p50"], json!(null), "no call has ended");
    let (code, report) = press(&[&prices[..], &["--take", "1"]].concat()).await;
    let ok = report["ok"].as_u64().unwrap();
    assert!(code == 0 && ok > 2 && report["items"]["received"].as_u64().unwrap() >= ok, "{report}");
    assert!(report["latency_us"]["p50"].as_f64().unwrap() > 0.0, "{report}");
    let (_, text, _) = msnb(&[&["press"][..], &prices, &at].concat()).await;
    assert!(text.contains("open      2 streams at the end of the time") && text.contains(" received, "), "{text}");
    assert!(!text.contains("p50"), "{text}");

    let parts = feed.path("parts");
    fs::write(&parts, "[1, 2]\n[3]\n").unwrap();
    let upload = ["shop.Feed:1.0/upload", r#"{"name": "a"}"#, "--concurrency", "1", "--seconds", "300ms"];
    let (code, report) = press(&[&upload[..], &["--items", &parts, "--repeat", "3"]].concat()).await;
    let ok = report["ok"].as_u64().unwrap();
    assert!(code == 0 && ok > 0 && report["items"] == json!({ "sent": 6 * ok, "received": 0 }), "{report}");
    assert_eq!(fs::read(feed.path("files/a")).unwrap(), [1, 2, 3, 1, 2, 3, 1, 2, 3]);

    fs::write(&parts, "\"hello\"\n").unwrap();
    let talk = ["shop.Feed:1.0/talk", r#"{"room": "lobby", "author": "Bo"}"#, "--seconds", "300ms"];
    let (code, report) = press(&[&talk[..], &["--items", &parts, "--take", "1", "--concurrency", "1"]].concat()).await;
    assert!(code == 0 && report["ok"].as_u64().unwrap() > 0, "{report}");

    let fails = async |arguments: &[&str], code, texts: &[&str]| {
        fails(&[&["press"][..], arguments, &at].concat(), code, texts).await;
    };
    fails(&upload, 2, &["reads a stream", "--items FILE"]).await;
    fails(&[&prices[..], &["--items", &parts]].concat(), 2, &["reads no items", "omit --items"]).await;
    fails(&[&upload[..], &["--items", "/missing"]].concat(), 2, &["cannot read /missing"]).await;
    fs::write(&parts, "[1]\n{\n").unwrap();
    fails(&[&upload[..], &["--items", &parts]].concat(), 2, &["line 2 of the items", "one line of JSON"]).await;
    fs::write(&parts, "true\n").unwrap();
    fails(&[&upload[..], &["--items", &parts]].concat(), 2, &["InvalidArgument"]).await;
}
