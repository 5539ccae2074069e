//! Logins and single frames over a [`Line`], without the retries of a client: [`token`], [`log_in`], [`send`].

use std::time::Duration;

use rpc_im::{
    client::{Line, LoggedIn, login},
    envelope::{Auth, ClientFrame, Encoding, Recipient, Send, SendAck, ServerFrame, code},
};
use tokio::time::{sleep, timeout};

use crate::in_time;

/// The reason why a login failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginFailure {
    /// The node is unreachable or unavailable: a retry may succeed.
    Unavailable,
    /// The node rejected the login, with this reason.
    Rejected(String),
}

/// Returns a token for a device of a user, from the first of the nodes that issues one.
pub async fn token(bases: &[String], user: &str, device: &str, platform: &str) -> String {
    loop {
        for base in bases {
            let logged_in = login(base, user, "any", device, platform);
            if let Ok(Ok(LoggedIn { token, .. })) = timeout(RESPONSE_TIMEOUT, logged_in).await {
                return token;
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Connects to a node and logs in once with a token.
///
/// # Errors
///
/// Returns an error if the node rejects the login or is unavailable.
pub async fn try_log_in(url: &str, token: &str) -> Result<Line, LoginFailure> {
    let mut line = match timeout(RESPONSE_TIMEOUT, Line::connect(url, Encoding::Protobuf)).await {
        Ok(Ok(line)) => line,
        _ => return Err(LoginFailure::Unavailable),
    };
    let answer = async {
        line.say(&ClientFrame::Auth(Auth { token: token.to_owned() })).await?;
        line.next().await
    };
    match timeout(LOGIN_TIMEOUT, answer).await {
        Ok(Ok(ServerFrame::AuthOk(_))) => Ok(line),
        Ok(Ok(ServerFrame::Error(error))) if [code::UNAUTHENTICATED, code::REFUSED].contains(&&*error.code) => {
            Err(LoginFailure::Rejected(error.message))
        }
        Ok(Ok(ServerFrame::Kick(kick))) => Err(LoginFailure::Rejected(kick.reason)),
        _ => Err(LoginFailure::Unavailable),
    }
}

/// Logs in with a token, and retries while the node is unavailable.
///
/// # Errors
///
/// Returns the reason if the node rejects the login.
///
/// # Panics
///
/// Panics if the node stays unavailable.
pub async fn log_in(url: &str, token: &str) -> Result<Line, String> {
    in_time(async {
        loop {
            match try_log_in(url, token).await {
                Ok(line) => return Ok(line),
                Err(LoginFailure::Rejected(reason)) => return Err(reason),
                Err(LoginFailure::Unavailable) => sleep(Duration::from_millis(50)).await,
            }
        }
    })
    .await
}

/// Returns the frame of a message to a user.
pub fn message(id: &str, user: &str, body: &str) -> ClientFrame {
    let to = Some(Recipient::User(user.to_owned()));
    ClientFrame::Send(Send { id: id.to_owned(), to, body: body.to_owned() })
}

/// Sends a message, and retries until it is acknowledged. Other frames are discarded.
///
/// # Panics
///
/// Panics if the line ends, or if the message is not acknowledged in time.
pub async fn send(line: &mut Line, id: &str, user: &str, body: &str) -> SendAck {
    in_time(async {
        loop {
            line.say(&message(id, user, body)).await.expect("the line is open");
            loop {
                match line.next().await.expect("the line is open") {
                    ServerFrame::SendAck(ack) if ack.id == id => return ack,
                    ServerFrame::Error(error) if error.id.as_deref() == Some(id) => break,
                    _ => {}
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await
}

/// Waits until the line ends; returns the reason of the kick, if there was one.
///
/// # Panics
///
/// Panics if the line does not end in time.
pub async fn until_closed(line: &mut Line) -> Option<String> {
    in_time(async {
        let mut kicked = None;
        while let Ok(frame) = line.next().await {
            if let ServerFrame::Kick(kick) = frame {
                kicked = Some(kick.reason);
            }
        }
        kicked
    })
    .await
}

/// The limit of a response of a node, to a handshake or an HTTP request.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
/// The limit of a login: longer than the 5 s for which a node retries to find the directory entry of a user.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(8);
