//! Compile errors of `#[rpc_service]`.
//!
//! Each file in `ui/` has an error, and the expected output next to it.
//!
//! `TRYBUILD=overwrite` regenerates the expected outputs.

#[test]
fn errors_point_to_the_faulty_token() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
