//! What the compiler says of mistakes: one file a mistake in `ui/`, and beside it what is said.
//!
//! `TRYBUILD=overwrite` writes anew what is said.

#[test]
fn mistakes_are_told_where_they_are() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
