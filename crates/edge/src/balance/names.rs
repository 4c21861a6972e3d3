//! Where named upstreams are: asked of the system's resolver again when what it said is no longer good.
//!
//! All addresses that a name has are used. Failure keeps the last known ones. An address of the node's own management is left out: a
//! name that someone else controls must not lead to it.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use parking_lot::Mutex;
use phalanx_model::limits::UPSTREAM_ADDRESSES_MAX;
use tokio::task::spawn_local;

use crate::plan::{AppPlan, UpstreamPlan, UpstreamTarget};
use crate::settings::EdgeSettings;
use crate::upstream::is_never_upstream;

/// What is known of a name.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) addresses: Vec<IpAddr>,
    /// Those of the other family, which are tried where these do not answer.
    pub(crate) others: Vec<IpAddr>,
    next_ms: u64,
    asking: bool,
    failing: bool,
}

impl Known {
    /// Whether the last question failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing
    }
}

/// The resolver.
pub(crate) struct Names {
    settings: Arc<EdgeSettings>,
    /// Made anew after a failure: the system's settings may have changed.
    resolver: Mutex<Option<TokioResolver>>,
    /// Questions and checks under way.
    under_way: Cell<usize>,
}

/// A question or check under way.
pub(crate) struct UnderWay(Rc<Names>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get().saturating_sub(1));
    }
}

impl Names {
    pub(crate) fn new(settings: Arc<EdgeSettings>) -> Self {
        Self { settings, resolver: Mutex::new(None), under_way: Cell::new(0) }
    }

    /// Room for one more question or check; without it the turn comes at a later tick. With a thousand apps all would be asked
    /// about at once.
    pub(crate) fn begin(self: &Rc<Self>) -> Option<UnderWay> {
        let under_way = self.under_way.get();
        (under_way < UNDER_WAY_MAX).then(|| {
            self.under_way.set(under_way + 1);
            UnderWay(Rc::clone(self))
        })
    }

    /// Asks for the names of an app whose time has come.
    pub(crate) fn refresh(self: &Rc<Self>, app: &AppPlan) {
        let group = &app.upstreams;
        if group.only().is_some() {
            return;
        }
        let now_ms = group.shared().now_ms();
        for server in group.servers() {
            let UpstreamTarget::Name(host, _) = &server.target else { continue };
            let (addresses, others, due) = {
                let mut names = group.shared().names.lock();
                let known = names.entry(Arc::clone(&server.key)).or_default();
                let due = !known.asking && now_ms >= known.next_ms;
                let due = due.then(|| self.begin()).flatten();
                known.asking |= due.is_some();
                (known.addresses.clone(), known.others.clone(), due)
            };
            // An answer that came while the plan was replaced is known, and not yet in use.
            if group.addresses_of(server) != addresses {
                group.set_addresses(server, &addresses, &others);
            }
            let Some(under_way) = due else { continue };
            let (names, app) = (Rc::clone(self), app.clone());
            let (server, host) = (Arc::clone(server), Arc::clone(host));
            spawn_local(async move {
                let outcome = names.ask(&host, &server).await;
                names.note(&app, &server, outcome);
                drop(under_way);
            });
        }
    }

