//! The compiled plan: everything about apps that a request needs, immutable, swapped whole.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use phalanx_decide::rate::RateRule;
use phalanx_decide::{DecidePlan, Mode, OnError};
use phalanx_inspect::{Program, Scope};
use phalanx_model::latency::AppSlots;
use phalanx_model::{PrefixSet, RequestHead, limits, names};
use phalanx_policy::playbook::Playbook;
use phalanx_policy::{Accounts, Compression, Detection, Protocol, ProxyProtocol};

use crate::balance::group::UpstreamGroup;
use crate::client_address::AddressSource;
use crate::client_certificate::AskedOfClients;
use crate::hosts::{HostFound, HostTable};
use crate::route::table::{Ambiguous, Asked, RouteTable};
use crate::route::{Handling, RoutePlan, RouteRule};
use crate::tls::OriginPlan;

/// The plan of a node: who is exempt, and the apps by host.
pub struct EdgePlan {
    /// The policy's version.
    pub version: u64,
    /// What verdicts are made by. Its `forwarders` hold the trusted forwarders of all apps.
    pub decide: DecidePlan,
    /// For who learns of events; the data plane does not read it.
    pub detection: Detection,
    /// What is done about incidents; whoever compiles a policy and knows the detectors puts them here.
    pub playbooks: Arc<[Arc<Playbook>]>,
    /// Those that policy names, then what routes have of their own.
    apps: Vec<AppPlan>,
    /// How many of these policy names.
    named: usize,
    /// For each: whose upstreams it has, if not its own.
    shares: Vec<Option<usize>>,
    routes: Vec<RoutePlan>,
    hosts: HostTable,
    /// Hosts whose TLS is not opened here.
    passed: HostTable,
    /// Some app asks its clients for certificates.
    asks_clients: bool,
    /// Apps by name whose connections are carried as they are.
    carried: HashMap<Arc<str>, usize>,
    /// By tag: the app and the place among its rates.
    by_rate: HashMap<u32, (usize, usize)>,
    nowhere: AppPlan,
    /// Where each app is counted.
    slots: Vec<usize>,
    slot_names: AppSlots,
}

/// A plan as a worker hands it to its requests: counted twice, so that workers on two cores do not share a count.
pub(crate) type LocalPlan = Rc<Arc<EdgePlan>>;

/// One protected application.
#[derive(Clone)]
pub struct AppPlan {
    /// Its name.
    pub name: Arc<str>,
    /// Hosts it answers to: exact, or `*.domain`; none means any.
    pub hosts: Vec<String>,
    /// Where requests go.
    pub upstreams: UpstreamGroup,
    /// Whether findings refuse.
    pub mode: Mode,
    /// What happens when inspection fails.
    pub on_error: OnError,
    /// The compiled rules; `None` inspects nothing.
    pub program: Option<Arc<Program>>,
    /// What it does with classes of the program's findings; `None`: all of them block.
    pub scope: Option<Arc<Scope>>,
    /// By what its requests are inspected while an order raises its paranoia.
    pub raised: Option<Arc<RaisedRules>>,
    /// Its limits.
    pub limits: AppLimits,
    /// Who may ask; `None`: everybody.
    pub networks: Option<Arc<NetworkSets>>,
    /// Each of its clients is challenged first.
    pub challenges: bool,
    /// How often its clients may ask.
    pub rates: Vec<RateRule>,
    /// Peers whose forwarding fields are believed.
    pub trust_forwarded: PrefixSet,
    /// How its sessions and accounts are known.
    pub accounts: Arc<Accounts>,
    /// What is done beyond forwarding, where no route says otherwise.
    pub handling: Option<Arc<Handling>>,
    /// What is done with requests to some of its paths, in the order of the policy. A plan makes its `table` of them.
    pub routes: Vec<RouteRule>,
    /// The same by path; none without routes.
    pub(crate) table: Option<Arc<RouteTable>>,
    /// How they tell their clients' addresses.
    pub client_address: AddressSource,
    /// Which certificates it asks of clients; `None`: those of the listener.
    pub client_certificate: Option<Arc<AskedOfClients>>,
    /// Which responses are compressed; `None`: none.
    pub compression: Option<Arc<Compression>>,
    /// Its TLS is not opened here: connections are passed on, and no request is seen.
    pub passthrough: bool,
    /// Listeners for TCP carry connections to it, and no request is seen.
    pub tcp: bool,
}

