//! [`filled`]: long bodies in short inputs.

/// Returns the input with 16 KiB of spaces in place of each `~~~~`, at most 16 times.
///
/// A fragment that is not the last of its body has at least 16 KiB, as many as an input of the fuzzers.
pub(crate) fn filled(mut input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len());
    for _ in 0..MAX_FILLERS {
        let Some(at) = input.windows(FILLER.len()).position(|window| window == FILLER) else { break };
        out.extend_from_slice(&input[..at]);
        out.resize(out.len() + FILLER_LENGTH, b' ');
        input = &input[at + FILLER.len()..];
    }
    out.extend_from_slice(input);
    out
}

const FILLER: &[u8] = b"~~~~";
const FILLER_LENGTH: usize = 16 << 10;
const MAX_FILLERS: usize = 16;
