//! `backend`: servers, how one is chosen and checked, and what is done with requests to them.

use super::super::Notes;
use super::super::emit::quoted;
use super::super::site::{Does, Edits, Pool, Server, ServerTls, Target};
use super::super::values::{duration, hsts, may_change, parse_duration, with_variables};
use super::lex::{Line, Section};

/// What a backend does with all requests that it gets. `defaults` holds where it says nothing itself.
pub(super) fn does(section: &Section, defaults: Option<&Section>, notes: &mut Notes) -> Does {
    let mut pool = Pool { balance: Some("round_robin".to_owned()), ..Pool::default() };
    let mut does = Does::default();
    let lines = defaults.into_iter().flat_map(|section| section.lines.iter()).chain(&section.lines);
    for line in lines {
        match line.word(0) {
            "balance" => balance(&mut pool, line, notes),
            "timeout" => timeout(&mut does, &mut pool, line),
            "retries" => {
                if let Ok(count) = line.word(1).parse::<u32>() {
                    set(&mut pool.retries, "attempts", count.min(8).to_string());
                }
            }
            "cookie" if !line.word(1).is_empty() => pool.sticky = Some(line.word(1).to_owned()),
            "option" if line.word(1) == "httpchk" => check(&mut pool, line),
            "http-check" => http_check(&mut pool, line, notes),
            _ => {}
        }
    }
    let mut checked = false;
    let of_all = defaults.into_iter().chain([section]).flat_map(|section| section.all("default-server"));
    let of_all: Vec<String> = of_all.flat_map(|line| line.from(1)).cloned().collect();
    for line in section.lines.iter().filter(|line| matches!(line.word(0), "server" | "server-template")) {
        // What the server says itself comes first, and so counts.
        let mut line = line.clone();
        line.words.extend(of_all.iter().cloned());
        checked |= line.has("check");
        let first = pool.servers.is_empty();
        server(&mut pool, &line, notes);
        let wants = told_of_clients(&line);
        if first {
            pool.tells_client = wants;
        } else if pool.tells_client != wants {
            let what = format!("server {} wants another PROXY header than the one before", line.word(1));
            notes.add(&line.place, what, "make an app of those that want it: `proxy_protocol` is an app's");
        }
    }
    // Without `check` nobody is asked; without a path we cannot ask.
    if !checked || !pool.health.iter().any(|(key, _)| *key == "path") {
        let of_check = ["path", "interval", "status", "down_after", "up_after", "host"];
        pool.health.retain(|(key, _)| !of_check.contains(key));
    }
    edits(&mut does, section, notes);
    does.target = Target::Upstreams(pool);
    does
}

/// The PROXY header that a server wants.
fn told_of_clients(line: &Line) -> Option<&'static str> {
    let newer = ["send-proxy-v2", "send-proxy-v2-ssl", "send-proxy-v2-ssl-cn"];
    match newer.iter().any(|word| line.has(word)) {
        true => Some("v2"),
        false => line.has("send-proxy").then_some("v1"),
    }
}

fn balance(pool: &mut Pool, line: &Line, notes: &mut Notes) {
    let balance = match line.word(1) {
        "roundrobin" | "static-rr" | "first" => "round_robin".to_owned(),
        "leastconn" | "random" => "least_requests".to_owned(),
        "source" => "hash_client".to_owned(),
        "hash" if line.word(2) == "src" => "hash_client".to_owned(),
        _ => {
            let what = format!("`{}` is not carried", line.text());
            notes.add(&line.place, what, "choose by `hash_client` or `hash_cookie:NAME`");
            return;
        }
    };
    pool.balance = Some(balance);
}

fn timeout(does: &mut Does, pool: &mut Pool, line: &Line) {
    let Some(ms) = parse_duration(line.word(2), 1) else { return };
    let ms = ms.clamp(1, 86_400_000);
    match line.word(1) {
        "connect" => set(&mut does.limits, "upstream_connect", duration(ms)),
        "server" => set(&mut does.limits, "upstream_head", duration(ms)),
        "queue" => set(&mut pool.queue, "wait", quoted(&duration(ms))),
        "check" => set(&mut pool.health, "timeout", quoted(&duration(ms.clamp(10, 60_000)))),
        _ => {}
    }
}

/// `option httpchk [METHOD] [PATH] [VERSION]`.
fn check(pool: &mut Pool, line: &Line) {
    let path = line.from(2).iter().find(|word| word.starts_with('/')).map_or("/", String::as_str);
    set(&mut pool.health, "path", quoted(path));
}

fn http_check(pool: &mut Pool, line: &Line, notes: &mut Notes) {
    match (line.word(1), line.word(2)) {
        ("send", _) => {
            if let Some(path) = line.after("uri") {
                set(&mut pool.health, "path", quoted(path));
            }
            if let (Some("Host" | "host"), Some(host)) =
                (line.after("hdr"), line.from(1).iter().skip_while(|w| *w != "hdr").nth(2))
            {
                set(&mut pool.health, "host", quoted(host));
            }
        }
        ("expect", "status") if line.word(3).bytes().all(|b| b.is_ascii_digit() || b == b'-') => {
            set(&mut pool.health, "status", quoted(line.word(3)));
        }
        _ => {
            let what = format!("`{}` is not carried", line.text());
            notes.add(&line.place, what, "checks ask for a `path` and look at the `status`");
        }
    }
}

