//! The alerts and the dashboard, with the metrics of real programs, promtool and a real Prometheus.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use serde_json::{Value, json};
use tests::{
    engines::prometheus::Prometheus, http::RawHttp, process::Provider, program::Program, relay::free_address, until_ok,
};

use super::{Deployment, documents, path, queries::Samples, read};

/// Returns the alerts.
fn alerts() -> Vec<Value> {
    let file = documents(&read("deploy/monitoring/alerts.yaml")).remove(0);
    let groups = file["groups"].as_array().unwrap().iter();
    groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// Returns the panels of the dashboard, without its rows.
fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&read("deploy/monitoring/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    panels.filter(|panel| panel["type"] != "row").cloned().collect()
}

/// Returns the queries of the panels.
fn queries() -> Vec<String> {
    let of_panel = |panel: Value| {
        let targets = panel["targets"].as_array().unwrap().iter();
        targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    panels().into_iter().flat_map(of_panel).collect()
}

/// A provider that fails a part of its calls, another that does not answer, and a consumer of both.
struct Running {
    provider: SocketAddr,
    consumer: SocketAddr,
    _processes: (Provider, Provider, Program),
    _directory: tempfile::TempDir,
}

impl Running {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registry = format!("local:{}", directory.path().display());
        let (provider, consumer) = (free_address(), free_address());
        let arguments = ["--delay", "5", "--fail-rate", "0.2", "--metrics", &provider.to_string()];
        let first = Provider::start_with(&registry, &arguments).await;
        let second = Provider::start_with(&registry, &["--delay", "5"]).await;
        let monitor = consumer.to_string();
        let arguments = ["--registry", &registry, "--metrics", &monitor, "--seconds", "600", "--concurrency", "8"];
        let process = Program::start("consumer", &arguments, &[], &directory.path().join("log")).await;
        page_with(consumer, &["msnb_client_channels{state=\"ready\"} 2\n"]).await;
        // The client starts hedges for its calls to this provider, and exports their counts from the first one on.
        second.pause();
        Self { provider, consumer, _processes: (first, second, process), _directory: directory }
    }

    /// Returns the samples of both, once both have counted successes and failures, and the consumer hedges.
    async fn samples(&self) -> Samples {
        let mut samples = Samples::default();
        for (side, address) in [("server", self.provider), ("client", self.consumer)] {
            let calls = ["Ok", "Internal"]
                .map(|code| format!("msnb_{side}_calls_total{{route=\"demo.Greeter:1.0/hello\",code=\"{code}\"}}"));
            let repeats = if side == "client" { "msnb_client_repeats_total{" } else { "" };
            samples.add(&page_with(address, &[&calls[0], &calls[1], repeats]).await);
        }
        samples
    }
}

/// Returns the metrics of a program once they contain `texts`.
async fn page_with(address: SocketAddr, texts: &[&str]) -> String {
    until_ok(async || {
        let stream = tokio::net::TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let page = String::from_utf8(RawHttp::over(stream).get("/metrics").await.body).unwrap();
        if texts.iter().all(|text| page.contains(text)) { Ok(page) } else { Err(page) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_name_exported_metrics() {
    let samples = Running::start().await.samples().await;
    let dashboard = read("deploy/monitoring/dashboard.json");
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    let variables = variables.filter_map(|variable| Some(variable["definition"].as_str()?.to_owned()));
    let alerts = alerts();
    let of_alerts = alerts.iter().map(|alert| alert["expr"].as_str().unwrap().to_owned());
    let queries: Vec<_> = of_alerts.chain(queries()).collect();
    assert!(queries.len() > 50, "{} queries", queries.len());
    let mut faults: Vec<_> = queries.iter().flat_map(|query| samples.faults(query)).collect();
    // The variables name metrics in expressions.
    for definition in variables {
        let named = super::queries::selectors(&definition).into_iter().map(|selector| selector.metric);
        faults.extend(named.filter(|name| !samples.contains(name)));
    }
    let series = documents(&read("deploy/monitoring/alerts.test.yaml")).remove(0);
    let tests = series["tests"].as_array().unwrap().iter();
    let inputs = tests.flat_map(|test| test["input_series"].as_array().unwrap());
    faults.extend(inputs.flat_map(|input| {
        // The tests invent routes, providers and boundaries of buckets.
        let named = super::queries::selectors(input["series"].as_str().unwrap());
        named.into_iter().flat_map(|selector| {
            let invented = ["route", "provider", "le"];
            let kept = selector.matchers.iter().filter(|(label, _)| !invented.contains(&&**label));
            let kept: Vec<_> = kept.map(|(label, value)| format!("{label}=\"{value}\"")).collect();
            samples.faults(&format!("{}{{{}}}", selector.metric, kept.join(", ")))
        })
    }));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn promtool_accepts_alerts_and_their_tests() {
    let Some(promtool) = Prometheus::program("promtool") else { return };
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]] {
        let mut command = Command::new(&promtool);
        let output = command.args(arguments).current_dir(path("deploy/monitoring")).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn alerts_have_test_runbook_and_row() {
    let tests = documents(&read("deploy/monitoring/alerts.test.yaml")).remove(0);
    let rows = read("docs/DEPLOYMENT.md");
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let test = tests["tests"].as_array().unwrap().iter().find(|test| test["name"] == name);
        let test = test.unwrap_or_else(|| panic!("{name} has no test")).to_string();
        assert!(test.contains(&format!("alertname=\\\"{name}\\\"")), "the test of {name} does not expect it: {test}");
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning"].contains(&severity), "{name}: {severity}");
        assert!(alert["annotations"]["summary"].as_str().unwrap().starts_with("{{ $labels.job }}: "), "{name}");
        assert!(alert["annotations"]["runbook"].as_str().unwrap().ends_with('.'), "{name}");
        assert!(rows.contains(&format!("| `{name}` | {severity} | ")), "docs/DEPLOYMENT.md has no row of {name}");
    }
}

#[test]
fn panels_have_titles_units_and_places() {
    let panels = panels();
    let mut places = Vec::new();
    for panel in &panels {
        let title = panel["title"].as_str().unwrap();
        assert!(!panel["description"].as_str().unwrap().is_empty(), "{title}");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            assert!(target["expr"].as_str().unwrap().contains("instance=~\"$instance\""), "{title} ignores the choice");
        }
        let place = &panel["gridPos"];
        places.push((place["x"].as_u64().unwrap(), place["y"].as_u64().unwrap()));
    }
    let count = places.len();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), count, "two panels have the same place");
}

/// Returns the labels of a pod before relabeling, for each of its ports, with the address of a program in this test.
fn discovered(deployment: &Deployment, program: SocketAddr) -> Vec<Value> {
    let target = |port: &str| {
        let mut labels = json!({
            "__meta_kubernetes_namespace": "default",
            "__meta_kubernetes_pod_container_port_name": port,
            "__meta_kubernetes_pod_ip": program.ip().to_string(),
            "__meta_kubernetes_pod_label_app_kubernetes_io_name":
                deployment.pod()["metadata"]["labels"]["app.kubernetes.io/name"],
            "__meta_kubernetes_pod_name": format!("{}-1", deployment.0["metadata"]["name"].as_str().unwrap()),
        });
        for name in ["prometheus.io/scrape", "prometheus.io/path", "prometheus.io/port"] {
            let value = match name {
                "prometheus.io/port" => program.port().to_string(),
                name => deployment.annotation(name).to_owned(),
            };
            let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            labels[format!("__meta_kubernetes_pod_annotation_{name}")] = value.into();
        }
        json!({ "targets": ["pod"], "labels": labels })
    };
    deployment.ports().into_iter().map(|(port, _)| target(port)).collect()
}

/// Writes the configuration of deploy/monitoring with these targets instead of those of a cluster.
fn configure(directory: &Path, targets: &[Value]) {
    let text = read("deploy/monitoring/prometheus.yaml");
    let discovery = "    kubernetes_sd_configs:\n      - role: pod\n";
    assert!(text.contains(discovery) && text.contains("_interval: 15s\n"));
    let targets = format!("    static_configs: {}\n", serde_json::to_string(targets).unwrap());
    let text = text.replace(discovery, &targets).replace("_interval: 15s\n", "_interval: 200ms\n");
    fs::write(directory.join("prometheus.yaml"), text).unwrap();
    fs::copy(path("deploy/monitoring/alerts.yaml"), directory.join("alerts.yaml")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_evaluates_alerts_and_dashboard() {
    let running = Running::start().await;
    let directory = tempfile::tempdir().unwrap();
    let targets = [
        discovered(&Deployment::read("provider.yaml"), running.provider),
        discovered(&Deployment::read("consumer.yaml"), running.consumer),
    ];
    configure(directory.path(), &targets.concat());
    let Some(prometheus) = Prometheus::start(&directory.path().join("prometheus.yaml")).await else { return };
    running.samples().await;
    for target in [
        r#"up{protocol="msnb", job="greeter", instance="greeter-1", namespace="default"}"#,
        r#"up{protocol="msnb", job="greeter-consumer", instance="greeter-consumer-1", namespace="default"}"#,
    ] {
        until_ok(async || match &prometheus.query(target).await[..] {
            [one] if one["value"][1] == "1" => Ok(()),
            other => Err(other.to_vec()),
        })
        .await;
    }
    assert_eq!(prometheus.query("up").await.len(), 2, "ports other than the metrics port are not scraped");
    for query in queries() {
        let query = query.replace("$__rate_interval", "1m").replace("$job", ".*").replace("$instance", ".*");
        // A rate requires two scrapes.
        until_ok(async || {
            let results = prometheus.query(&query).await;
            if results.is_empty() { Err(()) } else { Ok(()) }
        })
        .await;
    }
    let state = async |name: &str| {
        let rules = prometheus.rules().await;
        assert!(rules.iter().all(|rule| rule["health"] != "err"), "{rules:#?}");
        let rule = rules.into_iter().find(|rule| rule["name"] == name).unwrap();
        rule["state"].as_str().unwrap().to_owned()
    };
    // A fifth of the calls fail, for less than the five minutes after which the alerts fire.
    for alert in ["MsnbServerErrors", "MsnbClientErrors"] {
        until_ok(async || if state(alert).await == "pending" { Ok(()) } else { Err(()) }).await;
    }
    assert_eq!(state("MsnbTargetDown").await, "inactive");
    assert_eq!(prometheus.rules().await.len(), alerts().len());
}
