//! Keeps the streams of a site with a server of its own: makes them, and copies those of other sites, so that nodes read at their
//! own site only.
//!
//! Twice a second a keeper says which streams its site has, on a subject that crosses the links. Who hears it has a copy of each,
//! made anew when the original was: a wiped server begins at one again, and a copy that is past that would be shown nothing.
//!
//! INVARIANT: a keeper changes streams of its own domain only, and deletes nothing but copies.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream::{Config, External, Info, Source, StorageType, SubjectTransform};
use async_nats::jetstream::{self, context::ContextBuilder};
use async_nats::{Auth, AuthError, Client, ConnectOptions, Subscriber};
use futures_util::{StreamExt, TryStreamExt};
use phalanx_trust::{ServerGrant, ServerKeys, TrustBundle, nats_links, nats_login, tls, valid_name};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::{Sites, blob, lease, streams};
use crate::FleetError;

/// What a server of a site holds at the moment.
#[derive(Debug)]
pub struct HeldServer {
    /// As it came from the authority.
    pub grant: ServerGrant,
    /// The keys that it is for.
    pub keys: Arc<ServerKeys>,
    /// The roots that it names.
    pub bundle: TrustBundle,
}

/// What a keeper works with.
pub struct KeeperSettings {
    /// Where the site's own server is.
    pub url: String,
    /// Copies of each stream within the site: 1, or 3 in a cluster of three.
    pub replicas: usize,
    /// Sites without a server of their own, whose streams lie here.
    pub guests: Sites,
}

/// How a site's streams are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct KeeperState {
    /// Whether the site's own server answers and the site's streams are there.
    pub ready: bool,
    /// The other sites that are heard.
    pub sites: Vec<String>,
    /// What does not work.
    pub fault: Option<String>,
}

/// Keeps a site's streams until the holder of `held` is gone.
pub async fn keep(
    settings: KeeperSettings,
    mut held: watch::Receiver<Arc<HeldServer>>,
    state: watch::Sender<KeeperState>,
) {
    loop {
        let now = Arc::clone(&held.borrow_and_update());
        state.send_if_modified(|state| std::mem::take(&mut state.ready));
        let kept = async {
            let mut keeper = Keeper::connect(&settings, &now).await?;
            keeper.run(&state).await
        };
        let fault = tokio::select! {
            ended = kept => ended.err().map(|error| error.to_string()),
            changed = held.changed() => {
                // Fresh logins, or claims that the server must know of.
                if changed.is_err() { return }
                continue;
            }
        };
        state.send_if_modified(|state| {
            let changed = KeeperState { fault, ..KeeperState::default() };
            std::mem::replace(state, changed.clone()) != changed
        });
        tokio::time::sleep(CONNECT_AGAIN).await;
    }
}

/// What a server says of its site, twice a second.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SiteSays {
    site: String,
    streams: Vec<Original>,
}

/// A stream where its records are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Original {
    name: String,
    /// When it was made: another time is another stream.
    made: String,
    last: u64,
}

struct Heard {
    at: Instant,
    /// Since when it is heard without a gap.
    since: Instant,
    streams: Vec<Original>,
    lasts: Lasts,
}

/// The last record of each stream, as each server of a site told it. What servers tell is not compared with each other's: they look at
/// different moments, and what one tells may be older than what another told before it.
#[derive(Default)]
struct Lasts(HashMap<String, HashMap<String, u64>>);

impl Lasts {
    /// Takes in what a server tells. Returns the streams that have confirmed records that they have no more, and give their numbers to
    /// others.
    fn take_in(&mut self, server: &str, streams: &[Original]) -> Vec<String> {
        if self.0.len() >= SERVERS_MAX && !self.0.contains_key(server) {
            self.0.clear();
        }
        let known = self.0.entry(server.to_owned()).or_default();
        let went_back =
            streams.iter().filter(|one| known.get(&one.name).is_some_and(|last| one.last < *last));
        let went_back: Vec<&Original> = went_back.collect();
        *known = streams.iter().map(|one| (one.name.clone(), one.last)).collect();
        // The others of its site will tell the same.
        for original in &went_back {
            for last in self.0.values_mut().filter_map(|of_server| of_server.get_mut(&original.name)) {
                *last = original.last.min(*last);
            }
        }
        went_back.into_iter().map(|original| original.name.clone()).collect()
    }
}

struct Keeper<'a> {
    settings: &'a KeeperSettings,
    site: String,
    subject: String,
    client: Client,
    jetstream: jetstream::Context,
    heard: HashMap<String, Heard>,
    /// Originals that went back, by site and name, each with when the copy was made that is past them; `None` if it was not listed.
    went_back: HashMap<(String, String), Option<i128>>,
    /// When a copy was last set going again.
    nudged: HashMap<String, Instant>,
}

