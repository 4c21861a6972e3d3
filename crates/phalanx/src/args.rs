//! The command line. It is a contract: scripts rely on names, defaults and exit codes.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use phalanx_model::{CheckKind, Prefix};
use phalanx_policy::DetectionMode;
use phalanx_record::{AccessFormat, AuditFormat};

/// A self-hosted, distributed application-security edge.
#[derive(Debug, Parser)]
#[command(name = "phalanx", version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Protect one app; no file needed
    Up(Box<UpArgs>),
    /// Run a node from its settings file
    Run(RunArgs),
    /// Check a settings file and its policy without running them
    Check(CheckArgs),
    /// Try whether upstreams can be reached around the node
    Probe(crate::commands::probe::ProbeArgs),
    /// Watch a small fleet protect a shop with real holes
    Demo(crate::demo::DemoArgs),
    /// Show the state of a running node
    Status(crate::commands::status::StatusArgs),
    /// Watch a running node: requests, attacks, decisions
    Top(crate::commands::top::TopArgs),
    /// Show what became of a running node's attacks on itself, or attack it now
    Selftest(crate::commands::selftest::SelfTestArgs),
    /// Report what a time was like: as text, a page, a table, JSON
    Report(crate::commands::report::ReportArgs),
    /// List who can be told of incidents, or test one
    #[command(subcommand)]
    Receiver(crate::commands::receiver::ReceiverCommand),
    /// List the identity providers by which operators log in, or test one
    #[command(subcommand)]
    Oidc(crate::commands::oidc::OidcCommand),
    /// Print a one-time link to the console of a running node
    Login(crate::commands::login::LoginArgs),
    /// Add, list or delete decisions
    Decision(crate::commands::decision::DecisionArgs),
    /// Import, list, show or remove blocklists
    #[command(subcommand)]
    Blocklist(crate::commands::blocklist::BlocklistCommand),
    /// Add, list or delete bouncers: programs that enforce this node's decisions elsewhere
    Bouncer(crate::commands::bouncer::BouncerArgs),
    /// Add, list, change or remove operators: people who may log in
    Operator(crate::commands::operator::OperatorArgs),
    /// List the latest refused and flagged requests
    Events(crate::commands::events::EventsArgs),
    /// Show requests over time, and who was refused most
    Traffic(crate::commands::traffic::TrafficArgs),
    /// List what was decided and done, from the node's ledger
    Audit(crate::commands::audit::AuditArgs),
    /// List incidents: attacks as all nodes together see them
    Incidents(crate::commands::incident::ListArgs),
    /// Show, close or undo an incident
    #[command(subcommand)]
    Incident(crate::commands::incident::IncidentCommand),
    /// Tell what was done with a request, and why
    Explain(crate::commands::explain::ExplainArgs),
    /// Do something about the nodes of a fleet
    #[command(subcommand)]
    Fleet(crate::commands::fleet::FleetCommand),
    /// Test a policy; push, promote, roll back or show the fleet's
    #[command(subcommand)]
    Policy(crate::commands::policy::PolicyCommand),
    /// Make settings and policy of another proxy's configuration
    #[command(subcommand)]
    Import(crate::import::ImportCommand),
    /// Check playbooks, and carry them from and to CACAO
    #[command(subcommand)]
    Playbook(crate::commands::playbook::PlaybookCommand),
    /// Load the policy of a running node again
    Reload(crate::commands::reload::ReloadArgs),
    /// Have a process of the installed binary take over from a running one, with all sockets and no lost request
    Upgrade(crate::commands::upgrade::UpgradeArgs),
    /// Start what a node tells it to
    #[command(hide = true)]
    Launcher(crate::life::LauncherArgs),
    /// Work with rule sets: regression tests, benchmarks, replay
    #[command(subcommand)]
    Waf(WafCommand),
    /// Print the JSON Schema of a file, for editors
    Schema(crate::manual::SchemaArgs),
    /// Print completions for a shell
    Completions(crate::manual::CompletionsArgs),
    /// Write man pages
    Man(crate::manual::ManArgs),
    /// Write the reference pages of the book, and the schemas
    #[command(hide = true)]
    Reference(crate::manual::ReferenceArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum WafCommand {
    /// Run go-ftw regression tests against a rule set
    Ftw(crate::waf::ftw::FtwArgs),
    /// Serve as the backend that those tests want behind a node
    Backend(crate::waf::backend::BackendArgs),
    /// Measure a rule set on raw HTTP requests
    Bench(crate::waf::bench::BenchArgs),
    /// Judge recorded requests, one JSON object a line
    Replay(crate::waf::replay::ReplayArgs),
    /// Suggest the narrowest exclusion that would have let a refused request pass
    Suggest(crate::commands::suggest::SuggestArgs),
    /// List what rules do not look at in the policy that a node runs, for whom and until when
    Exclusions(crate::commands::suggest::ExclusionsArgs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// Record what would be refused, refuse nothing
    Observe,
    /// Refuse attacks
    Block,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DetectionArg {
    /// Learn nothing
    Off,
    /// Show incidents
    Observe,
    /// Challenge and ban who is behind them, briefly
    Act,
}

impl From<DetectionArg> for DetectionMode {
    fn from(mode: DetectionArg) -> Self {
        match mode {
            DetectionArg::Off => Self::Off,
            DetectionArg::Observe => Self::Observe,
            DetectionArg::Act => Self::Act,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AccessFormatArg {
    /// One object a line
    Json,
    /// As nginx writes it
    Combined,
}

impl From<AccessFormatArg> for AccessFormat {
    fn from(format: AccessFormatArg) -> Self {
        match format {
            AccessFormatArg::Json => Self::Json,
            AccessFormatArg::Combined => Self::Combined,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuditFormatArg {
    /// As ModSecurity v3 writes it, one object a line
    Json,
    /// Sections between boundaries
    Native,
}

impl From<AuditFormatArg> for AuditFormat {
    fn from(format: AuditFormatArg) -> Self {
        match format {
            AuditFormatArg::Json => Self::Json,
            AuditFormatArg::Native => Self::Native,
        }
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct UpArgs {
    /// The app to protect, e.g. http://127.0.0.1:3000
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// Where visitors connect; port 0 picks a free port, which is printed
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Where visitors connect with HTTPS, beside the address above
    #[arg(long, value_name = "ADDR", requires = "cert")]
    pub(crate) tls_listen: Option<SocketAddr>,
    /// The certificate to show there, with its chain, in PEM form
    #[arg(long, value_name = "FILE", requires_all = ["tls_listen", "key"])]
    pub(crate) cert: Option<PathBuf>,
    /// The key to that certificate
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Where another proxy asks about requests that it carries itself: forward-auth=ADDR (Traefik, Caddy), ext-authz=ADDR (Envoy)
    #[arg(long, value_name = "KIND=ADDR", value_parser = parse_check)]
    pub(crate) check_listen: Vec<(CheckKind, SocketAddr)>,
    /// Network from which proxies may ask there [default: loopback]
    #[arg(long, value_name = "CIDR", value_parser = parse_prefix, requires = "check_listen")]
    pub(crate) check_from: Vec<Prefix>,
    /// Where console and API listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8900")]
    pub(crate) admin: SocketAddr,
    /// Where the node keeps its state and keys [default: the user's state folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Rule set to load instead of the baseline pack, e.g. a copy of the OWASP Core Rule Set
    #[arg(long, value_name = "DIR")]
    pub(crate) rules: Vec<PathBuf>,
    /// SecLang file to load after the rule set, or before it if named *-before.conf
    #[arg(long, value_name = "FILE")]
    pub(crate) extra_rules: Vec<PathBuf>,
    /// What to do with attacks
    #[arg(long, value_enum, default_value = "block")]
    pub(crate) mode: ModeArg,
    /// What to do about attacks that show in many requests together: stolen passwords, scans, scraping, floods
    #[arg(long, value_enum, default_value = "observe")]
    pub(crate) detection: DetectionArg,
    /// The Core Rule Set's paranoia level
    #[arg(long, value_name = "1..4", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
    pub(crate) paranoia: u8,
    /// off: no rules; the edge's own protections stay
    #[arg(long, value_enum, default_value = "on")]
    pub(crate) protect: Switch,
    /// Database that says where addresses are, in MaxMind's format: countries, AS numbers
    #[arg(long, value_name = "FILE")]
    pub(crate) geo: Vec<PathBuf>,
    /// Clients may begin with HTTP/2 without TLS, as a load balancer of your own does
    #[arg(long)]
    pub(crate) h2c: bool,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) workers: Option<u16>,
    /// Network whose X-Forwarded-* headers count
    #[arg(long, value_name = "CIDR", value_parser = parse_prefix)]
    pub(crate) trust_forwarded: Vec<Prefix>,
    /// Network of load balancers: each connection begins with a PROXY header, and nobody else may connect
    #[arg(long, value_name = "CIDR", value_parser = parse_prefix)]
    pub(crate) proxy_protocol: Vec<Prefix>,
    /// Network that is never banned; replaces the default [default: loopback]
    #[arg(long, value_name = "CIDR", value_parser = parse_prefix)]
    pub(crate) operator: Vec<Prefix>,
    /// Network that is never refused
    #[arg(long, value_name = "CIDR", value_parser = parse_prefix)]
    pub(crate) allow: Vec<Prefix>,
    /// Where the access log goes: a file, stdout or off [default: access.log in the state folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) access_log: Option<PathBuf>,
    /// How its lines are written
    #[arg(long, value_enum, default_value = "json")]
    pub(crate) access_format: AccessFormatArg,
    /// Also write signals to this file, in the format of ModSecurity's error log
    #[arg(long, value_name = "FILE")]
    pub(crate) modsecurity_log: Option<PathBuf>,
    /// Also write the rule engine's audit log to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_log: Option<PathBuf>,
    /// The format of the audit log
    #[arg(long, value_enum, default_value = "json", requires = "audit_log")]
    pub(crate) audit_format: AuditFormatArg,
    /// off: the process may touch what its user may, and not only what is named here
    #[arg(long, value_enum, default_value = "on")]
    pub(crate) sandbox: Switch,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    /// Print one JSON object when ready, instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct FleetArgs {
    /// Join a fleet over this NATS server
    #[arg(long = "fleet", value_name = "nats://HOST:PORT", requires = "node")]
    pub(crate) url: Option<String>,
    /// The place this node runs in
    #[arg(long, value_name = "NAME", default_value = "local", value_parser = parse_name)]
    pub(crate) site: String,
    /// This node's name, unique in its site
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub(crate) node: Option<String>,
    /// The fleet's name; nodes of other fleets are ignored
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = parse_name)]
    pub(crate) fleet_id: String,
    /// File with a secret that all nodes of the fleet share; without it the first key seen for a node is trusted
    #[arg(long, value_name = "FILE", conflicts_with = "join")]
    pub(crate) fleet_secret: Option<PathBuf>,
    /// Join a fleet with the token that `phalanx fleet invite` printed, or @FILE that holds it; needed once
    #[arg(long, value_name = "TOKEN", requires = "node")]
    pub(crate) join: Option<String>,
    /// Where nodes join and renew: on the node that holds the fleet's authority, or on one that is to be its site's delegate
    #[arg(long, value_name = "ADDR", requires = "node")]
    pub(crate) enroll: Option<SocketAddr>,
    /// Copies of each stream in a NATS cluster that is run without `fleet serve`: 1, 3 or 5
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_replicas)]
    pub(crate) replicas: u8,
    /// How joiners reach that address, if not as it is written [may be repeated]
    #[arg(long, value_name = "HOST:PORT", requires = "enroll")]
    pub(crate) enroll_at: Vec<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// The node's settings file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Machine-readable output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Say which app and route a request meets, and why, e.g. `--route GET https://shop.example/cart`
    #[arg(long, num_args = 2, value_names = ["METHOD", "URL"])]
    pub(crate) route: Vec<String>,
    /// A header field of that request, e.g. 'X-Canary: 1' [may be repeated]
    #[arg(long, value_name = "FIELD", requires = "route")]
    pub(crate) header: Vec<String>,
    /// Fail on warnings, too, as before a change goes live
    #[arg(long)]
    pub(crate) strict: bool,
}

/// Reads a network or a single address.
pub(crate) fn parse_prefix(text: &str) -> Result<Prefix, String> {
    let single = text.parse::<IpAddr>().map(Prefix::from);
    text.parse::<Prefix>()
        .or(single)
        .map(phalanx_model::net::canonical_prefix)
        .map_err(|_| "expected an address or a network such as 192.0.2.0/24 or 2001:db8::/32".to_owned())
}

/// Reads how and where another proxy asks.
fn parse_check(text: &str) -> Result<(CheckKind, SocketAddr), String> {
    let kinds = [CheckKind::ForwardAuth, CheckKind::ExtAuthz];
    let read = |(kind, address): (&str, &str)| {
        let kind = kinds.into_iter().find(|known| known.as_str() == kind)?;
        Some((kind, address.parse().ok()?))
    };
    let expected = "expected forward-auth=ADDR or ext-authz=ADDR, as in ext-authz=127.0.0.1:9001";
    text.split_once('=').and_then(read).ok_or_else(|| expected.to_owned())
}

/// Reads a number of copies of which a cluster may lose a minority.
fn parse_replicas(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(copies @ (1 | 3 | 5)) => Ok(copies),
        _ => Err("expected 1, 3 or 5".to_owned()),
    }
}

/// Reads a name that is safe in subjects, file names and labels.
pub(crate) fn parse_name(text: &str) -> Result<String, String> {
    let fits = (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits { Ok(text.to_owned()) } else { Err("a name has 1 to 32 characters of a-z, 0-9 and -".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn up_needs_only_the_app() {
        let cli = Cli::try_parse_from(["phalanx", "up", "--to", "http://127.0.0.1:3000"]).unwrap();
        let Command::Up(up) = cli.command else { panic!("up") };
        assert_eq!(up.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(up.admin.to_string(), "127.0.0.1:8900");
    }

    #[test]
    fn a_fleet_member_needs_a_name() {
        let words = ["phalanx", "up", "--to", "http://127.0.0.1:3000", "--fleet", "nats://127.0.0.1:4222"];
        assert!(Cli::try_parse_from(words).is_err());
    }

    #[test]
    fn networks_may_be_single_addresses() {
        assert_eq!(parse_prefix("192.0.2.1").unwrap().to_string(), "192.0.2.1/32");
        assert_eq!(parse_prefix("::ffff:192.0.2.0/120").unwrap().to_string(), "192.0.2.0/24");
        assert!(parse_prefix("shop").is_err());
    }
}
