//! The values that the tracer offers to a type.

use super::super::types::Type;

/// Returns the number of values that the tracer offers for a value without parts.
pub(super) fn count(leaf: &Type) -> usize {
    match leaf {
        Type::String => TEXTS.len(),
        Type::Bytes => LENGTHS.len(),
        Type::Char | Type::Unit => 1,
        _ => 2,
    }
}

/// Returns the text with this number.
pub(super) fn text(number: usize) -> &'static str {
    TEXTS.get(number).copied().unwrap_or_default()
}

/// Returns the bytes with this number, which are zeros.
pub(super) fn bytes(number: usize) -> &'static [u8] {
    &[0; 64][..LENGTHS.get(number).copied().unwrap_or_default()]
}

/// Texts that common types parse: times, dates, addresses, identifiers.
const TEXTS: [&str; 16] = [
    "",
    "a",
    "0",
    "1970-01-01T00:00:00Z",
    "1970-01-01",
    "00:00:00",
    "1970-01-01T00:00:00",
    "00000000-0000-0000-0000-000000000000",
    "127.0.0.1",
    "127.0.0.1:80",
    "127.0.0.0/8",
    "http://a.aa/",
    "1.0.0",
    "a@a.aa",
    "UTC",
    "AAAA",
];
/// The lengths of identifiers, addresses, hashes and keys.
const LENGTHS: [usize; 8] = [0, 16, 4, 8, 12, 20, 32, 64];
