//! This node's membership of an enrolled fleet: how it begins, and what keeps it.
//!
//! Flow in names: authority in the state folder, or sealed grant, or join token -> `Identity` -> fleet, NATS, renewal.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use parking_lot::Mutex;
use phalanx_fleet::{FleetHandle, FleetKeys};
use phalanx_model::Clock;
use phalanx_trust::delegation::{DelegationGrant, DelegationRequest};
use phalanx_trust::join::{Grant, JoinToken, NodeKeys, RenewRequest, ders};
use phalanx_trust::membership::{self, Held};
use phalanx_trust::{
    EnrolRequest, FleetAuthority, Membership, Revocation, Sealer, SigningKey, SiteDelegate, certificate,
    nats_login, tls,
};
use tokio::sync::Notify;

use crate::enrol;
use crate::settings::Settings;
use crate::state::StateFolder;

/// Who this node is in an enrolled fleet.
pub(crate) struct Identity {
    pub(crate) membership: Arc<Membership>,
    /// The fleet's authority, if it lies in this node's state folder.
    pub(crate) authority: Option<Arc<Mutex<FleetAuthority>>>,
    /// Why the certificates cannot be renewed at the moment.
    fault: Mutex<Option<String>>,
    keys: OwnKeys,
    state: StateFolder,
    sealer: Arc<Sealer>,
}

struct OwnKeys {
    node: SigningKey,
    operator: Option<SigningKey>,
    nats: SigningKey,
}

impl OwnKeys {
    fn load(folder: &Path, sealer: &Sealer, control: bool) -> anyhow::Result<Self> {
        let FleetKeys { node, operator } = FleetKeys::load_or_create(folder, sealer, control)?;
        Ok(Self { node, operator, nats: nats_key(folder, sealer)? })
    }

    fn all(&self) -> NodeKeys<'_> {
        NodeKeys { node: &self.node, operator: self.operator.as_ref(), nats: &self.nats }
    }
}

impl Identity {
    /// Finds out who this node is: it holds the authority, or was enrolled before, or has a token to join with. `None` for a node
    /// that is known by the keys it comes with.
    pub(crate) async fn establish(
        settings: &Settings,
        state: &StateFolder,
        sealer: &Arc<Sealer>,
        policy_version: u64,
        now_ms: u64,
    ) -> anyhow::Result<Option<Arc<Self>>> {
        let folder = state.path();
        let join = settings.fleet.as_ref().and_then(|fleet| fleet.join.as_deref());
        if let Some(mut authority) = FleetAuthority::open(folder, Arc::clone(sealer))? {
            let keys = OwnKeys::load(folder, sealer, true)?;
            let grant = authority.enrol_self(&settings.site, &settings.node, &keys.all(), now_ms)?;
            let authority = Some(Arc::new(Mutex::new(authority)));
            return Self::of(settings, state, sealer, keys, authority, grant).map(Some);
        }
        if let Some(grant) = membership::load(folder, sealer)? {
            let keys = OwnKeys::load(folder, sealer, !grant.operator_chain.is_empty())?;
            check_policy(policy_version, grant.policy_version_min)?;
            return Self::of(settings, state, sealer, keys, None, grant).map(Some);
        }
        let Some(text) = join else { return Ok(None) };
        let token = JoinToken::parse(text)?;
        // Before the token is used up.
        check_policy(policy_version, token.policy_version_min)?;
        let keys = OwnKeys::load(folder, sealer, token.control)?;
        let grant = join_with(&token, settings, &keys, now_ms).await.context("cannot join the fleet")?;
        membership::save(folder, sealer, &grant)?;
        Self::of(settings, state, sealer, keys, None, grant).map(Some)
    }

