//! HTTP to a provider: one connection for each request, with limits on time and size, and no way into networks of one's own.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::Full;
use phalanx_trust::oidc::KEYS_BYTES_MAX;
use tokio_rustls::TlsConnector;

use super::settings::{check_address, is_here};
use crate::outgoing::{bare_host, connector, exchange, resolve};
use crate::receiver::public_address::is_public;

/// What a provider answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Its clock, in Unix milliseconds, as far as it told.
    pub(super) at_ms: Option<u64>,
    pub(super) body: Bytes,
}

/// Asks a provider.
pub(super) struct Http {
    tls: TlsConnector,
    /// The issuer's own host, which may be in a private network: the operator has named it.
    home: String,
}

impl Http {
    /// `ca`: authorities to believe instead of the system's.
    pub(super) fn new(issuer: &Uri, ca: Option<&Path>) -> Result<Self, String> {
        let home = issuer.host().unwrap_or_default().to_owned();
        Ok(Self { tls: connector(ca)?, home })
    }

    /// Whether what the provider names may be asked: over TLS, and in the clear on this machine alone, if the provider is here too.
    pub(super) fn check(&self, address: &str) -> Result<Uri, String> {
        let uri = check_address(address)?;
        let here = uri.host().is_some_and(is_here);
        if here && !is_here(&self.home) {
            return Err(format!("`{}` leads to this machine", address.escape_debug()));
        }
        Ok(uri)
    }

    /// What is there.
    pub(super) async fn get(&self, address: &Uri) -> Result<Answer, String> {
        let request = Request::get(path(address)).header(header::ACCEPT, "application/json");
        let answer = self.ask(address, request, Bytes::new()).await?;
        match answer.status {
            StatusCode::OK => Ok(answer),
            status if status.is_redirection() => {
                Err(format!("{address} leads elsewhere, which is not followed"))
            }
            status => Err(format!("{address} answers with {status}")),
        }
    }

    /// Sends a form, with or without `Authorization`.
    pub(super) async fn post(
        &self,
        address: &Uri,
        form: String,
        authorization: Option<http::HeaderValue>,
    ) -> Result<Answer, String> {
        let mut request = Request::post(path(address))
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        self.ask(address, request, Bytes::from(form)).await
    }

    async fn ask(
        &self,
        address: &Uri,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<Answer, String> {
        let authority = address.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let request = request
            .header(header::HOST, authority)
            .header(header::USER_AGENT, concat!("phalanx/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let asked = tokio::time::timeout(ANSWER_MAX, self.answer(address, request)).await;
        let late = || Err(format!("no answer within {} s", ANSWER_MAX.as_secs()));
        asked.unwrap_or_else(|_| late()).map_err(|why| format!("{authority} cannot be asked: {why}"))
    }

    async fn answer(&self, address: &Uri, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let host = bare_host(address);
        let secure = address.scheme_str() == Some("https");
        let port = address.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let addresses = self.resolve(host, port).await?;
        let answer =
            exchange(&addresses, secure.then_some((&self.tls, host)), request, KEYS_BYTES_MAX).await?;
        let date = answer.head.headers.get(header::DATE).and_then(|date| date.to_str().ok());
        Ok(Answer { status: answer.head.status, at_ms: date.and_then(date_ms), body: answer.body? })
    }

    /// The addresses that are connected to are those that were looked at. The issuer's own may be anywhere; what its document names
    /// elsewhere is on the public Internet.
    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let found = resolve(host, port).await?;
        let home = self.home.trim_start_matches('[').trim_end_matches(']');
        let anywhere = host.eq_ignore_ascii_case(home) || (is_here(host) && is_here(home));
        if !anywhere && found.iter().any(|address| !is_public(address.ip())) {
            return Err("the provider's document names it, and it is in a private network".to_owned());
        }
        Ok(found)
    }
}

/// A `Date` (RFC 9110, section 5.6.7).
fn date_ms(text: &str) -> Option<u64> {
    let since = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

fn path(address: &Uri) -> &str {
    address.path_and_query().map_or("/", |path| path.as_str())
}

/// Longest time for one answer: somebody waits for it before a page that does not move.
const ANSWER_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_in_each_form_that_may_be_sent() {
        for (text, at_s) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some(1_709_251_199)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("", None),
            ("x, 00 Jan 2024 00:00:00 GMT", None),
            ("x, 99999999999999999999 Jan 2024 00:00:00 GMT", None),
        ] {
            assert_eq!(date_ms(text), at_s.map(|s: u64| s * 1_000), "{text}");
        }
    }

    #[test]
    fn a_provider_elsewhere_leads_to_no_program_of_this_machine() {
        let http = |issuer: &str| Http::new(&issuer.parse().unwrap(), None).unwrap();
        let public = http("https://id.example");
        assert!(public.check("https://keys.example/jwks").is_ok());
        for bad in [
            "http://127.0.0.1:8900/x",
            "https://localhost/x",
            "http://keys.example/jwks",
            "file:///etc/passwd",
        ] {
            assert!(public.check(bad).is_err(), "{bad}");
        }
        assert!(http("http://127.0.0.1:9000").check("http://127.0.0.1:9001/jwks").is_ok());
    }

    #[tokio::test]
    async fn what_a_document_names_in_a_private_network_is_not_asked() {
        let http = Http::new(&"https://id.example".parse().unwrap(), None).unwrap();
        for host in ["10.0.0.1", "169.254.169.254", "127.0.0.1", "::1"] {
            let refused = http.resolve(host, 443).await.unwrap_err();
            assert!(refused.contains("private network"), "{host}: {refused}");
        }
        let own = Http::new(&"https://10.0.0.1".parse().unwrap(), None).unwrap();
        assert!(own.resolve("10.0.0.1", 443).await.is_ok());
    }
}
