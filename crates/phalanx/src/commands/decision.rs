//! `phalanx decision add|list|delete|approve|reject`.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use phalanx_control::api::{App, DecisionMade, Held, HeldThing, NewDecision, Settled, Status};
use phalanx_model::actor::{parse_asn, parse_hash};
use phalanx_model::{
    Actor, Country, Decision, DecisionKind, Ja4, Prefix, Recall, RequestId, Withdrawal, names,
};
use phalanx_record::escape::for_terminal;

use super::print;
use crate::client::{AdminArgs, Client};

/// Arguments of `decision`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DecisionArgs {
    #[command(subcommand)]
    command: DecisionCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum DecisionCommand {
    /// Order something about an address, a network or another actor, on all nodes
    Add(AddArgs),
    /// List decisions in force
    List(ListArgs),
    /// End a decision and all others about the same actor, on all nodes
    Delete(DeleteArgs),
    /// Make what is held your own order, in force on all nodes
    Approve(SettleArgs),
    /// End what is held, on all nodes
    Reject(SettleArgs),
}

#[derive(Debug, Clone, Args)]
#[command(
    override_usage = "phalanx decision add [OPTIONS] --for <DURATION> --reason <TEXT> <WHOM>\n\nWHOM is one of --ip, --prefix, --asn, --country, --ja4, --session, --account,\n--software and --place"
)]
struct AddArgs {
    #[command(flatten)]
    whom: Whom,
    /// What to order
    #[arg(long, value_enum, default_value = "ban")]
    kind: Kind,
    /// For how long, e.g. 60s, 5m, 1h30m, 7d
    #[arg(long = "for", value_name = "DURATION", value_parser = print::parse_duration)]
    for_ms: u64,
    /// Why; people on other nodes read it
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Order it also where it would refuse many of the clients served well
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Whom a decision is about: one of these.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// One address; for IPv6 its /64
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<IpAddr>,
    /// A network, e.g. 192.0.2.0/24
    #[arg(long, value_name = "CIDR")]
    prefix: Option<Prefix>,
    /// All addresses of an autonomous system, e.g. 64500; needs an ASN database
    #[arg(long, value_name = "NUMBER", value_parser = parse_asn)]
    asn: Option<u32>,
    /// All addresses in a country, e.g. NL; needs a country database
    #[arg(long, value_name = "LETTERS")]
    country: Option<Country>,
    /// All clients whose TLS greeting has this JA4 fingerprint
    #[arg(long, value_name = "FINGERPRINT")]
    ja4: Option<Ja4>,
    /// One session, by its keyed hash of 16 hexadecimal digits
    #[arg(long, value_name = "HASH", value_parser = parse_hash)]
    session: Option<u64>,
    /// One account, by its keyed hash of 16 hexadecimal digits
    #[arg(long, value_name = "HASH", value_parser = parse_hash)]
    account: Option<u64>,
    /// All clients of one kind of software, by its keyed hash of 16 hexadecimal digits; known good visitors are spared
    #[arg(long, value_name = "HASH", value_parser = parse_hash)]
    software: Option<u64>,
    /// All who ask for an app, or for one of its routes: `shop`, `shop/login`; known good visitors are spared
    #[arg(long, value_name = "APP[/ROUTE]")]
    place: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Refuse
    Ban,
    /// Ask for some work, or patience, first
    Challenge,
    /// Answer 429 beyond a low rate
    Throttle,
    /// Inspect an app's requests by the level that policy has ready as `raise_paranoia`
    RaiseParanoia,
    /// Never refuse
    Allow,
}

#[derive(Debug, Clone, Args)]
struct ListArgs {
    /// At most this many, the newest
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Only what is held for an operator
    #[arg(long)]
    held: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Args)]
struct DeleteArgs {
    /// The decision's id
    #[arg(value_name = "ID")]
    id: RequestId,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Args)]
