//! Limits: bodies, waiting times, and how often clients may ask.

use std::collections::BTreeMap;

use super::super::Notes;
use super::super::note::Place;
use super::super::site::{Rate, Site};
use super::super::values::{duration, parse_duration, parse_size, size};
use super::Scope;
use super::lex::Directive;

/// `limit_req_zone`s by name: what they count by, how many, in how many seconds.
pub(super) type Zones = BTreeMap<String, (String, u64, u64)>;

/// An app's or route's limits, as they hold in a scope.
pub(super) fn of(scope: &Scope<'_>, notes: &mut Notes) -> Vec<(&'static str, String)> {
    let mut limits = Vec::new();
    let asked = scope.one("client_max_body_size");
    let body = asked.map_or(Some(NGINX_BODY_BYTES), |one| parse_size(one.arg(0)));
    match body {
        // No limit there; ours goes up to this.
        Some(0) => limits.push(("body", "1024 GiB".to_owned())),
        Some(bytes) => limits.push(("body", size(bytes))),
        None => note_value(asked, notes),
    }
    for (directive, key) in
        [("proxy_connect_timeout", "upstream_connect"), ("proxy_read_timeout", "upstream_head")]
    {
        let Some(one) = scope.one(directive) else { continue };
        match parse_duration(one.arg(0), 1_000) {
            Some(ms) => limits.push((key, duration(ms.min(DAY_MS)))),
            None => note_value(Some(one), notes),
        }
    }
    limits
}

fn note_value(one: Option<&Directive>, notes: &mut Notes) {
    if let Some(one) = one {
        notes.add(
            &one.place,
            format!("`{}` has no value that is understood", one.words()),
            "write the limit by hand",
        );
    }
}

/// The zones of a configuration.
pub(super) fn zones(http: &[Directive], notes: &mut Notes) -> Zones {
    let mut zones = Zones::new();
    for one in http.iter().filter(|one| one.name == "limit_req_zone") {
        let value = |name: &str| one.args.iter().find_map(|arg| arg.strip_prefix(name)?.strip_prefix('='));
        let name = value("zone").and_then(|zone| zone.split(':').next()).unwrap_or_default();
        let rate = value("rate").and_then(|rate| {
            let (count, seconds) = match rate.strip_suffix("r/s") {
                Some(count) => (count, 1),
                None => (rate.strip_suffix("r/m")?, 60),
            };
            Some((count.parse::<u64>().ok().filter(|count| *count > 0)?, seconds))
        });
        match (key(one.arg(0)), rate) {
            (Some(key), Some((count, seconds))) => {
                zones.insert(name.to_owned(), (key, count, seconds));
            }
            (None, _) => {
                let help = "write a rate limit with a key of ours: \"ip\", \"header:NAME\", \"cookie:NAME\"";
                notes.add(&one.place, format!("`{}` counts by what is not carried", one.arg(0)), help);
            }
            (_, None) => note_value(Some(one), notes),
        }
    }
    zones
}

fn key(variable: &str) -> Option<String> {
    let header = |name: &str| Some(format!("header:{}", name.replace('_', "-")));
    match variable.trim_start_matches('$') {
        "binary_remote_addr" | "remote_addr" => Some("ip".to_owned()),
        "host" | "http_host" | "server_name" => header("Host"),
        name if name.starts_with("http_") => header(name.trim_start_matches("http_")),
        name if name.starts_with("cookie_") => Some(format!("cookie:{}", name.trim_start_matches("cookie_"))),
        _ => None,
    }
}

/// The rate limits that hold in a scope. `path` is the location's, of a server there is none.
pub(super) fn rates(scope: &Scope<'_>, zones: &Zones, path: Option<&str>, notes: &mut Notes) -> Vec<Rate> {
    let mut rates = Vec::new();
    for one in scope.own("limit_req") {
        let value = |name: &str| one.args.iter().find_map(|arg| arg.strip_prefix(name)?.strip_prefix('='));
        let zone = value("zone").unwrap_or_default();
        let Some((key, count, seconds)) = zones.get(zone) else {
            notes.add(
                &one.place,
                format!("`{}` names no zone that was carried", one.words()),
                "write it by hand",
            );
            continue;
        };
        let extra = value("burst").and_then(|burst| burst.parse::<u64>().ok()).unwrap_or(0);
        if extra > 0 && !one.args.iter().any(|arg| arg == "nodelay") {
            note_delay(&one.place, notes);
        }
        let observes = scope.is_on("limit_req_dry_run");
        rates.push(rate(zone, key, (*count, *seconds), extra, path, observes));
    }
    rates
}

