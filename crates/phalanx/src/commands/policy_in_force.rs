//! Whether what was ordered of policy is in force: nodes are looked at until they run it, or for long enough.

use std::time::{Duration, Instant};

use phalanx_control::api::{Policy, PolicyNode};
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
        .map(|node| format!("{}/{} (version {})", node.site, node.node, version(node)))
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
    runs(policy, node) || (refused.is_some() && refused == meant(policy, node))
}

fn runs(policy: &Policy, node: &PolicyNode) -> bool {
    meant(policy, node).is_none_or(|meant| version(node) == meant)
}

/// What it should run: what is on trial where it tries that, else what all run.
fn meant(policy: &Policy, node: &PolicyNode) -> Option<u64> {
    let tries = |stage: &str| match stage.split_once(' ') {
        Some(("node", one)) => one == format!("{}/{}", node.site, node.node),
        Some(("site", site)) => site == node.site,
        _ => false,
    };
    let trial = policy.trial.as_ref().filter(|trial| tries(&trial.stage));
    trial.map(|trial| trial.version.version).or(policy.stable.as_ref().map(|stable| stable.version))
}

fn version(node: &PolicyNode) -> u64 {
    node.policy.as_ref().map_or(0, |policy| policy.version)
}

const WAIT_MAX: Duration = Duration::from_secs(10);
/// Nodes tell each other of themselves each second, and at once of a new policy.
const BETWEEN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(stage: Option<&str>, runs: [(u64, bool); 3]) -> Policy {
        let version = |version: u64| json!({ "version": version, "hash": "", "previous": null, "bytes": 1 });
        let mut trial = stage.map(|stage| {
            json!({ "stage": stage, "started_at_ms": 1, "bake_ms": null, "judgement": "", "version": 5, "hash": "", "previous": null, "bytes": 1 })
        });
        let nodes: Vec<Value> = [("fra", "a"), ("fra", "b"), ("iad", "a")]
            .iter()
            .zip(runs)
            .map(|((site, node), (runs, online))| {
                json!({ "site": site, "node": node, "online": online, "policy": { "version": runs, "hash": "" } })
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
    }
}