struct SettleArgs {
    /// The id of what is held; `phalanx decision list --held` shows them
    #[arg(value_name = "ID")]
    id: RequestId,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs `decision`.
pub(crate) fn run(args: &DecisionArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        DecisionCommand::Add(args) => add(args),
        DecisionCommand::List(args) => list(args),
        DecisionCommand::Delete(args) => delete(args),
        DecisionCommand::Approve(args) => settle(args, true),
        DecisionCommand::Reject(args) => settle(args, false),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn add(args: &AddArgs) -> anyhow::Result<()> {
    let new = NewDecision {
        ip: args.whom.ip,
        prefix: args.whom.prefix.map(|prefix| prefix.to_string()),
        asn: args.whom.asn,
        country: args.whom.country.map(|country| country.to_string()),
        ja4: args.whom.ja4.map(|ja4| ja4.to_string()),
        session: args.whom.session.map(|hash| format!("{hash:016x}")),
        account: args.whom.account.map(|hash| format!("{hash:016x}")),
        software: args.whom.software.map(|hash| format!("{hash:016x}")),
        place: args.whom.place.clone(),
        kind: match args.kind {
            Kind::Ban => DecisionKind::Ban,
            Kind::Challenge => DecisionKind::Challenge,
            Kind::Throttle => DecisionKind::Throttle,
            Kind::RaiseParanoia => DecisionKind::RaiseParanoia,
            Kind::Allow => DecisionKind::Allow,
        },
        for_ms: args.for_ms,
        reason: args.reason.clone(),
        force: args.force,
    };
    let client = Client::new(&args.admin)?;
    let answer = client.post("decisions", Some(&serde_json::to_value(new)?))?;
    if args.admin.json {
        return print::json(&answer);
    }
    let DecisionMade { decision: made, refuses, exempt } = serde_json::from_value(answer)?;
    print::text(&format!(
        "{} of {} for {}, id {}\n",
        made.kind.name(),
        print::actor(&made.actor),
        print::duration(made.expires_at_ms.saturating_sub(made.created_at_ms)),
        made.id
    ))?;
    if made.kind == DecisionKind::RaiseParanoia && Levels::about([&*made], &client)?.of(&made.actor).is_none()
    {
        let app = args.whom.place.as_deref().unwrap_or_default();
        print::text(&format!(
            "note: policy gives no app `{app}` a `raise_paranoia` here: the order changes nothing on this node\n"
        ))?;
    }
    if let Some(share) = refuses {
        print::text(&format!("note: it refuses {share}\n"))?;
    }
    if let Some(network) = exempt {
        print::text(&format!(
            "note: it has no effect here: the policy exempts {network} (`allow`, `exemptions`, `operator_networks` or `trust_forwarded`)\n"
        ))?;
    }
    Ok(())
}

fn list(args: &ListArgs) -> anyhow::Result<()> {
    let query = print::query(&[("limit", args.limit.map(|limit| limit.to_string()))]);
    let client = Client::new(&args.admin)?;
    if args.held {
        return list_held(args, &client);
    }
    let answer = client.get(&format!("decisions{query}"))?;
    if args.admin.json {
        return print::json(&answer);
    }
    let decisions: Vec<Decision> = serde_json::from_value(answer)?;
    match decisions.is_empty() {
        true => print::text("no decisions are in force\n"),
        false => print::text(&table(&decisions, &Levels::about(&decisions, &client)?)),
    }?;
    let recalls: Vec<Recall> = serde_json::from_value(client.get("recalls")?)?;
    recalls.iter().try_for_each(|recall| print::text(&format!("{}\n", print::recall(recall))))?;
    let held: Held = serde_json::from_value(client.get("held")?)?;
    match held.total {
        0 => Ok(()),
        _ => print::text(&format!("\n{}", held_table(&held))),
    }
}

fn list_held(args: &ListArgs, client: &Client) -> anyhow::Result<()> {
    let answer = client.get("held")?;
    if args.admin.json {
        return print::json(&answer);
    }
    let mut held: Held = serde_json::from_value(answer)?;
    if let Some(limit) = args.limit {
        held.held.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    match held.total {
        0 => print::text(&format!(
            "nothing is held, measured by {} clients served well lately\n",
            held.measured_by
        )),
        _ => print::text(&held_table(&held)),
    }
}

fn held_table(held: &Held) -> String {
    let row = |one: &HeldThing| {
        let about = match (&one.actor, &one.blocklist) {
            (Some(actor), _) => print::actor(actor),
            (None, Some(name)) => format!("blocklist {name}"),
            (None, None) => String::new(),
        };
        vec![
            one.id.to_string(),
            one.kind.name().into(),
            about,
            one.author.to_string(),
            print::short(&one.text, 100),
            print::short(&one.reason, 60),
        ]
    };
    let rows: Vec<Vec<String>> = held.held.iter().map(row).collect();
    let mut out = print::table(&["ID", "KIND", "ACTOR", "AUTHOR", "WAITS FOR AN OPERATOR", "REASON"], &rows);
    let more = held.total.saturating_sub(u64::try_from(held.held.len()).unwrap_or_default());
    if more > 0 {
        out.push_str(&format!("and {more} more\n"));
    }
    out.push_str("`phalanx decision approve ID` orders it everywhere, `phalanx decision reject ID` ends it everywhere\n");
    out
}

fn settle(args: &SettleArgs, approve: bool) -> anyhow::Result<()> {
    let query = print::query(&[("reason", args.reason.clone())]);
    let (client, path) = (Client::new(&args.admin)?, format!("held/{}{query}", args.id));
    let answer = if approve { client.post(&path, None)? } else { client.delete(&path)? };
    if args.admin.json {
        return print::json(&answer);
    }
    let settled: Settled = serde_json::from_value(answer)?;
    print::text(&match (settled.decision, settled.withdrawal, settled.blocklist) {
        (Some(made), ..) => format!(
            "{} of {} is in force on all nodes for {}, id {}\n",
            made.kind.name(),
            print::actor(&made.actor),
            print::duration(made.expires_at_ms.saturating_sub(made.created_at_ms)),
            made.id
        ),
        (_, Some(order), _) => {
            format!(
                "all decisions about {} are ended: {}\n",
                print::actor(&order.actor),
                for_terminal(&order.reason)
            )
        }
        (.., Some(name)) if approve => format!("blocklist {name} is in force on all nodes\n"),
        (.., Some(name)) => {
            format!("of blocklist {name} the version before is in force on all nodes, if there was one\n")
        }
        (None, None, None) => String::from("done\n"),
    })
}

/// What the node's policy raises of which app.
#[derive(Debug, Default)]
pub(super) struct Levels(Vec<(Actor, String)>);

impl Levels {
    /// Asks the node, if any of these decisions is about an app's rules.
    pub(super) fn about<'a>(
        decisions: impl IntoIterator<Item = &'a Decision>,
        client: &Client,
    ) -> anyhow::Result<Self> {
        if decisions.into_iter().all(|one| one.kind != DecisionKind::RaiseParanoia) {
            return Ok(Self::default());
        }
        let status: Status = serde_json::from_value(client.get("status")?)?;
        let level = |app: App| {
            let level = app.raise_paranoia?;
            Some((Actor::Rules(names::app(&app.name)), format!("rules of app {}, to {level}", app.name)))
        };
        Ok(Self(status.plan.apps.into_iter().filter_map(level).collect()))
    }

    /// The rules that an order raises, in the words of policy, where that has such an app.
    pub(super) fn of(&self, actor: &Actor) -> Option<&str> {
        self.0.iter().find(|(rules, _)| rules == actor).map(|(_, words)| words.as_str())
    }
}

fn table(decisions: &[Decision], levels: &Levels) -> String {
    let now_ms = print::now_ms();
    let rows: Vec<Vec<String>> = decisions
        .iter()
        .map(|decision| {
            vec![
                decision.id.to_string(),
                decision.kind.name().into(),
                levels
                    .of(&decision.actor)
                    .map_or_else(|| print::actor(&decision.actor), |words| for_terminal(words).into_owned()),
                print::duration(decision.expires_at_ms.saturating_sub(now_ms)),
                decision.author.to_string(),
                print::short(&decision.reason, 80),
            ]
        })
        .collect();
    print::table(&["ID", "KIND", "ACTOR", "TIME LEFT", "AUTHOR", "REASON"], &rows)
}

fn delete(args: &DeleteArgs) -> anyhow::Result<()> {
    let query = print::query(&[("reason", args.reason.clone())]);
    let answer = Client::new(&args.admin)?.delete(&format!("decisions/{}{query}", args.id))?;
    if args.admin.json {
        return print::json(&answer);
    }
    let withdrawal: Withdrawal = serde_json::from_value(answer)?;
    print::text(&format!(
        "all decisions about {} are ended: {}\n",
        print::actor(&withdrawal.actor),
        for_terminal(&withdrawal.reason)
    ))
}
