//! An app's upstreams: where they are, how one is chosen, how failures are met.

use std::collections::HashMap;

use phalanx_model::limits::{
    UPSTREAM_CHECK_PATH_BYTES_MAX, UPSTREAM_EJECT_MAX_MS, UPSTREAM_QUEUE_REQUESTS_MAX, UPSTREAM_RETRIES_MAX,
    UPSTREAM_WEIGHT_MAX, UPSTREAMS_PER_APP_MAX,
};

use super::Check as Checker;
use super::origin_tls::Spoken;
use crate::balance::{Balance, Check, Health, Queue, Retries, Server, Upstreams};
use crate::raw::RawApp;
use crate::raw::upstreams::{RawHealth, RawQueue, RawRetries, RawServer, RawUpstream, RawUpstreams};
use crate::toml_text::At;
use crate::units::percent;
use crate::upstream::{Scheme, Upstream, is_host_name};

impl Checker<'_> {
    /// The upstreams of an app; faulty ones are reported and left out.
    pub(super) fn upstreams(&mut self, raw: &At<RawApp>) -> Upstreams {
        let servers = self.servers(raw);
        let several = servers.len() > 1;
        if several && servers.iter().all(|server| server.backup) {
            let fault = self.text.error_at(&raw.span, "every upstream is a `backup`");
            self.found.push(fault.with_help("leave `backup` out where requests usually go"));
        }
        Upstreams {
            balance: self.balance(raw, &servers),
            health: self.health(&raw.health),
            retries: self.retries(&raw.retries),
            queue: self.queue(&raw.queue),
            sticky: self.sticky(raw, &servers),
            servers,
        }
    }

    fn servers(&mut self, raw: &At<RawApp>) -> Vec<Server> {
        let Some(written) = &raw.upstream else {
            let fault = self.text.error_at(&raw.span, "the app has no `upstream`");
            self.found
                .push(fault.with_help("say where its requests go: `upstream = \"http://127.0.0.1:3000\"`"));
            return Vec::new();
        };
        let app = self.spoken_to_all(raw);
        let several = match &written.value {
            RawUpstreams::One(url) => {
                let url = At { value: url.clone(), span: written.span.clone() };
                return self.url(&url).map(|at| self.at(at, &app)).into_iter().collect();
            }
            RawUpstreams::Several(several) => several,
        };
        if several.is_empty() {
            self.error(&written.span, "the list of upstreams is empty");
        }
        if let Some(one_more) = several.get(UPSTREAMS_PER_APP_MAX) {
            self.error(&one_more.span, format!("an app has {UPSTREAMS_PER_APP_MAX} upstreams at most"));
        }
        let mut places = HashMap::new();
        let mut servers: Vec<Server> = Vec::new();
        for entry in several.iter().take(UPSTREAMS_PER_APP_MAX) {
            let Some(server) = self.server(entry, &app) else { continue };
            let line = self.text.line_of(entry.span.start);
            let place = server.upstream.place();
            if let Some(first) = places.insert(place, line) {
                let message =
                    format!("the upstream {} is already there, on line {first}", server.upstream.place());
                let fault = self.text.error_at(&entry.span, message);
                self.found.push(fault.with_help("give it a `weight` if it should get more"));
            }
            servers.push(server);
        }
        servers
    }

    fn server(&mut self, entry: &At<RawUpstream>, app: &Spoken) -> Option<Server> {
        match &entry.value {
            RawUpstream::Url(url) => {
                let url = At { value: url.clone(), span: entry.span.clone() };
                self.url(&url).map(|at| self.at(at, app))
            }
            RawUpstream::Server(server) => {
                let Some(url) = &server.url else {
                    self.error(&entry.span, "the upstream has no `url`");
                    return None;
                };
                let upstream = self.url(url)?;
                Some(self.told_server(server, upstream, app))
            }
        }
    }

    fn at(&mut self, upstream: Upstream, app: &Spoken) -> Server {
        let Spoken { protocol, tls, proxy } = self.spoken(None, &upstream, app);
        let tls = (upstream.scheme == Scheme::Https).then_some(tls);
        Server { protocol, tls, proxy, ..Server::at(upstream) }
    }

    fn told_server(&mut self, raw: &RawServer, upstream: Upstream, app: &Spoken) -> Server {
        let many = 1..=u32::MAX;
        let Spoken { protocol, tls, proxy } = self.spoken(Some(raw), &upstream, app);
        Server {
            protocol,
            proxy,
            tls: (upstream.scheme == Scheme::Https).then_some(tls),
            upstream,
            weight: self.within("weight", raw.weight.as_ref(), 1..=UPSTREAM_WEIGHT_MAX, 1),
            backup: raw.backup.unwrap_or_default(),
            requests_max: raw
                .max_requests
                .as_ref()
                .map(|most| self.within("max_requests", Some(most), many, 1)),
        }
    }

    fn sticky(&mut self, raw: &RawApp, servers: &[Server]) -> Option<String> {
        let name = raw.sticky_cookie.as_ref()?;
        if !crate::rate_limit::is_token(name) {
            self.error(&name.span, format!("`{}` is no name of a cookie", name.value));
        }
        if servers.len() == 1 && servers.iter().all(|server| server.upstream.is_literal()) {
            let message = "there is one upstream, and every client stays with it";
            self.found.push(self.text.warning_at(&name.span, message));
        }
        Some(name.value.clone())
    }

    fn url(&mut self, url: &At<String>) -> Option<Upstream> {
        let upstream = Upstream::parse(url).map_err(|message| self.error(&url.span, message)).ok()?;
        match (self.passes, upstream.scheme) {
            (false, Scheme::Tcp) => {
                let fault =
                    self.text.error_at(&url.span, "`tcp` is for connections that are passed on unopened");
                self.found.push(fault.with_help(
                    "write `http://` or `https://`, or `passthrough = true` or `tcp = true` for the app",
                ));
                None
            }
            (true, Scheme::Http | Scheme::Https) if upstream.socket.is_none() => {
                let fault = self
                    .text
                    .error_at(&url.span, "an app with `passthrough` or `tcp` speaks no HTTP to its upstream");
                self.found.push(fault.with_help(format!("write `tcp://{}`", upstream.authority())));
                None
            }
            _ => Some(upstream),
        }
    }

    fn balance(&mut self, raw: &RawApp, servers: &[Server]) -> Balance {
        let Some(written) = &raw.balance else { return Balance::default() };
        match Balance::parse(written) {
            Ok(balance) => {
                if servers.len() == 1 && servers.iter().all(|server| server.upstream.is_literal()) {
                    let message = "there is one upstream, and nothing to balance";
                    self.found.push(self.text.warning_at(&written.span, message));
                }
                balance
            }
            Err(message) => {
                let fault = self.text.error_at(&written.span, message);
                self.found.push(
                    fault.with_help("known here: least_requests, round_robin, hash_client, hash_cookie:NAME"),
                );
                Balance::default()
            }
        }
    }

    fn health(&mut self, raw: &RawHealth) -> Health {
        let default = Health::default();
        let wait = 100..=UPSTREAM_EJECT_MAX_MS;
        let health = Health {
            failures: self.within("failures", raw.failures.as_ref(), 0..=1_000, default.failures),
            eject_ms: self.duration(raw.eject.as_ref(), default.eject_ms, &wait),
            eject_max_ms: self.duration(raw.max_eject.as_ref(), default.eject_max_ms, &wait),
            ejected_max_percent: self
                .percent(raw.max_ejected.as_ref())
                .unwrap_or(default.ejected_max_percent),
            error_rate_percent: self.percent(raw.error_rate.as_ref()),
            slow_start_ms: self.duration(
                raw.slow_start.as_ref(),
                default.slow_start_ms,
                &(0..=UPSTREAM_EJECT_MAX_MS),
            ),
            check: self.health_check(raw),
            when_all_down: raw.when_all_down.unwrap_or_default(),
        };
        if health.eject_ms > health.eject_max_ms {
            let span = raw.max_eject.as_ref().or(raw.eject.as_ref()).map(|at| at.span.clone());
            self.error(&span.unwrap_or_default(), "`max_eject` is shorter than `eject`");
        }
        health
    }

    fn health_check(&mut self, raw: &RawHealth) -> Option<Check> {
        let Some(path) = &raw.path else {
            let texts = [&raw.host, &raw.interval, &raw.timeout, &raw.status];
            let of_check = texts.into_iter().flatten().map(|at| at.span.clone());
            let counts = [&raw.down_after, &raw.up_after].into_iter().flatten().map(|at| at.span.clone());
            if let Some(span) = of_check.chain(counts).next() {
                let fault = self.text.error_at(&span, "the upstreams are not asked for anything");
                self.found.push(fault.with_help("add `path`, as in `path = \"/healthz\"`"));
            }
            return None;
        };
        let plain = path.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b'#');
        if !path.starts_with('/') || !plain || path.len() > UPSTREAM_CHECK_PATH_BYTES_MAX {
            self.error(&path.span, format!("`{}` is no path: it starts with `/`, as it is sent", path.value));
        }
        let host = raw.host.as_ref().and_then(|host| {
            let bare = host.split(':').next().unwrap_or_default();
            if is_host_name(bare) {
                return Some(host.value.clone());
            }
            self.error(&host.span, format!("`{}` is no host name", host.value));
            None
        });
        let check = Check {
            path: path.value.clone(),
            host,
            interval_ms: self.duration(raw.interval.as_ref(), 5_000, &(100..=3_600_000)),
            timeout_ms: self.duration(raw.timeout.as_ref(), 2_000, &(10..=60_000)),
            status: self.statuses(raw.status.as_ref()),
            down_after: self.within("down_after", raw.down_after.as_ref(), 1..=100, 3),
            up_after: self.within("up_after", raw.up_after.as_ref(), 1..=100, 2),
        };
        Some(check)
    }

    fn statuses(&mut self, raw: Option<&At<String>>) -> (u16, u16) {
        let default = (200, 399);
        let Some(raw) = raw else { return default };
        let (least, most) = raw.split_once('-').unwrap_or((raw, raw));
        match (least.trim().parse(), most.trim().parse()) {
            (Ok(least), Ok(most)) if 100 <= least && least <= most && most <= 599 => (least, most),
            _ => {
                let message = format!("`{}`: a status is `200`, or `200-399` for several", raw.value);
                self.error(&raw.span, message);
                default
            }
        }
    }

    fn retries(&mut self, raw: &RawRetries) -> Retries {
        let default = Retries::default();
        let mut retries = Retries {
            attempts: self.within(
                "attempts",
                raw.attempts.as_ref(),
                0..=UPSTREAM_RETRIES_MAX,
                default.attempts,
            ),
            budget_percent: self.percent(raw.budget.as_ref()).unwrap_or(default.budget_percent),
            budget_least_per_s: self.within(
                "budget_least",
                raw.budget_least.as_ref(),
                0..=10_000,
                default.budget_least_per_s,
            ),
            on_timeout: false,
            on_statuses: Vec::new(),
        };
        for reason in &raw.on {
            match (reason.as_str(), reason.parse()) {
                ("timeout", _) => retries.on_timeout = true,
                (_, Ok(status @ 500..=599)) => retries.on_statuses.push(status),
                _ => {
                    let message = format!("`{}` is no reason to send a request again", reason.value);
                    let fault = self.text.error_at(&reason.span, message);
                    self.found.push(fault.with_help("write \"timeout\", or a status as \"503\""));
                }
            }
        }
        retries
    }

    fn queue(&mut self, raw: &RawQueue) -> Queue {
        let default = Queue::default();
        Queue {
            requests_max: self.within(
                "requests",
                raw.requests.as_ref(),
                0..=UPSTREAM_QUEUE_REQUESTS_MAX,
                default.requests_max,
            ),
            wait_max_ms: self.duration(raw.wait.as_ref(), default.wait_max_ms, &(1..=600_000)),
        }
    }

    fn percent(&mut self, raw: Option<&At<String>>) -> Option<u8> {
        let raw = raw?;
        percent(raw).map_err(|message| self.error(&raw.span, message)).ok()
    }
}
