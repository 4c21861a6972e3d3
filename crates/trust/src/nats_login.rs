//! Logins to a NATS server in operator mode: names of keys, and the signed claims (JWT) of operator, accounts and users.
//!
//! The form is NATS' own (ADR-14, jwt v2): base64url of a header and of claims, signed with Ed25519. A user's claims carry all
//! it may publish and read, so that the server needs no list of nodes.

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{SigningKey, TrustError, VerifyingKey};

/// What a NATS key is for: the first letter of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatsKind {
    /// `O`: signs accounts.
    Operator,
    /// `A`: signs users.
    Account,
    /// `U`: logs in.
    User,
}

impl NatsKind {
    fn prefix(self) -> u8 {
        match self {
            Self::Operator => 14 << 3,
            Self::Account => 0,
            Self::User => 20 << 3,
        }
    }
}

/// The name of a key in NATS: kind, key and checksum in base32.
pub fn key_name(kind: NatsKind, key: VerifyingKey) -> String {
    let mut bytes = vec![kind.prefix()];
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(&crc16(&bytes).to_le_bytes());
    BASE32_NOPAD.encode(&bytes)
}

/// A login key as nats-server reads it from a file.
pub(crate) fn key_seed(kind: NatsKind, key: &SigningKey) -> Result<Zeroizing<String>, TrustError> {
    let prefix = kind.prefix();
    let mut bytes = Zeroizing::new(vec![(18 << 3) | (prefix >> 5), (prefix & 31) << 3]);
    bytes.extend_from_slice(key.seed()?.as_slice());
    let checksum = crc16(&bytes).to_le_bytes();
    bytes.extend_from_slice(&checksum);
    Ok(Zeroizing::new(BASE32_NOPAD.encode(&bytes)))
}

/// What a node may do at the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NatsRights {
    /// Publish under its own name; read what is shared.
    Node,
    /// Also revoke, keep blobs and hold leases.
    Control,
    /// Also make the streams that do not exist yet.
    Steward,
}

/// Whom a login is for.
#[derive(Debug, Clone, Copy)]
pub struct NatsUser<'a> {
    /// Its site.
    pub site: &'a str,
    /// Its name.
    pub node: &'a str,
    /// Its login key.
    pub key: VerifyingKey,
    /// What it may do.
    pub rights: NatsRights,
}

/// The claims of a node's login, signed by the account.
pub fn node_user(account: &SigningKey, user: &NatsUser<'_>, now_ms: u64, expires_at_ms: u64) -> String {
    let permissions = json!({
        "type": "user",
        "version": 2,
        "pub": { "allow": publish(user) },
        "sub": { "allow": read(user) },
        "subs": -1, "data": -1, "payload": PAYLOAD_MAX,
    });
    let issued = Claims {
        name: format!("{}/{}", user.site, user.node),
        subject: key_name(NatsKind::User, user.key),
        now_ms,
        expires_at_ms: Some(expires_at_ms),
        nats: permissions,
    };
    issued.sign(account, NatsKind::Account)
}

/// The claims of an edge node's login, signed with a key that the account scopes to the nodes of a site: what such a login may do
/// stands in the account, and that it is a node of this name in the login.
pub fn scoped_user(
    signer: &SigningKey,
    account: &str,
    node: &str,
    key: VerifyingKey,
    times: (u64, u64),
) -> String {
    let (now_ms, expires_at_ms) = times;
    let issued = Claims {
        name: node.to_owned(),
        subject: key_name(NatsKind::User, key),
        now_ms,
        expires_at_ms: Some(expires_at_ms),
        // Any right that stood here would have the server refuse it.
        nats: json!({ "type": "user", "version": 2, "issuer_account": account }),
    };
    issued.sign(signer, NatsKind::Account)
}

/// What a delegate's key can make: logins with the rights of an edge node of the site, under the node's name in the login.
fn scope(site: &str, signer: VerifyingKey) -> Value {
    let user = NatsUser { site, node: "{{name()}}", key: signer, rights: NatsRights::Node };
    json!({
        "kind": "user_scope",
        "key": key_name(NatsKind::Account, signer),
        "role": format!("nodes of {site}"),
        "template": {
            "pub": { "allow": publish(&user) }, "sub": { "allow": read(&user) },
            "subs": -1, "data": -1, "payload": PAYLOAD_MAX,
        },
    })
}