/// Rules of a higher paranoia level, ready for when they are ordered.
#[derive(Debug, Clone)]
pub struct RaisedRules {
    /// What decisions call the app; see [`names::app`]. Each of its requests asks for them.
    pub app: u64,
    /// The level.
    pub level: u8,
    /// The compiled rules; apps with the same rules and level share them.
    pub program: Arc<Program>,
    /// See [`AppPlan::scope`].
    pub scope: Option<Arc<Scope>>,
}

/// Limits of an app.
#[derive(Debug, Clone, Copy)]
pub struct AppLimits {
    /// Largest request body.
    pub body_bytes: u64,
    /// How much of a request body is held for inspection.
    pub body_held_bytes: usize,
    /// How much of a response body is held for inspection.
    pub response_held_bytes: usize,
    /// Longest wait for a connection to the upstream.
    pub upstream_connect_ms: u64,
    /// Longest wait for the upstream's response head.
    pub upstream_head_ms: u64,
    /// Longest silence within its body.
    pub upstream_gap_ms: u64,
    /// Longest time for all of a request and its response, with every try; `u64::MAX` without a limit.
    pub upstream_total_ms: u64,
}

impl Default for AppLimits {
    fn default() -> Self {
        Self {
            body_bytes: limits::BODY_BYTES_MAX,
            body_held_bytes: limits::BODY_HELD_BYTES_MAX,
            response_held_bytes: limits::RESPONSE_HELD_BYTES_MAX,
            upstream_connect_ms: limits::UPSTREAM_CONNECT_MAX_MS,
            upstream_head_ms: limits::UPSTREAM_HEAD_MAX_MS,
            upstream_gap_ms: limits::UPSTREAM_HEAD_MAX_MS,
            upstream_total_ms: u64::MAX,
        }
    }
}

/// Networks that may ask of an app or route.
#[derive(Debug)]
pub struct NetworkSets {
    /// Only these; `None`: all.
    pub allow: Option<PrefixSet>,
    /// These not, whatever `allow` says.
    pub deny: PrefixSet,
}

impl NetworkSets {
    /// Whether a client at an address may ask.
    pub(crate) fn admits(&self, client: IpAddr) -> bool {
        !self.deny.contains(client) && self.allow.as_ref().is_none_or(|allow| allow.contains(client))
    }
}

/// One server that an app's requests can go to.
#[derive(Debug, Clone)]
pub struct UpstreamPlan {
    /// `host:port` or `unix:/path`: its name in reports.
    pub key: Arc<str>,
    /// How to reach it.
    pub target: UpstreamTarget,
    /// What `Host` says when the client does not say it.
    pub host: Arc<str>,
    /// Put in front of every path; empty, or `/` and segments without a slash at the end.
    pub path_prefix: String,
    /// Its share, in relation to the others' weights; at least 1.
    pub weight: u16,
    /// It gets requests only when no other works.
    pub backup: bool,
    /// Requests in flight that it gets at most; `u32::MAX` without a limit.
    pub requests_max: u32,
    /// The version of HTTP that it is spoken to in.
    pub protocol: Protocol,
    /// How TLS with it goes; `None` without TLS.
    pub tls: Option<Arc<OriginPlan>>,
    /// How it is told whose connection it is, before all else; `None`: not at all.
    pub proxy: Option<ProxyProtocol>,
}

