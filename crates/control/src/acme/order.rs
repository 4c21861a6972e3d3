//! One order after the other at the authority: the account, the proofs, the certificate.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error,
    ExternalAccountKey, Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use phalanx_fleet::Shelf;
use phalanx_model::Clock;
use phalanx_trust::{private_file, random_u64, served};
use zeroize::Zeroizing;

use super::client::Client;
use super::state::{self, CERTIFICATE, Issued, ORDERS, PROOF, Proof, TRIED, Tried, read, write};
use super::{AcmeSettings, Challenge, tries};

/// Orders for the site while this node holds the shelf.
pub(super) struct Orderer {
    shelf: Shelf,
    settings: AcmeSettings,
    client: Client,
    external: Option<ExternalKey>,
    clock: Arc<dyn Clock>,
    /// With when its key was made.
    account: Option<(Account, u64)>,
}

/// Id and key of an account at the authority's own service.
pub(super) type ExternalKey = (String, Zeroizing<Vec<u8>>);

/// Why an order came to nothing, for people.
struct Failed {
    why: String,
    /// The authority says that it was asked too often.
    limited: bool,
    /// The authority knows no such account.
    account_gone: bool,
}

impl Orderer {
    pub(super) fn new(
        shelf: Shelf,
        settings: AcmeSettings,
        client: Client,
        external: Option<ExternalKey>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { shelf, settings, client, external, clock, account: None }
    }

    /// The shelf is another's now.
    pub(super) fn forget_account(&mut self) {
        self.account = None;
    }

    /// Orders a certificate for a host if it is time.
    pub(super) async fn see_to(&mut self, host: &str, revoked_up_to_ms: u64) {
        let now_ms = self.clock.now_ms();
        let (issued, tried) = (Issued::on(&self.shelf, host), Tried::on(&self.shelf, host));
        let directory = &self.settings.directory;
        if !tries::is_due(issued.as_ref(), tried.as_ref(), directory, revoked_up_to_ms, now_ms) {
            if let Some(issued) = issued.filter(|issued| now_ms >= issued.ask_at_ms) {
                self.ask_when(host, issued, revoked_up_to_ms).await;
            }
            return;
        }
        let orders = read(&self.shelf, ORDERS).unwrap_or_default();
        let Some(orders) = tries::counted(orders, now_ms) else { return };
        // Counted first: a node that dies of an order must not order again and again.
        if !write(&self.shelf, ORDERS, &orders, NEVER).await {
            return;
        }
        tracing::info!(host, "a certificate is ordered");
        let ordered = tokio::time::timeout(ORDER_MAX, Box::pin(self.order(host, revoked_up_to_ms))).await;
        let late = Failed::of(format!("it took over {} s", ORDER_MAX.as_secs()));
        let outcome = ordered.unwrap_or(Err(late));
        self.withdraw_proofs(host).await;
        let now_ms = self.clock.now_ms();
        match outcome {
            Ok(issued) => {
                // Not before it lies there for all: until then the old one is what there is.
                if write(&self.shelf, &state::certificate(host), &issued, NEVER).await && tried.is_some() {
                    let _ = self.shelf.remove(&state::tried(host)).await;
                }
                tracing::info!(host, ends_at_ms = issued.not_after_ms, "a certificate was issued");
            }
            Err(Failed { why, limited, account_gone }) => {
                tracing::warn!(host, error = why, "no certificate was issued");
                self.account = None;
                if account_gone {
                    // The next try makes one.
                    let _ = self.shelf.remove(&state::account(&self.settings.directory)).await;
                }
                let tried = tries::failed(tried.as_ref(), &why, limited, now_ms, random_u64());
                write(&self.shelf, &state::tried(host), &tried, now_ms + TRIED_KEPT_MS).await;
            }
        }
    }

    /// Forgets the pauses after failures; what failed stays told until it comes to something.
    pub(super) async fn try_again(&self, hosts: &[String]) {
        for host in hosts {
            if let Some(tried) = Tried::on(&self.shelf, host).filter(|tried| tried.failures > 0) {
                let now_ms = self.clock.now_ms();
                let tried = Tried { next_at_ms: now_ms, ..tried };
                write(&self.shelf, &state::tried(host), &tried, now_ms + TRIED_KEPT_MS).await;
            }
        }
    }

