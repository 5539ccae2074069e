//! [`Login`]: logs in to Nacos, and keeps the token.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nacos_sdk::api::plugin::{AuthContext, AuthPlugin, LoginIdentityContext, RequestResource};
use rpc_core::{Code, Error};
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    http::Http,
    url::{Config, Credentials},
};
use crate::{address::HostPort, throttle::Throttle};

/// Keeps the token of one user, shared by all the connections of a handle.
///
/// It replaces the SDK's own login, which cannot distinguish a wrong password from a server that is away, asks one server at random and no
/// other, and writes the password to its log.
///
/// No answer of an official server proves by itself that the user or the password is wrong: for the first 5 s after its start a server
/// refuses every user in the same words. So a login counts as refused once the servers have refused it for [`SETTLE`].
pub(super) struct Login {
    config: Arc<Config>,
    http: Arc<Http>,
    state: Mutex<State>,
    /// One login at a time.
    turn: tokio::sync::Mutex<()>,
    warnings: Throttle,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// Since when the servers have refused the login, without a break.
    refused_since: Option<Instant>,
    /// The last failure, which is also the outcome of attempts within [`PAUSE`] after it.
    failure: Option<(Instant, Code, String)>,
}

#[derive(Clone)]
struct Token {
    text: String,
    since: Instant,
    renew: Instant,
}

/// How a server answers a login.
enum Answer {
    Accepted {
        access_token: String,
        ttl: Duration,
    },
    /// The user is unknown or the password is wrong, or the server has not yet read its users.
    Refused,
    /// The server has no such path.
    NoSuchPath,
    /// The server does not check logins now.
    NotNow,
}

/// The paths of version 3 and of earlier versions. Version 3 has both, but the earlier one answers every refusal with status 500.
const PATHS: [&str; 2] = ["/nacos/v3/auth/user/login", "/nacos/v1/auth/login"];

/// The paths that answer 200 once a server of version 3 or earlier serves.
const READINESS: [&str; 2] = ["/nacos/v3/admin/core/state/readiness", "/nacos/v1/console/health/readiness"];

/// How long servers must refuse a login until it counts as refused.
const SETTLE: Duration = Duration::from_secs(8);

/// The pause after an attempt that failed. r-nacos takes 100 attempts a minute from all clients of one user.
const PAUSE: Duration = Duration::from_secs(2);

/// How young a token is that is not renewed: a server that refuses it refuses the operation.
const FRESH: Duration = Duration::from_secs(5);

/// How r-nacos answers, with the status of a wrong password, a client that logs in too often, and every client until it has a leader.
const NOT_NOW: [&str; 2] = ["LOGIN_LIMITE_ERROR", "unknown the raft leader"];

impl Login {
    pub(super) fn new(config: Arc<Config>, http: Arc<Http>) -> Self {
        Self {
            config,
            http,
            state: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            warnings: Throttle::default(),
        }
    }

    /// Logs in for the first time. Servers that do not answer within `patience` are no error: they may come.
    ///
    /// # Errors
    ///
    /// `Unauthenticated` when the servers refuse the user for [`SETTLE`].
    pub(super) async fn begin(&self, patience: Duration) -> Result<(), Error> {
        let end = Instant::now() + patience + SETTLE;
        loop {
            match timeout(patience, self.ensure()).await {
                Ok(Err(error)) if error.code() == Code::Unauthenticated => return Err(error),
                Ok(Err(_)) if self.lock().refused_since.is_some() && Instant::now() < end => sleep(PAUSE).await,
                _ => return Ok(()),
            }
        }
    }

    /// Logs in, unless there is a token that is not yet to be renewed. Does nothing without a user.
    ///
    /// # Errors
    ///
    /// `Unauthenticated` when the servers have refused the user for [`SETTLE`], `Unavailable` when none answers or they refuse for less time.
    pub(super) async fn ensure(&self) -> Result<(), Error> {
        self.log_in_unless(|token, now| now < token.renew).await
    }

    /// Logs in anew, because a server does not know the token: it may have forgotten it in a restart. Does nothing if another call has just
    /// done so.
    ///
    /// # Errors
    ///
    /// As [`ensure`](Self::ensure).
    pub(super) async fn renew(&self) -> Result<(), Error> {
        self.log_in_unless(|token, now| now < token.since + FRESH).await
    }

