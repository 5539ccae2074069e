//! [`Problem`]: the body of an error, as in RFC 9457.

use std::time::Duration;

use rpc_core::{Code, Delivery};
use serde::{Deserialize, Serialize};

/// The media type of a [`Problem`].
#[cfg(feature = "server")]
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// The body of an error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Problem {
    /// Always `about:blank`: the status states the type.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) title: String,
    pub(crate) status: u16,
    pub(crate) detail: String,
    /// The name of the [`Code`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    /// Whether the handler executed: `not-executed`, `unknown` or `answered`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delivery: Option<String>,
    /// The time after which the caller may repeat the request, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_ms: Option<u64>,
}

impl Problem {
    #[cfg(feature = "server")]
    pub(crate) fn new(status: hyper::StatusCode, code: Code, delivery: Delivery, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code: Some(format!("{code:?}")),
            delivery: Some(delivery_name(delivery).to_owned()),
            retry_after_ms: None,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.retry_after_ms.map(Duration::from_millis)
    }

    #[cfg(feature = "client")]
    /// Returns the code; `None` if the body has none, as that of other frameworks.
    pub(crate) fn known_code(&self) -> Option<Code> {
        let name = self.code.as_deref()?;
        (0..=u8::MAX).map(Code::from_u8).find(|code| format!("{code:?}") == name)
    }

    #[cfg(feature = "client")]
    /// Returns the delivery; `None` if the body has none, as that of other frameworks.
    pub(crate) fn known_delivery(&self) -> Option<Delivery> {
        let all = [Delivery::NotExecuted, Delivery::Unknown, Delivery::Answered];
        all.into_iter().find(|delivery| self.delivery.as_deref() == Some(delivery_name(*delivery)))
    }
}

fn delivery_name(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::NotExecuted => "not-executed",
        Delivery::Answered => "answered",
        _ => "unknown",
    }
}
