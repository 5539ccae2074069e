//! A contract as Rust, and as a request body to fill in.

mod rust;
mod template;

use std::collections::BTreeSet;

use rpc_core::descriptor::{Contract, Type};

pub(crate) use self::{rust::to_rust, template::template};

/// Removes all methods but the one with this name, and the types that it does not use.
pub(crate) fn reduce(contract: &mut Contract, method: &str) {
    contract.methods.retain(|other| other.name == method);
    let mut used = BTreeSet::new();
    let mut next: Vec<&Type> = Vec::new();
    for method in &contract.methods {
        next.extend(method.parameters.iter().map(|field| &field.ty));
        next.push(&method.result);
        let others = [&method.caller_items, &method.items, &method.error, &method.items_error];
        next.extend(others.into_iter().flatten());
    }
    while let Some(ty) = next.pop() {
        next.extend(ty.parts());
        if let Type::Named(name) = ty
            && let Some(definition) = contract.types.get(name)
            && used.insert(name.clone())
        {
            next.extend(definition.types());
        }
    }
    contract.types.retain(|name, _| used.contains(name));
}
