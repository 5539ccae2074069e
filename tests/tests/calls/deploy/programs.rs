//! The programs run with the arguments of the manifests, answer the probes, and find each other through DNS.

use std::{fs, net::SocketAddr, path::Path};

use serde_json::Value;
use tests::{
    certificates::Authority, engines::dnsmasq::DnsServer, http::RawHttp, in_time, program::Program,
    relay::free_address, until_ok,
};

use super::{Deployment, resource};

const NAMESPACE: &str = "default";

/// A directory with the files that the manifests mount below /etc/msnb.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        let token = "greeter-consumer:a secret of the consumer\n";
        fs::write(file("tokens/tokens"), token).unwrap();
        fs::write(file("token/tokens"), token).unwrap();
        let authority = Authority::new();
        let issued = authority.issue("server", &["greeter"]);
        fs::copy(issued.certificate, file("tls/tls.crt")).unwrap();
        fs::copy(issued.key, file("tls/tls.key")).unwrap();
        authority.write_ca(&file("ca/ca.crt"));
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A program that runs as its manifest describes it, with addresses and paths of this machine.
struct Pod {
    deployment: Deployment,
    program: Program,
    monitor: SocketAddr,
}

impl Pod {
    async fn start(deployment: Deployment, mounted: &Mounted, variables: &[(&str, &str)], suffix: &str) -> Self {
        let monitor = free_address();
        let mut all = Self::variables(&deployment, mounted);
        all.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let argument = |argument: &str| {
            let local = argument.replace("0.0.0.0:9464", &monitor.to_string()).replace("0.0.0.0:7788", "127.0.0.1:0");
            let local = local.replace("=/etc/msnb/", &format!("={}/", mounted.path().display()));
            let expanded = local.replace("$(POD_NAMESPACE)", NAMESPACE);
            if argument.starts_with("--registry=dns") { expanded + suffix } else { expanded }
        };
        let arguments: Vec<_> = deployment.arguments().into_iter().map(argument).collect();
        assert!(arguments.iter().all(|argument| !argument.contains("$(")), "{arguments:?}");
        let (_, name) = deployment.program().rsplit_once('/').unwrap();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let variables: Vec<_> = all.iter().map(|(name, value)| (&**name, &**value)).collect();
        let log = mounted.path().join(format!("{name}.log"));
        let program = Program::start(name, &arguments, &variables, &log).await;
        Self { deployment, program, monitor }
    }

    /// Returns the variables with values; the test supplies those of Secrets.
    fn variables(deployment: &Deployment, mounted: &Mounted) -> Vec<(String, String)> {
        let variables = deployment.container()["env"].as_array().unwrap();
        let local = |variable: &Value| {
            let value = variable["value"].as_str()?;
            let value = if value.starts_with('/') { mounted.path().display().to_string() } else { value.to_owned() };
            Some((variable["name"].as_str()?.to_owned(), value))
        };
        variables.iter().filter_map(local).collect()
    }

    /// Executes a probe, and returns the status of the answer; `None` if the program does not listen.
    async fn probe(&self, name: &str) -> Option<u16> {
        probe(&self.deployment, self.monitor, name).await
    }

    async fn metrics(&self) -> Option<String> {
        let stream = in_time(tokio::net::TcpStream::connect(self.monitor)).await.ok()?;
        let response = RawHttp::over(stream).get("/metrics").await;
        String::from_utf8(response.body).ok()
    }

    async fn until_metrics_contain(&self, text: &str) {
        until_ok(async || match self.metrics().await {
            Some(page) if page.contains(text) => Ok(()),
            _ => Err(()),
        })
        .await;
    }

    async fn until_probe(&self, name: &str, status: u16) {
        until_ok(async || if self.probe(name).await == Some(status) { Ok(()) } else { Err(()) }).await;
    }

    /// Sends SIGTERM, and waits until the program is not ready and has ended.
    async fn drain(self) {
        let Self { deployment, program, monitor } = self;
        let not_ready =
            until_ok(
                async || {
                    if probe(&deployment, monitor, "readinessProbe").await == Some(503) { Ok(()) } else { Err(()) }
                },
            );
        let (status, ()) = tokio::join!(program.terminate(), not_ready);
        assert!(status.success(), "{status}");
    }
}

async fn probe(deployment: &Deployment, monitor: SocketAddr, name: &str) -> Option<u16> {
    let path = deployment.container()[name]["httpGet"]["path"].as_str().unwrap();
    let stream = in_time(tokio::net::TcpStream::connect(monitor)).await.ok()?;
    let mut connection = RawHttp::over(stream);
    connection.try_send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await.ok()?;
    Some(connection.receive().await?.status)
}

/// Returns the records that a cluster has for a pod of the headless Service of provider.yaml.
fn records(pod: SocketAddr) -> [String; 3] {
    let service = resource("provider.yaml", "Service");
    let (name, port) = (service["metadata"]["name"].as_str(), service["spec"]["ports"][0]["name"].as_str());
    let domain = format!("{}.{NAMESPACE}.svc.cluster.local", name.unwrap());
    [
        "local=/cluster.local/".to_owned(),
        format!("host-record=pod-1.{domain},{}", pod.ip()),
        format!("srv-host=_{}._tcp.{domain},pod-1.{domain},{},0,100", port.unwrap(), pod.port()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests_start_provider_and_consumer() {
    let mounted = Mounted::new();
    let mut provider = Pod::start(Deployment::read("provider.yaml"), &mounted, &[], "").await;
    let address: SocketAddr = provider.program.line_after(" on ").await.parse().unwrap();
    for name in ["startupProbe", "readinessProbe", "livenessProbe"] {
        provider.until_probe(name, 200).await;
    }
    let records = records(address);
    if let Some(dns) = DnsServer::start(&records.each_ref().map(String::as_str)).await {
        let server = format!("?server={}", dns.address());
        let consumer = Pod::start(Deployment::read("consumer.yaml"), &mounted, &[], &server).await;
        // The second call of the consumer.
        provider
            .until_metrics_contain("msnb_server_calls_total{route=\"shop.Goods:1.0/find_goods\",code=\"Ok\"}")
            .await;
        consumer.until_metrics_contain("msnb_client_channels{state=\"ready\"} 1\n").await;
        consumer.until_probe("livenessProbe", 200).await;
        let status = consumer.program.terminate().await;
        assert!(status.success(), "{status}: {:?}", fs::read_to_string(mounted.path().join("consumer.log")));
    }
    provider.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifest_with_nacos_starts_while_nacos_is_down() {
    let mounted = Mounted::new();
    let url = format!("nacos://{}?username=a&password=b", free_address());
    let deployment = Deployment::read("provider-nacos.yaml");
    let pod = Pod::start(deployment, &mounted, &[("MSNB_REGISTRY", &url)], "").await;
    for name in ["startupProbe", "readinessProbe", "livenessProbe"] {
        pod.until_probe(name, 200).await;
    }
    pod.drain().await;
}
