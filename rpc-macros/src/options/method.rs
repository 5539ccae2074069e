//! [`MethodOptions`]: the options of `#[rpc(…)]`.

use std::time::Duration;

use proc_macro2::TokenStream;
use syn::{Attribute, LitStr, Meta};

use super::{Setting, http, settings};
use crate::{diagnostics::Diagnostics, duration, wire_name};

const KNOWN: &str = "`idempotent`, `once`, `once = \"cluster\"`, `one_way`, `timeout = \"500ms\"`, `stream_timeout = \"10m\"`, `name = \"sayHello\"`, `max_running = 50`, `http = \"GET /orders/{id}\"`, `status(NotFound = 404)`";

/// The options of `#[rpc(…)]`, or their defaults.
#[derive(Default)]
pub(crate) struct MethodOptions {
    /// The method may be executed twice without harm.
    pub(crate) idempotent: bool,
    /// Each call is executed at most once, whatever its number of attempts.
    pub(crate) once: Option<Once>,
    /// The server sends no response.
    pub(crate) one_way: bool,
    /// The timeout of calls without one.
    pub(crate) timeout: Option<Duration>,
    /// The limit on the stream of calls without one, and where it is set.
    pub(crate) stream_timeout: Option<(Duration, LitStr)>,
    /// The name on the wire; default: the name of the method.
    pub(crate) name: Option<LitStr>,
    /// The limit of the handlers that run at the same time on one server.
    pub(crate) max_running: Option<u32>,
    /// The verb and the path of the method in HTTP.
    pub(crate) http: Option<LitStr>,
    /// The HTTP status of variants of the method's error, by the name of the variant on the wire.
    pub(crate) statuses: Vec<(String, u16)>,
}

/// The scope in which each call is executed at most once.
#[derive(Clone, Copy)]
pub(crate) enum Once {
    Server,
    Cluster,
}

impl MethodOptions {
    /// Removes `#[rpc(…)]` from the attributes of a method, and parses it.
    pub(crate) fn take(attributes: &mut Vec<Attribute>, diagnostics: &mut Diagnostics) -> Self {
        let mut found = attributes.extract_if(.., |attribute| attribute.path().is_ident("rpc"));
        let first = found.next();
        for more in found {
            diagnostics.error(more, "duplicate `#[rpc(…)]`: list all options in the first one, separated by commas");
        }
        let mut options = Self::default();
        match first.map(|attribute| attribute.meta) {
            None => {}
            Some(Meta::List(list)) => options.read(list.tokens, diagnostics),
            Some(meta) => diagnostics.error(meta, format!("`#[rpc(…)]` needs options in parentheses: {KNOWN}")),
        }
        options
    }

    fn read(&mut self, tokens: TokenStream, diagnostics: &mut Diagnostics) {
        for setting in settings(tokens, diagnostics) {
            match setting.option.as_str() {
                "once" => {
                    self.once = once(&setting, diagnostics);
                    if self.idempotent || self.one_way {
                        diagnostics.error(&setting.meta, CONTRADICTION);
                    }
                }
                "idempotent" | "one_way" if self.once.is_some() => diagnostics.error(&setting.meta, CONTRADICTION),
                "idempotent" => self.idempotent = setting.flag(diagnostics),
                "one_way" => self.one_way = setting.flag(diagnostics),
                "timeout" => {
                    let text = setting.text("500ms", diagnostics);
                    self.timeout = text.and_then(|text| timeout(&text, diagnostics));
                }
                "stream_timeout" => {
                    let text = setting.text("10m", diagnostics);
                    self.stream_timeout = text.and_then(|text| Some((timeout(&text, diagnostics)?, text)));
                }
                "name" => {
                    self.name = setting.text("sayHello", diagnostics);
                    if let Some(name) = &self.name
                        && let Some(fault) = wire_name::fault("method name", &name.value())
                    {
                        diagnostics.error(name, fault);
                    }
                }
                "max_running" => self.max_running = setting.number(50, diagnostics),
                "http" => {
                    self.http = setting.text("GET /orders/{id}", diagnostics);
                    if let Some(http) = &self.http
                        && let Err(fault) = http::parse(&http.value())
                    {
                        diagnostics.error(http, fault);
                    }
                }
                "status" => self.statuses = http::statuses(&setting.meta, diagnostics),
                _ => setting.unknown(KNOWN, diagnostics),
            }
        }
    }
}

/// Parses `once` or `once = "scope"`.
fn once(setting: &Setting, diagnostics: &mut Diagnostics) -> Option<Once> {
    if matches!(setting.meta, Meta::Path(_)) {
        return Some(Once::Server);
    }
    let scope = setting.text("cluster", diagnostics)?;
    match scope.value().as_str() {
        "server" => Some(Once::Server),
        "cluster" => Some(Once::Cluster),
        _ => {
            diagnostics.error(scope, "unknown scope, expected `once` or `once = \"cluster\"`");
            None
        }
    }
}

/// An idempotent method needs no at-most-once execution, and a one-way method has no answer to store.
const CONTRADICTION: &str = "`once` cannot be combined with `idempotent` or `one_way`";

fn timeout(text: &LitStr, diagnostics: &mut Diagnostics) -> Option<Duration> {
    duration::parse_timeout(&text.value()).map_err(|message| diagnostics.error(text, message)).ok()
}
