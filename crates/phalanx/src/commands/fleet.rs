//! `phalanx fleet ...`: what an operator does about the authority and the nodes of a fleet.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use phalanx_control::api::{Authority, Invited, NewInvitation, NewRevocation, Revoked};
use phalanx_model::{Clock, Recall, SystemClock};
use phalanx_record::escape::for_terminal;
use phalanx_trust::nats_config::{self, NatsServerPlan};
use phalanx_trust::{FleetAuthority, Sealer};
use serde_json::{Value, json};

use super::delegation::{self, DelegateArgs};
use super::operate::{self, EvictArgs, OrderArgs};
use super::print;
use super::snapshot::{self, RestoreArgs, SnapshotArgs};
use crate::args::parse_name;
use crate::client::{AdminArgs, Client, is_refused};
use crate::serve::{ChildArgs, ServeArgs};
use crate::state::StateFolder;

/// What to do about a fleet.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum FleetCommand {
    /// Make the fleet's own authority in this node's state folder
    Init(InitArgs),
    /// Run a site's nats-server: configured, watched over, renewed
    Serve(Box<ServeArgs>),
    /// Write the configuration of a nats-server that serves this fleet only, for who runs it otherwise
    Nats(NatsArgs),
    #[command(hide = true)]
    NatsChild(ChildArgs),
    /// Print a token with which one node may join
    Invite(InviteArgs),
    /// Let a control node admit and renew nodes of its own site while the authority cannot be reached
    Delegate(DelegateArgs),
    /// Show the nodes and what they were ordered to do; on the authority's node also whom it enrolled and invited
    Status(StatusArgs),
    /// End a node's membership, on all nodes
    Revoke(RevokeArgs),
    /// Take a node out of load balancing; it serves on
    Cordon(OrderArgs),
    /// Empty a node: as cordoned, and connections end with the request under way
    Drain(OrderArgs),
    /// Count a dead node no more, until it is heard again
    Evict(EvictArgs),
    /// Write what the fleet holds into one signed and sealed file
    Snapshot(SnapshotArgs),
    /// Merge such a file; what expired or was withdrawn since stays so
    Restore(RestoreArgs),
    /// Begin to sign with a new root, or end that
    Rollover(RolloverArgs),
    /// Forget the keys of a node that lost its state, so that it may come back under its name
    ///
    /// For fleets without an authority. Each node remembers by itself: run it on every node whose `status` reports another key.
    Forget(ForgetArgs),
    /// End everything that an author has decided so far, on all nodes: one that was broken into, or erred
    ///
    /// What it decides from now on counts; `fleet revoke` ends that.
    Withdraw(WithdrawArgs),
}

/// Arguments of `fleet init`.
#[derive(Debug, Clone, Args)]
pub(crate) struct InitArgs {
    /// State folder of the node that will hold the authority [default: the user's state folder]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The fleet's name [default: a random one]
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    fleet_id: Option<String>,
    /// Machine-readable output
    #[arg(long)]
    json: bool,
}

/// Arguments of `fleet nats`.
#[derive(Debug, Clone, Args)]
pub(crate) struct NatsArgs {
    /// State folder of the node that holds the authority [default: the user's state folder]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Folder to write nats-server.conf, its certificate and its key into
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Where nats-server listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4222")]
    listen: SocketAddr,
    /// Where it keeps streams [default: `streams` in --out]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Another name or address of the server, for other tools; nodes need none [may be repeated]
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Machine-readable output
    #[arg(long)]
    json: bool,
}

