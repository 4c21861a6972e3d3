//! What the settings say of certificates that are ordered from an authority: `[acme]`.

use std::path::{Path, PathBuf};

use phalanx_control::{AcmeSettings, Challenge};
use phalanx_model::limits::ACME_HOSTS_MAX;
use phalanx_policy::Diagnostic;
use phalanx_policy::toml_text::{At, Text};
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

/// `[acme]` as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAcme {
    directory: At<String>,
    #[serde(default)]
    agree_to_terms: bool,
    #[serde(default)]
    contact: Vec<At<String>>,
    #[serde(default)]
    hosts: Vec<At<String>>,
    challenge: Option<At<RawChallenge>>,
    ca_file: Option<PathBuf>,
    eab_key_id: Option<At<String>>,
    eab_key_file: Option<PathBuf>,
    #[serde(default)]
    placeholder: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
enum RawChallenge {
    #[default]
    #[serde(rename = "http-01")]
    Http01,
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

#[cfg(test)]
mod tests {
    use crate::settings::{self, Settings};

    fn read_with(sections: &str) -> (Option<Settings>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("phalanx.toml");
        std::fs::write(&file, format!("policy = \"policy.toml\"\n[node]\nstate = \"state\"\n{sections}"))
            .unwrap();
        let (settings, faults) = settings::read(&file);
        (settings.map(|(settings, _)| settings), faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn certificates_are_ordered_as_it_is_written_and_mistakes_are_told() {
        let acme = "[acme]\ndirectory = \"https://ca.test/dir\"\nagree_to_terms = true\n";
        let listen = "[listen]\naddress = [\"0.0.0.0:80\"]\n[[listen.tls]]\naddress = \"0.0.0.0:443\"\n";
        let all = "contact = [\"mailto:a@b.test\"]\nhosts = [\"Shop.test\"]\nchallenge = \"tls-alpn-01\"\nca_file = \"ca.pem\"\n\
             eab_key_id = \"kid\"\neab_key_file = \"eab.key\"\nplaceholder = true\n";
        let (settings, faults) = read_with(&format!("{listen}{acme}{all}"));
        assert_eq!(faults, [] as [&str; 0]);
        let acme_of = |settings: Option<Settings>| settings.unwrap().tls.acme.unwrap();
        let read = acme_of(settings);
        assert!(read.placeholder && read.order.hosts == ["shop.test"]);
        assert_eq!(read.order.challenge, phalanx_control::Challenge::TlsAlpn01);
        let (settings, faults) = read_with(&format!("{listen}{acme}"));
        assert!(faults.is_empty() && acme_of(settings).order.hosts.is_empty(), "{faults:?}");
        let only_tls = "[[listen.tls]]\naddress = \"0.0.0.0:443\"\n";
        for (sections, expected) in [
            (format!("{listen}{}", acme.replace("true", "false")), "9: the authority's terms"),
            (format!("{listen}{}", acme.replace("https", "http")), "is no address of a directory"),
            (
                format!("{listen}{acme}hosts = [\"*.shop.test\"]\n"),
                "no certificate can be ordered for `*.shop.test`",
            ),
            (format!("{listen}{acme}hosts = [\"192.0.2.1\"]\n"), "no certificate can be ordered for"),
            (format!("{listen}{acme}contact = [\"a@b.test\"]\n"), "is no way to write to somebody"),
            (format!("{listen}{acme}challenge = \"dns-01\"\n"), "unknown value `dns-01`"),
            (format!("{listen}{acme}eab_key_id = \"kid\"\n"), "its key is missing"),
            (format!("{only_tls}{acme}"), "there is no listener without TLS"),
            (acme.to_owned(), "no listener shows these certificates"),
        ] {
            let (_, faults) = read_with(&sections);
            assert!(faults.len() == 1 && faults[0].contains(expected), "{sections}: {faults:?}");
        }
    }
}
