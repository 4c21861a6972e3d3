//! TLS and protocol of upstreams: an app's, and what one of its upstreams has of its own.

use std::net::IpAddr;

use super::Check as Checker;
use crate::origin_tls::{OriginTls, Protocol, ProxyProtocol, parse_pin};
use crate::raw::RawApp;
use crate::raw::origin_tls::RawOriginTls;
use crate::raw::upstreams::RawServer;
use crate::toml_text::At;
use crate::upstream::{Scheme, Upstream, is_host_name};

/// How one server is spoken to.
#[derive(Debug, Clone, Default)]
pub(super) struct Spoken {
    pub(super) protocol: Protocol,
    pub(super) tls: OriginTls,
    pub(super) proxy: Option<ProxyProtocol>,
}

impl Checker<'_> {
    /// What an app says for all of its upstreams.
    pub(super) fn spoken_to_all(&mut self, raw: &RawApp) -> Spoken {
        let protocol = raw.upstream_protocol.as_ref().map(|protocol| protocol.value).unwrap_or_default();
        let tls = raw.upstream_tls.as_ref().map(|tls| self.origin_tls(tls)).unwrap_or_default();
        let proxy = raw.proxy_protocol.as_ref().map(|proxy| proxy.value);
        if let (Some(_), Some(written)) = (proxy, &raw.upstream_protocol) {
            self.tells_of_one_client(written);
        }
        Spoken { protocol, tls, proxy }
    }

    /// How one upstream is spoken to; its own words count instead of the app's, as a whole.
    pub(super) fn spoken(&mut self, server: Option<&RawServer>, upstream: &Upstream, app: &Spoken) -> Spoken {
        let own_protocol = server.and_then(|server| server.protocol.as_ref());
        let own_tls = server.and_then(|server| server.tls.as_ref());
        if let Some(tls) = own_tls
            && upstream.scheme == Scheme::Http
        {
            let fault = self.text.error_at(&tls.span, "the upstream is one without TLS");
            self.found.push(fault.with_help("write its `url` with `https://`, or take out `tls`"));
        }
        if let (Some(_), Some(written)) = (app.proxy, own_protocol) {
            self.tells_of_one_client(written);
        }
        Spoken {
            proxy: app.proxy,
            protocol: own_protocol.map_or(app.protocol, |protocol| protocol.value),
            tls: own_tls.map_or_else(|| app.tls.clone(), |tls| self.origin_tls(tls)),
        }
    }

    /// A PROXY header stands for all that its connection carries.
    fn tells_of_one_client(&mut self, protocol: &At<Protocol>) {
        if protocol.value != Protocol::Http1 {
            let message = "with `proxy_protocol` each client has connections of its own, and over HTTP/2 many would share one";
            let fault = self.text.error_at(&protocol.span, message);
            self.found.push(fault.with_help("take it out: these upstreams are spoken to in HTTP/1.1"));
        }
    }

    fn origin_tls(&mut self, raw: &At<RawOriginTls>) -> OriginTls {
        let mut pins = Vec::new();
        for pin in &raw.pins {
            match parse_pin(pin) {
                Ok(pin) => pins.push(pin),
                Err(message) => {
                    let fault = self.text.error_at(&pin.span, message);
                    self.found.push(fault.with_help(PIN_HELP));
                }
            }
        }
        if let Some(one_more) = raw.pins.get(PINS_MAX) {
            self.error(&one_more.span, format!("an upstream has {PINS_MAX} pins at most"));
        }
        if let Some(name) = &raw.server_name
            && !is_host_name(name)
            && name.parse::<IpAddr>().is_err()
        {
            let fault = self.text.error_at(&name.span, format!("`{}` is no host name", name.value));
            self.found.push(
                fault.with_help("write the name that stands in the upstream's certificate, without a port"),
            );
        }
        let unverified = raw.verify.as_ref().is_some_and(|verify| !verify.value);
        if let (true, Some(verify)) = (unverified, &raw.verify) {
            if raw.ca_file.is_some() || !raw.pins.is_empty() {
                self.error(
                    &verify.span,
                    "`verify = false` beside a `ca_file` or `pins`, which would not be asked",
                );
            }
            let fault = self.text.warning_at(
                &verify.span,
                "whoever is between the node and the upstream can read and change everything",
            );
            self.found
                .push(fault.with_help("name the upstream's authority in `ca_file`, or its key in `pins`"));
        }
        OriginTls {
            server_name: raw.server_name.as_ref().map(|name| name.to_ascii_lowercase()),
            ca_file: raw.ca_file.as_ref().map(|file| self.folder.join(&file.value)),
            pins,
            client_certificate: raw.client_certificate.as_ref().map(|name| name.value.clone()),
            unverified,
        }
    }
}

const PIN_HELP: &str = "`openssl x509 -in CERT -pubkey -noout | openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64` \
     makes it of a certificate";
/// Keys that one upstream may have: the one in use, the next, and some for a cluster.
const PINS_MAX: usize = 16;
