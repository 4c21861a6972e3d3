//! A provider as it describes itself: where it is asked, and the keys that it signs with, read anew before they are old.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode, Uri};
use parking_lot::Mutex;
use phalanx_trust::oidc::{Expected, IdToken, KeySet, TokenFault};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;

use super::Flow;
use super::http::Http;
use super::settings::{ProviderSettings, check_address};
use crate::limits::PROVIDER_REQUESTS_MAX;
use crate::router::Control;
use crate::url::encoded;

/// One provider.
pub struct Provider {
    settings: ProviderSettings,
    http: Http,
    /// Where it describes itself.
    description: Uri,
    known: Mutex<Option<Arc<Known>>>,
    health: Mutex<Health>,
    /// One reads what is known anew; who waits for it takes what was read. Nobody waits for a provider that failed the last time.
    reading: tokio::sync::Mutex<()>,
    asking: Semaphore,
}

/// What of a provider's settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderFault {
    /// Its address.
    #[error("{0}")]
    Issuer(String),
    /// The authorities that vouch for it.
    #[error("{0}")]
    Authorities(String),
}

/// How the provider does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    /// When it was asked last, in Unix milliseconds; 0 if never.
    pub(crate) asked_at_ms: u64,
    /// Why nobody gets in by it.
    pub(crate) fault: Option<String>,
    /// How far its clock is ahead of ours, in milliseconds.
    pub(crate) ahead_ms: Option<i64>,
}

/// What a provider says of itself.
pub(crate) struct Known {
    document: Document,
    authorization: Uri,
    token: Uri,
    keys_at: Uri,
    keys: KeySet,
    read_at_ms: u64,
    keys_read_at_ms: u64,
}

/// OpenID Connect Discovery 1.0, section 3, as far as it is used.
#[derive(Debug, Clone, Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    /// RFC 9207.
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    code_challenge_methods_supported: Option<Vec<String>>,
    id_token_signing_alg_values_supported: Option<Vec<String>>,
}

/// Why a code brought nobody in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotRedeemed {
    #[error("{0}")]
    Away(String),
    #[error("the provider does not take the code: {0}")]
    Refused(String),
    #[error(transparent)]
    Token(#[from] TokenFault),
}

impl Provider {
    /// One by its settings. Nothing is asked yet.
    ///
    /// # Errors
    /// When the issuer's address, or the file of authorities, is none that can be used.
    pub fn new(settings: ProviderSettings) -> Result<Self, ProviderFault> {
        let issuer = check_address(&settings.issuer).map_err(ProviderFault::Issuer)?;
        if issuer.query().is_some() {
            return Err(ProviderFault::Issuer("an issuer has no `?`".to_owned()));
        }
        let address = format!("{}/.well-known/openid-configuration", settings.issuer.trim_end_matches('/'));
        let unusable = || ProviderFault::Issuer(format!("`{address}` is no address"));
        let description = address.parse().map_err(|_| unusable())?;
        Ok(Self {
            http: Http::new(&issuer, settings.ca.as_deref()).map_err(ProviderFault::Authorities)?,
            settings,
            description,
            known: Mutex::default(),
            health: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            asking: Semaphore::new(PROVIDER_REQUESTS_MAX),
        })
    }

    /// Its settings.
    pub fn settings(&self) -> &ProviderSettings {
        &self.settings
    }

    /// How it does, as far as is known.
    pub(crate) fn health(&self) -> Health {
        self.health.lock().clone()
    }

    /// What it says of itself: read anew when that is old, and not more often than every few seconds when it fails.
    pub(crate) async fn known(&self, now_ms: u64) -> Result<Arc<Known>, String> {
        let fresh = |known: &Arc<Known>| now_ms < known.read_at_ms.saturating_add(KNOWN_MS);
        if let Some(known) = self.known.lock().as_ref().filter(|known| fresh(known)) {
            return Ok(Arc::clone(known));
        }
        let came = Instant::now();
        let _turn = match (self.reading.try_lock(), self.health().fault) {
            (Ok(turn), _) => turn,
            (Err(_), Some(fault)) => return Err(fault),
            (Err(_), None) => self.reading.lock().await,
        };
        if let Some(known) = self.known.lock().as_ref().filter(|known| fresh(known)) {
            return Ok(Arc::clone(known));
        }
        let now_ms = later(now_ms, came);
        let Health { asked_at_ms, fault, .. } = self.health();
        match fault {
            Some(fault) if now_ms < asked_at_ms.saturating_add(AGAIN_MS) => Err(fault),
            _ => self.read(now_ms).await,
        }
    }