/// An upstream's address.
#[derive(Debug, Clone)]
pub enum UpstreamTarget {
    /// Known.
    Address(SocketAddr),
    /// A Unix socket.
    Socket(Arc<Path>),
    /// Asked of the resolver, again and again; with the port.
    Name(Arc<str>, u16),
}

impl UpstreamPlan {
    /// An upstream at a host name or literal address.
    pub fn new(host: &str, port: u16, path_prefix: &str) -> Self {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let target = match bare.parse::<IpAddr>() {
            Ok(ip) => UpstreamTarget::Address(SocketAddr::new(ip, port)),
            Err(_) => UpstreamTarget::Name(host.into(), port),
        };
        let key: Arc<str> = match &target {
            UpstreamTarget::Address(address) => address.to_string().into(),
            _ => format!("{host}:{port}").into(),
        };
        let path_prefix = path_prefix.trim_end_matches('/').to_owned();
        Self {
            host: Arc::clone(&key),
            key,
            target,
            path_prefix,
            weight: 1,
            backup: false,
            requests_max: u32::MAX,
            protocol: Protocol::Http1,
            tls: None,
            proxy: None,
        }
    }

    /// An upstream at a Unix socket.
    pub fn at_socket(path: &Path) -> Self {
        Self {
            key: format!("unix:{}", path.display()).into(),
            target: UpstreamTarget::Socket(path.into()),
            ..Self::new("localhost", 80, "")
        }
    }

    /// This server at one address of its name.
    pub(crate) fn at(&self, ip: IpAddr) -> SocketAddr {
        let port = match &self.target {
            UpstreamTarget::Address(address) => address.port(),
            UpstreamTarget::Name(_, port) => *port,
            UpstreamTarget::Socket(_) => 0,
        };
        SocketAddr::new(ip, port)
    }
}

impl AppPlan {
    /// By what a request is inspected, where its paranoia is raised or not.
    pub(crate) fn inspected_by(&self, is_raised: bool) -> Option<(&Arc<Program>, Option<&Arc<Scope>>)> {
        match self.raised.as_ref().filter(|_| is_raised) {
            Some(raised) => Some((&raised.program, raised.scope.as_ref())),
            None => Some((self.program.as_ref()?, self.scope.as_ref())),
        }
    }

    /// An app without rules: it forwards everything that is well-formed.
    pub fn forwarding(name: &str, upstream: UpstreamPlan) -> Self {
        Self {
            name: name.into(),
            hosts: Vec::new(),
            upstreams: UpstreamGroup::new(vec![upstream]),
            mode: Mode::Block,
            on_error: OnError::Deny,
            program: None,
            scope: None,
            raised: None,
            limits: AppLimits::default(),
            networks: None,
            challenges: false,
            rates: Vec::new(),
            trust_forwarded: PrefixSet::default(),
            accounts: Arc::default(),
            handling: None,
            routes: Vec::new(),
            table: None,
            client_address: AddressSource::default(),
            client_certificate: None,
            compression: None,
            passthrough: false,
            tcp: false,
        }
    }
}

