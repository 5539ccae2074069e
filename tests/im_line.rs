//! Logins by hand: [`token`], [`enter`], and what is said and heard on the [`Line`] then.

use std::time::Duration;

use rpc_im::{
    client::{Line, LoggedIn, login},
    envelope::{Auth, ClientFrame, Encoding, Recipient, Send, SendAck, ServerFrame, code},
};
use tokio::time::{sleep, timeout};

use crate::in_time;

/// Why somebody is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The node is gone, or cannot tell now.
    NotNow,
    /// It is told to stay away, and why.
    ForGood(String),
}

/// A token for a device of a user, from the first of these nodes that gives one.
pub async fn token(bases: &[String], user: &str, device: &str, platform: &str) -> String {
    loop {
        for base in bases {
            let logged_in = login(base, user, "any", device, platform);
            if let Ok(Ok(LoggedIn { token, .. })) = timeout(HANDSHAKE, logged_in).await {
                return token;
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Presents a token to a node.
///
/// # Errors
///
/// When the bearer is not let in.
pub async fn enter(url: &str, token: &str) -> Result<Line, Refusal> {
    let mut line = match timeout(HANDSHAKE, Line::connect(url, Encoding::Protobuf)).await {
        Ok(Ok(line)) => line,
        _ => return Err(Refusal::NotNow),
    };
    let entered = async {
        line.say(&ClientFrame::Auth(Auth { token: token.to_owned() })).await?;
        line.next().await
    };
    match timeout(LOGIN, entered).await {
        Ok(Ok(ServerFrame::AuthOk(_))) => Ok(line),
        Ok(Ok(ServerFrame::Error(error))) if [code::UNAUTHENTICATED, code::REFUSED].contains(&&*error.code) => {
            Err(Refusal::ForGood(error.message))
        }
        Ok(Ok(ServerFrame::Kick(kick))) => Err(Refusal::ForGood(kick.reason)),
        _ => Err(Refusal::NotNow),
    }
}

/// The same until it is known whether the bearer is let in.
///
/// # Errors
///
/// Why it is not.
///
/// # Panics
///
/// When nobody can tell for very long.
pub async fn enter_at_last(url: &str, token: &str) -> Result<Line, String> {
    in_time(async {
        loop {
            match enter(url, token).await {
                Ok(line) => return Ok(line),
                Err(Refusal::ForGood(why)) => return Err(why),
                Err(Refusal::NotNow) => sleep(Duration::from_millis(50)).await,
            }
        }
    })
    .await
}

/// A message to a user, as it is sent.
pub fn message(id: &str, user: &str, body: &str) -> ClientFrame {
    let to = Some(Recipient::User(user.to_owned()));
    ClientFrame::Send(Send { id: id.to_owned(), to, body: body.to_owned() })
}

/// Says something until it is told to be safe; what else is told meanwhile is passed over.
///
/// # Panics
///
/// When the line ends, or it takes very long.
pub async fn send(line: &mut Line, id: &str, user: &str, body: &str) -> SendAck {
    in_time(async {
        loop {
            line.say(&message(id, user, body)).await.expect("the line is there");
            loop {
                match line.next().await.expect("the line is there") {
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

/// Waits until the line ends; says why it was sent away, where it was told.
///
/// # Panics
///
/// When it does not end for very long.
pub async fn ended(line: &mut Line) -> Option<String> {
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

/// How long a node that lives may take to answer at all.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// Longer than a node looks for who is responsible for a user.
const LOGIN: Duration = Duration::from_secs(8);
