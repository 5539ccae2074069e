//! [`ServerKind`]: the servers with which the tests run.

use std::time::Duration;

use super::{
    official::{self, Line},
    r_nacos,
};

/// A program that serves the protocol of Nacos.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKind {
    /// r-nacos, written in Rust. It is always available, because it needs only the tools that build the tests.
    RNacos,
    /// The official server 2.3.2. It needs Java 17 and Maven.
    Official2,
    /// The official server 3.1.0. It needs Java 17 and Maven.
    Official3,
}

impl ServerKind {
    /// Returns whether this machine can run such a server.
    ///
    /// If not, it prints a line that begins with `SKIPPED` and contains the reason.
    pub fn is_available(self) -> bool {
        let missing = match self {
            Self::RNacos => None,
            Self::Official2 | Self::Official3 => official::unavailable(),
        };
        if let Some(missing) = &missing {
            eprintln!("SKIPPED with {self:?}: {missing}; Debian packages: openjdk-17-jdk-headless and maven");
        }
        missing.is_none()
    }

    /// Downloads or builds such a server, unless that was done before.
    pub async fn prepare(self) {
        let prepared = tokio::task::spawn_blocking(move || match self.line() {
            Some(line) => official::prepare(line),
            None => drop(r_nacos::binary()),
        });
        prepared.await.expect("the server is available");
    }

    pub(super) fn line(self) -> Option<Line> {
        match self {
            Self::RNacos => None,
            Self::Official2 => Some(Line::Two),
            Self::Official3 => Some(Line::Three),
        }
    }

    /// Returns the limit of a server's start on a machine that is busy with other tests.
    pub(super) fn start_timeout(self) -> Duration {
        if self == Self::RNacos { Duration::from_secs(30) } else { official::START_TIMEOUT }
    }

    /// Returns the name and password of the user of a server with authentication.
    pub(super) fn user(self) -> (&'static str, &'static str) {
        match self {
            Self::RNacos => ("bo", "hunter2"),
            // Line 2 has this user from its first start, and line 3 accepts no other name for its first user.
            Self::Official2 | Self::Official3 => ("nacos", "nacos"),
        }
    }
}