impl<'a> Keeper<'a> {
    async fn connect(settings: &'a KeeperSettings, held: &Arc<HeldServer>) -> Result<Self, FleetError> {
        let grant = &held.grant;
        let inbox = nats_links::keeper_inbox(&grant.site, &grant.server);
        tell_claims(settings, held).await?;
        let client = login(held, grant.keeper_login.clone())?;
        let client = client.custom_inbox_prefix(inbox);
        let client = client.connect(super::addresses(&settings.url)?).await.map_err(unreachable)?;
        let jetstream = ContextBuilder::new().timeout(TIMEOUT).build(client.clone());
        Ok(Self {
            settings,
            site: grant.site.clone(),
            subject: format!("{}.{}.{}", nats_links::SERVERS, grant.site, grant.server),
            client,
            jetstream,
            heard: HashMap::new(),
            went_back: HashMap::new(),
            nudged: HashMap::new(),
        })
    }

    async fn run(&mut self, state: &watch::Sender<KeeperState>) -> Result<(), FleetError> {
        let mut says =
            self.client.subscribe(format!("{}.>", nats_links::SERVERS)).await.map_err(unreachable)?;
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.hear(&mut says).await;
            let passed = self.pass().await;
            let now = Instant::now();
            let fresh = self.heard.iter().filter(|(_, heard)| now - heard.at < SILENCE_MAX);
            let mut sites: Vec<String> = fresh.map(|(site, _)| site.clone()).collect();
            sites.sort();
            let fault = passed.err().map(|error| error.to_string());
            let next = KeeperState { ready: fault.is_none(), sites, fault };
            state.send_if_modified(|state| std::mem::replace(state, next.clone()) != next);
        }
    }

    /// Takes in what came since the last time.
    async fn hear(&mut self, says: &mut Subscriber) {
        while let Ok(Some(message)) = timeout(Duration::ZERO, says.next()).await {
            let mut words = message.subject.split('.').skip(2);
            let (site, server) =
                (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default());
            let Ok(said) = serde_json::from_slice::<SiteSays>(&message.payload) else { continue };
            let room = self.heard.len() < SITES_MAX || self.heard.contains_key(&site);
            if said.site != site || site == self.site || !valid_name(&site) || !room {
                continue;
            }
            let now = Instant::now();
            let (since, mut lasts) = match self.heard.remove(&site) {
                Some(known) if now - known.at < SILENCE_MAX => (known.since, known.lasts),
                Some(known) => (now, known.lasts),
                None => (now, Lasts::default()),
            };
            let streams: Vec<Original> = said.streams.into_iter().take(STREAMS_MAX).collect();
            self.went_back.retain(|(of, name), _| *of != site || streams.iter().any(|one| one.name == *name));
            for name in lasts.take_in(server, &streams) {
                self.went_back.entry((site.clone(), name)).or_insert(None);
            }
            self.heard.insert(site, Heard { at: now, since, streams, lasts });
        }
    }

    /// One look at everything.
    async fn pass(&mut self) -> Result<(), FleetError> {
        let mut known: BTreeMap<String, Info> = BTreeMap::new();
        let mut listed = self.jetstream.streams();
        while let Some(info) = listed.try_next().await.map_err(unreachable)? {
            known.insert(info.config.name.clone(), info);
        }
        let mut hosted = (self.settings.guests)();
        hosted.retain(|site| *site != self.site && !self.heard.contains_key(site));
        hosted.push(self.site.clone());
        let replicas = self.settings.replicas;
        let mut own: Vec<Config> = hosted
            .iter()
            .flat_map(|site| streams::KEPT.map(|topic| streams::config(topic, site, replicas)))
            .flatten()
            .collect();
        own.push(blob::config(replicas));
        own.push(lease::config(replicas));
        for config in own {
            match known.get(&config.name) {
                None => drop(self.jetstream.create_stream(config).await.map_err(unreachable)?),
                Some(info) if !is_copy(info) || !self.minds(info) => {}
                // A site that lost its server for good is hosted from what was copied; nodes send what they wrote again.
                Some(_) => self.make_anew(config).await?,
            }
        }
        self.announce(&hosted, &known).await?;
        let now = Instant::now();
        let heard: Vec<(String, Instant, Vec<Original>)> = self
            .heard
            .iter()
            .filter(|(_, heard)| now - heard.at < SILENCE_MAX)
            .map(|(site, heard)| (site.clone(), heard.since, heard.streams.clone()))
            .collect();
        let mut failed = Ok(());
        for (site, since, originals) in heard {
            for original in originals {
                let Some(copy) = self.copy(&site, &original) else { continue };
                if hosted.iter().any(|own| original.name.ends_with(&format!("_{own}"))) {
                    continue;
                }
                // One stream that cannot be copied does not keep the others from being.
                if let Err(error) = self.follow(copy, &site, &original, since, &known).await {
                    failed = Err(error);
                }
            }
        }
        failed
    }

    /// Says which streams this site has.
    async fn announce(&self, hosted: &[String], known: &BTreeMap<String, Info>) -> Result<(), FleetError> {
        let mut names: Vec<String> = hosted
            .iter()
            .flat_map(|site| streams::KEPT.map(|topic| streams::name(topic, site)))
            .flatten()
            .collect();
        names.push(blob::STREAM.to_owned());
        let originals = names.iter().filter_map(|name| known.get(name)).filter(|info| !is_copy(info));
        let says = SiteSays {
            site: self.site.clone(),
            streams: originals
                .map(|info| Original {
                    name: info.config.name.clone(),
                    made: info.created.unix_timestamp_nanos().to_string(),
                    last: info.state.last_sequence,
                })
                .collect(),
        };
        let bytes = serde_json::to_vec(&says).unwrap_or_default();
        self.client.publish(self.subject.clone(), bytes.into()).await.map_err(unreachable)
    }

    /// The copy of another site's stream; `None` for one that is not copied.
    fn copy(&self, site: &str, original: &Original) -> Option<Config> {
        let origin = format!("{site} {}", original.made);
        let is_record = streams::KEPT.iter().any(|topic| streams::subjects(*topic, &original.name).is_some());
        let transform = match original.name.as_str() {
            blob::STREAM => Some(SubjectTransform {
                source: format!("$O.{}.>", blob::BUCKET),
                destination: format!("$O.{}.>", blob::bucket_of(site)),
            }),
            _ if is_record => None,
            _ => return None,
        };
        let name = match transform {
            Some(_) => format!("{}_{site}", blob::STREAM),
            None => original.name.clone(),
        };
        let source = Source {
            name: original.name.clone(),
            external: Some(External {
                api_prefix: format!("$JS.{site}.API"),
                delivery_prefix: Some(format!("{}.{}", nats_links::COPY_DELIVERY, self.site)),
            }),
            subject_transforms: transform.into_iter().collect(),
            ..Source::default()
        };
        Some(Config {
            name,
            max_messages_per_subject: if is_record { 1 } else { -1 },
            max_messages: streams::MESSAGES_MAX,
            storage: StorageType::File,
            num_replicas: self.settings.replicas,
            allow_message_ttl: true,
            allow_direct: true,
            allow_rollup: !is_record,
            sources: Some(vec![source]),
            metadata: HashMap::from([(ORIGIN.to_owned(), origin)]),
            ..Config::default()
        })
    }

    /// Sees to it that a copy is there, is of this very original, and moves.
    async fn follow(
        &mut self,
        copy: Config,
        site: &str,
        original: &Original,
        since: Instant,
        known: &BTreeMap<String, Info>,
    ) -> Result<(), FleetError> {
        let Some(info) = known.get(&copy.name) else {
            return self.jetstream.create_stream(copy).await.map(drop).map_err(unreachable);
        };
        let went_back = self.is_past(site, &original.name, info);
        let is_of_another = info.config.metadata.get(ORIGIN) != copy.metadata.get(ORIGIN);
        if !self.minds(info) {
            return Ok(());
        }
        if went_back || is_of_another {
            tracing::info!(
                stream = copy.name,
                site,
                went_back,
                "another site's stream was made anew; so is its copy"
            );
            return self.make_anew(copy).await;
        }
        let now = Instant::now();
        let moves = info.sources.iter().any(|source| source.active.is_some_and(|ago| ago < STILL_MAX));
        let lately = self.nudged.get(&copy.name).is_some_and(|at| now - *at < NUDGE_AGAIN);
        if moves || lately || now - since < HEARD_FOR {
            return Ok(());
        }
        // A server whose question got lost in a cut waits half a minute before it asks again. Without its source and with it
        // again, it asks at once, from where it was.
        tracing::debug!(stream = copy.name, site, "the copy stands still; set going again");
        self.nudged.insert(copy.name.clone(), now);
        let still = Config { sources: None, ..copy.clone() };
        self.jetstream.update_stream(still).await.map_err(unreachable)?;
        self.jetstream.update_stream(copy).await.map(drop).map_err(unreachable)
    }

    /// Whether a copy is past an original that went back: until it is made anew, by whichever keeper.
    fn is_past(&mut self, site: &str, original: &str, copy: &Info) -> bool {
        let key = (site.to_owned(), original.to_owned());
        let made = copy.created.unix_timestamp_nanos();
        let Some(past) = self.went_back.get_mut(&key) else { return false };
        if *past.get_or_insert(made) == made {
            return true;
        }
        self.went_back.remove(&key);
        false
    }

    /// Whether a stream is this keeper's to change. In a cluster three look at each; were all to act, they would undo what the others
    /// just did. The one beside the leader does; without a leader nobody could.
    fn minds(&self, info: &Info) -> bool {
        let Some(cluster) = &info.cluster else { return true };
        cluster.leader.as_deref() == Some(self.client.server_info().server_name.as_str())
    }

    async fn make_anew(&self, config: Config) -> Result<(), FleetError> {
        self.jetstream.delete_stream(&config.name).await.map_err(unreachable)?;
        self.jetstream.create_stream(config).await.map(drop).map_err(unreachable)
    }
}

