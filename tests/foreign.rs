//! Programs in other languages, which tests build once into `target`. Their tools may be missing.

use std::{
    fs, io,
    net::{Ipv6Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::SystemTime,
};

use tokio::sync::OnceCell;

/// A program of the examples in Java, which Maven builds.
#[derive(Debug)]
pub struct MavenProject {
    /// The directory of the project in the examples.
    directory: &'static str,
    /// The path of the program in the directory `target`.
    jar: &'static str,
    built: OnceCell<Option<PathBuf>>,
}

/// A client of gRPC in Java.
pub static JAVA_CLIENT: MavenProject = MavenProject::new("grpc/java", "grpc-java/client.jar");
/// A consumer of Dubbo in Java.
pub static DUBBO_CONSUMER: MavenProject = MavenProject::new("dubbo", "dubbo/consumer.jar");

impl MavenProject {
    const fn new(directory: &'static str, jar: &'static str) -> Self {
        Self { directory, jar, built: OnceCell::const_new() }
    }

    /// Returns the command of the program, after building it if its sources have changed. It keeps its files in `home`.
    ///
    /// `None` if it cannot be built here; prints a line that begins with `SKIPPED` then.
    ///
    /// # Panics
    ///
    /// Panics if Maven reports another error than that it cannot download.
    pub async fn command(&'static self, home: &Path) -> Option<tokio::process::Command> {
        let build = || tokio::task::spawn_blocking(|| self.build());
        let jar = self.built.get_or_init(async || build().await.expect("the build does not panic")).await.as_ref();
        if jar.is_none() {
            println!("SKIPPED: examples/{} cannot be built here", self.directory);
        }
        let mut command = tokio::process::Command::new("java");
        // A short program needs no peak performance.
        command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dfile.encoding=UTF-8"]);
        command.arg(format!("-Duser.home={}", home.display())).arg("-jar").arg(jar?);
        command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null()).kill_on_drop(true);
        Some(command)
    }

    fn build(&self) -> Option<PathBuf> {
        let workspace = workspace();
        let (project, jar) = (workspace.join("examples").join(self.directory), workspace.join("target").join(self.jar));
        if !runs("javac", "-version") || !runs("mvn", "-version") {
            eprintln!("needs a JDK and Maven; Debian packages: openjdk-17-jdk-headless and maven");
            return None;
        }
        if is_current(&jar, &[&project, &workspace.join("examples/grpc/proto")]) {
            return Some(jar);
        }
        eprintln!("building examples/{}: downloads its dependencies once, which takes minutes", self.directory);
        let mut maven = Command::new("mvn");
        maven.args(["-B", "-q", "-ntp", "-f"]).arg(project.join("pom.xml"));
        maven.arg(format!("-Dmaven.repo.local={}", workspace.join("target/tools/maven").display())).arg("package");
        succeeds(&mut maven).then_some(jar)
    }
}

/// Returns the client of gRPC in Go, after building it if its sources have changed.
///
/// `None` if it cannot be built here; prints a line that begins with `SKIPPED` then.
///
/// # Panics
///
/// Panics if Go reports another error than that it cannot download.
pub async fn go_client() -> Option<PathBuf> {
    let built = tokio::task::spawn_blocking(build_go_client).await.expect("the build does not panic");
    if built.is_none() {
        println!("SKIPPED: examples/grpc/go cannot be built here");
    }
    built
}

fn build_go_client() -> Option<PathBuf> {
    let workspace = workspace();
    if !runs("go", "version") || !runs("protoc", "--version") {
        eprintln!("needs Go and protoc; Debian package: protobuf-compiler");
        return None;
    }
    let (sources, copy) = (workspace.join("examples/grpc"), workspace.join("target/tools/grpc-go"));
    let client = copy.join("client");
    if is_current(&client, &[&sources.join("go"), &sources.join("proto")]) {
        return Some(client);
    }
    eprintln!("building examples/grpc/go: downloads its dependencies once, which takes minutes");
    // The generated code is no part of the source tree.
    for directory in ["go", "proto"] {
        copy_files(&sources.join(directory), &copy.join(directory)).expect("the sources can be copied");
    }
    let go = |program: &str, arguments: &[&str]| {
        succeeds(Command::new(program).args(arguments).current_dir(copy.join("go")))
    };
    (go("go", &["generate"]) && go("go", &["build", "-o", "../client"])).then_some(client)
}

/// Returns grpcurl, which `.ci/run` installs; `None` if it is missing, after a line that begins with `SKIPPED`.
pub async fn grpcurl() -> Option<PathBuf> {
    let candidates = [workspace().join("target/tools/bin/grpcurl"), "grpcurl".into()];
    let found = candidates.into_iter().find(|program| runs(program, "-version"));
    if found.is_none() {
        println!("SKIPPED: needs grpcurl, which .ci/run installs");
    }
    found
}

/// Returns whether the machine has the loopback address of IPv6; prints a line that begins with `SKIPPED` if not.
pub fn has_ipv6_loopback() -> bool {
    let has = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        println!("SKIPPED: needs the loopback address of IPv6");
    }
    has
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is in the workspace").to_owned()
}

fn runs(program: impl AsRef<std::ffi::OsStr>, argument: &str) -> bool {
    let status = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Returns whether a program is newer than all files of its sources.
fn is_current(program: &Path, sources: &[&Path]) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let newest = sources.iter().flat_map(|source| files(source)).filter_map(|file| changed(&file)).max();
    changed(program).unwrap_or(SystemTime::UNIX_EPOCH) >= newest.expect("the program has sources")
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the directory is readable");
    let paths = entries.map(|entry| entry.expect("the directory is readable").path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Copies the files of a directory, without those below it.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Runs a build. Returns whether it succeeded; if not, it could not download.
fn succeeds(command: &mut Command) -> bool {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().expect("the tool starts");
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    if status.success() {
        return true;
    }
    assert!(OFFLINE.iter().any(|sign| text.contains(sign)), "{command:?} failed:\n{text}");
    eprintln!("{command:?} cannot download:\n{text}");
    false
}

/// Parts of the messages with which Maven and Go report that they cannot download.
const OFFLINE: [&str; 8] = [
    "Could not transfer artifact",
    "Unknown host",
    "in offline mode",
    "dial tcp",
    "proxyconnect tcp",
    "i/o timeout",
    "module lookup disabled",
    "toolchain not available",
];
