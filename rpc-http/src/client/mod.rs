//! The caller of JSON services that a registry lists.
//!
//! | topic | module |
//! |---|---|
//! | the caller, and the attempts of a call | `caller` |
//! | limits and times | `config` |
//! | the providers of the service, and picking one | `providers` |
//! | connections to a provider | `pool` |
//! | the request of a call | `request` |
//! | the reply or the error in a response | `reply` |

mod caller;
mod config;
mod pool;
mod providers;
mod reply;
mod request;

pub use caller::{HttpCall, HttpCaller};
pub use config::HttpCallerConfig;
