//! [`Login`]: logs in to Nacos and stores the token.

use std::{
    collections::HashMap,
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
use crate::{address::HostPort, supervision::log, throttle::Throttle};

/// The token of one user, shared by all connections of a handle.
///
/// Replaces the SDK's own login, which cannot distinguish a wrong password from an unavailable server, tries only one
/// random server, and logs the password.
///
/// A single answer of an official server does not prove that the user or the password is wrong: for the first 5 s after
/// its start a server rejects every user with the same answer. A login therefore counts as rejected once the servers
/// have rejected it for [`STARTUP_GRACE`].
pub(super) struct Login {
    config: Arc<Config>,
    http: Arc<Http>,
    state: Mutex<State>,
    /// Serializes logins.
    login_lock: tokio::sync::Mutex<()>,
    warnings: Throttle,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// The services whose requests a server rejected with a renewed token, and how often.
    denials: HashMap<String, u32>,
    /// The start of the current uninterrupted series of rejections.
    rejected_since: Option<Instant>,
    /// The last failure, which is also the result of attempts within [`RETRY_DELAY`] after it.
    failure: Option<(Instant, Code, String)>,
}

#[derive(Clone)]
struct Token {
    text: String,
    issued_at: Instant,
    renew_at: Instant,
}

/// The answer of a server to a login.
enum LoginAnswer {
    Accepted {
        access_token: String,
        ttl: Duration,
    },
    /// The user is unknown or the password is wrong, or the server has not loaded its users yet.
    Rejected,
    /// The server does not have this path.
    NoSuchPath,
    /// The server currently does not check logins.
    NotReady,
}

/// The paths of version 3 and of earlier versions.
///
/// Version 3 has both, but answers every rejection on the earlier path with status 500.
const PATHS: [&str; 2] = ["/nacos/v3/auth/user/login", "/nacos/v1/auth/login"];

/// The paths on which a ready server of version 3, or of an earlier version, answers with status 200.
const READINESS_PATHS: [&str; 2] = ["/nacos/v3/admin/core/state/readiness", "/nacos/v1/console/health/readiness"];

/// How long servers must reject a login until it counts as rejected.
const STARTUP_GRACE: Duration = Duration::from_secs(8);

/// The delay after a failed attempt.
///
/// r-nacos accepts 100 attempts per minute from all clients of one user.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// The minimum age for the renewal of a token, doubled with each denial of a service.
///
/// A server that rejects a newer token denies the operation itself.
const MIN_RENEWAL_AGE: Duration = Duration::from_secs(5);

/// The age at which a token is renewed for every rejected service.
const MAX_RENEWAL_AGE: Duration = Duration::from_secs(320);

/// The maximum number of services whose denials are counted. Others do not delay their renewals.
const MAX_DENIED: usize = 1024;

/// The texts with which r-nacos answers too frequent logins, and all logins before it has a leader.
///
/// The status is that of a wrong password.
const NOT_READY_TEXTS: [&str; 2] = ["LOGIN_LIMITE_ERROR", "unknown the raft leader"];

impl Login {
    pub(super) fn new(config: Arc<Config>, http: Arc<Http>) -> Self {
        Self {
            config,
            http,
            state: Mutex::default(),
            login_lock: tokio::sync::Mutex::default(),
            warnings: Throttle::default(),
        }
    }

    /// Logs in for the first time.
    ///
    /// Returns `Ok` if no server answers within `wait`: the login is retried later.
    ///
    /// # Errors
    ///
    /// `Unauthenticated` if the servers reject the user for [`STARTUP_GRACE`].
    pub(super) async fn log_in_at_start(&self, wait: Duration) -> Result<(), Error> {
        let end = Instant::now() + wait + STARTUP_GRACE;
        loop {
            match timeout(wait, self.ensure()).await {
                Ok(Err(error)) if error.code() == Code::Unauthenticated => return Err(error),
                Ok(Err(_)) if self.lock().rejected_since.is_some() && Instant::now() < end => sleep(RETRY_DELAY).await,
                _ => return Ok(()),
            }
        }
    }

    /// Logs in unless the current token is valid and not due for renewal. Does nothing without credentials.
    ///
    /// # Errors
    ///
    /// `Unauthenticated` if the servers have rejected the user for [`STARTUP_GRACE`]; `Unavailable` if they have
    /// rejected it for less time, or if no server answers.
    pub(super) async fn ensure(&self) -> Result<(), Error> {
        self.log_in_unless(|token, now| now < token.renew_at).await
    }

    /// Logs in again after a server rejected a request for the service `name`, and returns whether to repeat the request.
    ///
    /// The server may have lost the token in a restart, or may deny the service to the user. Therefore the pauses between
    /// two logins for one service grow while its requests are rejected: others need the token, and servers limit the
    /// logins of a user. Returns `false` in such a pause, and without credentials.
    ///
    /// # Errors
    ///
    /// As [`ensure`](Self::ensure).
    pub(super) async fn renew(&self, name: &str) -> Result<bool, Error> {
        if self.config.credentials.is_none() || !self.lock().may_renew(Instant::now(), name) {
            return Ok(false);
        }
        let is_fresh = |token: &Token, now: Instant| now < token.issued_at + MIN_RENEWAL_AGE;
        let was_fresh = self.lock().token.as_ref().is_some_and(|token| is_fresh(token, Instant::now()));
        self.log_in_unless(is_fresh).await?;
        if !was_fresh {
            self.lock().count_denial(name);
        }
        Ok(true)
    }

    /// Handles the success of a request for the service `name`.
    pub(super) fn handle_permitted(&self, name: &str) {
        self.lock().denials.remove(name);
    }

    /// Returns the token, for requests over HTTP.
    pub(super) fn access_token(&self) -> Option<String> {
        self.lock().token.as_ref().map(|token| token.text.clone())
    }

    async fn log_in_unless(&self, is_valid: impl Fn(&Token, Instant) -> bool) -> Result<(), Error> {
        let Some(credentials) = &self.config.credentials else { return Ok(()) };
        let _guard = self.login_lock.lock().await;
        {
            let (state, now) = (self.lock(), Instant::now());
            if state.token.as_ref().is_some_and(|token| is_valid(token, now)) {
                return Ok(());
            }
            if let Some((at, code, message)) = &state.failure
                && now < *at + RETRY_DELAY
            {
                return Err(Error::not_executed(*code, message.clone()));
            }
        }
        let answer = self.try_servers(credentials).await;
        let result = self.handle_answer(Instant::now(), answer, &credentials.username);
        if let Err(error) = &result {
            self.lock().failure = Some((Instant::now(), error.code(), error.message().to_owned()));
        }
        result
    }

    fn handle_answer(&self, now: Instant, answer: Result<LoginAnswer, Error>, username: &str) -> Result<(), Error> {
        let mut state = self.lock();
        match answer.inspect_err(|_| state.rejected_since = None)? {
            LoginAnswer::Accepted { access_token, ttl } => {
                state.token = Some(Token { text: access_token, issued_at: now, renew_at: now + ttl / 2 });
                (state.rejected_since, state.failure) = (None, None);
                Ok(())
            }
            LoginAnswer::Rejected => {
                let since = *state.rejected_since.get_or_insert(now);
                Err(rejection(username, now - since))
            }
            LoginAnswer::NoSuchPath => {
                state.rejected_since = None;
                Err(Error::not_executed(Code::Unavailable, "no Nacos server has a login path"))
            }
            LoginAnswer::NotReady => {
                Err(Error::not_executed(Code::Unavailable, "Nacos currently does not accept logins of this user"))
            }
        }
    }

    /// Tries one server after another until one accepts.
    ///
    /// A rejection takes precedence over an unavailable server.
    async fn try_servers(&self, credentials: &Credentials) -> Result<LoginAnswer, Error> {
        let mut result = Ok(LoginAnswer::NoSuchPath);
        for server in &self.config.servers {
            match self.try_server(server, credentials).await {
                Ok(LoginAnswer::Accepted { access_token, ttl }) => {
                    return Ok(LoginAnswer::Accepted { access_token, ttl });
                }
                Ok(LoginAnswer::Rejected) => result = Ok(LoginAnswer::Rejected),
                Ok(LoginAnswer::NoSuchPath) => {}
                other if !matches!(result, Ok(LoginAnswer::Rejected)) => result = other,
                _ => {}
            }
        }
        result
    }

    async fn try_server(&self, server: &HostPort, credentials: &Credentials) -> Result<LoginAnswer, Error> {
        let form = [("username", &*credentials.username), ("password", &*credentials.password.0)];
        for path in PATHS {
            let response = self.http.post(&format!("http://{server}{path}"), &form).await?;
            match read_answer(response.status, &response.text)? {
                LoginAnswer::NoSuchPath => {}
                // Some servers answer a wrong password with the status of an internal error.
                LoginAnswer::Rejected if response.status == 500 && !self.is_ready(server).await => {
                    return Err(unexpected_status(response.status));
                }
                answer => return Ok(answer),
            }
        }
        Ok(LoginAnswer::NoSuchPath)
    }

    async fn is_ready(&self, server: &HostPort) -> bool {
        for path in READINESS_PATHS {
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

impl State {
    /// Returns whether a rejected request for the service `name` may renew the token, or has an outdated one.
    fn may_renew(&self, now: Instant, name: &str) -> bool {
        let Some(token) = &self.token else { return true };
        let age = now.saturating_duration_since(token.issued_at);
        let denials = self.denials.get(name).copied().unwrap_or(0);
        age < MIN_RENEWAL_AGE || age >= MIN_RENEWAL_AGE.saturating_mul(1 << denials.min(16)).min(MAX_RENEWAL_AGE)
    }

    fn count_denial(&mut self, name: &str) {
        if self.denials.len() < MAX_DENIED || self.denials.contains_key(name) {
            *self.denials.entry(name.to_owned()).or_default() += 1;
        }
    }
}

fn read_answer(status: u16, text: &str) -> Result<LoginAnswer, Error> {
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
                Ok(LoginAnswer::Accepted { access_token, ttl: Duration::from_secs(token_ttl.clamp(2, 86_400)) })
            }
            // The message omits the text, which may be a token in another format.
            Err(_) => Err(Error::not_executed(Code::Unavailable, "a Nacos server's answer to a login is invalid")),
        },
        401 | 403 if NOT_READY_TEXTS.iter().any(|pattern| text.contains(pattern)) => Ok(LoginAnswer::NotReady),
        401 | 403 | 500 => Ok(LoginAnswer::Rejected),
        404 | 405 | 410 | 501 => Ok(LoginAnswer::NoSuchPath),
        status => Err(unexpected_status(status)),
    }
}

fn unexpected_status(status: u16) -> Error {
    Error::not_executed(Code::Unavailable, format!("a Nacos server answered a login with status {status}"))
}

/// Returns the error of a login that servers have rejected for `duration`.
fn rejection(username: &str, duration: Duration) -> Error {
    if duration >= STARTUP_GRACE {
        let message = format!("Nacos rejects the login of the user `{username}`: the user or the password is wrong");
        return Error::not_executed(Code::Unauthenticated, message);
    }
    let message = format!(
        "Nacos rejects the login of the user `{username}`: the user or the password is wrong, or the server has just started"
    );
    Error::not_executed(Code::Unavailable, message)
}

/// The login of one connection of the SDK.
///
/// The SDK uses it, and sends the token, until the process ends. It yields no token once the connection's relay has
/// ended: another program may listen on the relay's ports then, and must not receive a token.
pub(super) struct ConnectionLogin {
    login: Arc<Login>,
    ended: CancellationToken,
}

impl ConnectionLogin {
    pub(super) fn new(login: Arc<Login>, ended: CancellationToken) -> Self {
        Self { login, ended }
    }
}

/// The SDK calls `login` every 30 s and sends the token with each request.
#[async_trait::async_trait]
impl AuthPlugin for ConnectionLogin {
    async fn login(&self, _: Arc<Vec<String>>, _: Arc<AuthContext>) {
        if !self.ended.is_cancelled()
            && let Err(error) = self.login.ensure().await
            && self.login.warnings.allow(std::time::Instant::now())
        {
            let cause = std::error::Error::source(&error);
            let registry = &self.login.config;
            log(|| tracing::warn!(%registry, %error, cause, "cannot log in to Nacos; trying again"));
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

    /// Returns the result of a response.
    ///
    /// It is `true` for a token, `false` for a rejection, `None` for a missing path and `Aborted` for a server that is
    /// not ready.
    fn read(status: u16, text: &str) -> Result<Option<bool>, Code> {
        match read_answer(status, text) {
            Ok(LoginAnswer::Accepted { .. }) => Ok(Some(true)),
            Ok(LoginAnswer::Rejected) => Ok(Some(false)),
            Ok(LoginAnswer::NoSuchPath) => Ok(None),
            Ok(LoginAnswer::NotReady) => Err(Code::Aborted),
            Err(error) => Err(error.code()),
        }
    }

    #[test]
    fn read_answer_supports_every_server_version() {
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
    fn token_lifetime_is_bounded() {
        let answer = |ttl: u64| read_answer(200, &format!(r#"{{"accessToken":"t","tokenTtl":{ttl}}}"#));
        for (ttl, bounded) in [(0, 2), (86_400, 86_400), (86_401, 86_400), (u64::MAX, 86_400)] {
            let Ok(LoginAnswer::Accepted { ttl: read, .. }) = answer(ttl) else { panic!("{ttl} is rejected") };
            assert_eq!(read, Duration::from_secs(bounded));
        }
    }

    /// A service that the user may not use must not cause logins that delay the others.
    #[test]
    fn denied_service_renews_the_token_ever_more_rarely() {
        let (mut state, start) = (State::default(), Instant::now());
        let issue = |state: &mut State, at| {
            state.token = Some(Token { text: "t".to_owned(), issued_at: at, renew_at: at + Duration::from_secs(3600) });
        };
        issue(&mut state, start);
        let (mut now, mut renewals) = (start, Vec::new());
        // A registration is tried again every 8 s.
        while now < start + Duration::from_secs(600) {
            now += Duration::from_secs(8);
            if state.may_renew(now, "denied") {
                renewals.push((now - start).as_secs());
                issue(&mut state, now);
                state.count_denial("denied");
            }
            // Another service renews the token as soon as a server has lost it.
            assert!(state.may_renew(now + MIN_RENEWAL_AGE, "other"));
        }
        assert_eq!(renewals, [8, 24, 48, 88, 168, 328]);
        state.denials.remove("denied");
        assert!(state.may_renew(now + MIN_RENEWAL_AGE, "denied"));
    }

    #[test]
    fn counted_denials_are_bounded() {
        let mut state = State::default();
        for service in 0..=MAX_DENIED {
            state.count_denial(&service.to_string());
        }
        state.count_denial("0");
        assert_eq!((state.denials.len(), state.denials["0"]), (MAX_DENIED, 2));
    }

    #[test]
    fn rejection_is_final_after_the_startup_grace() {
        for (duration, code) in
            [(STARTUP_GRACE - Duration::from_millis(1), Code::Unavailable), (STARTUP_GRACE, Code::Unauthenticated)]
        {
            let error = rejection("bo", duration);
            assert_eq!(error.code(), code);
            assert!(error.to_string().contains("`bo`"), "{error}");
        }
    }
}
