//! One module per group of endpoints. Each handler: read the arguments, record what changes something, act, answer.

pub(crate) mod account;
pub(crate) mod blocklists;
pub(crate) mod bouncers;
pub(crate) mod bundles;
pub(crate) mod decisions;
pub(crate) mod delegation;
pub(crate) mod events;
pub(crate) mod fleet;
pub(crate) mod health;
pub(crate) mod held;
pub(crate) mod incidents;
pub(crate) mod inquiry;
pub(crate) mod login;
pub(crate) mod operations;
pub(crate) mod operators;
pub(crate) mod playbooks;
pub(crate) mod policy;
pub(crate) mod replay;
pub(crate) mod session;
pub(crate) mod status;
pub(crate) mod stream;
pub(crate) mod suggestion;
pub(crate) mod upgrade;
