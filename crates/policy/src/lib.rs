//! Policy text in, checked policy out: TOML policy and SecLang rule files, with diagnostics that name file, line,
//! cause and fix. `inspect` and `decide` compile the result into what the data plane runs.
//!
//! INVARIANT: conversion is total. A text with one unreadable entry is refused whole; nothing is skipped.

pub mod diagnostic;
pub mod prefix;
mod suggest;

pub mod seclang;

pub use diagnostic::{Diagnostic, Level};