    /// The token, for requests over HTTP.
    pub(super) fn access_token(&self) -> Option<String> {
        self.lock().token.as_ref().map(|token| token.text.clone())
    }

    async fn log_in_unless(&self, good: impl Fn(&Token, Instant) -> bool) -> Result<(), Error> {
        let Some(credentials) = &self.config.credentials else { return Ok(()) };
        let _turn = self.turn.lock().await;
        {
            let (state, now) = (self.lock(), Instant::now());
            if state.token.as_ref().is_some_and(|token| good(token, now)) {
                return Ok(());
            }
            if let Some((at, code, message)) = &state.failure
                && now < *at + PAUSE
            {
                return Err(Error::not_executed(*code, message.clone()));
            }
        }
        let outcome = self.ask_all(credentials).await;
        let outcome = self.handle_answer(Instant::now(), outcome, &credentials.username);
        if let Err(error) = &outcome {
            self.lock().failure = Some((Instant::now(), error.code(), error.message().to_owned()));
        }
        outcome
    }

    fn handle_answer(&self, now: Instant, answer: Result<Answer, Error>, username: &str) -> Result<(), Error> {
        let mut state = self.lock();
        match answer.inspect_err(|_| state.refused_since = None)? {
            Answer::Accepted { access_token, ttl } => {
                *state = State {
                    token: Some(Token { text: access_token, since: now, renew: now + ttl / 2 }),
                    ..State::default()
                };
                Ok(())
            }
            Answer::Refused => {
                let since = *state.refused_since.get_or_insert(now);
                Err(refusal(username, now - since))
            }
            Answer::NoSuchPath => {
                state.refused_since = None;
                Err(Error::not_executed(Code::Unavailable, "no Nacos server has a path to log in"))
            }
            Answer::NotNow => Err(Error::not_executed(Code::Unavailable, "Nacos checks no logins of this user now")),
        }
    }

    /// Asks one server after another until one accepts. One that refuses counts more than one that is away.
    async fn ask_all(&self, credentials: &Credentials) -> Result<Answer, Error> {
        let mut outcome = Ok(Answer::NoSuchPath);
        for server in &self.config.servers {
            match self.ask_server(server, credentials).await {
                Ok(Answer::Accepted { access_token, ttl }) => return Ok(Answer::Accepted { access_token, ttl }),
                Ok(Answer::Refused) => outcome = Ok(Answer::Refused),
                Ok(Answer::NoSuchPath) => {}
                other if !matches!(outcome, Ok(Answer::Refused)) => outcome = other,
                _ => {}
            }
        }
        outcome
    }

    async fn ask_server(&self, server: &HostPort, credentials: &Credentials) -> Result<Answer, Error> {
        let form = [("username", &*credentials.username), ("password", &*credentials.password.0)];
        for path in PATHS {
            let response = self.http.post(&format!("http://{server}{path}"), &form).await?;
            match read_answer(response.status, &response.text)? {
                Answer::NoSuchPath => {}
                // Servers answer a wrong password like a fault of their own.
                Answer::Refused if response.status == 500 && !self.is_ready(server).await => {
                    return Err(unavailable(response.status));
                }
                answer => return Ok(answer),
            }
        }
        Ok(Answer::NoSuchPath)
    }

