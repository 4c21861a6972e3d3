//! Which command asks which endpoint: whatever the API can do, the command line can, and the other way round.

use std::collections::BTreeSet;

use clap::CommandFactory;

use crate::args::Cli;

/// Method, path, and the commands that ask it; or why none does.
const TABLE: &[(&str, &str, By)] = &[
    ("get", "/api/v1/status", Commands(&["status", "top"])),
    ("get", "/api/v1/selftest", Commands(&["selftest"])),
    ("post", "/api/v1/selftest", Commands(&["selftest"])),
    ("get", "/api/v1/report", Commands(&["report"])),
    ("get", "/api/v1/reports", Commands(&["report schedule list"])),
    ("post", "/api/v1/reports/{name}/send", Commands(&["report schedule send"])),
    ("get", "/api/v1/fixes", Commands(&["status"])),
    ("get", "/api/v1/audit", Commands(&["audit"])),
    ("get", "/api/v1/traffic", Commands(&["traffic"])),
    ("get", "/api/v1/traffic/actors", Commands(&["traffic"])),
    ("get", "/api/v1/receivers", Commands(&["receiver list"])),
    ("post", "/api/v1/receivers/{name}/test", Commands(&["receiver test"])),
    ("get", "/api/v1/nodes", Commands(&["fleet status"])),
    ("delete", "/api/v1/nodes/{site}/{node}", Commands(&["fleet forget"])),
    ("delete", "/api/v1/nodes/{site}/{node}/decisions", Commands(&["fleet withdraw"])),
    ("get", "/api/v1/recalls", Commands(&["decision list", "explain"])),
    ("get", "/api/v1/decisions", Commands(&["decision list", "top"])),
    ("post", "/api/v1/decisions", Commands(&["decision add"])),
    ("delete", "/api/v1/decisions/{id}", Commands(&["decision delete"])),
    ("get", "/api/v1/held", Commands(&["decision list"])),
    ("post", "/api/v1/held/{id}", Commands(&["decision approve"])),
    ("delete", "/api/v1/held/{id}", Commands(&["decision reject"])),
    ("get", "/api/v1/blocklists", Commands(&["blocklist list"])),
    ("get", "/api/v1/blocklists/{name}", Commands(&["blocklist show"])),
    ("put", "/api/v1/blocklists/{name}", Commands(&["blocklist import"])),
    ("delete", "/api/v1/blocklists/{name}", Commands(&["blocklist remove"])),
    ("get", "/api/v1/bouncers", Commands(&["bouncer list"])),
    ("post", "/api/v1/bouncers", Commands(&["bouncer add"])),
    ("delete", "/api/v1/bouncers/{name}", Commands(&["bouncer delete"])),
    ("get", "/api/v1/incidents", Commands(&["incidents", "top"])),
    ("get", "/api/v1/incidents/{id}", Commands(&["incident show"])),
    ("post", "/api/v1/incidents/{id}/close", Commands(&["incident close"])),
    ("post", "/api/v1/incidents/{id}/undo", Commands(&["incident undo"])),
    ("post", "/api/v1/incidents/{id}/answer", Commands(&["incident answer"])),
    ("get", "/api/v1/playbooks", Commands(&["playbook list"])),
    ("post", "/api/v1/playbooks/{name}/run", Commands(&["playbook run"])),
    ("get", "/api/v1/events", Commands(&["events", "top"])),
    ("get", "/api/v1/events/{id}", Commands(&["explain", "waf ftw"])),
    ("get", "/api/v1/events/{id}/suggestion", Commands(&["waf suggest"])),
    ("get", "/api/v1/fleet/events", Commands(&["events"])),
    ("get", "/api/v1/fleet/events/{id}", Commands(&["explain"])),
    ("get", "/api/v1/stream", Browsers("it does not end; lists have what it tells")),
    ("get", "/api/v1/fleet", Commands(&["fleet status"])),
    ("post", "/api/v1/fleet/invitations", Commands(&["fleet invite"])),
    ("get", "/api/v1/fleet/delegate", Commands(&["fleet status"])),
    ("post", "/api/v1/fleet/delegations", Commands(&["fleet delegate"])),
    ("delete", "/api/v1/fleet/delegations/{site}/{node}", Commands(&["fleet delegate"])),
    ("post", "/api/v1/fleet/revocations", Commands(&["fleet revoke"])),
    ("post", "/api/v1/fleet/orders", Commands(&["fleet cordon", "fleet drain", "fleet evict"])),
    ("get", "/api/v1/fleet/snapshot", Commands(&["fleet snapshot"])),
    ("post", "/api/v1/fleet/restore", Commands(&["fleet restore"])),
    ("post", "/api/v1/fleet/root", Commands(&["fleet rollover"])),
    ("delete", "/api/v1/fleet/root", Commands(&["fleet rollover"])),
    ("get", "/api/v1/policy", Commands(&["policy status", "policy plan"])),
    ("post", "/api/v1/policy/bundles", Commands(&["policy push"])),
    ("get", "/api/v1/policy/versions", Commands(&["policy history", "policy drift", "policy follow"])),
    (
        "get",
        "/api/v1/policy/versions/{version}",
        Commands(&["policy show", "policy diff", "policy plan", "policy drift"]),
    ),
    (
        "post",
        "/api/v1/policy/check",
        Browsers("`phalanx check` compiles files where it runs, without a node"),
    ),
    (
        "post",
        "/api/v1/policy/diff",
        Browsers("`phalanx policy diff` compares files and versions where it runs"),
    ),
    ("get", "/api/v1/policy/followers", Commands(&["policy drift"])),
    ("post", "/api/v1/policy/followers", Commands(&["policy follow"])),
    ("get", "/api/v1/policy/changes", Commands(&["policy changes"])),
    ("post", "/api/v1/policy/changes", Commands(&["policy apply"])),
    ("get", "/api/v1/policy/changes/{id}", Commands(&["policy change"])),
    ("post", "/api/v1/policy/changes/{id}/approve", Commands(&["policy approve"])),
    ("post", "/api/v1/policy/changes/{id}/reject", Commands(&["policy reject"])),
    ("get", "/api/v1/exclusions", Commands(&["waf exclusions"])),
    ("post", "/api/v1/exclusions", Commands(&["waf suggest"])),
    ("post", "/api/v1/policy/replay", Commands(&["policy replay", "policy plan"])),
    ("post", "/api/v1/policy/promote", Commands(&["policy promote"])),
    ("post", "/api/v1/policy/rollback", Commands(&["policy rollback"])),
    ("post", "/api/v1/policy/home", Commands(&["policy move-home"])),
    ("post", "/api/v1/policy/reload", Commands(&["reload"])),
    ("post", "/api/v1/upgrade", Commands(&["upgrade"])),
    ("post", "/api/v1/login-links", Commands(&["login"])),
    ("get", "/api/v1/operators", Commands(&["operator list", "operator token list"])),
    ("post", "/api/v1/operators", Commands(&["operator add"])),
    (
        "patch",
        "/api/v1/operators/{name}",
        Commands(&["operator change", "operator disable", "operator enable"]),
    ),
    ("delete", "/api/v1/operators/{name}", Commands(&["operator remove"])),
    ("post", "/api/v1/operators/{name}/reset", Commands(&["operator reset"])),
    ("post", "/api/v1/operator-resets", Commands(&["operator reset"])),
    ("post", "/api/v1/operators/{name}/tokens", Commands(&["operator token add"])),
    ("delete", "/api/v1/operators/{name}/tokens/{token}", Commands(&["operator token end"])),
    ("get", "/api/v1/sessions", Commands(&["operator sessions"])),
    ("delete", "/api/v1/sessions/{id}", Commands(&["operator end"])),
    // Who has the node's socket or token needs no account, and a passkey is a browser's.
    ("post", "/api/v1/login/password", Browsers("it opens a session")),
    ("post", "/api/v1/login/challenge", Browsers("it opens a session")),
    ("post", "/api/v1/login/passkey", Browsers("it opens a session")),
    ("get", "/api/v1/login/oidc", Browsers("it is for the page that opens a session")),
    ("post", "/api/v1/login/oidc/{name}", Browsers("it opens a session")),
    ("get", "/login/oidc/{name}/callback", Browsers("it opens a session")),
    ("get", "/login", Browsers("it opens a session")),
    ("post", "/api/v1/logout", Browsers("it ends a session")),
    ("get", "/api/v1/me", Browsers("it is about the account of a session")),
    ("post", "/api/v1/me/challenge", Browsers("it is about the account of a session")),
    ("post", "/api/v1/me/prove", Browsers("it is about the account of a session")),
    ("post", "/api/v1/me/prove/oidc", Browsers("it is about the account of a session")),
    ("get", "/api/v1/oidc", Commands(&["oidc list"])),
    ("post", "/api/v1/oidc/{name}/test", Commands(&["oidc test"])),
    ("post", "/api/v1/me/totp", Browsers("it is about the account of a session")),
    ("post", "/api/v1/me/password", Browsers("it is about the account of a session")),
    ("post", "/api/v1/me/passkeys", Browsers("it is about the account of a session")),
    ("delete", "/api/v1/me/passkeys/{id}", Browsers("it is about the account of a session")),
    ("post", "/api/v1/me/tokens", Browsers("it is about the account of a session")),
    ("delete", "/api/v1/me/tokens/{name}", Browsers("it is about the account of a session")),
    ("get", "/api/v1/openapi.json", Browsers("it is for whoever writes programs")),
    ("get", "/metrics", Browsers("it is for Prometheus")),
    ("get", "/healthz", Browsers("it is for balancers and service managers")),
    ("get", "/readyz", Browsers("it is for balancers and service managers")),
];

