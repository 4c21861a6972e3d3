//! What configurations of proxies have in common: listeners, apps by host, routes by path, servers behind them.

use super::note::Place;

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Site {
    /// Addresses without TLS.
    pub(crate) listen: Vec<String>,
    pub(crate) tls: Vec<TlsListen>,
    /// Addresses behind balancers that begin with a PROXY header, and the networks of those.
    pub(crate) proxied: Vec<(String, Vec<String>)>,
    /// Addresses whose connections are carried as they are.
    pub(crate) tcp: Vec<TcpListen>,
    /// Chains and their keys.
    pub(crate) certificates: Vec<(String, String)>,
    pub(crate) apps: Vec<App>,
    /// Connections of one client at most.
    pub(crate) connections_per_client: Option<u32>,
    /// Connections at most.
    pub(crate) connections: Option<u32>,
}

/// As many routes as an app may have, and as many with one path.
pub(crate) const ROUTES_MAX: (usize, usize) = (20_000, 64);

impl Site {
    /// Adds an address once; one that speaks TLS in any place speaks it.
    pub(crate) fn add_listen(&mut self, address: String, tls: bool) {
        if tls {
            self.listen.retain(|known| *known != address);
            if !self.tls.iter().any(|known| known.address == address) {
                self.tls.push(TlsListen { address, client_ca: None, optional: false });
            }
        } else if !self.listen.contains(&address) && !self.tls.iter().any(|known| known.address == address) {
            self.listen.push(address);
        }
    }

    /// Adds a certificate once.
    pub(crate) fn add_certificate(&mut self, cert: &str, key: &str) {
        let one = (cert.to_owned(), key.to_owned());
        if !self.certificates.contains(&one) {
            self.certificates.push(one);
        }
    }

    /// Makes names of files whole that are relative to this folder.
    pub(crate) fn files_are_in(&mut self, folder: &std::path::Path) {
        let certificates = self.certificates.iter_mut().flat_map(|(cert, key)| [cert, key]);
        let routes = self.apps.iter_mut().flat_map(|app| {
            app.routes.iter_mut().map(|route| &mut route.does.target).chain([&mut app.does.target])
        });
        let authorities = routes.filter_map(|target| match target {
            Target::Upstreams(pool) => {
                Some(pool.servers.iter_mut().filter_map(|server| server.tls.ca.as_mut()))
            }
            _ => None,
        });
        let of_clients = self.tls.iter_mut().filter_map(|listen| listen.client_ca.as_mut());
        for file in certificates.chain(of_clients).chain(authorities.flatten()) {
            // One that is whole already stays as it is.
            *file = folder.join(&*file).display().to_string();
        }
    }

    /// A name that no app has yet.
    pub(crate) fn free_name(&self, wanted: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        let mut base: String =
            wanted.trim_start_matches("*.").chars().map(plain).take(NAME_CHARS_MAX).collect();
        if base.is_empty() {
            base.push_str("app");
        }
        let taken = |name: &str| self.apps.iter().any(|app| app.name == name);
        if !taken(&base) {
            return base;
        }
        let numbered = (2..).map(|n| format!("{base}-{n}"));
        numbered.take(self.apps.len() + 1).find(|name| !taken(name)).unwrap_or(base)
    }
}

/// An address with TLS.
#[derive(Debug)]
pub(crate) struct TlsListen {
    pub(crate) address: String,
    pub(crate) client_ca: Option<String>,
    /// Clients may come without a certificate.
    pub(crate) optional: bool,
}

/// An address of another protocol than HTTP.
#[derive(Debug)]
pub(crate) struct TcpListen {
    pub(crate) address: String,
    pub(crate) app: String,
    /// How long both sides may be silent, as it is written.
    pub(crate) idle: Option<String>,
}

/// What answers to some hosts.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) place: Place,
    pub(crate) name: String,
    /// It carries connections of other protocols than HTTP.
    pub(crate) tcp: bool,
    /// The PROXY header that its upstreams want.
    pub(crate) tells_client: Option<&'static str>,
    /// None: all that no other app names.
    pub(crate) hosts: Vec<String>,
    /// It had a rule engine before, which refused.
    pub(crate) blocks: bool,
    /// Folders with its rules.
    pub(crate) rules: Vec<String>,
    pub(crate) trust: Vec<String>,
    /// The field in which they name clients, if not the usual one.
    pub(crate) named_in: Option<String>,
    /// Codings and media types of what is compressed; no coding: nothing is.
    pub(crate) compression: (Vec<String>, Vec<String>),
    pub(crate) rates: Vec<Rate>,
    /// What becomes of requests that no route is about.
    pub(crate) does: Does,
    pub(crate) routes: Vec<Route>,
}

