//! The official Nacos server, written in Java: its jars, which Maven downloads once, and the command that starts it.
//!
//! Alibaba publishes no jars of the server. Two groups publish builds of Alibaba's source; docs/NACOS.md compares them
//! with the source.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tokio::runtime::Handle;

use super::{http, ports::free_ports, tools::tools};
use crate::process;

/// A line of releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Two,
    Three,
}

/// The oldest Java that runs both lines.
const JAVA: u32 = 17;

/// Part of the path of the jar that must come first in the class path: it has classes with the names of classes in
/// `com.alipay.sofa:hessian`. In the other order the server fails at start; without hessian, it never receives an
/// acknowledgement of a push.
const FIRST_JAR: &str = "/com/caucho/";

/// The limit of a server's start on a machine that is busy with other tests.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(240);

/// The options of the JVM: a small heap, and fast starts instead of peak performance.
const JVM: [&str; 4] = ["-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// Returns the reason why this machine cannot run an official server, or `None` if it can.
pub(super) fn unavailable() -> Option<String> {
    let output = |program: &str| Command::new(program).arg("-version").stdin(Stdio::null()).output();
    let java = match output("java") {
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => return Some(format!("`java` does not start ({error})")),
    };
    // openjdk version "17.0.15" 2025-04-15
    let major = java.split('"').nth(1).and_then(|version| version.split(['.', '-']).next()?.parse::<u32>().ok());
    if major.is_none_or(|major| major < JAVA) {
        return Some(format!("Java {JAVA} is required, found {}", java.lines().next().unwrap_or("no version")));
    }
    ["javac", "mvn"]
        .into_iter()
        .find_map(|program| Some(format!("`{program}` does not start ({})", output(program).err()?)))
}

/// Downloads the jars of a line, unless they exist.
pub(super) fn prepare(line: Line) {
    line.class_path();
}

/// Returns the command of a server with this HTTP port and its data below `directory`.
///
/// The server joins a cluster with `members`, or runs standalone without them.
pub(super) fn command(line: Line, http: u16, directory: &Path, auth: bool, members: &[u16]) -> Command {
    let class_path = line.class_path();
    write_configuration(http, directory, auth, members);
    // Without the file, the JVM starts normally, in half as much time again.
    let archive = format!("-XX:SharedArchiveFile={}", line.archive(&class_path).display());
    let options = [archive.as_str(), "-Xlog:cds=off", "-Xlog:cds+dynamic=off"];
    java(line, &class_path, directory, members, &options)
}

fn java(line: Line, class_path: &str, directory: &Path, members: &[u16], options: &[&str]) -> Command {
    let display = |path: &Path| path.display().to_string();
    let mut command = Command::new("java");
    command
        .args(JVM)
        .args(options)
        .arg(format!("-Dnacos.standalone={}", members.is_empty()))
        .arg(format!("-DembeddedStorage={}", !members.is_empty()))
        .arg("-Dnacos.deployment.type=server")
        .arg(format!("-Dnacos.home={}", display(directory)))
        .arg(format!("-Dnacos.logs.path={}", display(&directory.join("logs"))))
        .args(["-cp", class_path, line.main_class()])
        .arg(format!("--spring.config.additional-location=file:{}/", display(&directory.join("conf"))));
    command
}

impl Line {
    fn number(self) -> u32 {
        match self {
            Self::Two => 2,
            Self::Three => 3,
        }
    }

    fn main_class(self) -> &'static str {
        match self {
            Self::Two => "com.alibaba.nacos.Nacos",
            Self::Three => "Start",
        }
    }

    /// Returns the path whose status is 200 once the server serves.
    pub(super) fn readiness(self) -> &'static str {
        match self {
            Self::Two => "/nacos/v1/console/health/readiness",
            Self::Three => "/nacos/v3/admin/core/state/readiness",
        }
    }

    pub(super) fn login(self) -> &'static str {
        match self {
            Self::Two => "/nacos/v1/auth/login",
            Self::Three => "/nacos/v3/auth/user/login",
        }
    }

    fn dependencies(self) -> &'static [[&'static str; 3]] {
        match self {
            Self::Two => &[["org.jeecgframework.nacos", "nacos-console", "2.3.2"]],
            Self::Three => &[
                ["io.github.pig-mesh.nacos", "nacos-console", "3.1.0-bugfix"],
                ["io.github.pig-mesh.nacos", "nacos-server", "3.1.0-bugfix"],
            ],
        }
    }

    /// Returns the directory of the class path and the compiled classes of this line.
    fn directory(self) -> PathBuf {
        tools().join(format!("nacos-{}", self.number()))
    }

    /// Returns the class path; downloads the jars if they do not exist.
    fn class_path(self) -> String {
        let directory = self.directory();
        fs::create_dir_all(&directory).expect("the directory of the jars can be created");
        // One of several concurrent test binaries downloads the jars; the others wait.
        let lock = File::create(directory.join("lock")).expect("the lock file can be created");
        lock.lock().expect("the file can be locked");
        let file = directory.join("class_path");
        let complete = |path: &String| path.split(':').all(|entry| Path::new(entry).exists());
        if let Some(known) = fs::read_to_string(&file).ok().filter(complete) {
            return known;
        }
        let mut class_path = self.download(&directory);
        if self == Self::Three {
            class_path = compile_start(&directory, &class_path);
        }
        fs::write(&file, &class_path).expect("the class path can be written");
        class_path
    }

    /// Returns the archive of loaded classes with which a server starts in less time; creates it if it does not exist.
    fn archive(self, class_path: &str) -> PathBuf {
        let directory = self.directory();
        let archive = directory.join("classes.jsa");
        if !archive.exists() {
            // As in `class_path`.
            let lock = File::create(directory.join("archive-lock")).expect("the lock file can be created");
            lock.lock().expect("the file can be locked");
            if !archive.exists()
                && let Err(error) = self.write_archive(class_path, &archive)
            {
                eprintln!("no archive of the classes of {self:?}, so that servers start in more time: {error}");
            }
        }
        archive
    }

    /// Starts a server and ends it, so that the JVM writes the classes that it has loaded.
    fn write_archive(self, class_path: &str, archive: &Path) -> io::Result<()> {
        eprintln!("archiving the classes of Nacos {}: takes a minute, once", self.dependencies()[0][2]);
        let data = tempfile::tempdir()?;
        let port = free_ports();
        write_configuration(port, data.path(), false, &[]);
        let unfinished = archive.with_extension("unfinished");
        let option = format!("-XX:ArchiveClassesAtExit={}", unfinished.display());
        let mut command = java(self, class_path, data.path(), &[], &[&option]);
        let log = File::create(data.path().join("log"))?;
        command.current_dir(data.path()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut process = Some(command.spawn()?);
        let limit = Instant::now() + START_TIMEOUT;
        let mut stopping = false;
        let ended = loop {
            if let Some(status) = process.as_mut().map(Child::try_wait).transpose()?.flatten() {
                break stopping.then_some(status);
            }
            if Instant::now() > limit {
                break None;
            }
            if !stopping && Handle::current().block_on(http::get(port, self.readiness())).is_ok() {
                process::send(process.as_ref().expect("the server runs").id(), Signal::TERM);
                stopping = true;
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        process::kill(&mut process);
        if ended.is_none() {
            return Err(io::Error::other("the server does not start or does not end"));
        }
        fs::rename(unfinished, archive)
    }

    fn download(self, directory: &Path) -> String {
        eprintln!("downloading the jars of Nacos {}: takes a minute, once", self.dependencies()[0][2]);
        let pom = directory.join("pom.xml");
        fs::write(&pom, self.pom()).expect("the Maven project can be written");
        let output = directory.join("dependencies");
        let status = Command::new("mvn")
            .args(["-B", "-q", "-f"])
            .arg(&pom)
            .arg(format!("-Dmaven.repo.local={}", tools().join("maven").display()))
            .args(["dependency:build-classpath", "-DincludeScope=runtime"])
            .arg(format!("-Dmdep.outputFile={}", output.display()))
            .stdin(Stdio::null())
            // Standard output belongs to the test harness.
            .stdout(Stdio::null())
            .status()
            .expect("Maven starts");
        assert!(status.success(), "Maven cannot download the jars of Nacos; its messages are above");
        let jars = fs::read_to_string(output).expect("Maven has written the class path");
        let (first, others): (Vec<_>, Vec<_>) = jars.trim().split(':').partition(|jar| jar.contains(FIRST_JAR));
        [first, others].concat().join(":")
    }

    fn pom(self) -> String {
        let dependencies = self.dependencies().iter().map(|[group, artifact, version]| {
            format!(
                "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
                 <version>{version}</version></dependency>"
            )
        });
        format!(
            "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
             <groupId>local</groupId><artifactId>nacos-{}</artifactId><version>1</version><packaging>pom</packaging>\
             <dependencies>{}</dependencies></project>\n",
            self.number(),
            dependencies.collect::<String>()
        )
    }
}

/// Compiles a main class for line 3, whose own main class is in an unpublished jar. Returns the class path with it.
fn compile_start(directory: &Path, class_path: &str) -> String {
    let (source, classes) = (directory.join("Start.java"), directory.join("classes"));
    fs::write(&source, include_str!("Start.java")).expect("the source file can be written");
    let status = Command::new("javac")
        .args(["-cp", class_path, "-d"])
        .arg(&classes)
        .arg(&source)
        .stdin(Stdio::null())
        .status()
        .expect("javac starts");
    assert!(status.success(), "the main class of Nacos 3 does not compile");
    // The JVM archives classes of jars only.
    let jar = directory.join("start.jar");
    let status = Command::new("jar").arg("--create").arg("--file").arg(&jar).arg("-C").arg(&classes).arg(".").status();
    assert!(status.expect("`jar` starts").success(), "the main class of Nacos 3 cannot be packed");
    format!("{}:{class_path}", jar.display())
}

/// Writes the settings of a distribution with other addresses, and with a longer timeout of the database: a busy machine
/// does not create it within the default of 3 s.
fn write_configuration(http: u16, directory: &Path, auth: bool, members: &[u16]) {
    let conf = directory.join("conf");
    fs::create_dir_all(&conf).expect("the settings directory can be created");
    let key: [u8; 48] = std::array::from_fn(|_| rand::random());
    let key = data_encoding::BASE64.encode(&key);
    let mut settings = format!(
        "server.address=127.0.0.1\n\
         server.port={http}\n\
         nacos.server.main.port={http}\n\
         nacos.inetutils.ip-address=127.0.0.1\n\
         server.error.include-message=ALWAYS\n\
         server.tomcat.basedir=file:.\n\
         server.tomcat.accesslog.enabled=false\n\
         db.pool.config.connectionTimeout=60000\n\
         nacos.core.auth.system.type=nacos\n\
         nacos.core.auth.enabled={auth}\n\
         nacos.core.auth.admin.enabled={auth}\n\
         nacos.core.auth.server.identity.key=peer\n\
         nacos.core.auth.server.identity.value=peer\n\
         nacos.core.auth.plugin.nacos.token.secret.key={key}\n"
    );
    if !members.is_empty() {
        // With the first setting, nodes that start together exchange their instances after 1 s instead of 30 s. Without the
        // others, nodes of line 3 that start together end before they elect a leader.
        settings.push_str(
            "nacos.core.protocol.distro.data.load.retryDelayMs=1000\n\
             nacos.config.namespace.compatible.mode=false\n\
             nacos.namespace.migrate.retry.times=60\n",
        );
    }
    fs::write(conf.join("application.properties"), settings).expect("the server's settings can be written");
    if !members.is_empty() {
        let mut file = File::create(conf.join("cluster.conf")).expect("the list of members can be written");
        for port in members {
            writeln!(file, "127.0.0.1:{port}").expect("the list of members can be written");
        }
    }
}