use By::{Browsers, Commands};

/// Who asks an endpoint.
#[derive(Debug)]
enum By {
    /// These commands.
    Commands(&'static [&'static str]),
    /// Browsers or other programs alone, for this reason.
    Browsers(&'static str),
}

/// Every command that talks to a node, by its words.
fn commands() -> BTreeSet<String> {
    fn walk(command: &clap::Command, words: &str, found: &mut BTreeSet<String>) {
        for one in command.get_subcommands() {
            let words = format!("{words} {}", one.get_name()).trim_start().to_owned();
            if one.get_arguments().any(|argument| argument.get_id() == "token_file") {
                found.insert(words.clone());
            }
            walk(one, &words, found);
        }
    }
    let mut found = BTreeSet::new();
    walk(&Cli::command(), "", &mut found);
    found
}

#[test]
fn every_endpoint_has_a_command_and_every_command_an_endpoint() {
    let document = phalanx_control::openapi_document();
    let endpoints: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(|method| (method.clone(), path.clone()))
        })
        .collect();
    let told = TABLE.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(endpoints, told, "endpoints of the document, and those that this table knows");

    let known = commands();
    let mut used = BTreeSet::new();
    for (method, path, by) in TABLE {
        match by {
            Commands(some) => {
                assert!(!some.is_empty(), "{method} {path}");
                for command in *some {
                    assert!(
                        known.contains(*command),
                        "{method} {path}: there is no `phalanx {command}` that talks to a node"
                    );
                    used.insert((*command).to_owned());
                }
            }
            Browsers(why) => assert!(!why.is_empty(), "{method} {path}"),
        }
    }
    assert_eq!(known, used, "commands that talk to a node, and those that this table knows");
}
