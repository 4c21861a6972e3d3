//! What each endpoint needs of who asks: a role, whether it heeds the apps that he is limited to, and a fresh second factor.
//!
//! One table for all endpoints. INVARIANT: what is not in it is open to nobody but the node's own user and the admin token.

use http::Method;
use phalanx_trust::Role;

/// What an endpoint needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) needs: Needs,
    /// Operators that are limited to some apps may ask too: the handler shows and does nothing beyond these.
    pub(crate) heeds_apps: bool,
    /// Only a few minutes after a second factor, and never by an API token.
    pub(crate) fresh: bool,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Everybody, before he has proved anything.
    Nothing,
    /// Whoever has an account, also while it has no credentials yet.
    Account,
    /// Whoever has this role or one above it.
    Role(Role),
    /// The node's own user, over its socket, or with the admin token.
    Node,
}

/// What this endpoint needs; nothing for one that is not known.
pub(crate) fn rule(method: &Method, path: &str) -> Option<Rule> {
    // HEAD is answered as GET is.
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let is_it = |of: &str, at: &str| at == path && of.eq_ignore_ascii_case(method.as_str());
    RULES.iter().find(|(of, at, _)| is_it(of, at)).map(|(_, _, rule)| *rule)
}

const fn may(role: Role) -> Rule {
    Rule { needs: Needs::Role(role), heeds_apps: false, fresh: false }
}

const fn needs(needs: Needs) -> Rule {
    Rule { needs, heeds_apps: true, fresh: false }
}

const fn within_apps(rule: Rule) -> Rule {
    Rule { heeds_apps: true, ..rule }
}

const fn fresh(rule: Rule) -> Rule {
    Rule { fresh: true, ..rule }
}

const LOOK: Rule = may(Role::Viewer);
const RESPOND: Rule = may(Role::Responder);
const EDIT: Rule = may(Role::Editor);
/// What could shut others out, or let somebody in: by an owner who has just proved himself.
const RULE_OVER: Rule = fresh(may(Role::Owner));
/// Everybody about himself.
const OWN: Rule = within_apps(LOOK);

