//! The examples of the READMEs, compiled and run as they stand there.

#[doc = include_str!("../README.md")]
struct English;

#[doc = include_str!("../README.zh-CN.md")]
struct Chinese;