    /// Reads it anew, whatever is known.
    pub(crate) async fn read_again(&self, now_ms: u64) -> Result<Arc<Known>, String> {
        let _turn = self.reading.lock().await;
        self.read(now_ms).await
    }

    /// Reads it anew where that was long ago; what comes of it is in its health.
    async fn look(&self, now_ms: u64) {
        let came = Instant::now();
        let _turn = self.reading.lock().await;
        // Looked at in turn: somebody who logs in may just have had it read.
        let Health { asked_at_ms, fault, .. } = self.health();
        let again_ms = if fault.is_some() { AGAIN_MS } else { LOOK_AGAIN_MS };
        let now_ms = later(now_ms, came);
        if now_ms >= asked_at_ms.saturating_add(again_ms) {
            let _ = self.read(now_ms).await;
        }
    }

    /// How many keys it has.
    pub(crate) fn keys(&self) -> Option<usize> {
        self.known.lock().as_ref().map(|known| known.keys.count())
    }

    async fn read(&self, now_ms: u64) -> Result<Arc<Known>, String> {
        let began = Instant::now();
        let read = self.describe(now_ms).await;
        let mut health = self.health.lock();
        // When it is over: else who waited for one that does not answer would ask it once more, one after the other.
        health.asked_at_ms = later(now_ms, began);
        match read {
            Ok((known, ahead_ms)) => {
                (health.fault, health.ahead_ms) = (None, ahead_ms);
                let known = Arc::new(known);
                *self.known.lock() = Some(Arc::clone(&known));
                Ok(known)
            }
            Err(fault) => {
                health.fault = Some(fault.clone());
                Err(fault)
            }
        }
    }

    async fn describe(&self, now_ms: u64) -> Result<(Known, Option<i64>), String> {
        let answer = self.http.get(&self.description).await?;
        let document: Document = serde_json::from_slice(&answer.body)
            .map_err(|error| format!("{} cannot be understood: {error}", self.description))?;
        self.check(&document)?;
        let authorization = self.http.check(&document.authorization_endpoint)?;
        let token = self.http.check(&document.token_endpoint)?;
        let keys_at = self.http.check(&document.jwks_uri)?;
        let keys = self.read_keys(&keys_at).await?;
        let (read_at_ms, keys_read_at_ms) = (now_ms, now_ms);
        let ahead_ms =
            answer.at_ms.and_then(|at_ms| i64::try_from(i128::from(at_ms) - i128::from(now_ms)).ok());
        Ok((Known { document, authorization, token, keys_at, keys, read_at_ms, keys_read_at_ms }, ahead_ms))
    }

    /// What would let somebody else speak for the issuer, or a code be used by who took it, is refused.
    fn check(&self, document: &Document) -> Result<(), String> {
        if document.issuer != self.settings.issuer {
            return Err(format!(
                "it calls itself `{}`, and the settings `{}`: both must be the same, to the last `/`",
                document.issuer.escape_debug(),
                self.settings.issuer
            ));
        }
        let lacks = |said: &Option<Vec<String>>, wanted: &[&str]| {
            said.as_ref().is_some_and(|said| !said.iter().any(|one| wanted.contains(&one.as_str())))
        };
        if lacks(&document.code_challenge_methods_supported, &["S256"]) {
            return Err("it does not know PKCE with S256".to_owned());
        }
        if lacks(&document.token_endpoint_auth_methods_supported, &[BASIC, POST]) {
            return Err("it takes a client's secret neither by HTTP Basic nor in the form".to_owned());
        }
        if lacks(&document.id_token_signing_alg_values_supported, &["RS256", "PS256", "ES256", "EdDSA"]) {
            return Err("it signs by none of RS256, PS256, ES256 and EdDSA".to_owned());
        }
        Ok(())
    }

    async fn read_keys(&self, at: &Uri) -> Result<KeySet, String> {
        KeySet::from_json(&self.http.get(at).await?.body).map_err(|fault| format!("{at}: {fault}"))
    }