/// Whether a stream is a copy of another site's.
pub(super) fn is_copy(info: &Info) -> bool {
    info.config.metadata.contains_key(ORIGIN)
}

/// Tells the server whom not to serve any more.
async fn tell_claims(settings: &KeeperSettings, held: &Arc<HeldServer>) -> Result<(), FleetError> {
    let grant = &held.grant;
    let options = login(held, grant.system_login.clone())?
        .custom_inbox_prefix(nats_links::keeper_inbox(&grant.site, &grant.server));
    let client = options.connect(super::addresses(&settings.url)?).await.map_err(unreachable)?;
    let answer = client.request(nats_login::CLAIMS_UPDATE, grant.operator.account.1.clone().into()).await;
    let answer = answer.map_err(unreachable)?;
    let _ = client.drain().await;
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
    match answer.get("error") {
        None => Ok(()),
        Some(error) => Err(unreachable(format!("the server refused the account's claims: {error}"))),
    }
}

fn login(held: &Arc<HeldServer>, login: String) -> Result<ConnectOptions, FleetError> {
    let signs = Arc::clone(held);
    let options = ConnectOptions::with_auth_callback(move |nonce| {
        let (login, signs) = (login.clone(), Arc::clone(&signs));
        async move {
            let mut auth = Auth::new();
            auth.jwt = Some(login);
            auth.signature = Some(signs.keys.keeper.sign(&nonce).to_vec());
            Ok::<Auth, AuthError>(auth)
        }
    });
    let client = tls::server_client(&held.bundle, &held.grant.chain, &held.keys.tls, "nats")?;
    Ok(options
        .name("phalanx keeper")
        .require_tls(true)
        .tls_client_config(client)
        .connection_timeout(TIMEOUT)
        .request_timeout(Some(TIMEOUT))
        .ping_interval(Duration::from_secs(2))
        .subscription_capacity(SAYS_QUEUE))
}

