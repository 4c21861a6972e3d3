//! What the settings say of certificates that are ordered from an authority: `[acme]`.

use std::path::{Path, PathBuf};

use phalanx_control::{AcmeSettings, Challenge};
use phalanx_model::limits::ACME_HOSTS_MAX;
use phalanx_policy::Diagnostic;
use phalanx_policy::toml_text::{At, Text};
use schemars::JsonSchema;
use serde::Deserialize;

/// Certificates from an authority.
#[derive(Debug, Clone)]
pub(crate) struct AcmeTls {
    pub(crate) order: AcmeSettings,
    /// Until the first certificate is there, one is shown that nobody believes.
    pub(crate) placeholder: bool,
}

/// Checks what was written. `listens`: without TLS, and with it.
pub(crate) fn check(
    text: &Text<'_>,
    raw: &RawAcme,
    (plain, tls): (bool, bool),
    folder: &Path,
    faults: &mut Vec<Diagnostic>,
) -> AcmeTls {
    let mut fault = |at: &std::ops::Range<usize>, what: String, help: &str| {
        faults.push(text.error_at(at, what).with_help(help.to_owned()));
    };
    let directory = raw.directory.value.parse::<http::Uri>().ok();
    if !directory.is_some_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some()) {
        let what = format!("`{}` is no address of a directory", raw.directory.value);
        fault(
            &raw.directory.span,
            what,
            "write `https://acme-v02.api.letsencrypt.org/directory`, or your authority's",
        );
    }
    if !raw.agree_to_terms {
        let what = "the authority's terms of service are not agreed to".to_owned();
        fault(&raw.directory.span, what, "read them, then write `agree_to_terms = true`");
    }
    if !tls {
        let what = "no listener shows these certificates".to_owned();
        fault(&raw.directory.span, what, "add `[[listen.tls]]` with `address = \"0.0.0.0:443\"`");
    }
    let challenge = raw.challenge.as_ref().map(|written| written.value).unwrap_or_default();
    if challenge == RawChallenge::Http01 && !plain && tls {
        let what = "the authority asks over HTTP, and there is no listener without TLS".to_owned();
        let at = raw.challenge.as_ref().map_or(&raw.directory.span, |written| &written.span);
        fault(
            at,
            what,
            "add `address = [\"0.0.0.0:80\"]` to `[listen]`, or write `challenge = \"tls-alpn-01\"`",
        );
    }
    check_lists(text, raw, faults);
    let order = AcmeSettings {
        directory: raw.directory.value.clone(),
        contact: raw.contact.iter().map(|one| one.value.clone()).collect(),
        hosts: raw.hosts.iter().map(|one| one.value.to_ascii_lowercase()).collect(),
        challenge: match challenge {
            RawChallenge::Http01 => Challenge::Http01,
            RawChallenge::TlsAlpn01 => Challenge::TlsAlpn01,
        },
        ca_file: raw.ca_file.as_ref().map(|file| folder.join(file)),
        external_account: external_account(text, raw, folder, faults),
    };
    AcmeTls { order, placeholder: raw.placeholder }
}

/// Checks whom the authority may write to, and for which hosts it shall certify.
fn check_lists(text: &Text<'_>, raw: &RawAcme, faults: &mut Vec<Diagnostic>) {
    let mut fault = |at: &std::ops::Range<usize>, what: String, help: &str| {
        faults.push(text.error_at(at, what).with_help(help.to_owned()));
    };
    if let Some(one) = raw.contact.iter().find(|one| !one.starts_with("mailto:")) {
        let what = format!("`{}` is no way to write to somebody", one.value);
        fault(&one.span, what, "write `mailto:ops@example.org`");
    }
    if let Some(one) = raw.hosts.iter().find(|one| !is_host(one)) {
        let what = format!("no certificate can be ordered for `{}`", one.value);
        fault(
            &one.span,
            what,
            "write a host name as `shop.example.org`; for `*.` names and addresses use `[[certificate]]`",
        );
    }
    if let Some(one) = raw.hosts.get(ACME_HOSTS_MAX) {
        let what = format!("there are more than {ACME_HOSTS_MAX} hosts");
        fault(&one.span, what, "use `[[certificate]]` for the others");
    }
}

/// The account at the authority's own service, where it wants one.
fn external_account(
    text: &Text<'_>,
    raw: &RawAcme,
    folder: &Path,
    faults: &mut Vec<Diagnostic>,
) -> Option<(String, PathBuf)> {
    let mut fault = |at: &std::ops::Range<usize>, what: String, help: &str| {
        faults.push(text.error_at(at, what).with_help(help.to_owned()));
    };
    match (&raw.eab_key_id, &raw.eab_key_file) {
        (Some(name), Some(file)) => Some((name.value.clone(), folder.join(file))),
        (None, None) => None,
        (Some(name), None) => {
            fault(&name.span, "its key is missing".to_owned(), "add `eab_key_file = \"eab.key\"`, mode 0600");
            None
        }
        (None, Some(_)) => {
            let what = "the key of an external account has no id".to_owned();
            fault(
                &raw.directory.span,
                what,
                "add `eab_key_id = \"...\"`, as the authority's service shows it",
            );
            None
        }
    }
}

/// Whether an authority can look at it over the network: a name, and no address.
pub(crate) fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        (1..=63).contains(&label.len()) && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    let numeric = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    host.len() <= 253 && !numeric && host.split('.').all(label)
}

/// Certificates from an authority, by ACME (RFC 8555).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAcme {
    /// Where the authority's directory is, `https://`.
    directory: At<String>,
    /// That you agree to the authority's terms of service; nothing is ordered without. `false` if not given.
    #[serde(default)]
    agree_to_terms: bool,
    /// `mailto:` addresses that the authority may write to.
    #[serde(default)]
    contact: Vec<At<String>>,
    /// Host names, 256 at most; a certificate is ordered for each. Those of the policy if not given.
    #[serde(default)]
    hosts: Vec<At<String>>,
    /// How the authority finds out that a host is yours. "http-01" if not given.
    challenge: Option<At<RawChallenge>>,
    /// Authorities that vouch for the directory, in PEM form. The system's if not given.
    ca_file: Option<PathBuf>,
    /// The id of an account at the authority's own service.
    eab_key_id: Option<At<String>>,
    /// A file with that account's key in base64, mode 0600.
    eab_key_file: Option<PathBuf>,
    /// Show a certificate that nobody believes until the first one is there. `false` if not given.
    #[serde(default)]
    placeholder: bool,
}

/// How an authority finds out that a host is yours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
enum RawChallenge {
    #[default]
    #[serde(rename = "http-01")]
    Http01,
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}