/// The claims of a short-lived user of the system account, which hands the server new claims of accounts.
pub fn system_user(system: &SigningKey, key: VerifyingKey, now_ms: u64) -> String {
    let issued = Claims {
        name: "phalanx authority".into(),
        subject: key_name(NatsKind::User, key),
        now_ms,
        expires_at_ms: Some(now_ms + SYSTEM_LOGIN_MS),
        nats: json!({
            "type": "user", "version": 2,
            "pub": { "allow": [CLAIMS_UPDATE] }, "sub": { "allow": ["_INBOX.>"] },
            "subs": -1, "data": -1, "payload": -1,
        }),
    };
    issued.sign(system, NatsKind::Account)
}

/// The claims of the operator, signed by itself.
pub fn operator(operator: &SigningKey, fleet: &str, system: VerifyingKey, now_ms: u64) -> String {
    let issued = Claims {
        name: fleet.to_owned(),
        subject: key_name(NatsKind::Operator, operator.verifying()),
        now_ms,
        expires_at_ms: None,
        nats: json!({
            "type": "operator", "version": 2, "system_account": key_name(NatsKind::Account, system),
        }),
    };
    issued.sign(operator, NatsKind::Operator)
}

/// The claims of an account that may keep streams, signed by the operator. Logins in `revoked`, with the Unix second up to which
/// they were made, are refused, and cut if they are connected. `scopes`: the keys that sign logins of nodes of one site.
pub fn account<'a>(
    operator: &SigningKey,
    name: &str,
    key: VerifyingKey,
    revoked: impl Iterator<Item = (&'a str, u64)>,
    scopes: &[(&str, VerifyingKey)],
    now_ms: u64,
) -> String {
    let revoked: serde_json::Map<String, Value> =
        revoked.map(|(key, second)| (key.to_owned(), json!(second))).collect();
    let signers: Vec<Value> = scopes.iter().map(|(site, signer)| scope(site, *signer)).collect();
    sign_account(operator, name, key, &[&CONNECTIONS[..], &STREAMS].concat(), (revoked, signers), now_ms)
}

/// The claims of the system account, which may keep none.
pub fn system_account(operator: &SigningKey, key: VerifyingKey, now_ms: u64) -> String {
    sign_account(operator, "SYS", key, &CONNECTIONS, Default::default(), now_ms)
}

fn sign_account(
    operator: &SigningKey,
    name: &str,
    key: VerifyingKey,
    unlimited: &[&str],
    (revoked, signers): (serde_json::Map<String, Value>, Vec<Value>),
    now_ms: u64,
) -> String {
    let mut limits: serde_json::Map<String, Value> =
        unlimited.iter().map(|name| ((*name).to_owned(), json!(-1))).collect();
    limits.insert("wildcards".into(), json!(true));
    let mut nats = json!({
        "type": "account", "version": 2, "limits": limits, "revocations": revoked,
        "default_permissions": { "pub": {}, "sub": {} },
    });
    if let (false, Some(fields)) = (signers.is_empty(), nats.as_object_mut()) {
        fields.insert("signing_keys".into(), Value::Array(signers));
    }
    let issued = Claims {
        name: name.to_owned(),
        subject: key_name(NatsKind::Account, key),
        now_ms,
        expires_at_ms: None,
        nats,
    };
    issued.sign(operator, NatsKind::Operator)
}

/// The key that a user's claims are for; the rest is not looked at.
pub fn subject_of(jwt: &str) -> Option<String> {
    let claims = BASE64URL_NOPAD.decode(jwt.split('.').nth(1)?.as_bytes()).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims.get("sub")?.as_str().map(str::to_owned)
}

/// Whether a login says what its node may publish and leaves out something that nodes of this version do: who issued it was of an earlier
/// one. Logins that leave that to the account say nothing.
pub fn is_outdated(jwt: &str, site: &str, node: &str) -> bool {
    let claims = jwt.split('.').nth(1).and_then(|claims| BASE64URL_NOPAD.decode(claims.as_bytes()).ok());
    let claims: Value = claims.and_then(|claims| serde_json::from_slice(&claims).ok()).unwrap_or_default();
    let allowed = claims.pointer("/nats/pub/allow").and_then(Value::as_array);
    allowed.is_some_and(|allowed| {
        own(site, node).iter().any(|own| allowed.iter().all(|subject| subject.as_str() != Some(own)))
    })
}

pub(crate) struct Claims {
    pub(crate) name: String,
    pub(crate) subject: String,
    pub(crate) now_ms: u64,
    pub(crate) expires_at_ms: Option<u64>,
    pub(crate) nats: Value,
}