    fn of(
        settings: &Settings,
        state: &StateFolder,
        sealer: &Arc<Sealer>,
        keys: OwnKeys,
        authority: Option<Arc<Mutex<FleetAuthority>>>,
        grant: Grant,
    ) -> anyhow::Result<Arc<Self>> {
        if grant.site != settings.site || grant.node != settings.node {
            bail!(
                "the state folder {} is that of {}/{}; start it with --site {} --node {}, or choose another --state",
                state.path().display(),
                grant.site,
                grant.node,
                grant.site,
                grant.node
            );
        }
        if settings.fleet_id != DEFAULT_FLEET && settings.fleet_id != grant.fleet {
            bail!("this node belongs to fleet {}, not to {}", grant.fleet, settings.fleet_id);
        }
        // Its time may be over by now; it is renewed once the authority can be reached.
        let issued_at_ms = grant.issued_at_ms;
        let held = Held::check(grant, &keys.all(), issued_at_ms)?;
        let membership = Membership::new(held, &keys.node, nats_key(state.path(), sealer)?)?;
        Ok(Arc::new(Self {
            membership: Arc::new(membership),
            authority,
            fault: Mutex::default(),
            keys,
            state: state.clone(),
            sealer: Arc::clone(sealer),
        }))
    }

    /// Whether this node may act for operators.
    pub(crate) fn is_control(&self) -> bool {
        self.keys.operator.is_some()
    }

    /// The keys that the fleet signs with.
    pub(crate) fn fleet_keys(&self) -> anyhow::Result<FleetKeys> {
        Ok(FleetKeys::load_or_create(self.state.path(), &self.sealer, self.is_control())?)
    }

    /// Where NATS is, if the authority told.
    pub(crate) fn nats_url(&self) -> Option<String> {
        Some(self.membership.held().grant.nats_url.clone()).filter(|url| !url.is_empty())
    }

    /// What is wrong with the membership, for `status`.
    pub(crate) fn fault(&self) -> Option<String> {
        self.fault.lock().clone()
    }

