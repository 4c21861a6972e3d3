//! Certificates from an authority, by ACME (RFC 8555): ordered by one node of a site, shown by all, renewed long before they end.
//!
//! Flow in names: hosts -> [`turn`](keep) of the node that holds the shelf -> `order` at the authority, while every node of the site
//! answers its challenges -> [`Issued`] on the shelf -> the edge's material, at each node.
//!
//! INVARIANT: a certificate in force is replaced by a newer one or stays; no failure takes it away.
//! INVARIANT: an authority is asked no more often than [`ORDERS_PER_HOUR`] in all, and after failures ever less often, whoever of
//! the site asks and however often nodes restart: when it was asked lies on the shelf.

mod client;
mod order;
mod state;
mod tries;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use phalanx_fleet::{FleetHandle, Keeps, Shelf};
use phalanx_model::Clock;
use phalanx_model::limits::ACME_HOSTS_MAX;
use tokio::sync::watch;

use self::client::Client;
use self::order::Orderer;
pub use self::state::{Issued, Proof};
use self::state::{PROOF, Tried};
pub use self::tries::ORDERS_PER_HOUR;

/// How certificates are ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeSettings {
    /// The authority's directory.
    pub directory: String,
    /// Whom the authority may write to, as `mailto:` addresses.
    pub contact: Vec<String>,
    /// For which hosts; empty for those that the policy names.
    pub hosts: Vec<String>,
    /// How it is proven that a host is ours.
    pub challenge: Challenge,
    /// Authorities that vouch for the directory, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Name and key file of an account at the authority's own service, where it wants one.
    pub external_account: Option<(String, PathBuf)>,
}

/// How it is proven that a host is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Challenge {
    /// By an answer over HTTP, on port 80.
    #[default]
    Http01,
    /// In a TLS handshake, on port 443.
    TlsAlpn01,
}

/// The hosts for which there shall be certificates at the moment, in lower case.
pub type Hosts = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// The certificates of this node's site.
#[derive(Clone)]
pub struct Acme {
    shelf: Shelf,
    hosts: Hosts,
    directory: Arc<str>,
    clock: Arc<dyn Clock>,
    again: Arc<AtomicBool>,
}

impl Acme {
    /// Takes part: shows what the site has, and orders where this node holds the shelf. An error is a sentence for the operator.
    pub async fn start(
        settings: AcmeSettings,
        hosts: Hosts,
        fleet: &FleetHandle,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let (client, external) = Self::files(&settings)?;
        let shelf = fleet.shelf("acme", Keeps::OnDisk, true).await.map_err(|error| error.to_string())?;
        let directory = settings.directory.as_str().into();
        let acme = Self { shelf, hosts, directory, clock, again: Arc::default() };
        let orderer = Orderer::new(acme.shelf.clone(), settings, client, external, Arc::clone(&acme.clock));
        tokio::spawn(keep(acme.clone(), orderer, fleet.clone()));
        Ok(acme)
    }

    /// Whether the files that the settings name can be used. An error is a sentence for the operator.
    pub fn check(settings: &AcmeSettings) -> Result<(), String> {
        Self::files(settings).map(drop)
    }

    fn files(settings: &AcmeSettings) -> Result<(Client, Option<order::ExternalKey>), String> {
        let external = settings.external_account.as_ref();
        let external = external.map(|(name, file)| order::external_key(name, file)).transpose()?;
        Ok((Client::new(settings.ca_file.as_deref())?, external))
    }

    /// The certificates that there are, with the hosts that they are for.
    pub fn issued(&self) -> Vec<(String, Issued)> {
        let hosts = self.hosts();
        let read = |host: String| Some((host.clone(), Issued::on(&self.shelf, &host)?));
        hosts.into_iter().filter_map(read).collect()
    }

    /// The hosts for which there shall be certificates.
    pub fn hosts(&self) -> Vec<String> {
        let mut hosts = (self.hosts)();
        hosts.sort();
        hosts.dedup();
        hosts.truncate(ACME_HOSTS_MAX);
        hosts
    }

    /// What the authority may be asking any node of the site for now.
    pub fn proofs(&self) -> Vec<Proof> {
        let all = self.shelf.all(PROOF).into_iter();
        all.filter_map(|(_, bytes)| serde_json::from_slice(&bytes).ok()).collect()
    }

    /// What failed is tried again at once, if this is the node that orders: an operator has set something right.
    pub fn try_again(&self) {
        self.again.store(true, Ordering::Relaxed);
    }

    /// Resolves when certificates or proofs may have changed.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shelf.changed()
    }

    /// What an operator should know.
    pub fn degraded(&self) -> Vec<String> {
        let now_ms = self.clock.now_ms();
        let nobody = !self.shelf.may_write() && !self.shelf.is_in_step();
        let told = |host: String| {
            let tried = Tried::on(&self.shelf, &host).filter(|tried| tried.failures > 0);
            let issued = Issued::on(&self.shelf, &host);
            let why = tried.map(|tried| tried.sentence(now_ms));
            match (issued, why) {
                (Some(issued), Some(why)) => {
                    let days = issued.not_after_ms.saturating_sub(now_ms) / DAY_MS;
                    Some(format!(
                        "the certificate for {host} was not renewed, the one in force ends in {days} days: {why}"
                    ))
                }
                (None, Some(why)) => Some(format!("there is no certificate for {host}: {why}")),
                (None, None) if nobody => Some(format!(
                    "there is no certificate for {host}: no node with the control role orders for this site"
                )),
                (None, None) => Some(format!("there is no certificate for {host} yet: it is being ordered")),
                (Some(_), None) => None,
            }
        };
        self.hosts().into_iter().filter_map(told).take(SENTENCES_MAX).collect()
    }
}

impl std::fmt::Debug for Acme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acme").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// Orders what is due for as long as this node holds the shelf.
async fn keep(acme: Acme, mut orderer: Orderer, fleet: FleetHandle) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if !acme.shelf.may_write() {
            // Another may change it meanwhile.
            orderer.forget_account();
            continue;
        }
        if acme.again.swap(false, Ordering::Relaxed) {
            orderer.try_again(&acme.hosts()).await;
        }
        let revoked_up_to_ms = fleet.site_revoked_up_to_ms();
        for host in acme.hosts() {
            if !acme.shelf.may_write() {
                break;
            }
            orderer.see_to(&host, revoked_up_to_ms).await;
        }
        orderer.drop_others(&acme.hosts()).await;
    }
}

const LOOK: Duration = Duration::from_secs(1);
const DAY_MS: u64 = 24 * 60 * 60_000;
const SENTENCES_MAX: usize = 16;
