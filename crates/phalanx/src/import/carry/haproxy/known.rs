//! TABLE: lines of HAProxy: which are carried, which mean nothing here, and what to do about the others.

use super::super::Notes;
use super::lex::Section;

/// Notes what is not carried of a section.
pub(super) fn report(section: &Section, notes: &mut Notes) {
    match section.kind() {
        "global" | "resolvers" | "cache" | "mailers" | "ring" | "http-errors" | "crt-store" => return,
        "defaults" | "frontend" | "backend" | "listen" => {}
        kind => {
            let what = format!("the section `{kind} {}` is not carried", section.name());
            let help = match kind {
                "peers" => "nodes of a fleet tell each other decisions and counts: see the guide on fleets",
                "userlist" => "leave passwords to the app",
                _ => "keep what it is for elsewhere",
            };
            return notes.add(&section.head.place, what, help);
        }
    }
    for line in &section.lines {
        let (name, second) = (line.word(0), line.word(1));
        let carried = CARRIED.contains(&name) || MEANINGLESS.contains(&name);
        let of_two =
            |list: &[(&str, &str)]| list.iter().any(|(first, next)| *first == name && *next == second);
        if carried || of_two(CARRIED_PAIRS) || name == "option" && OPTIONS.contains(&second) {
            continue;
        }
        let what = format!("`{}` is not carried", line.text());
        let pair = LISTED_PAIRS.iter().find(|(first, next, _)| *first == name && *next == second);
        let help = pair.map(|(_, _, help)| *help);
        let help = help.or_else(|| LISTED.iter().find(|(known, _)| *known == name).map(|(_, help)| *help));
        notes.add(
            &line.place,
            what,
            help.unwrap_or("look up in the guide whether there is a setting for it"),
        );
    }
}

const CARRIED: &[&str] = &[
    "mode",
    "bind",
    "acl",
    "use_backend",
    "default_backend",
    "server",
    "server-template",
    "balance",
    "timeout",
    "retries",
    "http-check",
    "redirect",
    "compression",
    "cookie",
];

const CARRIED_PAIRS: &[(&str, &str)] = &[
    ("http-request", "redirect"),
    ("http-request", "return"),
    ("http-request", "deny"),
    ("http-request", "set-header"),
    ("http-request", "add-header"),
    ("http-request", "del-header"),
    ("http-response", "set-header"),
    ("http-response", "add-header"),
    ("http-response", "del-header"),
];

const MEANINGLESS: &[&str] = &[
    "log",
    "log-format",
    "log-tag",
    "maxconn",
    "fullconn",
    "http-reuse",
    "hash-type",
    "description",
    "id",
    "load-server-state-from-file",
    "default-server",
    "backlog",
    "monitor-uri",
    "unique-id-format",
    "unique-id-header",
    "disabled",
    "enabled",
    "no",
    "source",
    "capture",
    "rate-limit",
];

const OPTIONS: &[&str] = &[
    "httpchk",
    "httplog",
    "dontlognull",
    "forwardfor",
    "http-server-close",
    "http-keep-alive",
    "httpclose",
    "redispatch",
    "tcplog",
    "log-health-checks",
    "prefer-last-server",
    "tcpka",
    "clitcpka",
    "srvtcpka",
    "http-buffer-request",
    "splice-auto",
    "abortonclose",
    "allbackups",
    "log-separate-errors",
    "dontlog-normal",
    "http-ignore-probes",
    "socket-stats",
    "contstats",
    "tcp-smart-accept",
    "tcp-smart-connect",
];

const LIMITS: &str = "write a rate limit: see the guide on rate limits";
const RULE: &str = "write a rule of SecLang into `extra_rules`";

const LISTED_PAIRS: &[(&str, &str, &str)] = &[
    ("http-request", "track-sc0", LIMITS),
    ("http-request", "track-sc1", LIMITS),
    ("http-request", "sc-inc-gpc0", LIMITS),
    ("http-request", "set-path", "write a route with `rewrite`"),
    ("http-request", "replace-path", "write a route with `rewrite`"),
    ("http-request", "replace-uri", "write a route with `rewrite`"),
    ("http-request", "set-uri", "write a route with `rewrite`"),
    ("http-request", "auth", "leave it to the app, or to a proxy behind Phalanx"),
    ("http-request", "tarpit", "ban who does it: see the guide on bans"),
    ("http-request", "cache-use", "Phalanx has no response cache: keep one behind it"),
    ("http-request", "set-var", RULE),
    ("http-request", "lua.", RULE),
    ("http-request", "set-src", "name the networks of your forwarders in `trust_forwarded`"),
    ("tcp-request", "connection", LIMITS),
    ("tcp-request", "content", LIMITS),
    ("tcp-request", "inspect-delay", "the time of heads and handshakes is limited in any case"),
    ("stick", "on", "see the guide on upstreams for sticky sessions, or choose by `hash_client`"),
    ("option", "ssl-hello-chk", "checks ask over HTTP: name a `path`"),
    ("option", "tcp-check", "checks ask over HTTP: name a `path`"),
    ("option", "mysql-check", "whether a server of another protocol works is told by connections"),
    ("option", "nolinger", "nothing to do"),
];

const LISTED: &[(&str, &str)] = &[
    ("stick-table", "see the guides on rate limits and on sticky sessions"),
    ("stick", "see the guide on upstreams for sticky sessions, or choose by `hash_client`"),
    ("appsession", "choose by `hash_cookie:NAME`"),
    ("http-request", RULE),
    ("http-response", RULE),
    ("http-after-response", RULE),
    ("tcp-request", LIMITS),
    ("tcp-response", "Phalanx proxies HTTP"),
    ("stats", "see the console and `/metrics`"),
    ("errorfile", "let the app show its pages; see the guide for pages of Phalanx's own"),
    ("errorloc", "let the app show its pages"),
    ("errorloc302", "let the app show its pages"),
    ("errorloc303", "let the app show its pages"),
    ("errorfiles", "let the app show its pages"),
    ("filter", "the rules of Phalanx inspect requests"),
    ("reqrep", "write a route with `rewrite`"),
    ("rspadd", "see `response_headers` in the guide"),
    ("reqadd", "see `request_headers` in the guide"),
    ("use-server", "write a route with an upstream of its own"),
    ("email-alert", "see the alert rules in `observability`"),
];
