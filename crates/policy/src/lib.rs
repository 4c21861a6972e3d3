//! Policy text in, checked policy out: TOML policy and SecLang rule files, with diagnostics that name file, line,
//! cause and fix. `inspect` and `decide` compile the result into what the data plane runs.
//!
//! INVARIANT: conversion is total. A text with one unreadable entry is refused whole; nothing is skipped.

pub mod diagnostic;
pub mod files;
pub mod prefix;
pub mod suggest;
pub mod toml_text;
pub mod units;
pub mod upstream;

pub mod origin_tls;

pub mod accounts;
pub mod advice;
pub mod balance;
pub mod client_certificate;
pub mod compression;
pub mod detection;
pub mod exclusion;
pub mod exemption;
pub mod handling;
pub mod networks;
pub mod path_pattern;
pub mod playbook;
pub mod policy;
pub mod rate_limit;
pub mod raw;
pub mod route;

pub mod cdn;
pub mod challenge;
mod check;
mod compose;
pub mod crawler;
pub mod everywhere;
pub mod scenarios;

pub mod baseline;
pub mod diff;
pub mod edit;
pub mod expectation;
pub mod schema;
pub mod seclang;
pub mod template;

pub use accounts::{AccountEndpoint, Accounts, EndpointKind, Success};
pub use balance::{Balance, Server, Upstreams, WhenAllDown};
pub use baseline::baseline;
pub use challenge::{Challenge, ChallengeUse, Throttle};
pub use check::{parse_policy, parse_policy_at, policy_sites};
pub use compression::{Compression, ContentCoding};
pub use detection::{Detection, DetectionMode, DetectionThreshold};
pub use diagnostic::{Diagnostic, Level};
pub use everywhere::{Everywhere, diff_everywhere};
pub use exclusion::Exclusion;
pub use exemption::Exemption;
pub use expectation::{Came, Expectation, Expectations, parse_expectations};
pub use files::{Collector, FileSet, Files};
pub use handling::Handling;
pub use networks::Networks;
pub use origin_tls::{OriginTls, Protocol, ProxyProtocol};
pub use path_pattern::PathPattern;
pub use policy::PlaybooksUsed;
pub use policy::{
    AddressFrom, App, ClassUse, Classes, ClientAddress, Limits, Mode, OnError, Policy, RuleSource, Strikes,
};
pub use rate_limit::{Rate, RateAction, RateKey, RateLimit, RateScope};
pub use raw::RawPolicy;
pub use route::Route;
pub use upstream::{Scheme, Upstream};