fn unreachable(error: impl std::fmt::Display) -> FleetError {
    FleetError::Unreachable(error.to_string())
}

/// Where a copy says what it is a copy of.
const ORIGIN: &str = "phalanx-original";
const EVERY: Duration = Duration::from_millis(500);
const CONNECT_AGAIN: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(5);
/// A site that said nothing for so long is not heard.
const SILENCE_MAX: Duration = Duration::from_secs(4);
/// Sources show a sign of life every second.
const STILL_MAX: Duration = Duration::from_secs(2);
/// A site must be heard for so long before a copy of its streams counts as standing still.
const HEARD_FOR: Duration = Duration::from_millis(400);
const NUDGE_AGAIN: Duration = Duration::from_secs(3);
const SITES_MAX: usize = 64;
/// Servers of a site, and some that were replaced.
const SERVERS_MAX: usize = 8;
/// Three for a site, for it and for some that it hosts.
const STREAMS_MAX: usize = 64;
const SAYS_QUEUE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn told(last: u64) -> [Original; 1] {
        [Original { name: "DEC_fra".into(), made: "then".into(), last }]
    }

    #[test]
    fn a_stream_goes_back_for_all_servers_of_a_site_at_once_and_only_if_one_told_less_than_itself() {
        let mut lasts = Lasts::default();
        // Who tells it, the last record, and whether that is news of a stream that went back.
        let tellings = [
            ("nats-1", 100, false),
            ("nats-2", 101, false),
            // It looked before the others did.
            ("nats-3", 99, false),
            ("nats-1", 101, false),
            ("nats-2", 40, true),
            ("nats-1", 40, false),
            ("nats-3", 41, false),
            ("nats-3", 40, true),
        ];
        for (number, (server, last, went_back)) in tellings.into_iter().enumerate() {
            assert_eq!(!lasts.take_in(server, &told(last)).is_empty(), went_back, "telling {number}");
        }
    }

    #[test]
    fn servers_that_come_and_go_are_not_remembered_without_end() {
        let mut lasts = Lasts::default();
        for number in 0..100 {
            lasts.take_in(&format!("nats-{number}"), &told(1));
        }
        assert!(lasts.0.len() <= SERVERS_MAX);
    }
}
