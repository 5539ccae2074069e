//! [`CommandError`]: the failure of a command, with its exit code and a way to fix it.

use std::{
    error::Error as _,
    io::{self, Write as _},
    process::ExitCode,
};

use rpc_core::{Code, Error};
use serde_json::{Value, json};

use crate::printable::printable;

/// The exit code of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Success = 0,
    /// The command has worked, and its answer is negative: a contract breaks calls, a reply was lost.
    Negative = 1,
    /// An option, a file or an argument of a call is invalid. clap exits with the same code.
    Input = 2,
    /// The service answered with its own error.
    Service = 3,
    /// The server answered with another error.
    Rejected = 4,
    /// No provider is known, or none answered in time.
    Unreachable = 5,
    /// Ctrl-C or SIGTERM.
    Interrupted = 130,
    /// The reader of stdout has ended; a shell reports the same number for a program that SIGPIPE ends.
    ClosedPipe = 141,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<Code> for Exit {
    fn from(code: Code) -> Self {
        match code {
            Code::InvalidArgument => Self::Input,
            Code::Unavailable | Code::DeadlineExceeded => Self::Unreachable,
            _ => Self::Rejected,
        }
    }
}

/// The failure of a command.
#[derive(Debug)]
pub(crate) struct CommandError {
    exit: Exit,
    message: String,
    causes: Vec<String>,
    /// Further members of the JSON form.
    details: serde_json::Map<String, Value>,
    fix: Option<String>,
}

impl CommandError {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), causes: Vec::new(), details: serde_json::Map::new(), fix: None }
    }

    /// Creates an error of the command line or of a file.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new(Exit::Input, message)
    }

    /// Creates the error for a service's own error.
    pub(crate) fn service(error: &Value) -> Self {
        Self::new(Exit::Service, format!("the service answered with its own error: {error}"))
            .with_detail("service_error", error.clone())
    }

    /// Adds an instruction that fixes the problem, unless the error has one.
    #[must_use]
    pub(crate) fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix.get_or_insert(fix.into());
        self
    }

    /// Replaces the instruction that fixes the problem.
    #[must_use]
    pub(crate) fn with_other_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// Adds a member of the JSON form.
    #[must_use]
    pub(crate) fn with_detail(mut self, name: &str, value: Value) -> Self {
        self.details.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn fix(&self) -> Option<&str> {
        self.fix.as_deref()
    }

    /// Prints the error as text to stderr.
    pub(crate) fn print(&self) {
        let causes = self.causes.iter().map(|cause| format!("\n  caused by: {cause}"));
        let fix = self.fix.iter().map(|fix| format!("\n  fix: {fix}"));
        let text: String = causes.chain(fix).collect();
        // If stderr cannot be written, the exit code still reports the failure.
        let _ = writeln!(io::stderr(), "error: {}{}", printable(&self.message), printable(&text));
    }

    /// Returns the error as a JSON document.
    pub(crate) fn document(&self) -> Value {
        let Self { exit, message, causes, details, fix } = self;
        let mut members = details.clone();
        members.insert("exit".to_owned(), json!(*exit as u8));
        members.insert("message".to_owned(), json!(message));
        if !causes.is_empty() {
            members.insert("causes".to_owned(), json!(causes));
        }
        if let Some(fix) = fix {
            members.insert("fix".to_owned(), json!(fix));
        }
        json!({ "error": members })
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        let mut causes: Vec<String> = Vec::new();
        let mut above = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !above.contains(&text) {
                causes.push(text.clone());
                above = text;
            }
            source = cause.source();
        }
        let fix = match error.code() {
            Code::Unauthenticated => Some("pass --token-file FILE with a token that the server accepts"),
            Code::PermissionDenied => Some("use a token or a certificate that the access rules of the server allow"),
            Code::DeadlineExceeded => Some("allow more time with --timeout"),
            _ => None,
        };
        let mut converted = Self { causes, ..Self::new(error.code().into(), error.to_string()) }
            .with_detail("code", json!(error.code().to_string()))
            .with_detail("delivery", json!(format!("{:?}", error.delivery())));
        if let Some(peer) = error.peer() {
            converted = converted.with_detail("peer", json!(peer));
        }
        fix.into_iter().fold(converted, Self::with_fix)
    }
}
