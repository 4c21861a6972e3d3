//! What settings say without a mistake, and hardly anybody means: visitors without TLS, a fleet that is overheard, a node that asks itself.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use phalanx_policy::route::ClientScheme;
use phalanx_policy::{App, Diagnostic, Everywhere, Files, Policy, advice};

use crate::settings::Settings;

/// What to look at again in settings, their policy, and the rule files of its apps. Files that cannot be read get no advice.
pub(crate) fn advise(
    config: &Path,
    settings: &Settings,
    file: &Path,
    policy: &Policy,
    now_ms: u64,
) -> Vec<Diagnostic> {
    let text = std::fs::read_to_string(config).unwrap_or_default();
    let mut about = About { name: config.display().to_string(), text, found: Vec::new() };
    about.visitors(settings, policy);
    about.certified(settings, policy);
    about.itself(settings, policy);
    about.fleet(settings);
    about.bouncers(settings);
    about.sandbox(settings);
    let mut found = about.found;
    let written = std::fs::read_to_string(file).unwrap_or_default();
    let name = file.display().to_string();
    found.extend(advice::advise(Files::Disk, &name, &written, now_ms));
    let of_routes = |app: &App| {
        app.routes
            .iter()
            .filter_map(|route| route.own.as_ref())
            .flat_map(|own| own.extra_rules.clone())
            .collect::<Vec<_>>()
    };
    // Policy names its files from where it lies; those of other sites are read there.
    let everywhere = Everywhere::parse(&name, &written).ok();
    let policies: Vec<_> = everywhere.iter().flat_map(|(all, _)| all.distinct()).collect();
    let apps = policies.iter().flat_map(|(_, policy)| &policy.apps);
    let mut files: Vec<_> =
        apps.flat_map(|app| app.extra_rules.iter().cloned().chain(of_routes(app))).collect();
    files.sort_unstable();
    files.dedup();
    found.extend(files.iter().flat_map(|rules| advice::advise_rules(rules)));
    found
}

struct About {
    name: String,
    text: String,
    found: Vec<Diagnostic>,
}

impl About {
    /// `key` begins the line that it is about, or one after that; without it, it is about the file.
    fn say(&mut self, key: &str, message: impl Into<String>, help: impl Into<String>) {
        let is_it = |line: &str| line.trim_start().trim_start_matches('[').starts_with(key);
        let line = self.text.lines().position(is_it).map_or(0, |place| place + 1);
        let line = u32::try_from(line).unwrap_or_default();
        self.found.push(Diagnostic::warning(self.name.as_str(), line, message).with_help(help));
    }

    /// Passwords and sessions of visitors travel to listeners without TLS.
    fn visitors(&mut self, settings: &Settings, policy: &Policy) {
        let plain = settings.listen.iter().zip(&settings.proxied);
        let Some((open, _)) =
            plain.into_iter().find(|(at, proxied)| is_reached(at.ip()) && proxied.is_none())
        else {
            return;
        };
        let carried = |app: &&App| !app.passthrough && !app.tcp;
        let behind = |app: &App| !app.trust_forwarded.is_empty() || app.client_address.preset.is_some();
        let Some(app) = policy.apps.iter().filter(carried).find(|app| !behind(app)) else { return };
        if settings.tls.listeners.is_empty() {
            self.say(
                "address",
                format!("what visitors of `{}` send to {open} can be read on its way: there is no listener with TLS", app.name),
                "add `[[listen.tls]]`, or name the load balancer that has TLS in `trust_forwarded`",
            );
            return;
        }
        let to_tls =
            |app: &&App| app.routes.iter().any(|route| route.when.scheme == Some(ClientScheme::Http));
        if let Some(app) = policy.apps.iter().filter(carried).find(|app| !behind(app) && !to_tls(app)) {
            self.say(
                "address",
                format!("visitors of `{}` who come to {open} stay without TLS", app.name),
                "add a route to the app: `scheme = \"http\"`, `redirect = { to = \"https://{host}{path}{query}\" }`",
            );
        }
    }