    async fn is_ready(&self, server: &HostPort) -> bool {
        for path in READINESS {
            let response = self.http.get(&format!("http://{server}{path}"), &[]).await;
            if response.is_ok_and(|response| response.status == 200) {
                return true;
            }
        }
        false
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_answer(status: u16, text: &str) -> Result<Answer, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Accepted {
        access_token: String,
        /// Seconds.
        token_ttl: u64,
    }
    match status {
        200 => match serde_json::from_str(text) {
            Ok(Accepted { access_token, token_ttl }) => {
                Ok(Answer::Accepted { access_token, ttl: Duration::from_secs(token_ttl.clamp(2, 86_400)) })
            }
            // The text is not shown: it may be a token in another form.
            Err(_) => {
                Err(Error::not_executed(Code::Unavailable, "a Nacos server's answer to a login is not understood"))
            }
        },
        401 | 403 if NOT_NOW.iter().any(|words| text.contains(words)) => Ok(Answer::NotNow),
        401 | 403 | 500 => Ok(Answer::Refused),
        404 | 405 | 410 | 501 => Ok(Answer::NoSuchPath),
        status => Err(unavailable(status)),
    }
}

fn unavailable(status: u16) -> Error {
    Error::not_executed(Code::Unavailable, format!("a Nacos server answers a login with status {status}"))
}

/// The error of a login that servers have refused for this long.
fn refusal(username: &str, length: Duration) -> Error {
    if length >= SETTLE {
        let message = format!("Nacos refuses the login of the user `{username}`: the user or the password is wrong");
        return Error::not_executed(Code::Unauthenticated, message);
    }
    let message = format!(
        "Nacos refuses the login of the user `{username}`: the user or the password is wrong, or the server has just started"
    );
    Error::not_executed(Code::Unavailable, message)
}

/// The login of one connection of the SDK, which goes on to ask for it and to send the token for as long as the process lives. It ends with
/// the connection's relay: the relay's ports may be another program's by then, and that must not get a token.
pub(super) struct ConnectionLogin {
    login: Arc<Login>,
    ended: CancellationToken,
}

impl ConnectionLogin {
    pub(super) fn new(login: Arc<Login>, ended: CancellationToken) -> Self {
        Self { login, ended }
    }
}

/// The SDK calls this every 30 seconds, and takes the token along with each request.
#[async_trait::async_trait]
impl AuthPlugin for ConnectionLogin {
    async fn login(&self, _: Arc<Vec<String>>, _: Arc<AuthContext>) {
        if !self.ended.is_cancelled()
            && let Err(error) = self.login.ensure().await
            && self.login.warnings.pass(std::time::Instant::now())
        {
            let cause = std::error::Error::source(&error);
            tracing::warn!(registry = %self.login.config, %error, cause, "cannot log in to Nacos; trying again");
        }
    }

    fn get_login_identity(&self, _: RequestResource) -> LoginIdentityContext {
        match self.login.access_token() {
            Some(token) if !self.ended.is_cancelled() => {
                LoginIdentityContext::default().add_context("accessToken", token)
            }
            _ => LoginIdentityContext::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `true` for a token, `false` for a refusal, `None` for no such path; `Aborted` for not now.
    fn read(status: u16, text: &str) -> Result<Option<bool>, Code> {
        match read_answer(status, text) {
            Ok(Answer::Accepted { .. }) => Ok(Some(true)),
            Ok(Answer::Refused) => Ok(Some(false)),
            Ok(Answer::NoSuchPath) => Ok(None),
            Ok(Answer::NotNow) => Err(Code::Aborted),
            Err(error) => Err(error.code()),
        }
    }

    #[test]
    fn answers_of_all_servers_are_understood() {
        assert_eq!(read(200, r#"{"accessToken":"t","tokenTtl":18000,"globalAdmin":true}"#), Ok(Some(true)));
        assert_eq!(read(200, "<html>"), Err(Code::Unavailable));
        // A wrong password: r-nacos, 2.3.2, 3.1.0; an unknown user: 2.3.2, 3.1.0.
        assert_eq!(read(403, "unknown user!"), Ok(Some(false)));
        assert_eq!(read(403, "user not found!"), Ok(Some(false)));
        assert_eq!(read(500, r#"{"message":"No message available"}"#), Ok(Some(false)));
        assert_eq!(read(500, "caused: User nobody not found;"), Ok(Some(false)));
        assert_eq!(read(403, r#"{"message":"Access Denied"}"#), Ok(Some(false)));
        assert_eq!(read(403, "LOGIN_LIMITE_ERROR,Frequent login"), Err(Code::Aborted));
        assert_eq!(read(403, "unknown the raft leader addr!"), Err(Code::Aborted));
        assert_eq!(read(404, ""), Ok(None));
        assert_eq!(read(503, ""), Err(Code::Unavailable));
    }

    #[test]
    fn refusal_counts_once_it_has_lasted() {
        for (length, code) in [(SETTLE - Duration::from_millis(1), Code::Unavailable), (SETTLE, Code::Unauthenticated)]
        {
            let error = refusal("bo", length);
            assert_eq!(error.code(), code);
            assert!(error.to_string().contains("`bo`"), "{error}");
        }
    }
}
