//! [`Login`]: proves to Nacos who calls.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nacos_sdk::api::plugin::{AuthContext, AuthPlugin, LoginIdentityContext, RequestResource};
use rpc_core::{Code, Error};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::url::{Config, Credentials};
use crate::throttle::Throttle;

/// Keeps the token of one user, shared by all the connections of a handle.
///
/// It stands in for the SDK's own, which cannot tell a wrong password from a server that is away, asks one server at random and no
/// other, and writes the password to its log.
pub(super) struct Login {
    config: Arc<Config>,
    http: reqwest::Client,
    token: Mutex<Option<Token>>,
    /// One login at a time.
    turn: tokio::sync::Mutex<()>,
    warnings: Throttle,
    /// The SDK goes on to log in for as long as the process lives; with the handle's end this makes it do nothing.
    stop: CancellationToken,
}

#[derive(Clone)]
struct Token {
    text: String,
    renew: Instant,
}

/// What Nacos answers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    access_token: String,
    /// Seconds.
    token_ttl: u64,
}

/// The longest that one server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Nacos' path, and where it moved in version 3.
const PATHS: [&str; 2] = ["/nacos/v1/auth/login", "/nacos/v3/auth/user/login"];

/// What r-nacos says, with the status of a wrong password, to one who logs in too often.
const TOO_OFTEN: &str = "LOGIN_LIMITE_ERROR";

impl Login {
    pub(super) fn new(config: Arc<Config>, stop: CancellationToken) -> Result<Self, Error> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // A proxy of the environment must not see the password.
            .no_proxy()
            // It is used from our runtime and from the SDK's: a connection must not outlive the one that made it.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|cause| Error::new(Code::Internal, "no HTTP client can be made").with_source(cause))?;
        Ok(Self {
            config,
            http,
            token: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            warnings: Throttle::default(),
            stop,
        })
    }

    /// Logs in, unless there is a token that is not yet to be renewed. Nothing to do without a user.
    ///
    /// # Errors
    ///
    /// `Unauthenticated` when a server says that the user or the password is wrong, `Unavailable` when none answers.
    pub(super) async fn ensure(&self) -> Result<(), Error> {
        let Some(credentials) = &self.config.credentials else { return Ok(()) };
        let _turn = self.turn.lock().await;
        if self.token().is_some_and(|token| Instant::now() < token.renew) {
            return Ok(());
        }
        let answer = self.ask_all(credentials).await?;
        let renew = Instant::now() + Duration::from_secs(answer.token_ttl.clamp(2, 86_400)) / 2;
        *self.lock() = Some(Token { text: answer.access_token, renew });
        Ok(())
    }

    /// Logs in anew, because a server does not know the token: it may have forgotten it in a restart.
    pub(super) async fn renew(&self) -> Result<(), Error> {
        *self.lock() = None;
        self.ensure().await
    }

    /// Drops the token. No login follows once the handle has been dropped.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    /// Asks one server after another until one knows.
    async fn ask_all(&self, credentials: &Credentials) -> Result<Answer, Error> {
        let mut last = Error::new(Code::Unavailable, "no Nacos server answers a login");
        for server in &self.config.servers {
            for path in PATHS {
                match self.ask(&format!("http://{server}{path}"), credentials).await {
                    Ok(Some(answer)) => return Ok(answer),
                    Ok(None) => {}
                    Err(error) if error.code() == Code::Unauthenticated => return Err(error),
                    Err(error) => {
                        last = error;
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    /// Asks one server; it answers `None` when it has no such path.
    async fn ask(&self, url: &str, credentials: &Credentials) -> Result<Option<Answer>, Error> {
        let unavailable = |cause: reqwest::Error| {
            Error::new(Code::Unavailable, "a Nacos server does not answer a login").with_source(cause.without_url())
        };
        // In the body, not in the URL, which servers write to their logs.
        let form = [("username", &credentials.username), ("password", &credentials.password.0)];
        let response = self.http.post(url).form(&form).send().await.map_err(unavailable)?;
        let status = response.status().as_u16();
        let text = response.text().await.map_err(unavailable)?;
        read_answer(status, &text, &credentials.username)
    }

    fn token(&self) -> Option<Token> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Token>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_answer(status: u16, text: &str, username: &str) -> Result<Option<Answer>, Error> {
    match status {
        200 => match serde_json::from_str(text) {
            Ok(answer) => Ok(Some(answer)),
            // Its text is not shown: it may be a token in another form.
            Err(_) => Err(Error::new(Code::Unavailable, "a Nacos server's answer to a login is not understood")),
        },
        401 | 403 if !text.contains(TOO_OFTEN) => {
            Err(Error::new(Code::Unauthenticated, format!("Nacos does not know the user `{username}` or its password")))
        }
        404 | 405 | 410 | 501 => Ok(None),
        status => Err(Error::new(Code::Unavailable, format!("a Nacos server answers a login with status {status}"))),
    }
}

/// The SDK calls this every 30 seconds for each connection, and takes the token along with each request.
#[async_trait::async_trait]
impl AuthPlugin for Login {
    async fn login(&self, _: Arc<Vec<String>>, _: Arc<AuthContext>) {
        if !self.stop.is_cancelled()
            && let Err(error) = self.ensure().await
            && self.warnings.pass(Instant::now())
        {
            let cause = std::error::Error::source(&error);
            tracing::warn!(registry = %self.config, %error, cause, "cannot log in to Nacos; trying again");
        }
    }

    fn get_login_identity(&self, _: RequestResource) -> LoginIdentityContext {
        match self.token() {
            Some(token) => LoginIdentityContext::default().add_context("accessToken", token.text),
            None => LoginIdentityContext::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(status: u16, text: &str) -> Result<bool, Code> {
        read_answer(status, text, "bo").map(|answer| answer.is_some()).map_err(|error| error.code())
    }

    #[test]
    fn an_answer_tells_wrong_from_away() {
        assert_eq!(code(200, r#"{"accessToken":"t","tokenTtl":18000,"globalAdmin":true}"#), Ok(true));
        assert_eq!(code(200, "<html>"), Err(Code::Unavailable));
        assert_eq!(code(403, "unknown user!"), Err(Code::Unauthenticated));
        assert_eq!(code(401, ""), Err(Code::Unauthenticated));
        assert_eq!(code(403, "LOGIN_LIMITE_ERROR,Frequent login"), Err(Code::Unavailable));
        assert_eq!(code(404, ""), Ok(false));
        assert_eq!(code(500, ""), Err(Code::Unavailable));
    }

    #[test]
    fn a_refusal_names_the_user() {
        assert!(read_answer(403, "", "bo").err().unwrap().to_string().contains("`bo`"));
    }
}
