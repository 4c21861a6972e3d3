//! A subscription: the core subject for speed, and every site's stream for what was missed.
//!
//! Streams are followed for good, not only read once: what the core path lost (a route that died, a full buffer) arrives a
//! little later by the other. The receiver merges, so that a record that comes twice costs a comparison.
//!
//! A stream whose leader lost its last records, although it had confirmed them, gives their numbers to others; a reader that is past
//! these numbers already would not be shown the new records, ever. So short streams are read from the start again and again; parts
//! of the stream of decisions when their authors' digests tell of something else than is known, and all of it once an hour.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::consumer::{Consumer, DeliverPolicy};
use async_nats::{Client, Subscriber};
use futures_util::{StreamExt, TryStreamExt};
use phalanx_trust::record::RECORD_BYTES_MAX;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::{Inner, Part, streams};
use crate::{Delivery, Topic, subject};

/// Delivers a topic until the receiver is dropped.
pub(super) async fn run(inner: Arc<Inner>, topic: Topic, to: mpsc::Sender<Delivery>) {
    let hinted = Notify::new();
    tokio::select! {
        () = to.closed() => {}
        () = follow_core(&inner, topic, &to, &hinted) => {}
        () = follow_sessions(&inner, topic, &to, &hinted) => {}
    }
}

/// Follows the core subject over the connection of the moment. The old one is left when the server knows of the new subscription.
async fn follow_core(inner: &Inner, topic: Topic, to: &mpsc::Sender<Delivery>, hinted: &Notify) {
    let mut replaced = inner.connection.subscribe();
    let subject = subject_of(inner, topic);
    let Some(mut core) = listen(&inner.client(), &subject).await else { return };
    let mut look_at: Option<Instant> = None;
    loop {
        let message = tokio::select! {
            biased;
            message = core.next() => message,
            () = sleep_until(look_at.unwrap_or_else(Instant::now)), if look_at.is_some() => {
                look_at = None;
                inner.ask_resync(topic);
                continue;
            }
            changed = replaced.changed() => {
                let client = inner.client();
                let (true, Some(next)) = (changed.is_ok(), listen(&client, &subject).await) else { return };
                // Until the answer comes, messages arrive by both; the receiver merges.
                let _ = client.flush().await;
                core = next;
                continue;
            }
        };
        // A connection lasts as long as somebody holds it, and this subscription does.
        let Some(message) = message else { return };
        if topic == Topic::Policy {
            // Whoever loses the swap is heard here all the same. What counts is what the stream kept, which its readers show by
            // themselves, once the stream is known. A look at all of it is for readers that do not, and each costs the server one more
            // for half a minute.
            hinted.notify_one();
            look_at.get_or_insert_with(|| Instant::now() + LOOK_AFTER_HINT);
            continue;
        }
        // No reader would take it; better not to hold it.
        if message.payload.len() > RECORD_BYTES_MAX {
            continue;
        }
        let delivery = Delivery::Put { subject: message.subject.as_str().into(), bytes: message.payload };
        if to.send(delivery).await.is_err() {
            return;
        }
    }
}

/// What a topic's records are heard under. Of answers only one's own: others' are refused by the server.
fn subject_of(inner: &Inner, topic: Topic) -> String {
    match topic {
        Topic::Answers => format!("{}.>", crate::subject::own(topic.prefix(), &inner.author)),
        // What a site's nodes tell each other is nobody else's, and crosses no link.
        Topic::CountsToSum | Topic::Shelves => format!("{}.{}.>", topic.prefix(), inner.author.site),
        // Others' would be refused to an edge node.
        Topic::Histories => subject::of_histories_to(&inner.author.site, &inner.author.node),
        _ => format!("{}.>", topic.prefix()),
    }
}

async fn listen(client: &Client, subject: &str) -> Option<Subscriber> {
    let listening = client.subscribe(subject.to_owned()).await;
    if listening.is_err() {
        tracing::error!(subject, "nats client takes no subscription");
    }
    listening.ok()
}

/// Starts over with every connection and whenever asked.
async fn follow_sessions(inner: &Arc<Inner>, topic: Topic, to: &mpsc::Sender<Delivery>, hinted: &Notify) {
    let mut session = inner.session.subscribe();
    let mut link = inner.link.subscribe();
    let Some(mut resync) = inner.resync.get(&topic).map(watch::Sender::subscribe) else { return };
    loop {
        // Only the first wait can see session 0; later ones end at the next connection.
        if link.wait_for(|link| link.connected).await.is_err() {
            return;
        }
        session.mark_unchanged();
        resync.mark_unchanged();
        let state = link.borrow_and_update().clone();
        if to.send(Delivery::Link(state)).await.is_err() {
            return;
        }
        let mut streams = Streams::new(Arc::clone(inner), topic, to.clone());
        let disconnected = async {
            let _ = link.wait_for(|link| !link.connected).await;
        };
        let ended = tokio::select! {
            () = streams.follow(hinted) => Ended::Link,
            _ = session.changed() => Ended::Link,
            () = disconnected => Ended::Link,
            _ = resync.changed() => Ended::Resync,
        };
        drop(streams);
        let delivery = match ended {
            Ended::Link => Delivery::Link(inner.link.borrow().clone()),
            Ended::Resync => Delivery::Gap,
        };
        if to.send(delivery).await.is_err() {
            return;
        }
    }
}

