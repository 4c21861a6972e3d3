//! What the settings say of listeners at which other proxies ask about requests that they carry themselves.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use phalanx_edge::CheckListen;
use phalanx_model::{CheckKind, PrefixSet};
use phalanx_policy::toml_text::{At, Text};
use phalanx_policy::{Diagnostic, prefix};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::settings::address;
use crate::tls_settings::{ClientCertificates, TlsListen};

/// One such listener.
#[derive(Debug, Clone)]
pub(crate) struct CheckSettings {
    pub(crate) address: SocketAddr,
    pub(crate) kind: CheckKind,
    pub(crate) from: PrefixSet,
    pub(crate) tls: Option<TlsListen>,
    pub(crate) refuse_with: Option<u16>,
}

/// A listener at which other proxies ask about requests that they carry themselves.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCheckListen {
    /// Its address with port.
    pub(crate) address: At<String>,
    /// "forward-auth" for Traefik, Caddy and nginx, "ext-authz" for Envoy.
    kind: CheckKind,
    /// Addresses or networks of the proxies; others get no answer.
    from: At<Vec<At<String>>>,
    /// Questions come over TLS. `false` if not given.
    pub(crate) tls: Option<At<bool>>,
    /// With `tls`: the proxy must show a certificate of these authorities, in PEM form.
    client_ca: Option<At<PathBuf>>,
    /// Forward-auth: every refusal has this status, 401 or 403. For nginx, which takes no other.
    refuse_with: Option<At<u16>>,
}

/// Checks what was written.
pub(crate) fn check(
    text: &Text<'_>,
    written: &[RawCheckListen],
    folder: &Path,
    faults: &mut Vec<Diagnostic>,
) -> Vec<CheckSettings> {
    written.iter().filter_map(|raw| listener(text, raw, folder, faults)).collect()
}

fn listener(
    text: &Text<'_>,
    raw: &RawCheckListen,
    folder: &Path,
    faults: &mut Vec<Diagnostic>,
) -> Option<CheckSettings> {
    let with_tls = raw.tls.as_ref().is_some_and(|tls| tls.value);
    if let (Some(ca), false) = (&raw.client_ca, with_tls) {
        let fault = text.error_at(&ca.span, "certificates of proxies are asked for with TLS only");
        faults.push(fault.with_help("add `tls = true`"));
    }
    if let Some(status) = &raw.refuse_with {
        if !matches!(status.value, 401 | 403) {
            let fault = text.error_at(&status.span, "`refuse_with` is 401 or 403");
            faults.push(
                fault.with_help("nginx takes these two; leave it out for proxies that take any status"),
            );
        } else if raw.kind != CheckKind::ForwardAuth {
            let fault = text.error_at(&status.span, "`refuse_with` is for `kind = \"forward-auth\"`");
            faults.push(fault.with_help("take it out: Envoy passes every status on"));
        }
    }
    let from = from(text, &raw.from, faults);
    let address = address(text, &raw.address, faults)?;
    let ca_file = raw.client_ca.as_ref().map(|file| folder.join(&file.value));
    let clients = ca_file.map(|ca_file| ClientCertificates { ca_file, required: true });
    let tls = with_tls.then_some(TlsListen { address, require_pq: false, clients, proxied: None });
    let refuse_with = raw.refuse_with.as_ref().map(|status| status.value);
    Some(CheckSettings { address, kind: raw.kind, from, tls, refuse_with })
}

/// Who may ask. Whoever may, says on whose behalf: the whole internet may not.
fn from(text: &Text<'_>, written: &At<Vec<At<String>>>, faults: &mut Vec<Diagnostic>) -> PrefixSet {
    if written.value.is_empty() {
        let fault = text.error_at(&written.span, "nobody may ask here");
        faults.push(fault.with_help("write the proxy's address, as in `from = [\"10.0.0.5\"]`"));
    }
    let mut one = |one: &At<String>| match prefix::parse(&one.value) {
        Some(prefix) if prefix.prefix_len() > 0 => Some(prefix),
        Some(_) => {
            let fault = text.error_at(&one.span, "everybody could ask in everybody's name");
            faults.push(fault.with_help("write the proxy's address or network"));
            None
        }
        None => {
            faults.push(text.error_at(&one.span, format!("`{}` is no address or network", one.value)));
            None
        }
    };
    written.value.iter().filter_map(&mut one).collect()
}

impl CheckSettings {
    /// As the edge takes it; `tls` is its place among all listeners with TLS.
    pub(crate) fn for_edge(&self, tls: Option<usize>) -> CheckListen {
        CheckListen {
            address: self.address,
            kind: self.kind,
            from: self.from.clone(),
            tls,
            refuse_with: self.refuse_with,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::tests::read_with;

    #[test]
    fn listeners_for_other_proxies_say_who_may_ask() {
        let listen = |more: &str| format!("[[listen.check]]\naddress = \"127.0.0.1:8085\"\n{more}\n");
        let kind = "kind = \"forward-auth\"\n";
        let (settings, faults) = read_with(&format!(
            "{}{}",
            listen(&format!("{kind}from = [\"10.0.0.5\", \"::1\"]\nrefuse_with = 403")),
            listen("kind = \"ext-authz\"\nfrom = [\"127.0.0.0/8\"]")
        ));
        assert!(faults.is_empty(), "{faults:?}");
        let settings = settings.unwrap();
        // Nothing was said of clients of its own, so there are none.
        assert_eq!(settings.listen, []);
        let [first, second] = settings.checks.as_slice() else { panic!("two") };
        assert_eq!((first.refuse_with, second.kind), (Some(403), phalanx_model::CheckKind::ExtAuthz));
        assert!(first.from.contains("10.0.0.5".parse().unwrap()) && first.tls.is_none());
        let from = "from = [\"10.0.0.5\"]\n";
        for (more, fault) in [
            (kind.to_owned(), "error: 4: missing field `from`"),
            (from.to_owned(), "error: 4: missing field `kind`"),
            (format!("kind = \"forwardauth\"\n{from}"), "error: 6: unknown value `forwardauth`"),
            (format!("{kind}from = []"), "error: 7: nobody may ask here"),
            (format!("{kind}from = [\"0.0.0.0/0\"]"), "error: 7: everybody could ask in everybody's name"),
            (format!("{kind}from = [\"proxy\"]"), "error: 7: `proxy` is no address or network"),
            (format!("{kind}{from}refuse_with = 404"), "error: 8: `refuse_with` is 401 or 403"),
            (format!("{kind}{from}client_ca = \"a.pem\""), "error: 8: certificates of proxies are asked for"),
            (format!("{kind}{from}tls = true"), "error: 8: a TLS listener needs a certificate"),
            (
                format!("kind = \"ext-authz\"\n{from}refuse_with = 403"),
                "error: 8: `refuse_with` is for `kind = \"forward-auth\"`",
            ),
        ] {
            let (_, faults) = read_with(&listen(&more));
            assert!(faults.iter().any(|found| found.starts_with(fault)), "{more}: {faults:?}");
        }
    }
}
