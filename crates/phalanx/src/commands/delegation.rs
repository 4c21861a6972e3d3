//! `phalanx fleet delegate`: which node admits and renews a site's nodes while the authority cannot be reached.

use clap::Args;
use phalanx_control::api::{Delegate, Delegation, NewDelegation};
use phalanx_record::escape::for_terminal;

use super::fleet::parse_node;
use super::print;
use crate::client::{AdminArgs, Client};

/// Arguments of `fleet delegate`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DelegateArgs {
    /// A node with the control role, started with --enroll; one of each site
    #[arg(value_name = "SITE/NODE", value_parser = parse_node)]
    node: (String, String),
    /// How long it goes on without the authority at the most, from an hour to 7 days; renewed at half of that
    #[arg(long = "for", value_name = "DURATION", default_value = "7d", value_parser = print::parse_duration)]
    for_ms: u64,
    /// End it: nothing that the node signed for others counts any more
    #[arg(long, conflicts_with = "for_ms")]
    end: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Delegates, or ends that.
pub(super) fn run(args: &DelegateArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.admin)?;
    let (site, node) = &args.node;
    if args.end {
        let answer = client.delete(&format!("fleet/delegations/{site}/{node}"))?;
        if args.admin.json {
            return print::json(&answer);
        }
        return print::text(&format!(
            "ended      {site}/{node} is no delegate; what it signed counts no more, and nodes renew at the authority.\n\
             \x20          Nodes that the authority did not know of yet join again: phalanx fleet invite --site {site}\n"
        ));
    }
    let order = NewDelegation { site: site.clone(), node: node.clone(), for_ms: args.for_ms };
    let answer = client.post("fleet/delegations", Some(&serde_json::to_value(order)?))?;
    if args.admin.json {
        return print::json(&answer);
    }
    let Delegation { expires_at_ms, .. } = serde_json::from_value(answer)?;
    let state = match expires_at_ms {
        Some(ends_ms) => format!("holds one that ends {}", print::left(ends_ms, print::now_ms())),
        None => "fetches it within seconds if it was started with --enroll ADDR".to_owned(),
    };
    print::text(&format!(
        "delegate   {site}/{node} {state}; the servers of its site know it a minute later\n\n\
         next       phalanx fleet status             there and here\n\
         \x20          phalanx fleet invite --site {site}    on that node, while the authority cannot be reached\n"
    ))
}

/// A delegate's own state, for `fleet status` on its node.
pub(super) fn words(delegate: &Delegate, now_ms: u64) -> String {
    let ends = match delegate.expires_at_ms {
        Some(ends_ms) => format!("ends {}", print::left(ends_ms, now_ms)),
        None => format!(
            "none; on the authority's node: phalanx fleet delegate {}/NODE",
            for_terminal(&delegate.site)
        ),
    };
    let mut out = format!(
        "fleet      {}\ndelegation of site {}: {ends}\n",
        for_terminal(&delegate.fleet),
        for_terminal(&delegate.site)
    );
    if delegate.untold > 0 {
        out.push_str(&format!("           {} nodes the authority has not heard of yet\n", delegate.untold));
    }
    if !delegate.invitations.is_empty() {
        let open = delegate
            .invitations
            .iter()
            .map(|one| vec![one.id.clone(), print::left(one.expires_at_ms, now_ms)]);
        out.push('\n');
        out.push_str(&print::table(&["INVITATION", "ENDS"], &open.collect::<Vec<_>>()));
    }
    out
}

/// The delegates of sites, for `fleet status` on the authority's node.
pub(super) fn table(delegations: &[Delegation], now_ms: u64) -> String {
    if delegations.is_empty() {
        return String::new();
    }
    let rows = delegations.iter().map(|one| {
        let ends =
            one.expires_at_ms.map_or_else(|| "not fetched".to_owned(), |ends| print::left(ends, now_ms));
        vec![one.site.clone(), one.node.clone(), ends]
    });
    format!("\n{}", print::table(&["SITE", "DELEGATE", "ENDS"], &rows.collect::<Vec<_>>()))
}