enum Ended {
    Link,
    Resync,
}

/// The streams followed during one session. Dropping it stops them.
struct Streams {
    inner: Arc<Inner>,
    topic: Topic,
    to: mpsc::Sender<Delivery>,
    /// By name: when the stream was made, and its follower.
    followed: HashMap<String, (i128, AbortHandle)>,
    followers: JoinSet<()>,
    rereads: broadcast::Receiver<Part>,
    synced: (mpsc::Sender<()>, mpsc::Receiver<()>),
}

impl Streams {
    fn new(inner: Arc<Inner>, topic: Topic, to: mpsc::Sender<Delivery>) -> Self {
        let (synced, rereads) = (mpsc::channel(SITES_MAX), inner.rereads.subscribe());
        Self { inner, topic, to, followed: HashMap::new(), followers: JoinSet::new(), rereads, synced }
    }

    /// Follows what streams there are, says when all have been read once, and looks for new ones from time to time.
    async fn follow(&mut self, hinted: &Notify) {
        if streams::prefix(self.topic).is_none() {
            let _ = self.to.send(Delivery::Synced).await;
            return std::future::pending().await;
        }
        let mut looks = tokio::time::interval(LOOK_FOR_STREAMS);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut unsynced: Option<usize> = None;
        loop {
            tokio::select! {
                _ = looks.tick() => {
                    match self.look().await {
                        Ok(found) => {
                            unsynced.get_or_insert(found.fresh);
                            if found.silent > 0 {
                                looks.reset_after(LOOK_AGAIN);
                            }
                        }
                        Err(error) => {
                            tracing::debug!(topic = self.topic.prefix(), error, "streams cannot be listed");
                            // A server without JetStream, or one just started: the core path works meanwhile.
                            looks.reset_after(LOOK_AGAIN);
                            continue;
                        }
                    }
                }
                () = hinted.notified() => looks.reset_immediately(),
                Ok(part) = self.rereads.recv(), if self.topic == Topic::Decisions => self.reread(part),
                Some(()) = self.synced.1.recv() => {
                    unsynced = unsynced.map(|left| left.saturating_sub(1));
                }
            }
            if unsynced == Some(0) {
                // Said once per session; a count below one never returns to zero.
                unsynced = Some(usize::MAX);
                if self.to.send(Delivery::Synced).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Reads a part of one stream, once.
    fn reread(&mut self, part: Part) {
        while self.followers.try_join_next().is_some() {}
        let site = part.subject.strip_prefix(self.topic.prefix()).and_then(|rest| rest.split('.').nth(1));
        let Some(name) = site.and_then(|site| streams::name(self.topic, site)) else { return };
        if self.followers.len() >= self.followed.len() + REREADS_MAX {
            return;
        }
        let (inner, topic, to) = (Arc::clone(&self.inner), self.topic, self.to.clone());
        let follower = Follower { inner, name, subjects: format!("{}.>", part.subject), topic };
        self.followers.spawn(async move {
            if let Err(error) = follower.read_part(&to, part.after).await {
                tracing::debug!(stream = follower.name, error, "a part cannot be read");
            }
        });
    }

    /// Starts to follow streams that are new or were made anew.
    async fn look(&mut self) -> Result<Found, String> {
        let names: Vec<String> =
            self.inner.jetstream().stream_names().try_collect().await.map_err(|error| error.to_string())?;
        let mut found = Found::default();
        for name in names {
            let Some(subjects) = streams::subjects(self.topic, &name) else { continue };
            let Ok(stream) = self.inner.jetstream().get_stream(&name).await else {
                found.silent += 1;
                continue;
            };
            let made = stream.cached_info().created.unix_timestamp_nanos();
            if let Some((known, follower)) = self.followed.get(&name) {
                if *known == made {
                    continue;
                }
                follower.abort();
            }
            if self.followed.len() >= SITES_MAX && !self.followed.contains_key(&name) {
                return Err(format!("more than {SITES_MAX} sites"));
            }
            let (inner, topic) = (Arc::clone(&self.inner), self.topic);
            let follower = Follower { inner, name: name.clone(), subjects, topic };
            let handle = self.followers.spawn(follower.run(self.to.clone(), self.synced.0.clone()));
            self.followed.insert(name, (made, handle));
            found.fresh += 1;
        }
        Ok(found)
    }
}

/// What a look at the streams found.
#[derive(Default)]
struct Found {
    /// Streams that are followed from now on.
    fresh: usize,
    /// Streams that did not answer: without a leader, or gone meanwhile.
    silent: usize,
}

/// Follows one stream.
struct Follower {
    inner: Arc<Inner>,
    name: String,
    subjects: String,
    topic: Topic,
}

impl Follower {
    async fn run(self, to: mpsc::Sender<Delivery>, synced: mpsc::Sender<()>) {
        let mut synced = Some(synced);
        loop {
            if let Err(error) = self.read(&to, &mut synced).await {
                tracing::debug!(stream = self.name, error, "stream cannot be followed, trying again");
            }
            if to.is_closed() {
                return;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Reads what is under these subjects and came after a sequence, once.
    async fn read_part(&self, to: &mpsc::Sender<Delivery>, after: u64) -> Result<(), String> {
        let deliver_policy = match after {
            0 => DeliverPolicy::LastPerSubject,
            after => DeliverPolicy::ByStartSequence { start_sequence: after.saturating_add(1) },
        };
        let consumer = self.consumer(self.subjects.clone(), deliver_policy).await?;
        if consumer.cached_info().num_pending == 0 {
            return Ok(());
        }
        let mut messages = consumer.messages().await.map_err(|error| error.to_string())?;
        while let Some(message) = messages.next().await {
            let message = message.map_err(|error| error.to_string())?;
            let last = message.info().map_or(true, |info| info.pending == 0);
            let (subject, bytes) = (message.subject.as_str().into(), message.payload.clone());
            if to.send(Delivery::Put { subject, bytes }).await.is_err() || last {
                break;
            }
        }
        Ok(())
    }

    async fn consumer(
        &self,
        filter_subject: String,
        deliver_policy: DeliverPolicy,
    ) -> Result<Consumer<OrderedConfig>, String> {
        let config = OrderedConfig { deliver_policy, filter_subject, ..OrderedConfig::default() };
        let jetstream = self.inner.jetstream();
        let consumer = jetstream.create_consumer_on_stream(config, self.name.as_str()).await;
        consumer.map_err(|error| error.to_string())
    }

    /// What ends decisions, so that none of those that it ended is in force until it is read.
    async fn read_ends(&self, to: &mpsc::Sender<Delivery>) -> Result<(), String> {
        let Some(site) = self.subjects.strip_suffix(".>") else { return Ok(()) };
        for kind in subject::ENDS {
            let (inner, name, topic) = (Arc::clone(&self.inner), self.name.clone(), self.topic);
            let subjects = format!("{site}.*.{kind}.>");
            Follower { inner, name, subjects, topic }.read_part(to, 0).await?;
        }
        Ok(())
    }

    /// Reads from the start, and then what comes.
    async fn read(
        &self,
        to: &mpsc::Sender<Delivery>,
        synced: &mut Option<mpsc::Sender<()>>,
    ) -> Result<(), String> {
        if self.topic == Topic::Decisions {
            self.read_ends(to).await?;
        }
        let consumer = self.consumer(self.subjects.clone(), DeliverPolicy::LastPerSubject).await?;
        let mut again = ReadAgain { topic: self.topic, records: 0, at: None };
        if consumer.cached_info().num_pending == 0 {
            say(synced);
            again.caught_up();
        }
        let mut messages = consumer.messages().await.map_err(|error| error.to_string())?;
        loop {
            let next = tokio::select! {
                next = messages.next() => next,
                () = again.due() => return Ok(()),
            };
            let Some(message) = next else { return Ok(()) };
            let message = message.map_err(|error| error.to_string())?;
            let last = message.info().is_ok_and(|info| info.pending == 0);
            again.records = again.records.saturating_add(1);
            let (subject, bytes) = (message.subject.as_str().into(), message.payload.clone());
            if to.send(Delivery::Put { subject, bytes }).await.is_err() {
                return Ok(());
            }
            if last {
                say(synced);
                again.caught_up();
            }
        }
    }
}

/// When a stream is to be read from its start again.
#[derive(Debug)]
struct ReadAgain {
    topic: Topic,
    records: u32,
    at: Option<Instant>,
}

impl ReadAgain {
    /// All that the stream had was read for the first time: from now on the pause counts, longer for a long stream.
    fn caught_up(&mut self) {
        let pause = match self.topic {
            Topic::Decisions => READ_DECISIONS_AGAIN,
            _ => READ_AGAIN,
        };
        let pause = pause.max(READ_AGAIN_PER_RECORD.saturating_mul(self.records));
        self.at.get_or_insert(Instant::now() + pause);
    }

    async fn due(&self) {
        match self.at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

fn say(synced: &mut Option<mpsc::Sender<()>>) {
    if let Some(synced) = synced.take() {
        // The channel holds one place per site.
        let _ = synced.try_send(());
    }
}

/// Sites of a fleet: six times what the product is made for.
const SITES_MAX: usize = 64;
/// From the first word of a change of policy until all of the stream is looked at.
const LOOK_AFTER_HINT: Duration = Duration::from_secs(1);
const LOOK_FOR_STREAMS: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// As often as authors compare what the streams have, and no more than five hundred records a second.
const READ_AGAIN: Duration = Duration::from_secs(60);
/// For certainty only: digests tell sooner.
const READ_DECISIONS_AGAIN: Duration = Duration::from_secs(60 * 60);
/// Parts read at a time.
const REREADS_MAX: usize = 16;
const READ_AGAIN_PER_RECORD: Duration = Duration::from_millis(2);
