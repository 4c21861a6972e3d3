//! Who a provider is, and what its claims are worth.

use std::path::PathBuf;
use std::sync::Arc;

use http::Uri;
use phalanx_trust::oidc::IdToken;
use phalanx_trust::{Role, valid_name};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// A provider, as the settings say.
#[derive(Clone)]
pub struct ProviderSettings {
    /// Its name in the settings.
    pub name: String,
    /// What its button says.
    pub title: String,
    /// Its issuer, as its document must say it.
    pub issuer: String,
    /// By which name it knows this console.
    pub client_id: String,
    /// The secret that goes with that.
    pub client_secret: Arc<Zeroizing<String>>,
    /// Authorities to believe instead of the system's.
    pub ca: Option<PathBuf>,
    /// What is asked for, `openid` among it.
    pub scopes: Vec<String>,
    /// The claim that holds a person's name.
    pub name_claim: String,
    /// The claim that holds his groups.
    pub groups_claim: String,
    /// `acr` that a login must have, one of them; any if there is none.
    pub acr: Vec<String>,
    /// `amr` that a login must have, one of them; any if there is none.
    pub amr: Vec<String>,
    /// What each group may do. The first that a person is in counts.
    pub rights: Vec<Rights>,
}

/// What a group of the provider's may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// The group.
    pub group: String,
    /// Its role.
    pub role: Role,
    /// The only apps that it may see and act on; all if there is none.
    pub apps: Vec<String>,
}

/// What a token says of somebody who may get in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) apps: Vec<String>,
}

/// Why somebody whom the provider knows does not get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PersonFault {
    #[error("he is in no group that the settings let in")]
    NoGroup,
    #[error("the provider does not say in which groups he is")]
    GroupsMissing,
    #[error("he is in more groups than the provider tells; have it tell only those of this application")]
    TooManyGroups,
    #[error("the provider does not vouch for a login as the settings want it (`acr`, `amr`)")]
    Factors,
}

impl PersonFault {
    /// Whether the provider was heard, and gives him nothing.
    pub(crate) fn is_without_rights(self) -> bool {
        matches!(self, Self::NoGroup | Self::GroupsMissing)
    }
}

impl ProviderSettings {
    /// What the provider's word makes of somebody, or why he does not get in.
    pub(crate) fn person(&self, token: &IdToken) -> Result<Person, PersonFault> {
        let claims = &token.claims;
        let acr = claim(claims, "acr").and_then(Value::as_str);
        let amr = words(claim(claims, "amr"));
        let one_of = |wanted: &[String], said: &[&str]| {
            wanted.is_empty() || wanted.iter().any(|one| said.contains(&one.as_str()))
        };
        if !one_of(&self.acr, acr.as_slice()) || !one_of(&self.amr, &amr) {
            return Err(PersonFault::Factors);
        }
        let Some(said) = claim(claims, &self.groups_claim) else {
            // As Entra does from 200 groups on, instead of naming them (OpenID Connect Core, section 5.6.2).
            let elsewhere = claims.get("_claim_names").and_then(|names| names.get(&self.groups_claim));
            return Err(match elsewhere {
                Some(_) => PersonFault::TooManyGroups,
                None => PersonFault::GroupsMissing,
            });
        };
        let groups = words(Some(said));
        let rights = self.rights.iter().find(|rights| groups.contains(&rights.group.as_str()));
        let Rights { role, apps, .. } = rights.ok_or(PersonFault::NoGroup)?.clone();
        let name = claim(claims, &self.name_claim).and_then(Value::as_str);
        Ok(Person { name: name_of(name.unwrap_or(&token.subject)), role, apps })
    }
}

impl std::fmt::Debug for ProviderSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProviderSettings({}, {})", self.name, self.issuer)
    }
}

/// Whether this can be a provider's address: TLS, or this very machine. Why not.
pub(super) fn check_address(address: &str) -> Result<Uri, String> {
    let uri: Uri = address.parse().map_err(|_| format!("`{}` is no address", address.escape_debug()))?;
    let host = uri.host().ok_or_else(|| format!("`{}` names no host", address.escape_debug()))?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) || address.contains('#') {
        return Err("the address holds a name, a password or a `#`".to_owned());
    }
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if is_here(host) => Ok(uri),
        _ => Err(format!("`{}` is no https:// address", address.escape_debug())),
    }
}

/// Whether a host is this machine, whoever is asked.
pub(super) fn is_here(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// A claim by its name, or by the names on the way to it: `realm_access.roles`. Names with dots of their own come first.
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(found) = claims.get(name) {
        return Some(found);
    }
    let (first, rest) = name.split_once('.')?;
    claim(claims.get(first)?.as_object()?, rest)
}