    /// The addresses of a name, and how long they are good.
    async fn ask(&self, host: &str, server: &UpstreamPlan) -> Result<(Families, Duration), String> {
        let resolver = self.resolver()?;
        let found = tokio::time::timeout(PATIENCE, resolver.lookup_ip(host)).await;
        let found = found.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
        let good_for = found.valid_until().saturating_duration_since(Instant::now());
        let mut addresses: Vec<IpAddr> = found.iter().map(|ip| ip.to_canonical()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let own = |ip: &IpAddr| is_never_upstream(server.at(*ip), &self.settings.never_upstream);
        if addresses.iter().any(own) {
            tracing::warn!(host, "a name leads to this node's own management, which is left out");
            addresses.retain(|ip| !own(ip));
        }
        addresses.truncate(UPSTREAM_ADDRESSES_MAX);
        match addresses.is_empty() {
            true => Err("it has no address".to_owned()),
            false => Ok((reachable_family(addresses, server).await, good_for)),
        }
    }

    fn note(&self, app: &AppPlan, server: &Arc<UpstreamPlan>, outcome: Result<(Families, Duration), String>) {
        let group = &app.upstreams;
        let now_ms = group.shared().now_ms();
        let mut names = group.shared().names.lock();
        let known = names.entry(Arc::clone(&server.key)).or_default();
        known.asking = false;
        match outcome {
            Ok(((addresses, others), good_for)) => {
                let good_for = good_for.clamp(GOOD_FOR_LEAST, GOOD_FOR_MOST);
                let good_for_ms = u64::try_from(good_for.as_millis()).unwrap_or(u64::MAX);
                known.next_ms = now_ms.saturating_add(good_for_ms);
                known.failing = false;
                if known.addresses != addresses || known.others != others {
                    tracing::info!(app = %app.name, upstream = %server.key, ?addresses, "an upstream's addresses");
                    known.addresses.clone_from(&addresses);
                    known.others.clone_from(&others);
                    drop(names);
                    group.set_addresses(server, &addresses, &others);
                }
            }
            Err(error) => {
                known.next_ms = now_ms.saturating_add(AGAIN_MS);
                if !std::mem::replace(&mut known.failing, true) {
                    let kept = known.addresses.len();
                    tracing::warn!(app = %app.name, upstream = %server.key, error, kept, "an upstream's name cannot be resolved");
                }
                *self.resolver.lock() = None;
            }
        }
    }

    /// The resolver of the node's settings.
    pub(crate) fn resolver(&self) -> Result<TokioResolver, String> {
        let mut current = self.resolver.lock();
        if let Some(resolver) = &*current {
            return Ok(resolver.clone());
        }
        let mut builder = match self.settings.nameservers.as_slice() {
            [] => TokioResolver::builder_tokio().map_err(|error| error.to_string())?,
            servers => {
                let servers = servers.iter().map(|server| name_server(*server)).collect();
                let config = ResolverConfig::from_name_servers(servers);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        let resolver = builder.build().map_err(|error| error.to_string())?;
        Ok(current.insert(resolver).clone())
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

/// The addresses in use, and those of the other family.
type Families = (Vec<IpAddr>, Vec<IpAddr>);

/// A host with addresses of both families often listens on one of them only, `localhost` above all: where IPv4 can be reached it is
/// used, else IPv6, and where neither can, all are kept. What can be reached may change before the name is asked for again: the other
/// family stays at hand.
async fn reachable_family(addresses: Vec<IpAddr>, server: &UpstreamPlan) -> Families {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|ip| ip.is_ipv4());
    for family in [&v4, &v6] {
        let other_is_empty = family.len() == addresses.len();
        if other_is_empty {
            return (addresses, Vec::new());
        }
        for ip in family {
            let connecting = tokio::net::TcpStream::connect(server.at(*ip));
            if matches!(tokio::time::timeout(TRY, connecting).await, Ok(Ok(_))) {
                let others = addresses.iter().filter(|ip| !family.contains(ip)).copied();
                return (family.clone(), others.collect());
            }
        }
    }
    (addresses, Vec::new())
}

/// How long an answer of the resolver may take, its own repetitions included.
const PATIENCE: Duration = Duration::from_secs(20);
/// A name is not asked for more often, whatever it says of itself.
const GOOD_FOR_LEAST: Duration = Duration::from_secs(1);
/// Nor less often: names in the hosts file are good for ever, until someone edits it.
const GOOD_FOR_MOST: Duration = Duration::from_secs(300);
/// When it is asked again after a failure, in milliseconds.
const AGAIN_MS: u64 = 5_000;
/// Questions and checks under way at once.
const UNDER_WAY_MAX: usize = 256;
/// How long one address is tried.
const TRY: Duration = Duration::from_millis(500);