    /// Renews at half of the certificates' life, for as long as the node runs. Failing, it goes on trying; the old ones hold until
    /// they end, and after that the others refuse what this node says while it goes on enforcing.
    pub(crate) async fn keep_fresh(self: Arc<Self>, fleet: FleetHandle, clock: Arc<dyn Clock>) {
        let mut pause = LOOK_EVERY;
        let mut revocations = fleet.revocations();
        // Once: an authority of an earlier version makes no other.
        let mut is_outdated = {
            let held = self.membership.held();
            nats_login::is_outdated(&held.grant.nats_login, &held.grant.site, &held.grant.node)
        };
        loop {
            let ended = self.delegate_ended(&revocations.borrow_and_update());
            if ended || is_outdated || self.is_due(clock.now_ms()) {
                match self.renew(clock.now_ms(), &fleet.delegates()).await {
                    Ok(()) => {
                        *self.fault.lock() = None;
                        (pause, is_outdated) = (LOOK_EVERY, false);
                        tracing::info!("certificates and login renewed");
                    }
                    Err(error) => {
                        tracing::warn!(error = format!("{error:#}"), "certificates cannot be renewed");
                        *self.fault.lock() = Some(format!(
                            "this node's certificates cannot be renewed: {error:#}; once they end the others refuse what it says"
                        ));
                        pause = (pause * 2).min(RETRY_MAX);
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // The one who signed for it may have been among them. With no fleet any more there is nothing to wait for.
                changed = revocations.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Whether what a delegate signed for this node does not count any more.
    pub(crate) fn delegate_ended(&self, revocations: &[Revocation]) -> bool {
        let held = self.membership.held();
        let certified = held.bundle.verify(&ders(&held.grant.chain), held.grant.issued_at_ms);
        let by = certified.ok().and_then(|certified| certified.by);
        by.is_some_and(|by| revocations.iter().any(|one| one.ends_delegation(&held.grant.site, &by)))
    }

    fn is_due(&self, now_ms: u64) -> bool {
        let held = self.membership.held();
        let grant = &held.grant;
        let half_ms = grant.expires_at_ms.saturating_sub(grant.issued_at_ms) / 2;
        // The authority's own node learns of a new root at once, the others with their next renewal.
        let root_changed = self
            .authority
            .as_ref()
            .is_some_and(|authority| authority.lock().bundle().is_some_and(|bundle| bundle != held.bundle));
        root_changed || now_ms >= grant.issued_at_ms.saturating_add(half_ms)
    }

    /// Fresh certificates and a fresh login, kept and taken into use: from the authority, or else from one of these nodes of the site, by
    /// name and address, that is its delegate.
    pub(crate) async fn renew(
        &self,
        now_ms: u64,
        delegates: &[(Arc<str>, Vec<String>)],
    ) -> anyhow::Result<()> {
        let known = self.membership.held().grant.clone();
        let fresh = match &self.authority {
            Some(authority) => {
                authority.lock().enrol_self(&known.site, &known.node, &self.keys.all(), now_ms)?
            }
            None => {
                let request =
                    RenewRequest::make(&known.fleet, &known.site, &known.node, &self.keys.node, now_ms);
                let client = tls::member_client(&self.membership, "enrol")?;
                match enrol::ask(&known.enrol, &known.fleet, client, "/renew", &request).await {
                    Ok(fresh) => fresh,
                    Err(error) => self.renewed_by_delegate(&known, delegates, &request, error).await?,
                }
            }
        };
        let fresh = completed(fresh, &known.nats_url, &known.enrol);
        let held = Held::check(fresh, &self.keys.all(), now_ms)?;
        if self.authority.is_none() {
            membership::save(self.state.path(), &self.sealer, &held.grant)?;
        }
        self.membership.replace(held);
        Ok(())
    }

    /// Of a delegate's answer only what it is asked for counts: not which roots to believe, nor where authority and NATS are.
    async fn renewed_by_delegate(
        &self,
        known: &Grant,
        delegates: &[(Arc<str>, Vec<String>)],
        request: &RenewRequest,
        mut error: anyhow::Error,
    ) -> anyhow::Result<Grant> {
        for (name, addresses) in delegates {
            let client = tls::delegate_client(&self.membership, &known.site, name)?;
            match enrol::ask::<_, Grant>(addresses, &known.fleet, client, "/renew", request).await {
                Ok(fresh) => {
                    tracing::info!(delegate = %name, "renewed by the site's delegate");
                    return Ok(Grant {
                        chain: fresh.chain,
                        nats_login: fresh.nats_login,
                        issued_at_ms: fresh.issued_at_ms,
                        expires_at_ms: fresh.expires_at_ms,
                        policy_version_min: known.policy_version_min.max(fresh.policy_version_min),
                        ..known.clone()
                    });
                }
                Err(also) => error = anyhow!("{error:#}; and {}/{name}: {also:#}", known.site),
            }
        }
        Err(error)
    }

    /// Asks the authority for what this node holds as the delegate of its site.
    pub(crate) async fn ask_delegation(
        &self,
        request: &DelegationRequest,
    ) -> Result<DelegationGrant, enrol::Refused> {
        let known = self.membership.held().grant.clone();
        let client = tls::member_client(&self.membership, "enrol").map_err(anyhow::Error::from)?;
        enrol::ask_for(&known.enrol, &known.fleet, client, "/delegation", request).await
    }

    /// Opens this node's part as its site's delegate: of a control node that does not hold the authority itself.
    pub(crate) fn delegate(&self) -> anyhow::Result<Option<SiteDelegate>> {
        if self.authority.is_some() || !self.is_control() {
            return Ok(None);
        }
        let held = self.membership.held();
        let Grant { fleet, site, node, .. } = &held.grant;
        let sealer = Arc::clone(&self.sealer);
        Ok(Some(SiteDelegate::load_or_create(self.state.path(), sealer, (fleet, site, node))?))
    }

    /// The node's key, once more.
    pub(crate) fn node_key(&self) -> anyhow::Result<SigningKey> {
        Ok(self.fleet_keys()?.node)
    }
}

/// The fleet that a node of these settings belongs to, before it does anything about it.
pub(crate) fn expected_fleet(
    settings: &Settings,
    state: &StateFolder,
    sealer: &Arc<Sealer>,
) -> anyhow::Result<String> {
    if let Some(authority) = FleetAuthority::open(state.path(), Arc::clone(sealer))? {
        return Ok(authority.fleet().to_owned());
    }
    if let Some(grant) = membership::load(state.path(), sealer)? {
        return Ok(grant.fleet);
    }
    match settings.fleet.as_ref().and_then(|fleet| fleet.join.as_deref()) {
        Some(text) => Ok(JoinToken::parse(text)?.fleet),
        None => Ok(settings.fleet_id.clone()),
    }
}

/// Cares for the fleet where its authority is: the revoked are renewed no more, and the NATS server cuts their links.
pub(crate) async fn steward(
    authority: Arc<Mutex<FleetAuthority>>,
    membership: Arc<Membership>,
    fleet: FleetHandle,
    nats_url: Option<String>,
    (clock, told): (Arc<dyn Clock>, Arc<Notify>),
) {
    let mut revocations = fleet.revocations();
    let mut link = fleet.engine().link();
    loop {
        let mut pause = Duration::MAX;
        let revoked = revocations.borrow_and_update().clone();
        let connected = link.borrow_and_update().connected;
        // Those of whom only the delegation has ended were cared for by who ended it.
        for one in revoked.iter().filter(|one| one.up_to_ms > 0) {
            // Who revoked it may have a clock that is ahead of this one.
            let at_ms = clock.now_ms().max(one.up_to_ms);
            let done = authority.lock().revoke(&one.site, &one.node, one.node_key, at_ms);
            if let Err(error) = done {
                tracing::error!(%error, "a revocation cannot be kept by the authority");
                pause = STEWARD_RETRY;
            }
        }
        if let (Some(url), true) = (&nats_url, connected)
            && let Err(error) = tell_nats(&authority, &membership, url, clock.now_ms()).await
        {
            tracing::warn!(error = format!("{error:#}"), "the NATS server does not know whom to cut off");
            pause = STEWARD_RETRY;
        }
        tokio::select! {
            changed = revocations.changed() => if changed.is_err() { return },
            () = came_up(&mut link) => {}
            () = told.notified() => {}
            () = tokio::time::sleep(pause.min(STEWARD_AGAIN)) => {}
        }
    }
}

/// Resolves when the link is up and was not before.
async fn came_up(link: &mut tokio::sync::watch::Receiver<phalanx_fleet::engine::LinkState>) {
    let was_down = link.wait_for(|link| !link.connected).await.map(drop);
    let is_up = link.wait_for(|link| link.connected).await.map(drop);
    if was_down.is_err() || is_up.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn tell_nats(
    authority: &Mutex<FleetAuthority>,
    membership: &Arc<Membership>,
    url: &str,
    now_ms: u64,
) -> anyhow::Result<()> {
    let (login, claims) = {
        let authority = authority.lock();
        (authority.nats_system_login(now_ms)?, authority.nats_account(now_ms)?)
    };
    Ok(phalanx_fleet::nats::claims::update(url, membership, login, claims).await?)
}

async fn join_with(
    token: &JoinToken,
    settings: &Settings,
    keys: &OwnKeys,
    now_ms: u64,
) -> anyhow::Result<Grant> {
    let request = EnrolRequest::make(token, &settings.site, &settings.node, &keys.all())?;
    let client = tls::joining_client(token)?;
    let mut grant: Grant = enrol::ask(&token.addresses, &token.fleet, client, "/enrol", &request).await?;
    if token.by.is_some() {
        // A delegate cannot say which other roots to believe; the authority will.
        grant.roots.retain(|root| certificate::fingerprint(&root.0) == token.root);
    }
    // TLS has proved that the authority answered; that it names its own root is what everything later rests on.
    if !ders(&grant.roots).iter().any(|root| certificate::fingerprint(root) == token.root) {
        bail!("the fleet's authority answered with other roots than the token's");
    }
    if grant.policy_version_min < token.policy_version_min {
        bail!("the fleet's authority accepts an older policy than the token does: its state was rolled back");
    }
    let grant = completed(grant, "", &token.addresses);
    Ok(Held::check(grant, &keys.all(), now_ms)?.grant)
}

fn check_policy(version: u64, least: u64) -> anyhow::Result<()> {
    if version < least {
        bail!(
            "the policy has version {version}, and this fleet accepts none below {least}; load a newer one"
        );
    }
    Ok(())
}

/// A grant with what the authority left for the node to know.
fn completed(grant: Grant, nats_url: &str, enrol: &[String]) -> Grant {
    let nats_url = if grant.nats_url.is_empty() { nats_url.to_owned() } else { grant.nats_url };
    let enrol = if grant.enrol.is_empty() { enrol.to_vec() } else { grant.enrol };
    Grant { nats_url, enrol, ..grant }
}

fn nats_key(folder: &Path, sealer: &Sealer) -> anyhow::Result<SigningKey> {
    Ok(SigningKey::load_or_create(&folder.join("nats.key"), sealer)?)
}

/// The fleet id of a node that was told none.
pub(crate) const DEFAULT_FLEET: &str = "default";
/// Often enough for a machine that slept through half a day.
const LOOK_EVERY: Duration = Duration::from_secs(30);
const RETRY_MAX: Duration = Duration::from_secs(15 * 60);
const STEWARD_RETRY: Duration = Duration::from_secs(5);
/// A server that was restored from a backup forgets whom it was told to cut off.
const STEWARD_AGAIN: Duration = Duration::from_secs(300);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use phalanx_control::{Desk, EnrolDeps};
    use phalanx_model::lanes::{LaneReaders, Lanes};
    use phalanx_model::{ManualClock, SystemClock};
    use phalanx_trust::Invitation;
    use tokio::net::TcpListener;
    use tokio::sync::watch;

    const HOUR: u64 = 3_600_000;
    const POLICY: u64 = 3;

    /// An authority that listens.
    pub(crate) struct Office {
        pub(crate) authority: Arc<Mutex<FleetAuthority>>,
        address: String,
        pub(crate) clock: Arc<ManualClock>,
        stop: watch::Sender<bool>,
        _readers: LaneReaders,
        _folder: tempfile::TempDir,
    }

    impl Office {
        pub(crate) async fn open() -> Self {
            let folder = tempfile::tempdir().unwrap();
            // TLS looks at the real time.
            let clock = Arc::new(ManualClock::at(SystemClock.now_ms()));
            let sealer = Arc::new(Sealer::ephemeral().unwrap());
            let made = FleetAuthority::create(folder.path(), sealer, Some("shops"), clock.now_ms()).unwrap();
            let authority = Arc::new(Mutex::new(made));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let (lanes, readers) = Lanes::new();
            let deps = EnrolDeps {
                desk: Desk::Authority { authority: Arc::clone(&authority), changed: Arc::default() },
                clock: Arc::clone(&clock) as Arc<dyn Clock>,
                lanes,
                nats_url: "tls://192.0.2.1:4222".into(),
                addresses: vec![address.clone()],
            };
            let (stop, stopping) = watch::channel(false);
            tokio::spawn(phalanx_control::enrol::serve(listener, deps, stopping));
            Self { authority, address, clock, stop, _readers: readers, _folder: folder }
        }

        pub(crate) fn token(&self) -> String {
            let addresses = vec!["127.0.0.1:1".into(), self.address.clone()];
            let invitation = Invitation { site: "fra".into(), control: false, addresses, for_ms: HOUR };
            self.authority.lock().invite(&invitation, self.clock.now_ms()).unwrap().to_text().unwrap()
        }

        /// The authority answers no more.
        pub(crate) fn close(&self) {
            self.stop.send_replace(true);
        }

        /// The edge node `fra/b`.
        pub(crate) async fn join(
            &self,
            folder: &Path,
            join: Option<String>,
        ) -> anyhow::Result<Option<Arc<Identity>>> {
            let state = StateFolder::open(folder)?;
            let sealer = Arc::new(Sealer::load_or_create(&state.sealing_key())?);
            let fleet = crate::settings::FleetSettings {
                url: None,
                secret_file: None,
                join,
                enroll: None,
                enroll_at: vec![],
                replicas: 1,
            };
            let settings = Settings {
                console_names: vec![],
                lapi: None,
                imports: Vec::new(),
                held: Default::default(),
                geo: Default::default(),
                h2c: false,
                listen: vec![],
                proxied: Vec::new(),
                admin: "127.0.0.1:0".parse()?,
                state: folder.to_owned(),
                workers: 1,
                site: "fra".into(),
                node: "b".into(),
                fleet: Some(fleet),
                fleet_id: DEFAULT_FLEET.into(),
                logs: crate::log_settings::LogSettings::default(),
                tls: Default::default(),
                trace: Default::default(),
                otlp: None,
                tcp: Vec::new(),
                checks: Vec::new(),
                drains: Default::default(),
                sandbox: Default::default(),
                limits: Default::default(),
                recording: Some(crate::recording_settings::Recorded::default()),
                copies_bytes_max: phalanx_model::limits::HISTORY_COPIES_BYTES_MAX,
                self_test: crate::selftest::settings::SelfTestSettings::default(),
                reports: crate::report_settings::ReportSettings::default(),
                learn_actors: crate::learning::ACTORS,
                tell: Default::default(),
                oidc: Default::default(),
            };
            Identity::establish(&settings, &state, &sealer, POLICY, self.clock.now_ms()).await
        }
    }

    #[tokio::test]
    async fn a_node_joins_once_and_renews_at_half_of_its_certificates_life() {
        let office = Office::open().await;
        let state = tempfile::tempdir().unwrap();
        let joined = office.join(state.path(), Some(office.token())).await.unwrap().unwrap();
        let ends = joined.membership.held().grant.expires_at_ms;
        assert_eq!(
            joined.nats_url().as_deref(),
            Some("tls://192.0.2.1:4222"),
            "the authority tells where NATS is"
        );
        drop(joined);
        // The token is not needed again, nor is the authority.
        let back = office.join(state.path(), None).await.unwrap().unwrap();
        assert_eq!(back.membership.held().grant.expires_at_ms, ends);
        assert!(!back.is_due(ends - 12 * HOUR - 1) && back.is_due(ends - 12 * HOUR));
        office.clock.advance(12 * HOUR);
        back.renew(office.clock.now_ms(), &[]).await.unwrap();
        assert_eq!(back.membership.held().grant.expires_at_ms, ends + 12 * HOUR);
        let again = office.join(state.path(), None).await.unwrap().unwrap();
        assert_eq!(again.membership.held().grant.expires_at_ms, ends + 12 * HOUR, "it is kept");
    }

    #[tokio::test]
    async fn a_renewal_that_fails_leaves_what_was_there() {
        let office = Office::open().await;
        let state = tempfile::tempdir().unwrap();
        let joined = office.join(state.path(), Some(office.token())).await.unwrap().unwrap();
        let before = joined.membership.held();
        office.authority.lock().revoke("fra", "b", None, office.clock.now_ms()).unwrap();
        let error = joined.renew(office.clock.now_ms(), &[]).await.unwrap_err().to_string();
        assert!(error.contains("fra/b was revoked by an operator"), "{error}");
        assert_eq!(joined.membership.held(), before);
    }

    #[tokio::test]
    async fn a_server_that_is_not_the_tokens_authority_learns_nothing() {
        let (office, impostor) = (Office::open().await, Office::open().await);
        let mut token = JoinToken::parse(&office.token()).unwrap();
        token.addresses = vec![impostor.address.clone()];
        let state = tempfile::tempdir().unwrap();
        let error = office.join(state.path(), Some(token.to_text().unwrap())).await.err().unwrap();
        assert!(format!("{error:#}").contains("no server of this fleet is there"), "{error:#}");
        assert!(office.join(state.path(), None).await.unwrap().is_none(), "nothing was kept");
    }

    #[tokio::test]
    async fn a_state_folder_is_one_nodes() {
        let office = Office::open().await;
        let state = tempfile::tempdir().unwrap();
        office.join(state.path(), Some(office.token())).await.unwrap().unwrap();
        let sealer = Sealer::load_or_create(&state.path().join("sealing.key")).unwrap();
        let grant = membership::load(state.path(), &sealer).unwrap().unwrap();
        membership::save(state.path(), &sealer, &Grant { node: "c".into(), ..grant }).unwrap();
        let error = office.join(state.path(), None).await.err().unwrap().to_string();
        assert!(error.contains("is that of fra/c"), "{error}");
    }

    #[tokio::test]
    async fn a_joiner_with_too_old_a_policy_is_refused_and_keeps_its_token() {
        let office = Office::open().await;
        office.authority.lock().raise_policy_version_min(POLICY + 1).unwrap();
        let state = tempfile::tempdir().unwrap();
        let token = office.token();
        let error = office.join(state.path(), Some(token.clone())).await.err().unwrap().to_string();
        assert!(error.contains("the policy has version 3, and this fleet accepts none below 4"), "{error}");
        let open = office.authority.lock().overview(office.clock.now_ms()).unwrap().invitations;
        assert_eq!(open.len(), 1);
    }
}
