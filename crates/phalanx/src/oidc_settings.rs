//! `[oidc.NAME]` of `phalanx.toml`: identity providers by which operators log in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use phalanx_control::api::{APP_BYTES_MAX, OperatorRole, is_app_name};
use phalanx_control::oidc::{Provider, ProviderFault, ProviderSettings, Rights};
use phalanx_model::limits::OPERATOR_APPS_MAX;
use phalanx_policy::Diagnostic;
use phalanx_policy::toml_text::{At, Text};
use phalanx_trust::Role;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::playbooks::receivers::Reading;

/// Providers, and the files that they need.
#[derive(Debug, Clone, Default)]
pub(crate) struct OidcSettings {
    pub(crate) providers: Vec<Arc<Provider>>,
    pub(crate) files: Vec<PathBuf>,
}

/// An identity provider by which operators log in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawOidc {
    /// What its button says after "Sign in with". Its name if not given.
    title: Option<At<String>>,
    /// Its issuer, `https://`, as its own document says it; `http://` on this machine alone.
    issuer: At<String>,
    /// By which name it knows this console.
    client_id: At<String>,
    /// A file with the secret that goes with that, mode 0600.
    client_secret_file: At<PathBuf>,
    /// A file with certificates of authorities that vouch for it, PEM. The system's if not given.
    ca_file: Option<At<PathBuf>>,
    /// What is asked for beside `openid`. "profile" if not given.
    scopes: Option<At<Vec<At<String>>>>,
    /// The claim that holds a person's name; within others with dots. "preferred_username" if not given.
    name: Option<At<String>>,
    /// The claim that holds his groups; within others with dots, as in "realm_access.roles". "groups" if not given.
    groups: Option<At<String>>,
    /// A login must have one of these `acr`. Any if not given.
    #[serde(default)]
    acr: Vec<At<String>>,
    /// A login must have one of these `amr`, as in "mfa". Any if not given.
    #[serde(default)]
    amr: Vec<At<String>>,
    /// It may make owners. `false` if not given.
    #[serde(default)]
    owners: bool,
    /// What each group may do, 64 at most. The first that somebody is in counts; who is in none does not get in.
    roles: At<Vec<At<RawRights>>>,
}

/// What a group may do.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawRights {
    /// The group, as the provider writes it.
    group: At<String>,
    /// What it may do.
    role: At<OperatorRole>,
    /// The only apps that it may see and act on. All if not given.
    #[serde(default)]
    apps: Vec<String>,
}

pub(crate) fn check(
    text: &Text<'_>,
    raw: &BTreeMap<String, At<RawOidc>>,
    folder: &Path,
    faults: &mut Vec<Diagnostic>,
) -> OidcSettings {
    let mut settings = OidcSettings::default();
    if let Some(one_more) = raw.values().nth(PROVIDERS_MAX) {
        faults.push(
            text.error_at(&one_more.span, format!("there are more than {PROVIDERS_MAX} identity providers")),
        );
    }
    let mut issuers = BTreeSet::new();
    for (name, raw) in raw.iter().take(PROVIDERS_MAX) {
        // Its people have one account each, whichever section lets them in: each login would undo what the other says.
        if !issuers.insert(&raw.value.issuer.value) {
            let fault =
                text.error_at(&raw.value.issuer.span, "another `[oidc.NAME]` has this issuer already");
            faults.push(fault.with_help("write all groups into the `roles` of one section"));
        }
        let before = faults.len();
        let mut reading = Reading::new(text, folder);
        let provider = provider(text, (name.as_str(), raw), &mut reading, faults);
        settings.files.append(&mut reading.files);
        settings.providers.extend(provider.filter(|_| faults.len() == before).map(Arc::new));
    }
    settings
}

