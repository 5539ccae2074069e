//! [`proto`]: a contract as a `.proto` file. The docs of the crate have the rules.

mod builder;
mod model;
mod newtypes;
mod text;

use rpc_core::descriptor::Contract;

use self::builder::Builder;
pub use self::model::{ProtoEnum, ProtoField, ProtoFile, ProtoLabel, ProtoMessage, ProtoMethod, ProtoType};

/// Returns a contract as a `.proto` file, whose text is its `Display`.
///
/// The crate's documentation has the rules. Every contract has a file: names that are not identifiers are replaced, and
/// names that would be equal receive numbers.
pub fn proto(contract: &Contract) -> ProtoFile {
    Builder::new(contract).file()
}

#[cfg(test)]
mod tests;
