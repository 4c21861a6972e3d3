//! `phalanx-demo-shop`: a small shop that works, looks like one, and has real holes.
//!
//! It exists so that every attack in the demonstration succeeds when it is sent here directly, and can be seen to fail through
//! Phalanx. The holes are the classic ones: SQL injection in the search, the product number and the login; script in search
//! text and in reviews; a download that leaves its folder; an admin page without a lock. There is none that runs commands: a
//! demonstration may not open the machine it runs on further than it must.
//!
//! INVARIANT: it listens on loopback only and answers only requests for a loopback or an example host, so that a page in
//! somebody's browser cannot reach the holes by way of a name of its own (DNS rebinding).

mod files;
mod pages;
mod routes;
mod sessions;
mod store;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// A small shop with real holes. For demonstrations on one machine; never put it on a network.
#[derive(Debug, Parser)]
struct Args {
    /// Where to listen; loopback only. Port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if !args.listen.ip().is_loopback() {
        bail!("the shop has real holes and listens on loopback only, not on {}", args.listen.ip());
    }
    let shop = Arc::new(routes::Shop::open().context("the shop could not be set up")?);
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, routes::router(shop)).with_graceful_shutdown(told_to_stop()).await?;
    Ok(())
}

/// Resolves at SIGINT or SIGTERM, so that the temporary folder is removed on the way out.
async fn told_to_stop() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