impl EdgePlan {
    /// Puts apps together. Where several claim a host the first one has it.
    pub fn new(version: u64, mut decide: DecidePlan, mut apps: Vec<AppPlan>) -> Self {
        let (mut hosts, mut passed, mut carried) =
            (HostTable::default(), HostTable::default(), HashMap::new());
        for (index, app) in apps.iter().enumerate() {
            match (app.tcp, app.passthrough) {
                (true, _) => _ = carried.insert(Arc::clone(&app.name), index),
                (false, true) => passed.add(&app.hosts, index),
                (false, false) => hosts.add(&app.hosts, index),
            }
        }
        let forwarders =
            decide.forwarders.iter().chain(apps.iter().flat_map(|app| app.trust_forwarded.iter()));
        // Many apps may stand behind the same network.
        decide.forwarders = forwarders.copied().collect::<BTreeSet<_>>().into_iter().collect();
        let nowhere = AppPlan::forwarding("", UpstreamPlan::new("0.0.0.0", 0, ""));
        let mut by_rate = HashMap::new();
        for (app, rates) in apps.iter().map(|app| &app.rates).enumerate() {
            by_rate.extend(rates.iter().enumerate().map(|(place, rate)| (rate.tag(), (app, place))));
        }
        let named = apps.len();
        let asks_clients = apps.iter().any(|app| app.client_certificate.is_some());
        let mut shares = vec![None; named];
        let mut routes = Vec::new();
        for app in 0..named {
            add_routes(&mut apps, app, &mut shares, &mut routes);
        }
        let mut slot_names = AppSlots::default();
        let slots = apps.iter().map(|app| slot_names.take(&app.name)).collect();
        Self {
            version,
            decide,
            detection: Detection::default(),
            playbooks: Arc::default(),
            apps,
            slots,
            slot_names,
            named,
            shares,
            routes,
            hosts,
            passed,
            asks_clients,
            carried,
            by_rate,
            nowhere,
        }
    }

    /// The rate limit of a tag.
    pub fn rate(&self, tag: u32) -> Option<&RateRule> {
        let (app, place) = self.by_rate.get(&tag)?;
        self.apps.get(*app)?.rates.get(*place)
    }

    /// Lets rate limits that were in the plan before go on with its counts.
    pub fn keep_rate_counts(&mut self, before: &Self) {
        for rate in self.apps.iter_mut().flat_map(|app| &mut app.rates) {
            if let Some(known) = before.rate(rate.tag()) {
                rate.counts = Arc::clone(&known.counts);
            }
        }
    }

    /// Lets apps that were in a plan before go on in the places where they are counted.
    pub fn keep_slots(&mut self, before: &Self) {
        self.slot_names = before.slot_names.clone();
        self.slots = self.apps.iter().map(|app| self.slot_names.take(&app.name)).collect();
    }

    /// Where apps are counted, with their names.
    pub fn slot_names(&self) -> &AppSlots {
        &self.slot_names
    }

    /// Where requests of an app are counted; of none, where they share a place.
    pub(crate) fn slot(&self, app: Option<usize>) -> usize {
        app.and_then(|app| self.slots.get(app)).copied().unwrap_or(AppSlots::NONE)
    }

    /// Lets upstreams that were in the plan before go on with their requests in flight, their health and their addresses.
    pub fn keep_upstreams(&mut self, before: &Self) {
        let known: HashMap<(&str, &str), &AppPlan> =
            before.with_upstreams().map(|(app, route)| ((&*app.name, route), app)).collect();
        let own: Vec<(usize, Option<&AppPlan>)> = self
            .with_upstreams_at()
            .map(|(place, app, route)| (place, known.get(&(&*app.name, route)).copied()))
            .collect();
        for (place, known) in own {
            if let (Some(app), Some(known)) = (self.apps.get_mut(place), known) {
                app.upstreams.keep(&known.upstreams);
            }
        }
        for place in self.named..self.apps.len() {
            if let Some(owner) = self.shares.get(place).copied().flatten()
                && let Some(upstreams) = self.apps.get(owner).map(|owner| owner.upstreams.clone())
                && let Some(app) = self.apps.get_mut(place)
            {
                app.upstreams = upstreams;
            }
        }
    }

    /// The apps, in the order of the policy.
    pub fn apps(&self) -> &[AppPlan] {
        self.apps.get(..self.named).unwrap_or_default()
    }

    /// All that has upstreams of its own: each app, and each route that names some; with the route's name, empty for the app.
    pub fn with_upstreams(&self) -> impl Iterator<Item = (&AppPlan, &str)> {
        self.with_upstreams_at().map(|(_, app, route)| (app, route))
    }

