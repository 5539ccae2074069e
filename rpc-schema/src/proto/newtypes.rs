//! The newtypes that are messages because they contain themselves.

use std::collections::{BTreeMap, BTreeSet};

use rpc_core::descriptor::{Content, Contract, Definition, Type};

/// Returns the newtypes that are messages, so that the content of all others ends.
///
/// These are the ends of cycles of newtypes, and some of each long chain, which bounds the depth of recursions.
pub(super) fn newtype_messages(contract: &Contract) -> BTreeSet<&str> {
    let mut search = Search { contract, heights: BTreeMap::new(), messages: BTreeSet::new() };
    for name in contract.types.keys() {
        search.visit(name, 0);
    }
    search.messages
}

/// Returns the content of a newtype.
pub(super) fn content<'a>(contract: &'a Contract, name: &str) -> Option<&'a Type> {
    match contract.types.get(name) {
        Some(Definition::Struct(Content::Newtype(inner))) => Some(inner),
        _ => None,
    }
}

struct Search<'a> {
    contract: &'a Contract,
    /// The length of the longest chain of newtypes below each newtype; `None` while it is searched.
    heights: BTreeMap<&'a str, Option<usize>>,
    messages: BTreeSet<&'a str>,
}

impl<'a> Search<'a> {
    /// Returns the length of the longest chain that begins with this type.
    fn visit(&mut self, name: &'a str, depth: usize) -> usize {
        let Some(inner) = content(self.contract, name) else { return 0 };
        match self.heights.get(name) {
            Some(Some(height)) => return *height,
            Some(None) => {
                self.messages.insert(name);
                return 0;
            }
            None if depth > MAX_CHAIN => {
                self.messages.insert(name);
                return 0;
            }
            None => {}
        }
        self.heights.insert(name, None);
        let mut height = 1;
        let mut parts = vec![inner];
        while let Some(part) = parts.pop() {
            parts.extend(part.parts());
            if let Type::Named(other) = part {
                height = height.max(1 + self.visit(other, depth + 1));
            }
        }
        if height > MAX_CHAIN {
            self.messages.insert(name);
            height = 0;
        }
        let height = if self.messages.contains(name) { 0 } else { height };
        self.heights.insert(name, Some(height));
        height
    }
}

/// The longest chain of newtypes that are their contents.
const MAX_CHAIN: usize = 32;
