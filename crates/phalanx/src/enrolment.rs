//! What a node does for its own membership of a fleet, and for that of others: the authority's listener, or that of its site's delegate.

use std::sync::Arc;

use anyhow::bail;
use parking_lot::Mutex;
use phalanx_control::{AuthorityPort, DelegatePort, Desk, EnrolDeps};
use phalanx_fleet::FleetHandle;
use phalanx_model::Clock;
use phalanx_model::lanes::Lanes;
use phalanx_trust::FleetAuthority;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::delegate::DelegateKeeper;
use crate::life::{Purpose, Sockets};
use crate::membership::{Identity, steward};
use crate::node::{bind, nats_url};
use crate::settings::Settings;

/// What the node is to a fleet with an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enrolment {
    /// The fleet has none, or there is no fleet.
    None,
    /// Enrolled by it.
    Member,
    /// It lies on this node.
    Authority,
}

/// Who decides about others' memberships on this node, as operators reach them.
#[derive(Debug, Default)]
pub(crate) struct Offices {
    pub(crate) authority: Option<AuthorityPort>,
    pub(crate) delegate: Option<DelegatePort>,
}

/// Where others join and renew at this node, if anywhere.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    listener: Option<TcpListener>,
    addresses: Vec<String>,
    of_authority: bool,
}

impl Counter {
    pub(crate) fn open(
        settings: &Settings,
        identity: Option<&Arc<Identity>>,
        sockets: &Sockets,
    ) -> anyhow::Result<Self> {
        let of_authority = identity.is_some_and(|identity| identity.authority.is_some());
        let mut addresses = settings.fleet.as_ref().map(|fleet| fleet.enroll_at.clone()).unwrap_or_default();
        let Some(listen) = settings.fleet.as_ref().and_then(|fleet| fleet.enroll) else {
            return Ok(Self { listener: None, addresses, of_authority });
        };
        if !of_authority && !identity.is_some_and(|identity| identity.is_control()) {
            bail!(
                "--enroll is for the node that holds the fleet's authority, and for an enrolled one with the control role that may \
                 become its site's delegate; name the state folder with --state, or make an authority with `phalanx fleet init`"
            );
        }
        let listener = bind(sockets, Purpose::Enroll, listen, "where nodes join")?;
        if addresses.is_empty() {
            addresses.push(listener.local_addr()?.to_string());
        }
        Ok(Self { listener: Some(listener), addresses, of_authority })
    }

    /// Where nodes of the site find this one should it be their delegate.
    pub(crate) fn for_nodes(&self) -> Vec<String> {
        match self.listener.is_some() && !self.of_authority {
            true => self.addresses.clone(),
            false => Vec::new(),
        }
    }
}

/// What the tasks of a membership run on.
pub(crate) type OfFleet<'a> = (&'a FleetHandle, &'a Lanes, &'a Arc<dyn Clock>);

/// Starts what keeps the membership, and what serves others.
pub(crate) fn keep(
    settings: &Settings,
    identity: Option<&Arc<Identity>>,
    counter: Counter,
    of_fleet: OfFleet<'_>,
    stopping: &watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<(Offices, Enrolment)> {
    let Some(identity) = identity else { return Ok((Offices::default(), Enrolment::None)) };
    let (fleet, lanes, clock) = of_fleet;
    tasks.spawn(Arc::clone(identity).keep_fresh(fleet.clone(), Arc::clone(clock)));
    let url = nats_url(settings, Some(identity));
    let serve = |counter: Counter, desk, nats_url, addresses, tasks: &mut JoinSet<()>| {
        let Some(listener) = counter.listener else { return };
        let (clock, lanes) = (Arc::clone(clock), lanes.clone());
        let deps = EnrolDeps { desk, clock, lanes, nats_url, addresses };
        tasks.spawn(phalanx_control::enrol::serve(listener, deps, stopping.clone()));
    };
    if let Some(authority) = identity.authority.clone() {
        let changed = tend(&authority, identity, url.clone(), of_fleet, tasks);
        let port = AuthorityPort {
            authority: Arc::clone(&authority),
            addresses: counter.addresses.clone(),
            changed: Arc::clone(&changed),
        };
        let addresses = counter.addresses.clone();
        serve(counter, Desk::Authority { authority, changed }, url.unwrap_or_default(), addresses, tasks);
        return Ok((Offices { authority: Some(port), delegate: None }, Enrolment::Authority));
    }
    let delegate = if counter.listener.is_some() { identity.delegate()? } else { None };
    let Some(delegate) = delegate else { return Ok((Offices::default(), Enrolment::Member)) };
    let (delegate, key) = (Arc::new(Mutex::new(delegate)), Arc::new(identity.node_key()?));
    let changed = Arc::new(Notify::new());
    let keeper = DelegateKeeper {
        delegate: Arc::clone(&delegate),
        identity: Arc::clone(identity),
        key: Arc::clone(&key),
        fleet: fleet.clone(),
        clock: Arc::clone(clock),
        changed: Arc::clone(&changed),
    };
    tasks.spawn(keeper.run());
    let port = DelegatePort { delegate: Arc::clone(&delegate), addresses: counter.addresses.clone() };
    let membership = Arc::clone(&identity.membership);
    // Whoever joined here finds the authority where this node does.
    let addresses = membership.held().grant.enrol.clone();
    let desk = Desk::Delegate { delegate, membership, key, changed };
    serve(counter, desk, url.unwrap_or_default(), addresses, tasks);
    Ok((Offices { authority: None, delegate: Some(port) }, Enrolment::Member))
}

/// Has the authority's servers told what is new of it; what wakes whoever does.
fn tend(
    authority: &Arc<Mutex<FleetAuthority>>,
    identity: &Arc<Identity>,
    nats_url: Option<String>,
    (fleet, _, clock): OfFleet<'_>,
    tasks: &mut JoinSet<()>,
) -> Arc<Notify> {
    let changed = Arc::new(Notify::new());
    let membership = Arc::clone(&identity.membership);
    let by = (Arc::clone(clock), Arc::clone(&changed));
    tasks.spawn(steward(Arc::clone(authority), membership, fleet.clone(), nats_url, by));
    changed
}
