//! Commands that talk to a running node and print what it says.
//!
//! INVARIANT: text from strangers is escaped before it reaches the terminal, as text and as JSON.

mod apps;
pub(crate) mod audit;
pub(crate) mod blocklist;
pub(crate) mod bouncer;
pub(crate) mod decision;
pub(crate) mod delegation;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod fleet;
pub(crate) mod incident;
pub(crate) mod login;
pub(crate) mod oidc;
mod operate;
pub(crate) mod operator;
mod operator_token;
#[cfg(test)]
mod parity;
pub(crate) mod playbook;
pub(crate) mod policy;
mod policy_apply;
mod policy_change;
mod policy_diff;
mod policy_follow;
mod policy_git;
mod policy_history;
mod policy_in_force;
mod policy_plan;
mod policy_test;
pub(crate) mod probe;
pub(crate) mod receiver;
pub(crate) mod reload;
mod replay;
pub(crate) mod report;
mod repository;
pub(crate) mod selftest;
mod snapshot;
pub(crate) mod status;
pub(crate) mod suggest;
pub(crate) mod top;
pub(crate) mod traffic;
pub(crate) mod upgrade;

pub(crate) mod print;