    /// Hosts for which browsers are shown another host's certificate.
    fn certified(&mut self, settings: &Settings, policy: &Policy) {
        let tls = &settings.tls;
        let is_any_ordered = tls.acme.as_ref().is_some_and(|acme| acme.order.hosts.is_empty());
        if tls.listeners.is_empty() || is_any_ordered {
            return;
        }
        let mut names: Vec<String> = tls.acme.iter().flat_map(|acme| acme.order.hosts.clone()).collect();
        for files in &tls.certificates {
            // What cannot be read is a fault, and told.
            let Ok(certificate) = crate::material_port::read(files) else { return };
            names.extend(certificate.names);
        }
        for app in policy.apps.iter().filter(|app| !app.passthrough && !app.tcp) {
            if let Some(host) = app.hosts.iter().find(|host| !is_covered(host, &names)) {
                self.say(
                    if tls.certificates.is_empty() { "acme" } else { "certificate" },
                    format!(
                        "no certificate is for {host}, a host of `{}`: browsers refuse to go on",
                        app.name
                    ),
                    "add `[[certificate]]` with one that names it, or order one with `[acme]`",
                );
            }
        }
    }

    /// Requests that go round in circles.
    fn itself(&mut self, settings: &Settings, policy: &Policy) {
        let own = |host: &str, port: u16| {
            let ip: Option<IpAddr> =
                if host == "localhost" { Some([127, 0, 0, 1].into()) } else { host.parse().ok() };
            let is_it = |at: &&SocketAddr| {
                at.port() == port
                    && port != 0
                    && ip.is_some_and(|ip| at.ip() == ip || at.ip().is_unspecified() && ip.is_loopback())
            };
            settings.listen.iter().find(is_it).copied()
        };
        for app in &policy.apps {
            let servers = app.upstreams.servers.iter().filter(|server| server.upstream.socket.is_none());
            if let Some(at) =
                servers.filter_map(|server| own(&server.upstream.host, server.upstream.port)).next()
            {
                self.say(
                    "address",
                    format!(
                        "`{}` has this node's own listener {at} for an upstream: its requests come back here",
                        app.name
                    ),
                    "name the address of the application",
                );
            }
        }
    }

    fn fleet(&mut self, settings: &Settings) {
        let Some(fleet) = &settings.fleet else { return };
        let is_plain = |url: &&str| {
            let host = url.strip_prefix("nats://").map(|rest| rest.rsplit('@').next().unwrap_or(rest));
            let host = host.and_then(|rest| rest.parse::<SocketAddr>().ok());
            host.is_some_and(|at| advice::is_public(at.ip()))
        };
        if let Some(url) = fleet.url.as_deref().unwrap_or_default().split(',').find(is_plain)
            && let Some((_, place)) = url.rsplit_once(['@', '/'])
        {
            let place = place.to_owned();
            self.say(
                "url",
                format!("what nodes tell each other over {place} can be read on its way: it is a public address, without TLS"),
                "write `tls://`, or use an address of a network of your own",
            );
        }
        let open =
            |file: &Path| std::fs::metadata(file).is_ok_and(|file| file.permissions().mode() & 0o077 != 0);
        if let Some(file) = fleet.secret_file.as_deref().filter(|file| open(file)) {
            let file = file.display();
            self.say(
                "secret_file",
                format!(
                    "others than its owner may read the fleet's secret in {file}, and write decisions with it"
                ),
                format!("run `chmod 600 {file}`"),
            );
        }
    }

    /// That the network is to be trusted is said for those of one's own.
    fn bouncers(&mut self, settings: &Settings) {
        if let Some(at) = settings.lapi.filter(|at| is_reached(at.ip())) {
            self.say(
                "plain_http",
                format!("keys of bouncers that travel to {at} can be read on their way: it is open to every network, without TLS"),
                "listen on an address of a network of your own, or on 127.0.0.1 with a TLS proxy before it",
            );
        }
    }

    fn sandbox(&mut self, settings: &Settings) {
        if !settings.sandbox.files || !settings.sandbox.calls {
            self.say(
                "sandbox",
                "whoever takes over the process may touch all that its user may",
                "take out `[sandbox]`, or name what it has to read besides in `sandbox.read`",
            );
        }
    }
}

/// Whether strangers may reach a listener there.
fn is_reached(ip: IpAddr) -> bool {
    ip.is_unspecified() || advice::is_public(ip)
}

/// Whether one of the names is the host's, or stands for it: `*` is one label.
fn is_covered(host: &str, names: &[String]) -> bool {
    let above = host.split_once('.').map(|(_, above)| above);
    let stands_for = |name: &String| name.strip_prefix("*.").is_some_and(|under| Some(under) == above);
    names.iter().any(|name| name == host || stands_for(name))
}
