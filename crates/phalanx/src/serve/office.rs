//! Where a site's server gets what it holds: from the authority in the same state folder, or from the fleet's over TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use phalanx_fleet::Sites;
use phalanx_fleet::nats::keeper::HeldServer;
use phalanx_trust::join::{JoinToken, ders};
use phalanx_trust::{
    FleetAuthority, Sealer, ServerGrant, ServerKeys, ServerPlace, ServerRenewal, ServerRequest, certificate,
    site_server, tls,
};

use crate::{enrol, settings};

/// Who grants, and to whom.
pub(super) struct Office {
    folder: PathBuf,
    sealer: Arc<Sealer>,
    place: ServerPlace,
    keys: Arc<ServerKeys>,
    /// Whether the authority lies in this very folder.
    here: bool,
}

impl Office {
    pub(super) fn open(folder: &Path, sealer: Arc<Sealer>, place: ServerPlace) -> anyhow::Result<Self> {
        let keys = Arc::new(ServerKeys::load_or_create(folder, &sealer)?);
        let here = FleetAuthority::open(folder, Arc::clone(&sealer))?.is_some();
        Ok(Self { folder: folder.to_owned(), sealer, place, keys, here })
    }

    /// What the server begins with.
    pub(super) async fn establish(
        self,
        join: Option<&str>,
        now_ms: u64,
    ) -> anyhow::Result<(Self, HeldServer)> {
        if self.here {
            let held = self.held(self.granted_here(now_ms)?, now_ms)?;
            return Ok((self, held));
        }
        if let Some(grant) = site_server::load(&self.folder, &self.sealer)? {
            if (&grant.site, &grant.server) != (&self.place.site, &self.place.server) {
                let ServerGrant { site, server, .. } = &grant;
                bail!(
                    "the state folder is that of server {site}/{server}; start it with --site {site} --server {server}, or choose \
                     another --state"
                );
            }
            // Its time may be over by now; it is renewed once the authority can be reached.
            let at_ms = grant.issued_at_ms;
            let held = self.held(grant, at_ms)?;
            // What changed since, and where it is reached by now. A site that is cut off starts all the same.
            let held = match self.ask_again(&held, now_ms).await {
                Ok(renewed) => renewed,
                Err(error) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "the fleet's authority cannot be asked; starting with what is held"
                    );
                    held
                }
            };
            return Ok((self, held));
        }
        let Some(join) = join else {
            bail!(
                "this state folder holds neither the fleet's authority nor a server's membership; name its folder with --state, or \
                 join with --join and a token of `phalanx fleet invite --server --site {}`",
                self.place.site
            );
        };
        let text = match join.strip_prefix('@') {
            None => join.to_owned(),
            Some(file) => settings::read_token(Path::new(file)).with_context(|| format!("--join {join}"))?,
        };
        let held = self.join(&JoinToken::parse(&text)?, now_ms).await.context("cannot join the fleet")?;
        Ok((self, held))
    }

    /// What is new, if something that matters is, or if half of the time is over.
    pub(super) async fn renew(&self, known: &HeldServer, now_ms: u64) -> anyhow::Result<Option<HeldServer>> {
        let fresh = match self.here {
            true => self.held(self.granted_here(now_ms)?, now_ms)?,
            false => self.asked(known, now_ms).await?,
        };
        let (old, new) = (&known.grant, &fresh.grant);
        let half_ms = old.expires_at_ms.saturating_sub(old.issued_at_ms) / 2;
        let due = now_ms >= old.issued_at_ms.saturating_add(half_ms);
        if !due && old.operator == new.operator && old.roots == new.roots {
            return Ok(None);
        }
        self.keep(&fresh)?;
        Ok(Some(fresh))
    }

    /// The sites whose streams lie here: those without a server of their own, where the authority is.
    pub(super) fn guests(&self) -> Sites {
        if !self.here {
            return Arc::new(Vec::new);
        }
        let (folder, sealer) = (self.folder.clone(), Arc::clone(&self.sealer));
        Arc::new(move || match FleetAuthority::open(&folder, Arc::clone(&sealer)) {
            Ok(Some(authority)) => authority.sites_without_server(),
            _ => Vec::new(),
        })
    }

    fn granted_here(&self, now_ms: u64) -> anyhow::Result<ServerGrant> {
        let authority = FleetAuthority::open(&self.folder, Arc::clone(&self.sealer))?;
        let authority = authority.context("the fleet's authority is not in this state folder any more")?;
        Ok(authority.server_grant_here(&self.place, &self.keys, now_ms)?)
    }

    async fn join(&self, token: &JoinToken, now_ms: u64) -> anyhow::Result<HeldServer> {
        let request = ServerRequest::make(token, &self.place, &self.keys)?;
        let client = tls::joining_client(token)?;
        let grant: ServerGrant =
            enrol::ask(&token.addresses, &token.fleet, client, "/enrol-server", &request).await?;
        // As for nodes: everything later rests on the roots that are named now.
        if !ders(&grant.roots).iter().any(|root| certificate::fingerprint(root) == token.root) {
            bail!("the fleet's authority answered with other roots than the token's");
        }
        let held = self.held(completed(grant, &token.addresses), now_ms)?;
        self.keep(&held)?;
        Ok(held)
    }

    async fn ask_again(&self, known: &HeldServer, now_ms: u64) -> anyhow::Result<HeldServer> {
        let fresh = self.asked(known, now_ms).await?;
        self.keep(&fresh)?;
        Ok(fresh)
    }

    async fn asked(&self, known: &HeldServer, now_ms: u64) -> anyhow::Result<HeldServer> {
        let HeldServer { grant, bundle, .. } = known;
        let request = ServerRenewal::make(&grant.fleet, &self.place, &self.keys.tls, now_ms);
        let client = tls::server_client(bundle, &grant.chain, &self.keys.tls, "enrol")?;
        let fresh: ServerGrant =
            enrol::ask(&grant.enrol, &grant.fleet, client, "/renew-server", &request).await?;
        self.held(completed(fresh, &grant.enrol), now_ms)
    }

    fn held(&self, grant: ServerGrant, at_ms: u64) -> anyhow::Result<HeldServer> {
        let bundle = grant.check(&self.keys, at_ms)?;
        Ok(HeldServer { grant, keys: Arc::clone(&self.keys), bundle })
    }

    fn keep(&self, held: &HeldServer) -> anyhow::Result<()> {
        if !self.here {
            site_server::save(&self.folder, &self.sealer, &held.grant)?;
        }
        Ok(())
    }
}

fn completed(grant: ServerGrant, enrol: &[String]) -> ServerGrant {
    let enrol = if grant.enrol.is_empty() { enrol.to_vec() } else { grant.enrol };
    ServerGrant { enrol, ..grant }
}
