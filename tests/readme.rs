//! The examples of the READMEs as doctests.

#[doc = include_str!("../README.md")]
struct English;

#[doc = include_str!("../README.zh-CN.md")]
struct Chinese;