    fn with_upstreams_at(&self) -> impl Iterator<Item = (usize, &AppPlan, &str)> {
        let routes = self.routes.iter().map(|route| (route.app as usize, &*route.name));
        let routes = routes.filter(|(app, _)| *app >= self.named);
        let all = (0..self.named).map(|app| (app, "")).chain(routes);
        let own = all.filter(|(app, _)| self.shares.get(*app) == Some(&None));
        own.filter_map(|(place, route)| Some((place, self.apps.get(place)?, route)))
    }

    /// All apps that policy names, and their routes, as events name them.
    pub fn places(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let named = self.apps.iter().take(self.named).map(|app| (&*app.name, None));
        let routes = self.routes.iter().filter_map(|route| {
            let app = self.apps.get(usize::try_from(route.app).ok()?)?;
            Some((&*app.name, Some(&*route.name)))
        });
        named.chain(routes)
    }

    /// The name of the app that decisions call so, and the highest level that it, or a route of it, may be raised to.
    pub fn raises(&self, app: u64) -> Option<(&str, u8)> {
        let named = self.apps.iter().take(self.named).find(|one| names::app(&one.name) == app)?;
        let all = self.apps.iter().filter(|one| one.name == named.name);
        let level = all.filter_map(|one| one.raised.as_ref()).map(|raised| raised.level).max()?;
        Some((&named.name, level))
    }

    /// What a rule says when it matches, as its author wrote it: of the first app that has it.
    pub fn rule_message(&self, rule: u64) -> Option<String> {
        let raised = |app: &AppPlan| app.raised.as_ref().and_then(|raised| raised.program.message(rule));
        let own = |app: &AppPlan| app.program.as_ref().and_then(|program| program.message(rule));
        self.apps.iter().find_map(|app| own(app).or_else(|| raised(app)))
    }

    /// How many routes all apps have.
    pub fn route_count(&self) -> usize {
        self.routes.len()
    }

    /// Whether any app refuses anything: if none does, standing decisions end no connection either.
    pub fn enforces(&self) -> bool {
        self.apps.iter().any(|app| app.mode == Mode::Block)
    }

    /// The app that answers to a `Host` value.
    pub(crate) fn find(&self, authority: &[u8]) -> Option<usize> {
        self.hosts.find(authority)
    }

    /// The app that answers to a `Host` value, and why this one.
    pub(crate) fn find_host(&self, authority: &[u8]) -> (Option<usize>, HostFound) {
        self.hosts.find_host(authority)
    }

    /// The app that connections for a host are passed on to unopened.
    pub(crate) fn find_passed(&self, host: &[u8]) -> Option<usize> {
        self.passed.find(host)
    }

    /// What the app that answers to a host asks of clients in their handshake.
    pub(crate) fn asked_of_clients(&self, host: &[u8]) -> Option<&Arc<AskedOfClients>> {
        if self.asks_clients { self.app(self.find(host)).client_certificate.as_ref() } else { None }
    }

    /// The app of a name, if connections are carried to it as they are.
    pub(crate) fn find_carried(&self, name: &str) -> Option<usize> {
        self.carried.get(name).copied()
    }

    /// Whether listeners for TCP may name this app.
    pub fn carries(&self, name: &str) -> bool {
        self.carried.contains_key(name)
    }

    /// The route that a request to an app meets. `secure`: the client came over TLS.
    pub(crate) fn meet(&self, app: Option<usize>, head: &RequestHead, secure: impl FnOnce() -> bool) -> Met {
        let table = app.and_then(|app| self.apps.get(app)?.table.as_ref());
        let Some(table) = table else {
            return Met { app, route: None, ambiguous: false };
        };
        match table.find(&Asked { head, secure: secure() }) {
            Ok(Some(route)) => {
                let settings = self.route(route).map(|route| route.app as usize);
                Met { app: settings.or(app), route: Some(route), ambiguous: false }
            }
            Ok(None) => Met { app, route: None, ambiguous: false },
            Err(Ambiguous) => Met { app, route: None, ambiguous: true },
        }
    }