/// Every endpoint. A test holds it against the API's document.
pub(crate) const RULES: &[(&str, &str, Rule)] = &[
    ("get", "/healthz", needs(Needs::Nothing)),
    ("get", "/readyz", needs(Needs::Nothing)),
    ("get", "/login", needs(Needs::Nothing)),
    ("post", "/api/v1/login/password", needs(Needs::Nothing)),
    ("post", "/api/v1/login/challenge", needs(Needs::Nothing)),
    ("post", "/api/v1/login/passkey", needs(Needs::Nothing)),
    ("get", "/api/v1/login/oidc", needs(Needs::Nothing)),
    ("post", "/api/v1/login/oidc/{name}", needs(Needs::Nothing)),
    ("get", "/login/oidc/{name}/callback", needs(Needs::Nothing)),
    ("post", "/api/v1/logout", needs(Needs::Account)),
    ("get", "/api/v1/me", needs(Needs::Account)),
    ("post", "/api/v1/me/challenge", needs(Needs::Account)),
    ("post", "/api/v1/me/totp", fresh(needs(Needs::Account))),
    ("post", "/api/v1/me/password", fresh(needs(Needs::Account))),
    ("post", "/api/v1/me/passkeys", fresh(needs(Needs::Account))),
    ("delete", "/api/v1/me/passkeys/{id}", fresh(OWN)),
    ("post", "/api/v1/me/prove", OWN),
    ("post", "/api/v1/me/prove/oidc", OWN),
    ("post", "/api/v1/me/tokens", fresh(OWN)),
    ("delete", "/api/v1/me/tokens/{name}", OWN),
    ("get", "/api/v1/sessions", OWN),
    ("delete", "/api/v1/sessions/{id}", OWN),
    ("get", "/api/v1/openapi.json", OWN),
    ("get", "/api/v1/status", within_apps(LOOK)),
    ("get", "/api/v1/events", within_apps(LOOK)),
    ("get", "/api/v1/events/{id}", within_apps(LOOK)),
    ("get", "/api/v1/events/{id}/suggestion", LOOK),
    ("get", "/api/v1/traffic", within_apps(LOOK)),
    ("get", "/api/v1/traffic/actors", within_apps(LOOK)),
    ("get", "/api/v1/audit", LOOK),
    ("get", "/api/v1/fixes", LOOK),
    ("get", "/api/v1/stream", LOOK),
    ("get", "/api/v1/nodes", LOOK),
    ("get", "/api/v1/recalls", LOOK),
    ("get", "/api/v1/decisions", LOOK),
    ("get", "/api/v1/held", LOOK),
    ("get", "/api/v1/incidents", LOOK),
    ("get", "/api/v1/incidents/{id}", LOOK),
    ("get", "/api/v1/playbooks", LOOK),
    ("get", "/api/v1/bouncers", LOOK),
    ("get", "/api/v1/blocklists", LOOK),
    ("get", "/api/v1/blocklists/{name}", LOOK),
    ("get", "/api/v1/fleet", LOOK),
    ("get", "/api/v1/fleet/events", LOOK),
    ("get", "/api/v1/fleet/events/{id}", LOOK),
    ("get", "/api/v1/fleet/delegate", LOOK),
    ("get", "/api/v1/policy", LOOK),
    ("get", "/api/v1/policy/versions", LOOK),
    ("get", "/api/v1/policy/versions/{version}", EDIT),
    ("get", "/api/v1/policy/followers", LOOK),
    ("get", "/api/v1/policy/changes", LOOK),
    ("get", "/api/v1/policy/changes/{id}", LOOK),
    ("get", "/api/v1/exclusions", LOOK),
    ("get", "/api/v1/selftest", LOOK),
    ("get", "/api/v1/report", within_apps(LOOK)),
    ("post", "/api/v1/receivers/{name}/test", EDIT),
    ("get", "/api/v1/receivers", LOOK),
    ("get", "/api/v1/reports", LOOK),
    ("post", "/api/v1/reports/{name}/send", EDIT),
    ("post", "/api/v1/selftest", RESPOND),
    ("get", "/metrics", LOOK),
    ("post", "/api/v1/decisions", within_apps(RESPOND)),
    ("delete", "/api/v1/decisions/{id}", within_apps(RESPOND)),
    ("post", "/api/v1/held/{id}", RESPOND),
    ("delete", "/api/v1/held/{id}", RESPOND),
    ("post", "/api/v1/incidents/{id}/close", RESPOND),
    ("post", "/api/v1/incidents/{id}/undo", RESPOND),
    ("post", "/api/v1/incidents/{id}/answer", RESPOND),
    ("post", "/api/v1/playbooks/{name}/run", RESPOND),
    ("delete", "/api/v1/nodes/{site}/{node}/decisions", EDIT),
    ("put", "/api/v1/blocklists/{name}", EDIT),
    ("delete", "/api/v1/blocklists/{name}", EDIT),
    ("post", "/api/v1/bouncers", EDIT),
    ("delete", "/api/v1/bouncers/{name}", EDIT),
    ("post", "/api/v1/policy/bundles", EDIT),
    ("post", "/api/v1/policy/replay", EDIT),
    ("post", "/api/v1/policy/check", EDIT),
    ("post", "/api/v1/policy/diff", EDIT),
    ("post", "/api/v1/policy/followers", EDIT),
    ("post", "/api/v1/policy/changes", EDIT),
    ("post", "/api/v1/policy/changes/{id}/approve", fresh(EDIT)),
    ("post", "/api/v1/policy/changes/{id}/reject", EDIT),
    ("post", "/api/v1/exclusions", EDIT),
    ("post", "/api/v1/policy/promote", EDIT),
    ("post", "/api/v1/policy/rollback", EDIT),
    ("post", "/api/v1/policy/reload", EDIT),
    ("post", "/api/v1/policy/home", RULE_OVER),
    ("get", "/api/v1/fleet/snapshot", RULE_OVER),
    ("post", "/api/v1/fleet/restore", RULE_OVER),
    ("post", "/api/v1/fleet/invitations", RULE_OVER),
    ("post", "/api/v1/fleet/delegations", RULE_OVER),
    ("delete", "/api/v1/fleet/delegations/{site}/{node}", RULE_OVER),
    ("post", "/api/v1/fleet/revocations", RULE_OVER),
    ("post", "/api/v1/fleet/orders", RULE_OVER),
    ("post", "/api/v1/fleet/root", RULE_OVER),
    ("delete", "/api/v1/fleet/root", RULE_OVER),
    ("delete", "/api/v1/nodes/{site}/{node}", RULE_OVER),
    ("post", "/api/v1/upgrade", RULE_OVER),
    ("get", "/api/v1/oidc", may(Role::Owner)),
    ("post", "/api/v1/oidc/{name}/test", may(Role::Owner)),
    ("get", "/api/v1/operators", may(Role::Owner)),
    ("post", "/api/v1/operators", RULE_OVER),
    ("patch", "/api/v1/operators/{name}", RULE_OVER),
    ("delete", "/api/v1/operators/{name}", RULE_OVER),
    ("post", "/api/v1/operators/{name}/reset", RULE_OVER),
    // It leaves nobody who can get in but who has the node.
    ("post", "/api/v1/operator-resets", needs(Needs::Node)),
    // Who makes a token of another's acts under his name; who has the node could do that anyway.
    ("post", "/api/v1/operators/{name}/tokens", needs(Needs::Node)),
    ("delete", "/api/v1/operators/{name}/tokens/{token}", RULE_OVER),
    // The session that it opens has no account: who could make one with an account could act without a name.
    ("post", "/api/v1/login-links", needs(Needs::Node)),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::openapi::endpoints;

    #[test]
    fn every_endpoint_of_the_document_says_what_it_needs_and_no_other_does() {
        let documented: BTreeSet<_> = endpoints().map(|one| (one.method, one.path)).collect();
        let ruled: BTreeSet<_> = RULES.iter().map(|(method, path, _)| (*method, *path)).collect();
        assert_eq!(documented, ruled);
        assert_eq!(RULES.len(), ruled.len(), "one rule for each");
    }

    #[test]
    fn only_what_is_documented_as_open_is_open() {
        for endpoint in endpoints() {
            let method = endpoint.method.to_uppercase().parse().unwrap();
            let open = rule(&method, endpoint.path).unwrap().needs == Needs::Nothing;
            assert_eq!(open, endpoint.open, "{} {}", endpoint.method, endpoint.path);
        }
    }

    #[test]
    fn viewers_change_nothing_but_their_own_account() {
        for (method, path, rule) in RULES {
            let looks = rule.needs == Needs::Role(Role::Viewer);
            let own = path.contains("/me/") || path.contains("/sessions/");
            assert!(!looks || *method == "get" || own, "{method} {path}");
        }
    }
}
