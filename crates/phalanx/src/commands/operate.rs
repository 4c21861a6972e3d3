//! `phalanx fleet cordon|drain|evict`: what an operator orders a node to do.

use clap::Args;
use phalanx_control::api::{Member, NewNodeOrder, NodeDuty, NodeOrder};
use phalanx_record::escape::for_terminal;
use serde_json::Value;

use super::fleet::parse_node;
use super::print;
use crate::client::{AdminArgs, Client};

/// Arguments of `fleet cordon` and `fleet drain`.
#[derive(Debug, Clone, Args)]
pub(crate) struct OrderArgs {
    /// The node
    #[arg(value_name = "SITE/NODE", value_parser = parse_node)]
    node: (String, String),
    /// Set it to work again
    #[arg(long)]
    undo: bool,
    /// Why; people on other nodes read it
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `fleet evict`.
#[derive(Debug, Clone, Args)]
pub(crate) struct EvictArgs {
    /// The node
    #[arg(value_name = "SITE/NODE", value_parser = parse_node)]
    node: (String, String),
    /// Why; people on other nodes read it
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn cordon(args: &OrderArgs) -> anyhow::Result<()> {
    let does = "it is not ready for load balancers and takes no leases; whoever asks is served";
    work(args, NodeDuty::Cordon, does)
}

pub(super) fn drain(args: &OrderArgs) -> anyhow::Result<()> {
    let does = "it is not ready for load balancers, and ends connections with the request under way; `phalanx fleet status` says \
                when it is drained";
    work(args, NodeDuty::Drain, does)
}

pub(super) fn evict(args: &EvictArgs) -> anyhow::Result<()> {
    let does =
        "nothing waits for it any more; what it decided stays, and it counts again when it is heard again";
    order(&args.node, NodeDuty::Evict, &args.reason, &args.admin, does)
}

fn work(args: &OrderArgs, duty: NodeDuty, does: &str) -> anyhow::Result<()> {
    let (duty, does) = match args.undo {
        true => (NodeDuty::Serve, "it is ready again"),
        false => (duty, does),
    };
    order(&args.node, duty, &args.reason, &args.admin, does)
}

fn order(
    (site, node): &(String, String),
    duty: NodeDuty,
    reason: &str,
    admin: &AdminArgs,
    does: &str,
) -> anyhow::Result<()> {
    let order = NewNodeOrder { site: site.clone(), node: node.clone(), duty, reason: reason.to_owned() };
    let answer = Client::new(admin)?.post("fleet/orders", Some(&serde_json::to_value(order)?))?;
    if admin.json {
        return print::json(&answer);
    }
    let NodeOrder { site, node, .. } = serde_json::from_value(answer)?;
    print::text(&format!("ordered {}/{}: {does}\n", for_terminal(&site), for_terminal(&node)))
}

/// The nodes, with what they were ordered to do, as `fleet status` shows them.
pub(super) fn members(answer: &Value, now_ms: u64) -> anyhow::Result<String> {
    let members: Vec<Member> = serde_json::from_value(answer.clone())?;
    let rows = members.iter().map(|member| {
        let seen = match member.last_seen_ms {
            _ if member.me => String::from("this node"),
            0 => String::from("never"),
            at_ms => format!("{} ago", print::duration(now_ms.saturating_sub(at_ms))),
        };
        let state = if member.online { "online" } else { "OFFLINE" };
        let duty = match member.order_reason.as_str() {
            "" => member.duty.clone(),
            reason => format!("{} ({})", member.duty, print::short(reason, 60)),
        };
        vec![member.site.clone(), member.node.clone(), state.to_owned(), duty, seen]
    });
    Ok(print::table(&["SITE", "NODE", "STATE", "DUTY", "SEEN"], &rows.collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_of_a_fleet_read_well() {
        let answer = serde_json::json!([
            {"site": "fra", "node": "a", "version": "1", "lag_ms": 0, "last_seen_ms": 1, "decisions": 0, "me": true,
             "online": true, "duty": "serving"},
            {"site": "syd", "node": "b", "version": "1", "lag_ms": 0, "last_seen_ms": 58_000, "decisions": 0, "me": false,
             "online": true, "duty": "draining", "order_reason": "new kernel\u{1b}[2J"},
        ]);
        let expected = "SITE  NODE  STATE   DUTY                            SEEN\n\
                        fra   a     online  serving                         this node\n\
                        syd   b     online  draining (new kernel\\u{1b}[2J)  2 s ago\n";
        assert_eq!(members(&answer, 60_000).unwrap(), expected);
    }
}
