//! Whether what was ordered of policy is in force: nodes are looked at until they run it, or for long enough.

use std::time::{Duration, Instant};

use phalanx_control::api::{Policy, PolicyNode, PolicyVersion};
use serde_json::Value;

use crate::client::{AdminArgs, Client};

/// The policy once the nodes that are online run what they should, or have refused it; after ten seconds as it is then. What was ordered is done
/// by now: where the node does not answer any more, what it said last is told.
#[expect(clippy::disallowed_methods, reason = "a node does not tell of others' heartbeats: it is asked")]
pub(super) fn awaited(admin: &AdminArgs, answer: Value) -> anyhow::Result<Value> {
    let until = Instant::now() + WAIT_MAX;
    let client = Client::new(admin)?;
    let mut last = answer;
    loop {
        let policy: Policy = serde_json::from_value(last.clone())?;
        let is_open = |node: &&PolicyNode| !is_settled(&policy, node);
        if policy.unchanged || online(&policy).find(is_open).is_none() || Instant::now() >= until {
            return Ok(last);
        }
        std::thread::sleep(BETWEEN);
        match client.get("policy") {
            Ok(now) => last = now,
            Err(_) => return Ok(last),
        }
    }
}

/// At how many nodes it is in force, or at which it is not.
pub(super) fn said(policy: &Policy) -> String {
    if policy.unchanged {
        return format!("already in force as version {}; no other was made", policy.version);
    }
    let late: Vec<String> = online(policy)
        .filter(|node| !runs(policy, node))
        .map(|node| {
            let own = if is_own(node) { ", its own" } else { "" };
            format!("{}/{} (version {}{own})", node.site, node.node, version(node))
        })
        .collect();
    if let (Some(trial), true) = (&policy.trial, late.is_empty()) {
        return format!("on trial at {}", trial.stage);
    }
    let all = online(policy).count();
    let offline = policy.nodes.iter().filter(|node| !node.online).count();
    let mut said = match late.is_empty() {
        true => format!("in force at {all} of {all} nodes"),
        false => format!("not yet at: {}", late.join(", ")),
    };
    if offline > 0 {
        said.push_str(&format!("; {offline} offline, which get it when they are back"));
    }
    said
}

fn online(policy: &Policy) -> impl Iterator<Item = &PolicyNode> {
    policy.nodes.iter().filter(|node| node.online)
}

/// It runs what it should, or will not.
fn is_settled(policy: &Policy, node: &PolicyNode) -> bool {
    let refused = node.policy.as_ref().and_then(|policy| policy.refused_version);
    runs(policy, node) || (refused.is_some() && refused == meant(policy, node).map(|meant| meant.version))
}

/// By hash, too: the policy that a node was started with may have the same number.
fn runs(policy: &Policy, node: &PolicyNode) -> bool {
    meant(policy, node).is_none_or(|meant| {
        version(node) == meant.version && !is_own(node) && meant.hash.starts_with(hash(node))
    })
}

/// What it should run: what is on trial where it tries that, else what all run.
fn meant<'a>(policy: &'a Policy, node: &PolicyNode) -> Option<&'a PolicyVersion> {
    let tries = |stage: &str| match stage.split_once(' ') {
        Some(("node", one)) => one == format!("{}/{}", node.site, node.node),
        Some(("site", site)) => site == node.site,
        _ => false,
    };
    let trial = policy.trial.as_ref().filter(|trial| tries(&trial.stage));
    trial.map(|trial| &trial.version).or(policy.stable.as_ref())
}

fn version(node: &PolicyNode) -> u64 {
    node.policy.as_ref().map_or(0, |policy| policy.version)
}

/// The start of the hash of the bundle that it runs.
fn hash(node: &PolicyNode) -> &str {
    node.policy.as_ref().map_or("", |policy| policy.hash.as_str())
}

/// It runs what it was started with.
fn is_own(node: &PolicyNode) -> bool {
    hash(node).is_empty()
}

const WAIT_MAX: Duration = Duration::from_secs(10);
/// Nodes tell each other of themselves each second, and at once of a new policy.
const BETWEEN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(stage: Option<&str>, runs: [(u64, bool); 3]) -> Policy {
        let hash = |version: u64| format!("{version}").repeat(64);
        let version =
            |version: u64| json!({ "version": version, "hash": hash(version), "previous": null, "bytes": 1 });
        let mut trial = stage.map(|stage| {
            json!({ "stage": stage, "started_at_ms": 1, "bake_ms": null, "judgement": "", "version": 5, "hash": hash(5), "previous": null, "bytes": 1 })
        });
        let nodes: Vec<Value> = [("fra", "a"), ("fra", "b"), ("iad", "a")]
            .iter()
            .zip(runs)
            .map(|((site, node), (runs, online))| {
                let start = hash(runs).chars().take(12).collect::<String>();
                json!({ "site": site, "node": node, "online": online, "policy": { "version": runs, "hash": start } })
            })
            .collect();
        serde_json::from_value(json!({
            "version": 5, "stable": version(if stage.is_some() { 4 } else { 5 }), "trial": trial.take(), "chain": [],
            "home": "fra", "epoch": 1, "serial": 1, "note": "", "changed_at_ms": 1, "nodes": nodes,
        }))
        .unwrap()
    }

    #[test]
    fn it_is_said_where_a_version_is_in_force_and_where_not() {
        for (stage, runs, expected) in [
            (None, [(5, true), (5, true), (5, true)], "in force at 3 of 3 nodes"),
            (None, [(4, true), (5, true), (0, true)], "not yet at: fra/a (version 4), iad/a (version 0)"),
            (
                None,
                [(5, true), (5, true), (4, false)],
                "in force at 2 of 2 nodes; 1 offline, which get it when they are back",
            ),
            (Some("node fra/b"), [(4, true), (5, true), (4, true)], "on trial at node fra/b"),
            (Some("site fra"), [(4, true), (5, true), (4, true)], "not yet at: fra/a (version 4)"),
        ] {
            assert_eq!(said(&policy(stage, runs)), expected);
        }
        // What a node was started with may have the same number.
        let mut started = policy(None, [(5, true), (5, true), (5, true)]);
        started.nodes[1].policy.as_mut().unwrap().hash.clear();
        assert!(!is_settled(&started, &started.nodes[1]));
        assert_eq!(said(&started), "not yet at: fra/b (version 5, its own)");
    }
}