    /// A route by its number.
    pub(crate) fn route(&self, route: u32) -> Option<&RoutePlan> {
        self.routes.get(route as usize)
    }

    /// What is done with a request beyond forwarding.
    pub(crate) fn handling(&self, app: Option<usize>, route: Option<u32>) -> Option<&Handling> {
        match route {
            None => self.app(app).handling.as_deref(),
            Some(route) => self.route(route)?.handling.as_deref(),
        }
    }

    /// The app at an index of [`EdgePlan::find`]; a nameless one that goes nowhere for `None`.
    pub(crate) fn app(&self, index: Option<usize>) -> &AppPlan {
        index.and_then(|index| self.apps.get(index)).unwrap_or(&self.nowhere)
    }
}

/// Makes the table of an app's routes, and settings for those that have their own.
fn add_routes(
    apps: &mut Vec<AppPlan>,
    app: usize,
    shares: &mut Vec<Option<usize>>,
    routes: &mut Vec<RoutePlan>,
) {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let rules = apps.get_mut(app).map(|app| std::mem::take(&mut app.routes)).unwrap_or_default();
    if rules.is_empty() {
        return;
    }
    let mut table = Vec::with_capacity(rules.len());
    for RouteRule { name, when, own, own_upstreams, handling } in rules {
        let settings = match own {
            None => app,
            Some(own) => {
                shares.push((!own_upstreams).then_some(app));
                apps.push(*own);
                apps.len() - 1
            }
        };
        table.push((number(routes.len()), when));
        routes.push(RoutePlan { name, app: number(settings), handling });
    }
    if let Some(app) = apps.get_mut(app) {
        app.table = Some(Arc::new(RouteTable::new(table)));
    }
}

/// What a request meets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Met {
    /// The place of the settings that hold for it.
    pub(crate) app: Option<usize>,
    pub(crate) route: Option<u32>,
    /// Its path can be read in two ways, which meet different routes.
    pub(crate) ambiguous: bool,
}

impl fmt::Debug for EdgePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgePlan")
            .field("version", &self.version)
            .field("apps", &self.apps)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for AppPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppPlan")
            .field("name", &self.name)
            .field("hosts", &self.hosts)
            .field("upstreams", &self.upstreams)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str, hosts: &[&str]) -> AppPlan {
        let hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        AppPlan { hosts, ..AppPlan::forwarding(name, UpstreamPlan::new("127.0.0.1", 1, "/base/")) }
    }

    #[test]
    fn the_nearest_host_wins() {
        let apps = vec![app("wild", &["*.shop.test"]), app("exact", &["www.shop.test"]), app("any", &[])];
        let plan = EdgePlan::new(1, DecidePlan::default(), apps);
        let name = |host: &str| plan.app(plan.find(host.as_bytes())).name.to_string();
        assert_eq!(name("WWW.shop.test:8080"), "exact");
        assert_eq!(name("www.shop.test."), "exact");
        assert_eq!(name("a.b.shop.test"), "wild");
        assert_eq!(name("shop.test"), "any");
        assert_eq!(name("[2001:db8::1]:80"), "any");
        assert_eq!(name(""), "any");
    }

    #[test]
    fn without_an_app_for_any_host_an_unknown_host_has_none() {
        let plan = EdgePlan::new(1, DecidePlan::default(), vec![app("shop", &["shop.test"])]);
        assert_eq!(plan.find(b"other.test"), None);
        assert_eq!(plan.app(None).name.as_ref(), "");
    }

    #[test]
    fn a_base_path_loses_its_last_slash() {
        assert_eq!(UpstreamPlan::new("127.0.0.1", 1, "/base/").path_prefix, "/base");
        assert_eq!(UpstreamPlan::new("127.0.0.1", 1, "/").path_prefix, "");
    }
}