    /// Where the browser goes to begin. `anew`: its holder proves himself to the provider though that knows him.
    pub(crate) fn authorize(&self, known: &Known, flow: &Flow, redirect: &str, anew: bool) -> String {
        let settings = &self.settings;
        let (scope, acr, challenge) = (settings.scopes.join(" "), settings.acr.join(" "), flow.challenge());
        let longest = (phalanx_model::limits::SESSION_MS / 1_000).to_string();
        let mut asked = vec![
            ("response_type", "code"),
            ("client_id", settings.client_id.as_str()),
            ("redirect_uri", redirect),
            ("scope", &scope),
            ("state", &flow.state),
            ("nonce", &flow.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            // It also has the provider say when that was.
            ("max_age", if anew { "0" } else { &longest }),
        ];
        if anew {
            asked.push(("prompt", "login"));
        }
        if !acr.is_empty() {
            asked.push(("acr_values", &acr));
        }
        let joint = if known.authorization.query().is_some() { '&' } else { '?' };
        format!("{}{joint}{}", known.authorization, form(&asked))
    }

    /// Whether an answer is this provider's (RFC 9207): what it says of itself must be right, and said where it says that it says it.
    pub(crate) fn is_of(&self, known: &Known, issuer: Option<&str>) -> bool {
        match issuer {
            Some(issuer) => issuer == self.settings.issuer,
            None => !known.document.authorization_response_iss_parameter_supported,
        }
    }

    /// Turns a code into what the provider says of whoever brought it.
    pub(crate) async fn redeem(
        &self,
        known: &Arc<Known>,
        (code, redirect): (&str, &str),
        flow: &Flow,
        now_ms: u64,
    ) -> Result<IdToken, NotRedeemed> {
        let token = self.exchange(known, code, redirect, flow).await?;
        let expected = Expected {
            issuer: &self.settings.issuer,
            client: &self.settings.client_id,
            nonce: &flow.nonce,
            now_ms,
        };
        match known.keys.believe(&token, expected) {
            // It may have a new key since.
            Err(TokenFault::UnknownKey) => {
                let known = self.with_new_keys(known, now_ms).await?;
                Ok(known.keys.believe(&token, expected)?)
            }
            believed => Ok(believed?),
        }
    }

    async fn exchange(
        &self,
        known: &Known,
        code: &str,
        redirect: &str,
        flow: &Flow,
    ) -> Result<String, NotRedeemed> {
        let busy = || NotRedeemed::Away("too many log in at once".to_owned());
        let _permit = self.asking.try_acquire().map_err(|_| busy())?;
        let (id, secret) = (self.settings.client_id.as_str(), self.settings.client_secret.as_str());
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect),
            ("code_verifier", &flow.verifier),
        ];
        let methods = known.document.token_endpoint_auth_methods_supported.as_deref();
        let basic = methods.is_none_or(|known| known.iter().any(|one| one == BASIC));
        let authorization = if basic {
            // RFC 6749, section 2.3.1: both are written as in a form before they are joined.
            let both = zeroize::Zeroizing::new(format!("{}:{}", encoded(id), encoded(secret)));
            let text = format!("Basic {}", STANDARD.encode(both.as_bytes()));
            let mut value = HeaderValue::from_str(&text).map_err(|_| busy())?;
            value.set_sensitive(true);
            Some(value)
        } else {
            fields.extend([("client_id", id), ("client_secret", secret)]);
            None
        };
        let answer = self.http.post(&known.token, form(&fields), authorization).await;
        let answer = answer.map_err(NotRedeemed::Away)?;
        if answer.status != StatusCode::OK {
            return Err(NotRedeemed::Refused(fault_of(answer.status, &answer.body)));
        }
        #[derive(Deserialize)]
        struct Tokens {
            id_token: String,
        }
        let tokens = serde_json::from_slice::<Tokens>(&answer.body);
        tokens.map(|tokens| tokens.id_token).map_err(|_| TokenFault::Form.into())
    }

    /// The keys anew, at most once a minute.
    async fn with_new_keys(&self, old: &Arc<Known>, now_ms: u64) -> Result<Arc<Known>, NotRedeemed> {
        let _turn = self.reading.lock().await;
        let known = self.known.lock().clone().unwrap_or_else(|| Arc::clone(old));
        // Somebody else may have read them while this one waited.
        if known.keys_read_at_ms != old.keys_read_at_ms {
            return Ok(known);
        }
        if now_ms < known.keys_read_at_ms.saturating_add(KEYS_AGAIN_MS) {
            return Err(TokenFault::UnknownKey.into());
        }
        let keys = self.read_keys(&known.keys_at).await.map_err(NotRedeemed::Away)?;
        let new = Arc::new(Known {
            document: known.document.clone(),
            authorization: known.authorization.clone(),
            token: known.token.clone(),
            keys_at: known.keys_at.clone(),
            keys,
            read_at_ms: known.read_at_ms,
            keys_read_at_ms: now_ms,
        });
        *self.known.lock() = Some(Arc::clone(&new));
        Ok(new)
    }
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Provider({:?})", self.settings)
    }
}