impl Claims {
    pub(crate) fn sign(self, key: &SigningKey, kind: NatsKind) -> String {
        let mut claims = json!({
            "iat": self.now_ms / 1000,
            "iss": key_name(kind, key.verifying()),
            "name": self.name,
            "sub": self.subject,
            "nats": self.nats,
        });
        if let (Some(at_ms), Some(fields)) = (self.expires_at_ms, claims.as_object_mut()) {
            fields.insert("exp".into(), json!(at_ms / 1000));
        }
        let id = BASE32_NOPAD.encode(&crate::sha256(claims.to_string().as_bytes()));
        if let Some(fields) = claims.as_object_mut() {
            fields.insert("jti".into(), json!(id));
        }
        let header = BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
        let body = BASE64URL_NOPAD.encode(claims.to_string().as_bytes());
        let signed = format!("{header}.{body}");
        let signature = BASE64URL_NOPAD.encode(&key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

/// Subjects under which a login may publish. An allow-list: whatever is not here (purge, delete and update of streams, listing
/// and deleting others' consumers, every other name) is refused by the server.
fn publish(user: &NatsUser<'_>) -> Vec<String> {
    let NatsUser { site, node, .. } = user;
    let mut subjects = own(site, node);
    subjects.extend(
        [
            "$JS.API.STREAM.NAMES",
            "$JS.API.STREAM.INFO.*",
            // Readers of one connection, which end with it, or when they are replaced. Their names are random and told to nobody.
            "$JS.API.CONSUMER.CREATE.>",
            "$JS.API.CONSUMER.DELETE.*.*",
            "$JS.API.CONSUMER.INFO.*.*",
            "$JS.API.CONSUMER.MSG.NEXT.*.*",
            // What blobs there are, here and in the copies of other sites: the content of blocklists. What a stream has, every login
            // of the account may read, through a reader of its own at the latest.
            "$JS.API.STREAM.MSG.GET.*",
            "$JS.API.DIRECT.GET.>",
        ]
        .map(str::to_owned),
    );
    if user.rights != NatsRights::Node {
        subjects.extend([
            format!("phx.rev.{site}.{node}.>"),
            // The home of policy may be another site than the operator's.
            "phx.pol.>".into(),
            format!("phx.ord.{site}.{node}.>"),
            format!("phx.q.{site}.{node}"),
            "phx.lease.>".into(),
            // The site's secrets, each sealed to one node.
            format!("phx.shelf.{site}.{node}.*.*"),
            // What it has of operators' accounts, and accounts, each sealed to one node that may have them.
            format!("phx.opr.{site}.{node}"),
            format!("phx.opr.{site}.{node}.*.*"),
            "$O.PHXBLOB.>".into(),
        ]);
    }
    if user.rights == NatsRights::Steward {
        subjects.push("$JS.API.STREAM.CREATE.*".into());
    }
    subjects
}

/// What every node publishes under its own name.
fn own(site: &str, node: &str) -> Vec<String> {
    vec![
        format!("phx.dec.{site}.{node}.>"),
        format!("phx.node.{site}.{node}"),
        format!("phx.hb.{site}.{node}"),
        format!("phx.ctr.{site}.{node}"),
        format!("phx.cta.{site}.{node}"),
        // What it learns of requests.
        format!("phx.sk.{site}.{node}.*"),
        // Answers to whoever asked; raw events, for its own site.
        format!("phx.a.*.*.{site}.{node}"),
        format!("phx.raw.{site}.{node}"),
        // Each part to one control node; and from there, what it has.
        format!("phx.raw.{site}.{node}.*"),
        // What it has of its site's secrets, and the key to seal the rest to.
        format!("phx.shelf.{site}.{node}.*"),
    ]
}

fn read(user: &NatsUser<'_>) -> Vec<String> {
    let mut subjects: Vec<String> = TOPICS.map(str::to_owned).to_vec();
    subjects.push(format!("phx.cta.{}.>", user.site));
    subjects.push(format!("phx.shelf.{}.>", user.site));
    // What control nodes have of this one's history.
    subjects.push(format!("phx.raw.{}.*.{}", user.site, user.node));
    // Answers to this node's own questions, and nobody else's.
    subjects.push(format!("{}.>", inbox(user.site, user.node)));
    if user.rights != NatsRights::Node {
        subjects.push(format!("phx.a.{}.{}.>", user.site, user.node));
        subjects.push(format!("phx.raw.{}.>", user.site));
        subjects.push("phx.opr.>".into());
    }
    subjects
}

/// What the subjects of a node's answers start with.
pub fn inbox(site: &str, node: &str) -> String {
    format!("_INBOX.{site}.{node}")
}

/// CRC-16/XMODEM, which ends NATS' names of keys.
fn crc16(bytes: &[u8]) -> u16 {
    let mut crc: u16 = 0;
    for byte in bytes {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
    }
    crc
}

/// What every node hears, of all nodes and over the links between sites.
pub(crate) const TOPICS: [&str; 9] = [
    "phx.pol.>",
    "phx.dec.>",
    "phx.node.>",
    "phx.hb.>",
    "phx.ctr.>",
    "phx.rev.>",
    "phx.ord.>",
    "phx.q.>",
    "phx.sk.>",
];
const CONNECTIONS: [&str; 7] = ["subs", "data", "payload", "imports", "exports", "conn", "leaf"];
const STREAMS: [&str; 4] = ["mem_storage", "disk_storage", "streams", "consumer"];
/// Where the system account takes new claims of accounts.
pub const CLAIMS_UPDATE: &str = "$SYS.REQ.CLAIMS.UPDATE";
const SYSTEM_LOGIN_MS: u64 = 5 * 60_000;
/// A record, its header fields, and some room.
pub(crate) const PAYLOAD_MAX: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_keys_are_those_of_nats() {
        // The checksum's own check value. That the names are NATS' shows when a real server takes them.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        let key = SigningKey::from_seed(&[0; 32]).unwrap().verifying();
        for (kind, letter) in [(NatsKind::Operator, 'O'), (NatsKind::Account, 'A'), (NatsKind::User, 'U')] {
            let name = key_name(kind, key);
            assert!(name.starts_with(letter) && name.len() == 56, "{name}");
        }
    }

    #[test]
    fn a_nodes_login_publishes_under_its_own_name_only() {
        let key = SigningKey::generate().unwrap().verifying();
        let user = NatsUser { site: "fra", node: "a", key, rights: NatsRights::Node };
        for subject in publish(&user) {
            let own = [
                "phx.dec.fra.a.>",
                "phx.node.fra.a",
                "phx.hb.fra.a",
                "phx.ctr.fra.a",
                "phx.cta.fra.a",
                "phx.sk.fra.a.*",
                "phx.a.*.*.fra.a",
                "phx.raw.fra.a",
                "phx.raw.fra.a.*",
                "phx.shelf.fra.a.*",
            ]
            .contains(&subject.as_str());
            let reads = [
                "STREAM.NAMES",
                "STREAM.INFO",
                "CONSUMER.CREATE",
                "CONSUMER.DELETE",
                "CONSUMER.INFO",
                "CONSUMER.MSG.NEXT",
            ];
            let blobs = ["STREAM.MSG.GET.*", "DIRECT.GET.>"];
            let reads = reads.iter().chain(&blobs).copied().collect::<Vec<_>>();
            assert!(
                own || reads.iter().any(|api| subject.starts_with(&format!("$JS.API.{api}"))),
                "{subject}"
            );
        }
    }

    #[test]
    fn claims_are_signed_by_who_issued_them() {
        let (account, user) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let of = NatsUser { site: "fra", node: "a", key: user.verifying(), rights: NatsRights::Node };
        let jwt = node_user(&account, &of, 1_000_000, 2_000_000);
        let (signed, signature) = jwt.rsplit_once('.').unwrap();
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
        assert!(account.verifying().verify(signed.as_bytes(), &signature));
        assert_eq!(subject_of(&jwt), Some(key_name(NatsKind::User, user.verifying())));
        assert_eq!(subject_of("rubbish"), None);
    }

    #[test]
    fn a_login_of_an_earlier_version_is_told_by_what_it_may_not_do() {
        let (account, user) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let of = NatsUser { site: "fra", node: "a", key: user.verifying(), rights: NatsRights::Control };
        let jwt = node_user(&account, &of, 1_000_000, 2_000_000);
        assert!(!is_outdated(&jwt, "fra", "a") && is_outdated(&jwt, "fra", "b"));
        let allow: Vec<String> = publish(&of).into_iter().filter(|own| !own.starts_with("phx.sk")).collect();
        let nats = json!({ "pub": { "allow": allow } });
        let earlier = Claims { name: "a".into(), subject: "U".into(), now_ms: 1, expires_at_ms: None, nats };
        assert!(is_outdated(&earlier.sign(&account, NatsKind::Account), "fra", "a"));
        let scoped = scoped_user(&account, "A", "a", user.verifying(), (1_000_000, 2_000_000));
        assert!(!is_outdated(&scoped, "fra", "a") && !is_outdated("rubbish", "fra", "a"));
    }
}
