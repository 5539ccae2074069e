//! [`MethodOptions`]: what `#[rpc(…)]` says.

use std::time::Duration;

use proc_macro2::TokenStream;
use syn::{Attribute, LitStr, Meta};

use super::{Setting, settings};
use crate::{duration, mistakes::Mistakes, wire_name};

const KNOWN: &str =
    "`idempotent`, `once`, `once = \"cluster\"`, `one_way`, `timeout = \"500ms\"` and `name = \"sayHello\"`";

/// What the `#[rpc(…)]` of a method says, or the defaults.
#[derive(Default)]
pub(crate) struct MethodOptions {
    /// The method may run twice without harm.
    pub(crate) idempotent: bool,
    /// Each call runs at most once, however often it is sent.
    pub(crate) once: Option<Once>,
    /// No response is sent.
    pub(crate) one_way: bool,
    /// The timeout of calls whose caller names none.
    pub(crate) timeout: Option<Duration>,
    /// The name on the wire; else the method's own.
    pub(crate) name: Option<LitStr>,
}

/// Where each call runs at most once.
#[derive(Clone, Copy)]
pub(crate) enum Once {
    Server,
    Cluster,
}

impl MethodOptions {
    /// Takes the `#[rpc(…)]` out of a method's attributes and reads it.
    pub(crate) fn take(attributes: &mut Vec<Attribute>, mistakes: &mut Mistakes) -> Self {
        let mut found = attributes.extract_if(.., |attribute| attribute.path().is_ident("rpc"));
        let first = found.next();
        for more in found {
            mistakes.at(more, "a method has one `#[rpc(…)]`: put the options into the first, with commas");
        }
        let mut options = Self::default();
        match first.map(|attribute| attribute.meta) {
            None => {}
            Some(Meta::List(list)) => options.read(list.tokens, mistakes),
            Some(meta) => mistakes.at(meta, format!("`rpc` takes options in parentheses: {KNOWN}")),
        }
        options
    }

    fn read(&mut self, tokens: TokenStream, mistakes: &mut Mistakes) {
        for setting in settings(tokens, mistakes) {
            match setting.option.as_str() {
                "once" => {
                    self.once = once(&setting, mistakes);
                    if self.idempotent || self.one_way {
                        mistakes.at(&setting.meta, CONTRADICTION);
                    }
                }
                "idempotent" | "one_way" if self.once.is_some() => mistakes.at(&setting.meta, CONTRADICTION),
                "idempotent" => self.idempotent = setting.flag(mistakes),
                "one_way" => self.one_way = setting.flag(mistakes),
                "timeout" => {
                    let text = setting.text("500ms", mistakes);
                    self.timeout = text.and_then(|text| timeout(&text, mistakes));
                }
                "name" => {
                    self.name = setting.text("sayHello", mistakes);
                    if let Some(name) = &self.name
                        && let Some(fault) = wire_name::fault("a method's name", &name.value())
                    {
                        mistakes.at(name, fault);
                    }
                }
                _ => setting.unknown(KNOWN, mistakes),
            }
        }
    }
}

/// `once` alone, or where.
fn once(setting: &Setting, mistakes: &mut Mistakes) -> Option<Once> {
    if matches!(setting.meta, Meta::Path(_)) {
        return Some(Once::Server);
    }
    let place = setting.text("cluster", mistakes)?;
    match place.value().as_str() {
        "server" => Some(Once::Server),
        "cluster" => Some(Once::Cluster),
        _ => {
            mistakes.at(place, "calls run once on a server or in a cluster: write `once` or `once = \"cluster\"`");
            None
        }
    }
}

/// What may run twice need not run once, and what is not answered cannot be answered again.
const CONTRADICTION: &str = "`once` stands alone: a method that is `idempotent` or `one_way` is not run once";

fn timeout(text: &LitStr, mistakes: &mut Mistakes) -> Option<Duration> {
    duration::parse_timeout(&text.value()).map_err(|message| mistakes.at(text, message)).ok()
}