/// The words of a claim that holds one or several.
fn words(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(some)) => some.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// A name such as accounts have, of whatever the provider calls somebody. Of an address of mail what stands before the `@`.
fn name_of(said: &str) -> String {
    let said = said.split('@').next().unwrap_or_default();
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_lowercase() } else { '-' };
    let name: String = said.chars().take(NAME_CHARS_MAX).map(fits).collect();
    let name = name.trim_matches('-');
    if valid_name(name) { name.to_owned() } else { "somebody".to_owned() }
}

/// As long as an account's name may be.
const NAME_CHARS_MAX: usize = 63;

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in crate::oidc) fn settings() -> ProviderSettings {
        let rights = |group: &str, role, apps: &[&str]| Rights {
            group: group.into(),
            role,
            apps: apps.iter().map(|app| (*app).to_owned()).collect(),
        };
        ProviderSettings {
            name: "corp".into(),
            title: "Corp".into(),
            issuer: "https://id.example".into(),
            client_id: "phalanx".into(),
            client_secret: Arc::new(Zeroizing::new("hush".into())),
            ca: None,
            scopes: vec!["openid".into()],
            name_claim: "preferred_username".into(),
            groups_claim: "groups".into(),
            acr: Vec::new(),
            amr: Vec::new(),
            rights: vec![rights("sec", Role::Editor, &[]), rights("shop", Role::Responder, &["shop"])],
        }
    }

    fn person(settings: &ProviderSettings, claims: Value) -> Result<Person, PersonFault> {
        let claims = claims.as_object().unwrap().clone();
        settings.person(&IdToken { subject: "00U1".into(), proved_at_ms: None, claims })
    }

    #[test]
    fn the_first_group_that_matches_says_role_and_apps() {
        let all = settings();
        for (groups, role) in [
            (json!(["shop", "sec"]), Some(Role::Editor)),
            (json!(["shop"]), Some(Role::Responder)),
            (json!("shop"), Some(Role::Responder)),
            (json!(["SEC", "secx", 7, null]), None),
            (json!([]), None),
            (json!({ "sec": true }), None),
        ] {
            let found = person(&all, json!({ "groups": groups }));
            assert_eq!(found.map(|person| person.role).ok(), role, "{groups}");
        }
        assert_eq!(person(&all, json!({})), Err(PersonFault::GroupsMissing));
        let elsewhere = json!({ "_claim_names": { "groups": "src1" } });
        assert_eq!(person(&all, elsewhere), Err(PersonFault::TooManyGroups));
    }

    #[test]
    fn groups_are_found_within_other_claims() {
        let inner = ProviderSettings { groups_claim: "realm_access.roles".into(), ..settings() };
        assert!(person(&inner, json!({ "realm_access": { "roles": ["sec"] } })).is_ok());
        assert!(person(&inner, json!({ "realm_access.roles": ["sec"] })).is_ok());
        assert_eq!(person(&inner, json!({ "realm_access": "sec" })), Err(PersonFault::GroupsMissing));
    }

    #[test]
    fn a_login_has_the_factors_that_are_wanted() {
        let strict = ProviderSettings { amr: vec!["mfa".into(), "hwk".into()], ..settings() };
        for (amr, lets_in) in [
            (json!(["pwd", "mfa"]), true),
            (json!("hwk"), true),
            (json!(["pwd"]), false),
            (Value::Null, false),
        ] {
            assert_eq!(person(&strict, json!({ "groups": "sec", "amr": amr })).is_ok(), lets_in, "{amr}");
        }
        let strict = ProviderSettings { acr: vec!["phr".into()], ..settings() };
        assert!(person(&strict, json!({ "groups": "sec", "acr": "phr" })).is_ok());
        assert_eq!(person(&strict, json!({ "groups": "sec", "acr": "1" })), Err(PersonFault::Factors));
    }

    #[test]
    fn whatever_somebody_is_called_becomes_a_name() {
        for (said, name) in [
            ("carol", "carol"),
            ("Carol.Jones@example.net", "carol-jones"),
            ("Ünal <b>", "nal--b"),
            ("", "somebody"),
            ("@@", "somebody"),
            ("../../x\u{0}", "x"),
        ] {
            assert_eq!(name_of(said), name, "{said}");
        }
        assert!(valid_name(&name_of(&"x".repeat(500))));
    }

    #[test]
    fn a_provider_is_asked_over_tls_or_on_this_machine() {
        for good in
            ["https://id.example/realms/a", "http://127.0.0.1:9", "http://localhost:9", "http://[::1]:9"]
        {
            assert!(check_address(good).is_ok(), "{good}");
        }
        for bad in [
            "http://id.example",
            "http://localhost.evil.example",
            "ftp://id.example",
            "/x",
            "https://a:b@id.example",
            "https://id.example/#x",
            "javascript:alert(1)",
        ] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
