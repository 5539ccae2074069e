//! [`SpringShop`]: the Spring Boot application of `examples/spring`, which a test builds once, starts and ends.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    net::TcpStream,
    process::Child,
    time::{sleep, timeout},
};

use crate::http::RawHttp;

/// A process of the application. Dropping it kills the process.
///
/// Every method panics on failure, because a test cannot continue.
#[derive(Debug)]
pub struct SpringShop {
    process: Child,
    address: SocketAddr,
    _home: tempfile::TempDir,
}

impl SpringShop {
    /// Returns whether Java and Maven are installed; prints a line if they are not.
    pub fn is_available() -> bool {
        let runs = |program: &str| {
            let status = Command::new(program).arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        };
        let available = runs("javac") && runs("mvn");
        if !available {
            eprintln!("SKIPPED: needs a JDK and Maven; Debian packages: openjdk-17-jdk-headless and maven");
        }
        available
    }

    /// Starts the application, and waits until it answers requests. `nacos` is the address of the server's HTTP port.
    pub async fn start(nacos: &str) -> Self {
        let jar = tokio::task::spawn_blocking(jar).await.expect("the application is built");
        let home = tempfile::tempdir().expect("the home directory can be created");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        drop(listener);
        let log = home.path().join("log");
        let process = tokio::process::Command::new("java")
            .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            // nacos-client keeps logs and lists there.
            .arg(format!("-Duser.home={}", home.path().display()))
            .arg("-jar")
            .arg(jar)
            .env("NACOS", nacos)
            .env("PORT", address.port().to_string())
            .env("SERVER_ADDRESS", "127.0.0.1")
            .env("LB_CACHE", "false")
            .stdin(Stdio::null())
            .stdout(File::create(&log).expect("the log can be created"))
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("Java starts");
        let mut shop = Self { process, address, _home: home };
        let started = async {
            while TcpStream::connect(address).await.is_err() {
                let ended = shop.process.try_wait().expect("the process is a child");
                assert!(ended.is_none(), "the application ended: {}", fs::read_to_string(&log).unwrap_or_default());
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(START, started).await.expect("the application starts in time");
        shop
    }

    /// Returns the address of the application.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests a path of the application, and returns the JSON of the response.
    pub async fn get(&self, path: &str) -> Value {
        let response = RawHttp::connect(self.address).await.get(path).await;
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response.json()
    }

    /// Ends the application with SIGTERM, and waits until it has finished its requests.
    pub async fn stop(mut self) {
        let id = self.process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        kill_process(id.expect("the test has not waited for the application"), Signal::TERM).expect("the process runs");
        let ended = timeout(START, self.process.wait()).await.expect("the application ends in time");
        ended.expect("the process is a child");
    }
}

/// Returns the path of the application, which Maven builds if its sources have changed.
fn jar() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is in the workspace");
    let project = workspace.join("examples/spring");
    let jar = workspace.join("target/spring/spring-shop.jar");
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let sources = [
        "pom.xml",
        "src/main/java/shop/Shop.java",
        "src/main/java/shop/Goods.java",
        "src/main/resources/application.yml",
    ];
    let newest = sources.iter().filter_map(|source| changed(&project.join(source))).max();
    if changed(&jar).unwrap_or(SystemTime::UNIX_EPOCH) >= newest.expect("the project has sources") {
        return jar;
    }
    eprintln!("building examples/spring: downloads its dependencies once, which takes minutes");
    let status = Command::new("mvn")
        .args(["-B", "-q", "-ntp", "-f"])
        .arg(project.join("pom.xml"))
        .arg(format!("-Dmaven.repo.local={}", workspace.join("target/tools/maven").display()))
        .arg("package")
        .stdin(Stdio::null())
        // Standard output belongs to the test harness.
        .stdout(Stdio::null())
        .status()
        .expect("Maven starts");
    assert!(status.success(), "Maven cannot build examples/spring; its messages are above");
    jar
}

/// The longest time for the start or the end of the application, on a busy machine.
const START: Duration = Duration::from_secs(120);
