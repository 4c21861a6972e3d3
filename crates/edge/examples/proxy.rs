//! A bare edge in front of one upstream, to measure: `proxy LISTEN UPSTREAM_HOST:PORT [WORKERS] [RULES_DIR]`, or with
//! `--tls ADDRESS CERT KEY` before all that, which listens for TLS as well. Events are counted and dropped in batches.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use phalanx_edge::{Edge, EdgePlan, EdgeSettings, EdgeShared, Material, Places, Served, TlsListener};
use phalanx_inspect::Collections;
use phalanx_model::lanes::Lanes;
use phalanx_model::{Swap, SystemClock, View};
use phalanx_policy::{Policy, RuleSource, policy};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).init();
    let mut arguments = std::env::args().skip(1).peekable();
    let mut tls = (Vec::new(), Material::default());
    if arguments.next_if(|argument| argument == "--tls").is_some() {
        let mut next = || arguments.next().ok_or("--tls takes an address, a certificate and a key");
        tls.0.push(next()?.parse()?);
        let chain = CertificateDer::pem_file_iter(next()?)?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(next()?)?;
        let key = Arc::new(CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?);
        tls.1 = Material::new(&[Served { names: Vec::new(), key }], &[TlsListener::new()?])?;
    }
    let listen = arguments.next().ok_or("give an address to listen on")?.parse()?;
    let upstream = arguments.next().ok_or("give the upstream as host:port")?;
    let workers = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let rules: Vec<PathBuf> = arguments.map(PathBuf::from).collect();

    let mut policy = Policy::one_app(&format!("http://{upstream}"))?;
    for app in &mut policy.apps {
        match rules.as_slice() {
            [] => app.mode = policy::Mode::Off,
            dirs => app.rules = RuleSource::Dirs(dirs.to_vec()),
        }
    }
    let compiled = EdgePlan::compile(&policy, &Arc::new(Collections::default())).map_err(|faults| {
        for fault in &faults {
            eprintln!("{fault:?}");
        }
        "the policy has faults"
    })?;
    let (lanes, mut readers) = Lanes::new();
    let shared = EdgeShared {
        plan: Arc::new(Swap::new(compiled.plan)),
        view: Arc::new(Swap::new(View::default())),
        places: Arc::new(Swap::new(Places::default())),
        material: Arc::new(Swap::new(tls.1)),
        lanes,
        clock: Arc::new(SystemClock),
    };
    let mut settings = EdgeSettings::new(vec![listen], workers, 1);
    settings.tls_listen = tls.0;
    // One client measures: it has one address.
    settings.limits.connections_per_actor = settings.limits.connections;
    let edge = Edge::bind(settings, shared, Vec::new())?;
    println!("listening on {:?}", edge.local_addrs());
    edge.run()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let mut every = tokio::time::interval(Duration::from_millis(50));
        loop {
            every.tick().await;
            while readers.access.try_recv().is_ok() {}
            while readers.security.try_recv().is_ok() {}
        }
    })
}