/// Asks the providers now and then, so that it is known who is away before somebody wants to get in. Ends with the router.
pub(crate) async fn watch(control: Weak<Control>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Not held while a provider is waited for: a node that stops would wait, too.
        let asked = control.upgrade().map(|control| {
            let providers: Vec<Arc<Provider>> = control.deps.providers.all().cloned().collect();
            (providers, control.now_ms())
        });
        let Some((providers, now_ms)) = asked else { return };
        for provider in providers {
            provider.look(now_ms).await;
        }
    }
}

/// What a provider says is wrong, as far as it is one of the words for that (RFC 6749, section 5.2).
fn fault_of(status: StatusCode, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Fault {
        error: String,
    }
    let said = serde_json::from_slice::<Fault>(body).map(|fault| fault.error).unwrap_or_default();
    match FAULTS.iter().find(|known| **known == said) {
        Some(known) => format!("{status}, {known}"),
        None => status.to_string(),
    }
}

/// The time, which was this at that moment.
fn later(now_ms: u64, since: Instant) -> u64 {
    now_ms.saturating_add(u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// Fields as in a form or a query.
fn form(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    pairs.join("&")
}

const BASIC: &str = "client_secret_basic";
const POST: &str = "client_secret_post";
const FAULTS: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];
/// How long what a provider says of itself is believed.
const KNOWN_MS: u64 = 60 * 60_000;
/// How soon one that failed is asked again.
const AGAIN_MS: u64 = 5_000;
/// How soon keys are read again because a token names one that is not known.
const KEYS_AGAIN_MS: u64 = 60_000;
/// How often it is looked whether a provider must be asked.
const LOOK: Duration = Duration::from_secs(30);
/// How often one that works is asked.
const LOOK_AGAIN_MS: u64 = 5 * 60_000;

#[cfg(test)]
mod tests {
    use super::super::settings::tests::settings;
    use super::*;

    #[test]
    fn fields_are_written_so_that_none_can_become_two() {
        assert_eq!(form(&[("a", "x&b=1"), ("c", "é /~")]), "a=x%26b%3D1&c=%C3%A9%20%2F~");
    }

    #[test]
    fn a_provider_that_refuses_is_quoted_by_known_words_only() {
        let said = |body: &str| fault_of(StatusCode::BAD_REQUEST, body.as_bytes());
        assert_eq!(said("{\"error\":\"invalid_grant\"}"), "400 Bad Request, invalid_grant");
        assert_eq!(said("{\"error\":\"<script>\"}"), "400 Bad Request");
        assert_eq!(said("nonsense"), "400 Bad Request");
    }

    #[tokio::test]
    async fn nobody_waits_behind_a_provider_that_failed() {
        let provider = Provider::new(settings()).unwrap();
        provider.health.lock().fault = Some("no answer within 10 s".to_owned());
        let _asked = provider.reading.lock().await;
        let known = tokio::time::timeout(Duration::from_secs(5), provider.known(1)).await;
        assert_eq!(known.unwrap().err().as_deref(), Some("no answer within 10 s"));
    }

    #[tokio::test]
    async fn what_was_read_while_a_look_waited_for_its_turn_is_not_read_again() {
        let provider = Provider::new(settings()).unwrap();
        let turn = provider.reading.lock().await;
        let somebody_reads = async {
            provider.health.lock().asked_at_ms = 1_000_000;
            drop(turn);
        };
        tokio::join!(provider.look(1_000_000), somebody_reads);
        assert_eq!(provider.health().fault, None, "this one cannot be read");
    }
}