fn server(pool: &mut Pool, line: &Line, notes: &mut Notes) {
    let address = if line.word(0) == "server" { line.word(2) } else { line.word(3) };
    let scheme = if line.has("ssl") { "https" } else { "http" };
    let url = match address.strip_prefix("unix@").or_else(|| address.starts_with('/').then_some(address)) {
        Some(path) => format!("unix:{path}"),
        None => {
            let bare = address.trim_start_matches("ipv4@").trim_start_matches("ipv6@");
            let (host, port) = bare.rsplit_once(':').unwrap_or((bare, ""));
            if host.is_empty() || port.parse::<u16>().is_err() || host.contains('@') {
                let what = format!("the address of server `{}` is not carried", line.word(1));
                notes.add(&line.place, what, "write its URL into `upstreams`, with a port");
                return;
            }
            let host = if host.contains(':') && !host.starts_with('[') {
                format!("[{host}]")
            } else {
                host.to_owned()
            };
            format!("{scheme}://{host}:{port}")
        }
    };
    let number = |name: &str| line.after(name).and_then(|value| value.parse::<u32>().ok());
    if line.has("disabled") || number("weight") == Some(0) {
        let what = format!("server {} gets no requests and was left out", line.word(1));
        notes.add(&line.place, what, "add it to the upstreams when it is back");
        return;
    }
    if let Some(ms) = line.after("inter").and_then(|value| parse_duration(value, 1)) {
        set(&mut pool.health, "interval", quoted(&duration(ms.clamp(100, 3_600_000))));
    }
    for (word, key) in [("fall", "down_after"), ("rise", "up_after")] {
        if let Some(count) = number(word) {
            set(&mut pool.health, key, count.clamp(1, 100).to_string());
        }
    }
    if let Some(ms) = line.after("slowstart").and_then(|value| parse_duration(value, 1)) {
        set(&mut pool.health, "slow_start", quoted(&duration(ms)));
    }
    if line.has("crt") {
        let what = format!("`crt` of server {} is not carried", line.word(1));
        notes.add(&line.place, what, "see the guide on upstreams");
    }
    pool.servers.push(Server {
        url,
        weight: number("weight").map(|weight| weight.clamp(1, 1_000)).filter(|weight| *weight != 1),
        backup: line.has("backup"),
        max_requests: number("maxconn").filter(|most| *most > 0),
        http2: line.after("proto") == Some("h2"),
        tls: if line.has("ssl") { server_tls(line, notes) } else { ServerTls::default() },
    });
}

/// How a server over TLS is known.
fn server_tls(line: &Line, notes: &mut Notes) -> ServerTls {
    let unverified = line.after("verify") == Some("none");
    if unverified {
        let help = "name its authorities in `ca_file`, or its key in `pins`, and take `verify` out";
        notes.add(&line.place, format!("server {} was not verified, and is not", line.word(1)), help);
    }
    let ca = line.after("ca-file").filter(|ca| !unverified && !ca.starts_with('@'));
    let name = line.after("sni").and_then(|name| name.strip_prefix("str(")?.strip_suffix(')'));
    ServerTls { unverified, ca: ca.map(str::to_owned), name: name.map(str::to_owned) }
}

/// `http-request` and `http-response` that change header fields, without a condition.
pub(super) fn edits(does: &mut Does, section: &Section, notes: &mut Notes) {
    for line in &section.lines {
        let edits = match line.word(0) {
            "http-request" => &mut does.request,
            "http-response" => &mut does.response,
            _ => continue,
        };
        let of_request = line.word(0) == "http-request";
        if !of_request
            && line.word(2).eq_ignore_ascii_case("strict-transport-security")
            && hsts(line.word(3)).is_some()
        {
            does.hsts = hsts(line.word(3));
        } else if matches!(line.word(1), "set-header" | "add-header" | "del-header") {
            edit(edits, line, of_request, notes);
        }
    }
}

fn edit(edits: &mut Edits, line: &Line, of_request: bool, notes: &mut Notes) {
    let name = line.word(2);
    let conditional = line.words.iter().skip(3).any(|word| word == "if" || word == "unless");
    // What is set in any case.
    let ours = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"];
    if ours.contains(&name.to_ascii_lowercase().as_str()) {
        return;
    }
    let value = template(line.word(3));
    if !may_change(name, of_request) {
        let help = "it is the node's own: nothing to do, or let the app read another field";
        return notes.add(&line.place, format!("`{name}` cannot be changed"), help);
    }
    match (line.word(1), value) {
        _ if conditional => {
            let help = "write it into `request_headers` or `response_headers` of a route";
            notes.add(&line.place, format!("`{}` has a condition", line.text()), help);
        }
        ("del-header", _) => edits.remove.push(name.to_owned()),
        ("set-header", Some(value)) => edits.set.push((name.to_owned(), value)),
        ("add-header", Some(value)) => edits.add.push((name.to_owned(), value)),
        _ => {
            let help = "write it into `request_headers` or `response_headers` by hand";
            notes.add(&line.place, format!("`{}` has variables that are not carried", line.text()), help);
        }
    }
}

/// A log format of HAProxy as one of our texts.
pub(super) fn template(text: &str) -> Option<String> {
    let mut plain = text.to_owned();
    for (theirs, ours) in [
        ("%[src]", "$client"),
        ("%ci", "$client"),
        ("%[hdr(host)]", "$host"),
        ("%[req.hdr(host)]", "$host"),
        ("%[hdr(Host)]", "$host"),
        ("%[req.hdr(Host)]", "$host"),
        ("%[path]", "$path"),
        ("%[capture.req.uri]", "$path$query"),
        ("%[pathq]", "$path$query"),
        ("%[unique-id]", "$request_id"),
    ] {
        plain = plain.replace(theirs, ours);
    }
    if plain.contains('%') {
        return None;
    }
    with_variables(&plain, |name| {
        let known = ["client", "host", "path", "query", "request_id"];
        known.contains(&name).then(|| format!("{{{name}}}"))
    })
}

fn set(values: &mut Vec<(&'static str, String)>, key: &'static str, value: String) {
    values.retain(|(known, _)| *known != key);
    values.push((key, value));
}