impl App {
    pub(crate) fn new(place: Place, name: String) -> Self {
        Self {
            place,
            name,
            tcp: false,
            tells_client: None,
            hosts: Vec::new(),
            blocks: false,
            rules: Vec::new(),
            trust: Vec::new(),
            named_in: None,
            compression: Default::default(),
            rates: Vec::new(),
            does: Does::default(),
            routes: Vec::new(),
        }
    }
}

/// What becomes of some of an app's requests.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) place: Place,
    pub(crate) at: At,
    /// Of a suffix or an expression: the path, or the place below it, where it is tried before all else.
    pub(crate) under: Option<At>,
    /// Only of those that came without TLS.
    pub(crate) plain_only: bool,
    pub(crate) methods: Vec<String>,
    pub(crate) does: Does,
}

impl Route {
    /// A route for all methods and schemes.
    pub(crate) fn new(place: Place, at: At, does: Does) -> Self {
        Self { place, at, under: None, plain_only: false, methods: Vec::new(), does }
    }

    /// The same at another path: an expression goes there, a path becomes that one.
    pub(crate) fn moved(&self, to: &At) -> Self {
        let mut moved = self.clone();
        match moved.at {
            At::Suffix(_) | At::Pattern(_) => moved.under = Some(to.clone()),
            At::Prefix(_) | At::Exact(_) => moved.at = to.clone(),
        }
        moved
    }
}

/// Which paths a route is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum At {
    /// This path, and those below it.
    Prefix(String),
    /// This one.
    Exact(String),
    /// Those that end so.
    Suffix(String),
    /// Those that match this expression.
    Pattern(String),
}

/// What becomes of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Does {
    pub(crate) target: Target,
    /// What stands in the place of the route's path.
    pub(crate) rewrite: Option<String>,
    pub(crate) limits: Vec<(&'static str, String)>,
    pub(crate) upstream_host: Option<String>,
    pub(crate) request: Edits,
    pub(crate) response: Edits,
    /// Who may ask, where it is not as the app says.
    pub(crate) access: Option<Access>,
    /// `Strict-Transport-Security`, as policy says it.
    pub(crate) hsts: Option<String>,
}

/// Networks that may ask; none means all, but those that may not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) allow: Vec<String>,
    pub(crate) deny: Vec<String>,
}

/// Where it goes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Target {
    /// As the app's.
    #[default]
    Inherited,
    Upstreams(Pool),
    Redirect {
        to: String,
        status: u16,
    },
    Reply {
        status: u16,
        body: Option<String>,
    },
}

/// Servers, and how one of them is chosen.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Pool {
    pub(crate) servers: Vec<Server>,
    pub(crate) balance: Option<String>,
    pub(crate) sticky: Option<String>,
    /// Keys and values of `health`, as they are written.
    pub(crate) health: Vec<(&'static str, String)>,
    pub(crate) retries: Vec<(&'static str, String)>,
    pub(crate) queue: Vec<(&'static str, String)>,
    /// The PROXY header that they want.
    pub(crate) tells_client: Option<&'static str>,
}

/// One server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) weight: Option<u32>,
    pub(crate) backup: bool,
    pub(crate) max_requests: Option<u32>,
    /// It speaks HTTP/2.
    pub(crate) http2: bool,
    /// How it is known, where it is spoken to over TLS.
    pub(crate) tls: ServerTls,
}

/// How a server is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServerTls {
    pub(crate) unverified: bool,
    pub(crate) ca: Option<String>,
    pub(crate) name: Option<String>,
}

/// Changes of header fields, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Edits {
    pub(crate) set: Vec<(String, String)>,
    pub(crate) add: Vec<(String, String)>,
    pub(crate) remove: Vec<String>,
}

impl Edits {
    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// How often clients may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) rate: String,
    pub(crate) burst: u64,
    pub(crate) path: Option<String>,
    pub(crate) observes: bool,
}

/// What fits into a label.
const NAME_CHARS_MAX: usize = 48;
