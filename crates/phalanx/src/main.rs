//! The binary: command line, settings, wiring, signals.
//!
//! Flow in names: `args` -> `settings` and `PolicySource` -> `Node` (record, fleet, edge, control) -> signals.
//!
//! INVARIANT: everything that is wired here could be wired otherwise; no decision about a request is made in this crate.

mod advice;
mod args;
mod check_settings;
mod console_port;
mod console_settings;

mod acme_port;
mod acme_settings;
mod duty;
mod event_settings;
mod history_settings;
mod identity_port;
mod learning;
mod limit_settings;
mod load;
mod log_settings;
mod material_port;
mod places_port;
mod plan;
mod playbooks;
mod rates;
mod recording_port;
mod recording_settings;
mod report_settings;
mod routes;
mod selftest;
mod settings;
mod shared_keys;
mod state;
mod suggest_port;
mod tcp_settings;
mod tickets_port;
mod tls_settings;
mod trace_settings;

mod bundle_features;
mod bundle_plan;
mod policy_follow;
mod policy_port;

mod enrol;
mod enrolment;
mod membership;

mod crowdsec;
mod life;
mod node;
mod oidc_settings;
mod serve;
mod up;
mod upstreams;

mod client;
mod commands;
mod delegate;
mod demo;
mod import;
mod manual;
mod progress;
mod waf;

use std::process::ExitCode;

use clap::FromArgMatches as _;
use tracing_subscriber::EnvFilter;

use args::{Cli, Command, WafCommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Pages of 2 MiB would make a node with the Core Rule Set take 65 MB instead of 39, and loading a quarter longer, to
    // clear them; requests are no faster with them. A kernel without the call has none to turn off.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let read = Cli::from_arg_matches(&manual::command().get_matches());
    let cli = read.unwrap_or_else(|error| error.exit());
    start_log();
    run(cli.command).unwrap_or_else(|error| {
        eprintln!("phalanx: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(args) => up::up(&args),
        Command::Run(args) => up::run(&args),
        Command::Check(args) => up::check(&args),
        Command::Probe(args) => commands::probe::run(&args),
        Command::Demo(args) => demo::run(args),
        Command::Status(args) => commands::status::run(&args),
        Command::Top(args) => commands::top::run(&args),
        Command::Report(args) => commands::report::run(&args),
        Command::Receiver(command) => commands::receiver::run(&command),
        Command::Oidc(command) => commands::oidc::run(&command),
        Command::Selftest(args) => commands::selftest::run(&args),
        Command::Login(args) => commands::login::run(&args),
        Command::Decision(args) => commands::decision::run(&args),
        Command::Blocklist(command) => commands::blocklist::run(&command),
        Command::Bouncer(args) => commands::bouncer::run(&args),
        Command::Operator(args) => commands::operator::run(&args),
        Command::Events(args) => commands::events::run(&args),
        Command::Audit(args) => commands::audit::run(&args),
        Command::Traffic(args) => commands::traffic::run(&args),
        Command::Incidents(args) => commands::incident::list(&args),
        Command::Incident(command) => commands::incident::run(&command),
        Command::Explain(args) => commands::explain::run(&args),
        Command::Fleet(command) => commands::fleet::run(&command),
        Command::Policy(command) => commands::policy::run(&command),
        Command::Import(command) => import::run(&command),
        Command::Playbook(command) => commands::playbook::run(&command),
        Command::Reload(args) => commands::reload::run(&args),
        Command::Upgrade(args) => commands::upgrade::run(&args),
        Command::Launcher(args) => life::launcher(&args),
        Command::Waf(WafCommand::Ftw(args)) => waf::ftw::ftw(args),
        Command::Waf(WafCommand::Backend(args)) => waf::backend::backend(&args),
        Command::Waf(WafCommand::Bench(args)) => waf::bench::bench(args),
        Command::Waf(WafCommand::Replay(args)) => waf::replay::replay(args, plan::default_protection),
        Command::Waf(WafCommand::Suggest(args)) => commands::suggest::run(&args),
        Command::Waf(WafCommand::Exclusions(args)) => commands::suggest::exclusions(&args),
        Command::Schema(args) => manual::schema(&args),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
        Command::Reference(args) => manual::reference(&args),
    }
}

/// Logs to standard error; `PHALANX_LOG` takes the usual filters, e.g. `debug` or `phalanx_fleet=trace`.
fn start_log() {
    let filter =
        EnvFilter::try_from_env("PHALANX_LOG").unwrap_or_else(|_| EnvFilter::new("warn,phalanx=info"));
    // https://no-color.org; clap goes by it, too.
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr()) && !unwanted;
    tracing_subscriber::fmt()
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .with_target(false)
        .init();
}