    /// Takes from the shelf what belongs to hosts that are none any more and has ended.
    pub(super) async fn drop_others(&self, hosts: &[String]) {
        let now_ms = self.clock.now_ms();
        for (name, bytes) in self.shelf.all(CERTIFICATE) {
            let of_other =
                name.strip_prefix(CERTIFICATE).is_some_and(|host| !hosts.iter().any(|one| one == host));
            let ended =
                serde_json::from_slice::<Issued>(&bytes).is_ok_and(|issued| issued.not_after_ms < now_ms);
            if of_other && ended {
                let _ = self.shelf.remove(&name).await;
            }
        }
        for (name, _) in self.shelf.all(TRIED) {
            if name.strip_prefix(TRIED).is_some_and(|host| !hosts.iter().any(|one| one == host)) {
                let _ = self.shelf.remove(&name).await;
            }
        }
    }

    async fn order(&mut self, host: &str, revoked_up_to_ms: u64) -> Result<Issued, Failed> {
        let made_at_ms = self.clock.now_ms().max(revoked_up_to_ms.saturating_add(1));
        let account = self.account(revoked_up_to_ms).await?;
        let identifiers = [Identifier::Dns(host.to_owned())];
        let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
        self.prove(host, &mut order).await?;
        match order.poll_ready(&PATIENCE).await {
            Ok(OrderStatus::Ready) => {}
            Ok(_) => return Err(why_invalid(&mut order).await),
            Err(error) => return Err(error.into()),
        }
        let (key, request) = served::request(host).map_err(|error| Failed::of(error.to_string()))?;
        order.finalize_csr(&request).await?;
        let chain = order.poll_certificate(&PATIENCE).await?;
        let mut issued = Issued {
            chain,
            key,
            not_after_ms: 0,
            made_at_ms,
            renew_at_ms: 0,
            ask_at_ms: made_at_ms.saturating_add(ASKED_EVERY_MS),
            directory: self.settings.directory.clone(),
        };
        let read = issued
            .certificate()
            .map_err(|why| Failed::of(format!("what was issued cannot be shown: {why}")))?;
        if !read.names.iter().any(|name| name == host) {
            return Err(Failed::of("what was issued is for another host".into()));
        }
        issued.not_after_ms = read.not_after_ms;
        issued.renew_at_ms = tries::renewal_ms(read.not_before_ms, read.not_after_ms, random_u64());
        Ok(issued)
    }

    /// Has every node of the site answer what the authority is going to ask, then tells it to ask.
    async fn prove(&self, host: &str, order: &mut Order) -> Result<(), Failed> {
        let kind = match self.settings.challenge {
            Challenge::Http01 => ChallengeType::Http01,
            Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        };
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            match authorization.status {
                AuthorizationStatus::Pending => {}
                // Proven for an order before.
                AuthorizationStatus::Valid => continue,
                _ => return Err(Failed::of("the authority refuses to have it proven".into())),
            }
            let challenge = authorization.challenge(kind.clone());
            let mut challenge =
                challenge.ok_or_else(|| Failed::of("the authority does not offer this challenge".into()))?;
            let key_authorization = challenge.key_authorization();
            let proof =
                Proof::of(self.settings.challenge, host, &challenge.token, key_authorization.as_str());
            let until_ms = self.clock.now_ms() + PROOF_KEPT_MS;
            if !write(&self.shelf, &state::proof(&proof.token), &proof, until_ms).await {
                return Err(Failed::of("another node of the site orders now".into()));
            }
            if !self.shelf.everybody_has(PROOF_SHARED_WITHIN).await {
                tracing::warn!(
                    host,
                    "not all nodes of the site can answer the authority; it is asked all the same"
                );
            }
            challenge.set_ready().await?;
        }
        Ok(())
    }

    async fn withdraw_proofs(&self, host: &str) {
        for (name, bytes) in self.shelf.all(PROOF) {
            if serde_json::from_slice::<Proof>(&bytes).is_ok_and(|proof| proof.host == host) {
                let _ = self.shelf.remove(&name).await;
            }
        }
    }

    /// The site's account, made if there is none. A node that was revoked knew its key: then it gets another.
    async fn account(&mut self, revoked_up_to_ms: u64) -> Result<Account, Failed> {
        if let Some((account, made_at_ms)) = &self.account
            && *made_at_ms > revoked_up_to_ms
        {
            return Ok(account.clone());
        }
        let name = state::account(&self.settings.directory);
        let made_at_ms = self.clock.now_ms().max(revoked_up_to_ms.saturating_add(1));
        let builder = Account::builder_with_http(Box::new(self.client.clone()));
        let (account, credentials) = match read::<state::Account>(&self.shelf, &name) {
            None => self.new_account().await?,
            Some(kept) => {
                let unreadable = |_| Failed::of("the account cannot be read".into());
                let credentials: AccountCredentials =
                    serde_json::from_str(&kept.credentials).map_err(unreadable)?;
                let mut account = builder.from_credentials(credentials).await?;
                if kept.made_at_ms > revoked_up_to_ms {
                    self.account = Some((account.clone(), kept.made_at_ms));
                    return Ok(account);
                }
                let credentials = account.update_key().await?;
                (account, credentials)
            }
        };
        let credentials = serde_json::to_string(&credentials).map(Zeroizing::new);
        let credentials = credentials.map_err(|_| Failed::of("the account cannot be written".into()))?;
        let kept = state::Account { credentials, made_at_ms };
        if !write(&self.shelf, &name, &kept, NEVER).await {
            return Err(Failed::of("another node of the site orders now".into()));
        }
        self.account = Some((account.clone(), made_at_ms));
        Ok(account)
    }

    async fn new_account(&self) -> Result<(Account, AccountCredentials), Failed> {
        let contact: Vec<&str> = self.settings.contact.iter().map(String::as_str).collect();
        // The settings do not get here unless they say that the operator agrees.
        let new =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let external = self.external.as_ref().map(|(name, key)| ExternalAccountKey::new(name.clone(), key));
        let builder = Account::builder_with_http(Box::new(self.client.clone()));
        let directory = self.settings.directory.clone();
        Ok(builder.create(&new, directory, external.as_ref()).await?)
    }

    /// Asks the authority whether a certificate should be renewed sooner (RFC 9773). One that does not say is asked again later.
    async fn ask_when(&mut self, host: &str, mut issued: Issued, revoked_up_to_ms: u64) {
        let now_ms = self.clock.now_ms();
        issued.ask_at_ms = now_ms.saturating_add(ASKED_EVERY_MS);
        if let Some((from_ms, to_ms)) = self.window(&issued, revoked_up_to_ms).await {
            let at_ms = from_ms.saturating_add(random_u64() % to_ms.saturating_sub(from_ms).max(1));
            issued.renew_at_ms = issued.renew_at_ms.min(at_ms);
        }
        write(&self.shelf, &state::certificate(host), &issued, NEVER).await;
    }

    async fn window(&mut self, issued: &Issued, revoked_up_to_ms: u64) -> Option<(u64, u64)> {
        let certificate = issued.certificate().ok()?;
        let id = CertificateIdentifier::try_from(certificate.key.cert.first()?).ok()?;
        let account = self.account(revoked_up_to_ms).await.ok()?;
        let (info, _) = account.renewal_info(&id).await.ok()?;
        let ms = |at: i128| u64::try_from(at / 1_000_000).unwrap_or_default();
        let window = info.suggested_window;
        Some((ms(window.start.unix_timestamp_nanos()), ms(window.end.unix_timestamp_nanos())))
    }
}