/// Arguments of `fleet invite`.
#[derive(Debug, Clone, Args)]
pub(crate) struct InviteArgs {
    /// The site that the node will run in
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    site: String,
    /// Let the node act for operators: allow, withdraw, revoke
    #[arg(long)]
    control: bool,
    /// Invite a NATS server of the site, `phalanx fleet serve`, and no node
    #[arg(long, conflicts_with = "control")]
    server: bool,
    /// How long the token is good; a week at most
    #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = print::parse_duration)]
    for_ms: u64,
    /// Where the node enrols, if not where this one says [may be repeated]
    #[arg(long, value_name = "HOST:PORT")]
    address: Vec<String>,
    /// The lowest policy version that the fleet's nodes may start with from now on
    #[arg(long, value_name = "N", default_value_t = 0)]
    policy_version: u64,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `fleet status`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `fleet revoke`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RevokeArgs {
    /// The node
    #[arg(value_name = "SITE/NODE", value_parser = parse_node)]
    node: (String, String),
    /// End also what the node decided so far
    #[arg(long)]
    withdraw: bool,
    /// Why; people on other nodes read it
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `fleet rollover`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RolloverArgs {
    /// Believe the new root only; right once every node has renewed, a day after the beginning
    #[arg(long)]
    finish: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `fleet forget`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ForgetArgs {
    /// The site of the node to forget
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    site: String,
    /// The name of the node to forget
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    node: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `fleet withdraw`.
#[derive(Debug, Clone, Args)]
pub(crate) struct WithdrawArgs {
    /// The author, as `decision list` shows it
    #[arg(long, value_name = "SITE/NODE", value_parser = parse_node)]
    author: (String, String),
    /// In what role it decided: on its own, or as an operator gave it the orders
    #[arg(long, value_enum, default_value = "node")]
    role: Role,
    /// Why; people on other nodes read it
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    Node,
    Operator,
}

/// Carries it out.
pub(crate) fn run(command: &FleetCommand) -> anyhow::Result<ExitCode> {
    match command {
        FleetCommand::Withdraw(args) => withdraw(args)?,
        FleetCommand::Init(args) => init(args)?,
        FleetCommand::Serve(args) => return crate::serve::run(args),
        FleetCommand::NatsChild(args) => return crate::serve::child(args),
        FleetCommand::Nats(args) => nats(args)?,
        FleetCommand::Invite(args) => invite(args)?,
        FleetCommand::Delegate(args) => delegation::run(args)?,
        FleetCommand::Status(args) => status(args)?,
        FleetCommand::Revoke(args) => revoke(args)?,
        FleetCommand::Cordon(args) => operate::cordon(args)?,
        FleetCommand::Drain(args) => operate::drain(args)?,
        FleetCommand::Evict(args) => operate::evict(args)?,
        FleetCommand::Snapshot(args) => snapshot::save(args)?,
        FleetCommand::Restore(args) => snapshot::restore(args)?,
        FleetCommand::Rollover(args) => rollover(args)?,
        FleetCommand::Forget(args) => forget(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn init(args: &InitArgs) -> anyhow::Result<()> {
    let (state, sealer) = state(args.state.as_ref())?;
    let made = FleetAuthority::create(state.path(), sealer, args.fleet_id.as_deref(), SystemClock.now_ms())?;
    let (fleet, root, folder) = (made.fleet(), made.root_fingerprint()?, state.path().display());
    if args.json {
        return print::json(&json!({ "fleet": fleet, "root": root, "state": state.path() }));
    }
    print::text(&format!(
        "fleet      {fleet}\nroot       {root}\nkept in    {folder}, sealed: back it up together with sealing.key\n\n\
         next       phalanx fleet nats --state {folder} --out DIR        what nats-server is started with\n\
         \x20          phalanx up --to URL --state {folder} --site SITE --node NAME --fleet tls://HOST:4222 --enroll ADDR\n\
         \x20          phalanx fleet invite --state {folder} --site SITE    for each further node\n"
    ))
}

fn nats(args: &NatsArgs) -> anyhow::Result<()> {
    let (state, sealer) = state(args.state.as_ref())?;
    let Some(mut authority) = FleetAuthority::open(state.path(), sealer)? else {
        bail!(
            "{} holds no fleet authority; make one with `phalanx fleet init`, or name its folder with --state",
            state.path().display()
        );
    };
    let out = &args.out;
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let out = out.canonicalize()?;
    let store = args.store.clone().unwrap_or_else(|| out.join("streams"));
    let mut hosts = args.host.clone();
    if !args.listen.ip().is_unspecified() {
        hosts.push(args.listen.ip().to_string());
    }
    let plan = NatsServerPlan {
        host: args.listen.ip().to_string(),
        port: args.listen.port(),
        store: store.display().to_string(),
        hosts,
    };
    nats_config::write(&out, &mut authority, &plan, SystemClock.now_ms())?;
    let file = out.join("nats-server.conf");
    if args.json {
        return print::json(&json!({ "config": file, "listen": args.listen }));
    }
    print::text(&format!("wrote      {0}\nstart      nats-server -c {0}\n", file.display()))
}

fn invite(args: &InviteArgs) -> anyhow::Result<()> {
    let order = NewInvitation {
        site: args.site.clone(),
        control: args.control,
        server: args.server,
        for_ms: args.for_ms,
        addresses: args.address.clone(),
        policy_version_min: args.policy_version,
    };
    let answer = Client::new(&args.admin)?.post("fleet/invitations", Some(&serde_json::to_value(order)?))?;
    if args.admin.json {
        return print::json(&answer);
    }
    let invited: Invited = serde_json::from_value(answer)?;
    let ends = print::duration(invited.expires_at_ms.saturating_sub(SystemClock.now_ms()));
    let (token, site) = (for_terminal(&invited.token), &args.site);
    if args.server {
        return print::text(&format!(
            "{token}\n\nFor one NATS server of site {site}, within {ends}. Hand it over like a password; it is not shown again. There:\n\
             phalanx fleet serve --site {site} --listen ADDR --hub tls://HOST:PORT --join TOKEN\n"
        ));
    }
    print::text(&format!(
        "{token}\n\nFor one node of site {site}, within {ends}. Hand it over like a password; it is not shown again. There:\n\
         phalanx up --to URL --site {site} --node NAME --join TOKEN\n"
    ))
}

fn status(args: &StatusArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.admin)?;
    let nodes = client.get("nodes")?;
    let optional = |path: &str, none: &str| {
        client.get(path).map(Some).or_else(|error| match is_refused(&error, none) {
            true => Ok(None),
            false => Err(error),
        })
    };
    let authority = optional("fleet", "no_authority")?;
    let delegate = optional("fleet/delegate", "no_delegate")?;
    if args.admin.json {
        let mut answer = authority.unwrap_or_else(|| json!({}));
        if let Some(fields) = answer.as_object_mut() {
            fields.insert("members".into(), nodes);
            fields.extend(delegate.map(|delegate| ("delegate".to_owned(), delegate)));
        }
        return print::json(&answer);
    }
    let now_ms = SystemClock.now_ms();
    let mut out = match (authority, delegate) {
        (Some(authority), _) => words(&serde_json::from_value(authority)?, now_ms) + "\n",
        (None, Some(delegate)) => delegation::words(&serde_json::from_value(delegate)?, now_ms) + "\n",
        (None, None) => String::new(),
    };
    out.push_str(&operate::members(&nodes, now_ms)?);
    print::text(&out)
}

fn words(authority: &Authority, now_ms: u64) -> String {
    let left = |ends_ms| print::left(ends_ms, now_ms);
    let change = if authority.changing_root { ", and an older one is believed too" } else { "" };
    let mut out = format!(
        "fleet      {}\nroot       {}{change}; ends {}\nsites      {}\n\n",
        for_terminal(&authority.fleet),
        for_terminal(&authority.root),
        left(authority.root_expires_at_ms),
        for_terminal(&authority.sites.join(", ")),
    );
    let role = |control: bool| if control { "control" } else { "edge" }.to_owned();
    let nodes: Vec<Vec<String>> = authority
        .nodes
        .iter()
        .map(|node| {
            let state = match node.revoked_at_ms {
                Some(at_ms) => format!("REVOKED {} ago", print::duration(now_ms.saturating_sub(at_ms))),
                None => "enrolled".to_owned(),
            };
            vec![node.site.clone(), node.node.clone(), role(node.control), state, left(node.expires_at_ms)]
        })
        .collect();
    out.push_str(&print::table(&["SITE", "NODE", "ROLE", "STATE", "CERTIFICATE ENDS"], &nodes));
    if !authority.invitations.is_empty() {
        let open = authority.invitations.iter().map(|invitation| {
            let ends = left(invitation.expires_at_ms);
            vec![invitation.id.clone(), invitation.site.clone(), role(invitation.control), ends]
        });
        out.push('\n');
        out.push_str(&print::table(&["INVITATION", "SITE", "ROLE", "ENDS"], &open.collect::<Vec<_>>()));
    }
    out.push_str(&delegation::table(&authority.delegations, now_ms));
    out
}

fn revoke(args: &RevokeArgs) -> anyhow::Result<()> {
    let (site, node) = args.node.clone();
    let order = NewRevocation { site, node, withdraw: args.withdraw, reason: args.reason.clone() };
    let answer = Client::new(&args.admin)?.post("fleet/revocations", Some(&serde_json::to_value(order)?))?;
    if args.admin.json {
        return print::json(&answer);
    }
    let Revoked { site, node, .. } = serde_json::from_value(answer)?;
    let decided = if args.withdraw { "ended" } else { "stays until it expires" };
    print::text(&format!(
        "revoked {}/{}: no node listens to it any more; what it decided {decided}\n",
        for_terminal(&site),
        for_terminal(&node)
    ))
}

fn rollover(args: &RolloverArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.admin)?;
    let answer: Value = match args.finish {
        false => client.post("fleet/root", None)?,
        true => client.delete("fleet/root")?,
    };
    if args.admin.json {
        return print::json(&answer);
    }
    let authority: Authority = serde_json::from_value(answer)?;
    let root = for_terminal(&authority.root);
    print::text(&match args.finish {
        true => format!("root       {root}; the older one is not believed any more\n"),
        false => format!(
            "root       {root}; the older one stays believed\n\n\
             next       phalanx fleet nats ... again, and reload nats-server\n\
             \x20          in a day, when `phalanx fleet status` shows every node renewed: phalanx fleet rollover --finish\n"
        ),
    })
}

fn forget(args: &ForgetArgs) -> anyhow::Result<()> {
    let answer = Client::new(&args.admin)?.delete(&format!("nodes/{}/{}", args.site, args.node))?;
    if args.admin.json {
        return print::json(&answer);
    }
    print::text(&format!("forgot the keys of {}/{}; its next announcement counts\n", args.site, args.node))
}

fn withdraw(args: &WithdrawArgs) -> anyhow::Result<()> {
    let (site, node) = &args.author;
    let role = match args.role {
        Role::Node => "node",
        Role::Operator => "operator",
    };
    let query = print::query(&[("role", Some(role.to_owned())), ("reason", Some(args.reason.clone()))]);
    let answer = Client::new(&args.admin)?.delete(&format!("nodes/{site}/{node}/decisions{query}"))?;
    if args.admin.json {
        return print::json(&answer);
    }
    let recall: Recall = serde_json::from_value(answer)?;
    print::text(&format!("{}\n", print::recall(&recall)))
}

fn state(folder: Option<&PathBuf>) -> anyhow::Result<(StateFolder, Arc<Sealer>)> {
    let state = StateFolder::open(&folder.cloned().unwrap_or_else(crate::settings::default_state))?;
    let sealer = Arc::new(Sealer::load_or_create(&state.sealing_key())?);
    Ok((state, sealer))
}

pub(super) fn parse_node(text: &str) -> Result<(String, String), String> {
    let (site, node) = text.split_once('/').ok_or("write SITE/NODE, as in fra/edge-1")?;
    Ok((parse_name(site)?, parse_name(node)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_control::api::{Delegation, Enrolled, OpenInvitation};

    #[test]
    fn a_status_reads_well() {
        let hour = 3_600_000;
        let now_ms = 100 * 24 * hour;
        let node = |site: &str, node: &str, control, revoked_at_ms| Enrolled {
            site: site.into(),
            node: node.into(),
            control,
            expires_at_ms: now_ms + 20 * hour,
            revoked_at_ms,
        };
        let authority = Authority {
            fleet: "shops".into(),
            root: "ab12".into(),
            root_expires_at_ms: now_ms + 3650 * 24 * hour,
            changing_root: false,
            sites: vec!["fra".into(), "syd".into()],
            nodes: vec![node("fra", "a", true, None), node("syd", "b", false, Some(now_ms - 2 * hour))],
            invitations: vec![OpenInvitation {
                id: "0123456789abcdef".into(),
                site: "syd".into(),
                control: false,
                expires_at_ms: now_ms + hour,
            }],
            delegations: vec![Delegation {
                site: "syd".into(),
                node: "b".into(),
                expires_at_ms: Some(now_ms + 3 * hour),
            }],
        };
        let expected = "\
fleet      shops
root       ab12; ends in 3650 d 0 h
sites      fra, syd

SITE  NODE  ROLE     STATE                CERTIFICATE ENDS
fra   a     control  enrolled             in 20 h 0 min
syd   b     edge     REVOKED 2 h 0 min ago  in 20 h 0 min

INVITATION        SITE  ROLE  ENDS
0123456789abcdef  syd   edge  in 1 h 0 min

SITE  DELEGATE  ENDS
syd   b         in 3 h 0 min
";
        let squeeze = |text: &str| {
            text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(squeeze(&words(&authority, now_ms)), squeeze(expected));
    }

    #[test]
    fn a_node_is_named_with_its_site() {
        assert_eq!(parse_node("fra/edge-1"), Ok(("fra".into(), "edge-1".into())));
        for wrong in ["edge-1", "fra/", "/a", "fra/a/b", "FRA/a"] {
            assert!(parse_node(wrong).is_err(), "{wrong}");
        }
    }
}
