//! Logins of servers: for the links between sites, and for who keeps a site's streams. And what of a fleet crosses a link.
//!
//! INVARIANT: an allow-list. What is not here stays in its site: raw events, leases, contents of blobs on their way to a stream,
//! answers from JetStream to nodes, and every order to change or delete a stream.

use serde_json::json;

use crate::nats_login::{CLAIMS_UPDATE, Claims, NatsKind, PAYLOAD_MAX, TOPICS, key_name};
use crate::{SigningKey, VerifyingKey};

/// Whom a login of a server is for.
#[derive(Debug, Clone, Copy)]
pub struct NatsServerUser<'a> {
    /// Its site.
    pub site: &'a str,
    /// Its name.
    pub server: &'a str,
    /// Its login key.
    pub key: VerifyingKey,
}

impl NatsServerUser<'_> {
    fn claims(&self, what: &str, now_ms: u64, expires_at_ms: u64, nats: serde_json::Value) -> Claims {
        Claims {
            name: format!("{}/{} {what}", self.site, self.server),
            subject: key_name(NatsKind::User, self.key),
            now_ms,
            expires_at_ms: Some(expires_at_ms),
            nats,
        }
    }
}

/// The claims of the login with which a site's server links itself to another, signed by the account.
pub fn links(account: &SigningKey, user: &NatsServerUser<'_>, now_ms: u64, expires_at_ms: u64) -> String {
    let crosses = crosses();
    let permissions = json!({
        "type": "user", "version": 2,
        "pub": { "allow": crosses, "deny": STAYS }, "sub": { "allow": crosses, "deny": STAYS },
        "subs": -1, "data": -1, "payload": PAYLOAD_MAX,
    });
    user.claims("links", now_ms, expires_at_ms, permissions).sign(account, NatsKind::Account)
}

/// The claims of the login that makes and mends a site's streams, signed by the account.
pub fn keeper(account: &SigningKey, user: &NatsServerUser<'_>, now_ms: u64, expires_at_ms: u64) -> String {
    let own = ["CREATE.*", "UPDATE.*", "DELETE.*", "INFO.*", "LIST"];
    let mut publish: Vec<String> = own.iter().map(|what| format!("$JS.API.STREAM.{what}")).collect();
    publish.push(format!("{SERVERS}.{}.{}", user.site, user.server));
    let permissions = json!({
        "type": "user", "version": 2,
        "pub": { "allow": publish },
        "sub": { "allow": [format!("{SERVERS}.>"), format!("{}.>", keeper_inbox(user.site, user.server))] },
        "subs": -1, "data": -1, "payload": PAYLOAD_MAX,
    });
    user.claims("keeper", now_ms, expires_at_ms, permissions).sign(account, NatsKind::Account)
}

/// The claims of a login to the system account with which a server's own keeper tells it whom not to serve any more.
pub fn keeper_system(
    system: &SigningKey,
    user: &NatsServerUser<'_>,
    now_ms: u64,
    expires_at_ms: u64,
) -> String {
    let permissions = json!({
        "type": "user", "version": 2,
        "pub": { "allow": [CLAIMS_UPDATE] },
        "sub": { "allow": [format!("{}.>", keeper_inbox(user.site, user.server))] },
        "subs": -1, "data": -1, "payload": -1,
    });
    user.claims("claims", now_ms, expires_at_ms, permissions).sign(system, NatsKind::Account)
}

/// What the subjects of the answers to a keeper start with. No node's begin so: a name has no dollar.
pub fn keeper_inbox(site: &str, server: &str) -> String {
    format!("_INBOX.$keeper.{site}.{server}")
}

/// Subjects that cross a link, in both directions.
fn crosses() -> Vec<&'static str> {
    [&TOPICS[..], &OTHERS, &COPIES].concat()
}

/// Where servers say which streams their site has.
pub const SERVERS: &str = "phx.srv";
/// What the records of a stream travel under to another site's copy of it.
pub const COPY_DELIVERY: &str = "phx.copy";
/// Subjects of raw events, which never leave their site.
pub const RAW: &str = "phx.raw";
/// What is denied on links even if something above allowed it. Also written into each server's own configuration, so that a
/// site need not trust what the other side enforces.
pub const STAYS: [&str; 4] = ["phx.raw.>", "phx.lease.>", "phx.shelf.>", "$O.>"];

/// Of what is not every node's topic: answers to questions, operators' accounts between control nodes, and what servers say of their sites.
const OTHERS: [&str; 3] = ["phx.a.>", "phx.opr.>", "phx.srv.>"];
/// What copying a stream takes: a reader at the stream's site, its records, and the pace.
const COPIES: [&str; 4] = ["$JS.*.API.CONSUMER.CREATE.>", "phx.copy.>", "$JS.FC.>", "$JSC.R.>"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_stays_in_its_site_is_let_across() {
        let prefix = |subject: &str| subject.trim_end_matches('>').to_owned();
        for stays in STAYS.into_iter().chain(["_INBOX.>", "$JS.API.>", "$SYS.>"]) {
            assert!(crosses().iter().all(|subject| !prefix(subject).starts_with(&prefix(stays))), "{stays}");
            assert!(crosses().iter().all(|subject| !prefix(stays).starts_with(&prefix(subject))), "{stays}");
        }
        assert!(STAYS.contains(&format!("{RAW}.>").as_str()));
    }
}