/// `limit_conn`: what holds for the whole node here.
pub(super) fn connections(site: &mut Site, scope: &Scope<'_>, notes: &mut Notes) {
    let zones = scope.levels.first().map(|http| http.iter()).into_iter().flatten();
    let by_client: Vec<&str> = zones
        .filter(|one| one.name == "limit_conn_zone" && key(one.arg(0)).as_deref() == Some("ip"))
        .filter_map(|one| one.args.iter().find_map(|arg| arg.strip_prefix("zone=")?.split(':').next()))
        .collect();
    let inner = scope.own("location").into_iter().flat_map(|one| one.block.iter().flatten());
    let all = scope.all("limit_conn").into_iter().chain(inner.filter(|one| one.name == "limit_conn"));
    for one in all {
        match one.arg(1).parse::<u32>() {
            Ok(most) if by_client.contains(&one.arg(0)) => {
                // The least strict, so that nobody is kept out who was served.
                let most = site.connections_per_client.map_or(most, |known| known.max(most));
                site.connections_per_client = Some(most.clamp(1, 1_000_000));
                let help = "it is `connections_per_address` in `[limits]` of phalanx.toml; requests over HTTP/2 are no connections";
                notes.add(&one.place, format!("`{}` holds for the whole node", one.words()), help);
            }
            _ => {
                let help = "give its upstreams `max_requests`, or write a rate limit";
                notes.add(&one.place, format!("`{}` is not carried", one.words()), help);
            }
        }
    }
}

fn note_delay(place: &Place, notes: &mut Notes) {
    let help = "nothing to do; a lower `burst` makes it stricter";
    notes.add(place, "requests within the burst were delayed; here they pass at once", help);
}

/// Our burst counts the request itself, and is no more than the rate's count: a longer time has the same rate and a larger count.
fn rate(
    zone: &str,
    key: &str,
    (count, seconds): (u64, u64),
    extra: u64,
    path: Option<&str>,
    observes: bool,
) -> Rate {
    let burst = extra.saturating_add(1).min(BURST_MAX);
    let times = burst.div_ceil(count).max(1);
    let span = match times.saturating_mul(seconds) {
        1 => "s".to_owned(),
        60 => "min".to_owned(),
        seconds => format!("{}s", seconds.min(86_400)),
    };
    let name = match path {
        Some(path) => format!("{zone}{}", path.trim_end_matches('/').replace('/', ".")),
        None => zone.to_owned(),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    Rate {
        name: name.chars().map(|c| if plain(c) { c } else { '-' }).take(64).collect(),
        key: key.to_owned(),
        rate: format!("{}/{span}", count.saturating_mul(times)),
        burst,
        path: path.map(str::to_owned),
        observes,
    }
}

/// nginx's own default, which many sites rely on without knowing.
const NGINX_BODY_BYTES: u64 = 1 << 20;
const DAY_MS: u64 = 86_400_000;
/// More at once is no limit.
const BURST_MAX: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_beyond_the_rate_counts_over_a_longer_time() {
        for (per, extra, expected, burst) in [
            ((10, 1), 0, "10/s", 1),
            ((10, 1), 20, "30/3s", 21),
            ((30, 60), 5, "30/min", 6),
            ((1, 60), 5, "6/360s", 6),
        ] {
            let made = rate("one", "ip", per, extra, None, false);
            assert_eq!((made.rate.as_str(), made.burst), (expected, burst));
        }
        assert_eq!(rate("one", "ip", (1, 1), 0, Some("/a b/c/"), false).name, "one.a-b.c");
    }
}