/// What the authority found when it looked.
async fn why_invalid(order: &mut Order) -> Failed {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return Failed::of(format!("the authority could not see that the host is ours: {problem}"));
        }
    }
    Failed::of("the authority could not see that the host is ours".into())
}

impl Failed {
    fn of(why: String) -> Self {
        Self { why, limited: false, account_gone: false }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Api(problem) => problem.r#type.as_deref().unwrap_or_default(),
            _ => "",
        };
        let (limited, account_gone) =
            (kind.ends_with(":rateLimited"), kind.ends_with(":accountDoesNotExist"));
        Self { limited, account_gone, why: error.to_string() }
    }
}

/// Reads the key to an account at the authority's own service: base64, as such services show it.
pub(super) fn external_key(name: &str, file: &Path) -> Result<ExternalKey, String> {
    let read = private_file::read(file, EXTERNAL_KEY_BYTES_MAX).map_err(|error| error.to_string())?;
    let text = read.ok_or_else(|| format!("{}: there is no such file", file.display()))?;
    let text = text.trim_ascii();
    let key =
        URL_SAFE_NO_PAD.decode(text.strip_suffix(b"=").unwrap_or(text)).or_else(|_| STANDARD.decode(text));
    let key = key.map_err(|_| format!("{}: holds no key in base64", file.display()))?;
    Ok((name.to_owned(), Zeroizing::new(key)))
}

const NEVER: u64 = u64::MAX;
/// Longest time for one order.
const ORDER_MAX: Duration = Duration::from_secs(300);
/// How long the authority may take to look, and to issue.
const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(90));
/// How long the nodes of the site get to learn of a proof.
const PROOF_SHARED_WITHIN: Duration = Duration::from_secs(5);
/// A proof that nobody withdrew is of no use after that.
const PROOF_KEPT_MS: u64 = 60 * 60_000;
const TRIED_KEPT_MS: u64 = 30 * 24 * 60 * 60_000;
/// How often the authority is asked when it would have a certificate renewed.
const ASKED_EVERY_MS: u64 = 6 * 60 * 60_000;
const EXTERNAL_KEY_BYTES_MAX: usize = 4_096;
