//! `phalanx demo`: a small fleet, a shop with real holes, visitors and attackers.
//!
//! Everything runs as separate processes on this machine, as it would elsewhere: nats-server, the shop's own program, and one
//! `phalanx up` per site. Visitors and attackers have documentation addresses (RFC 5737, RFC 3849), which reach the nodes in
//! X-Forwarded-For from the trusted forwarder 127.0.0.1.
//!
//! Flow in names: `Stage` starts the processes; with `--once`, `scenario` plays each part and checks it into a `Table`; without,
//! `crowd` keeps people coming until Ctrl-C. INVARIANT: however it ends, the processes end with it and the folder is removed.

mod crowd;
mod scenario;

mod attacks;
mod honest;
mod table;

mod stage;

mod http;
mod process;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};

use stage::Stage;

/// What `phalanx demo` was asked to do.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DemoArgs {
    /// How many nodes, each in a site of its own
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// Play the scenario once, print its table, exit 1 if a row is not as expected
    #[arg(long)]
    once: bool,
    /// Print the table as JSON
    #[arg(long, requires = "once")]
    json: bool,
    /// Rule set for the nodes to load instead of the baseline pack
    #[arg(long, value_name = "DIR")]
    rules: Vec<PathBuf>,
    /// The shop's program [default: phalanx-demo-shop beside this one]
    #[arg(long, value_name = "FILE", env = "PHALANX_DEMO_SHOP", hide_env_values = true)]
    shop: Option<PathBuf>,
    /// The fleet's engine [default: nats-server on the PATH]
    #[arg(long, value_name = "FILE", env = "PHALANX_NATS_SERVER", hide_env_values = true)]
    nats_server: Option<PathBuf>,
}

/// Runs the demonstration on a runtime of its own.
pub(crate) fn run(arguments: DemoArgs) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(play(&arguments))
}

async fn play(arguments: &DemoArgs) -> anyhow::Result<ExitCode> {
    let mut stage = Stage::new()?;
    // The show is dropped at Ctrl-C, wherever it is; the stage is not, so that the processes are always ended in order.
    let outcome = tokio::select! {
        outcome = show(arguments, &mut stage) => outcome,
        told = told_to_stop() => told.and_then(|()| {
            if arguments.once { bail!("interrupted") }
            Ok(ExitCode::SUCCESS)
        }),
    };
    if !arguments.json {
        println!("ending everything ...");
    }
    stage.end().await;
    outcome
}

async fn show(arguments: &DemoArgs, stage: &mut Stage) -> anyhow::Result<ExitCode> {
    if !arguments.json {
        println!("starting nats-server, the shop and {} nodes ...", arguments.nodes);
    }
    stage.start(arguments).await?;
    if !arguments.once {
        return crowd::keep_coming(stage).await;
    }
    let table = scenario::play(stage).await?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&table)?);
    } else {
        print!("\n{table}");
    }
    Ok(if table.is_as_expected() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Resolves at SIGINT, SIGTERM or SIGHUP.
async fn told_to_stop() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}