fn provider(
    text: &Text<'_>,
    (name, raw): (&str, &At<RawOidc>),
    reading: &mut Reading<'_>,
    faults: &mut Vec<Diagnostic>,
) -> Option<Provider> {
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if !is_name {
        let fault = text.error_at(&raw.span, format!("`{}` is no name of a provider", name.escape_debug()));
        faults.push(fault.with_help("a name is 1 to 32 of a-z, 0-9 and -"));
    }
    for said in [&raw.title, &raw.name, &raw.groups].into_iter().flatten().chain([&raw.client_id]) {
        let good =
            (1..=WORD_BYTES_MAX).contains(&said.value.len()) && !said.value.chars().any(char::is_control);
        if !good {
            faults.push(
                text.error_at(&said.span, format!("this has 1 to {WORD_BYTES_MAX} bytes of visible text")),
            );
        }
    }
    // Without it the rest is looked at all the same: all faults are told at once.
    let secret = reading.words(&raw.client_secret_file, SECRET_HELP).unwrap_or_else(|fault| {
        faults.push(fault);
        Arc::default()
    });
    let said = |word: &Option<At<String>>, default: &str| {
        word.as_ref().map_or_else(|| default.to_owned(), |word| word.value.clone())
    };
    let settings = ProviderSettings {
        name: name.to_owned(),
        title: said(&raw.title, name),
        issuer: raw.issuer.value.clone(),
        client_id: raw.client_id.value.clone(),
        client_secret: secret,
        ca: raw.ca_file.as_ref().map(|file| reading.file(file)),
        scopes: scopes(text, raw.scopes.as_ref(), faults),
        name_claim: said(&raw.name, "preferred_username"),
        groups_claim: said(&raw.groups, "groups"),
        acr: words(&raw.acr),
        amr: words(&raw.amr),
        rights: rights(text, raw, faults),
    };
    let made = Provider::new(settings).map_err(|fault| match (fault, &raw.ca_file) {
        (ProviderFault::Authorities(why), Some(file)) => text.error_at(&file.span, why),
        (ProviderFault::Authorities(why), None) => text.error_at(&raw.span, why),
        (ProviderFault::Issuer(why), _) => text.error_at(&raw.issuer.span, why).with_help(
            "write the `issuer` of the provider's `/.well-known/openid-configuration`; in the clear only `http://localhost` and loopback addresses are asked",
        ),
    });
    made.map_err(|fault| faults.push(fault)).ok()
}

fn rights(text: &Text<'_>, raw: &RawOidc, faults: &mut Vec<Diagnostic>) -> Vec<Rights> {
    if raw.roles.value.is_empty() {
        let fault = text.error_at(&raw.roles.span, "nobody gets in: no group is named");
        faults.push(fault.with_help("write `roles = [{ group = \"security\", role = \"responder\" }]`"));
    }
    if let Some(one_more) = raw.roles.value.get(RIGHTS_MAX) {
        faults.push(text.error_at(&one_more.span, format!("there are more than {RIGHTS_MAX} groups")));
    }
    let mut known = BTreeSet::new();
    for one in &raw.roles.value {
        if !known.insert(&one.group.value) {
            let fault = text.error_at(
                &one.group.span,
                format!("`{}` stands above already", one.group.value.escape_debug()),
            );
            faults.push(fault.with_help("the first that matches counts; take one out"));
        }
        if one.role.value == OperatorRole::Owner && !raw.owners {
            let fault = text.error_at(&one.role.span, "this lets the provider make owners");
            faults.push(fault.with_help(
                "whoever runs the provider can then add operators and revoke nodes; if that is meant, add `owners = true`",
            ));
        }
        if one.apps.len() > OPERATOR_APPS_MAX {
            faults.push(text.error_at(&one.span, format!("there are more than {OPERATOR_APPS_MAX} apps")));
        }
        if !one.apps.iter().all(|app| is_app_name(app)) {
            let fault = format!("an app's name has 1 to {APP_BYTES_MAX} bytes of visible text");
            faults.push(text.error_at(&one.span, fault));
        }
    }
    let read = raw.roles.value.iter().map(|one| Rights {
        group: one.group.value.clone(),
        role: Role::from(one.role.value),
        apps: BTreeSet::from_iter(one.apps.iter().cloned()).into_iter().collect(),
    });
    read.collect()
}

fn scopes(text: &Text<'_>, raw: Option<&At<Vec<At<String>>>>, faults: &mut Vec<Diagnostic>) -> Vec<String> {
    let Some(raw) = raw else { return vec![OPENID.to_owned(), "profile".to_owned()] };
    let mut scopes = vec![OPENID.to_owned()];
    for scope in &raw.value {
        // RFC 6749, section 3.3.
        let good = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if scope.value.is_empty() || scope.value.len() > WORD_BYTES_MAX || !scope.value.bytes().all(good) {
            faults.push(
                text.error_at(&scope.span, format!("`{}` is no scope", scope.value.escape_debug()))
                    .with_help("a scope has neither spaces nor quotes; write each by itself"),
            );
        }
        if !scopes.contains(&scope.value) {
            scopes.push(scope.value.clone());
        }
    }
    if let Some(one_more) = raw.value.get(SCOPES_MAX) {
        faults.push(text.error_at(&one_more.span, format!("there are more than {SCOPES_MAX} scopes")));
    }
    scopes
}

fn words(raw: &[At<String>]) -> Vec<String> {
    raw.iter().map(|word| word.value.clone()).collect()
}

const OPENID: &str = "openid";
const SECRET_HELP: &str = "write the client's secret into it: `umask 077; cat > FILE`";
/// More buttons than anybody would read.
const PROVIDERS_MAX: usize = 8;
const NAME_BYTES_MAX: usize = 32;
const WORD_BYTES_MAX: usize = 256;
const RIGHTS_MAX: usize = 64;
const SCOPES_MAX: usize = 32;

#[cfg(test)]
mod tests;
