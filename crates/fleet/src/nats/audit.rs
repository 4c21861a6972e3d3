//! Own records against the stream: on every connection and once a minute. What the stream lacks, or has in another form, is sent again.
//!
//! Decisions, of which there may be very many, are all read at the first comparison and once an hour. In between, the last of
//! them and what came since are looked for, see [`audited`](super::audited); only if one is not in its place, all are read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::consumer::{Consumer, DeliverPolicy};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::{Instant, sleep, sleep_until};

use super::audited::{Found, InStream, Since};
use super::{Inner, again, streams};
use crate::store::Kept;
use crate::{FleetError, Topic, subject};

/// Audits for as long as the node runs.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut link = inner.link.subscribe();
    let mut session = inner.session.subscribe();
    loop {
        if link.wait_for(|link| link.connected).await.is_err() {
            return;
        }
        session.mark_unchanged();
        tokio::select! {
            () = during_session(&inner) => {}
            _ = session.changed() => {}
            _ = async { link.wait_for(|link| !link.connected).await.map(drop) } => {}
        }
    }
}

async fn during_session(inner: &Arc<Inner>) {
    tokio::select! {
        () = again::run(inner) => {}
        () = compare(inner) => {}
    }
}

async fn compare(inner: &Arc<Inner>) {
    loop {
        let started = Instant::now();
        let sites = streams::sites(inner);
        let pause = match audit_all(inner).await {
            Ok(()) => {
                inner.stream_fault(None);
                let now_ms = inner.clock.now_ms();
                inner.link.send_modify(|link| link.audited_at_ms = Some(now_ms));
                inner.audit_every
            }
            Err(error) => {
                tracing::warn!(error, "own records cannot be compared with the stream");
                inner.stream_fault(Some(format!(
                    "decisions reach connected nodes, but the server does not keep them: {error}"
                )));
                AFTER_FAILURE
            }
        };
        let next = started + pause;
        // Records that were not confirmed in time, and the streams of a new site, do not wait for the full minute.
        loop {
            tokio::select! {
                () = sleep_until(next) => break,
                () = sleep(UNCONFIRMED_EVERY) => {
                    if unconfirmed_linger(inner).await {
                        break;
                    }
                }
                () = new_site(inner, &sites) => break,
                () = inner.doubted.notified() => break,
            }
        }
    }
}

/// Resolves when this node cares for other sites than these.
async fn new_site(inner: &Inner, known: &[String]) {
    if inner.stewarded.is_none() {
        return std::future::pending().await;
    }
    while streams::sites(inner) == known {
        sleep(SITES_EVERY).await;
    }
}

/// Whether some record stayed unconfirmed for longer than a confirmation takes.
async fn unconfirmed_linger(inner: &Inner) -> bool {
    let before = inner.unconfirmed.lock().clone();
    if before.is_empty() {
        return false;
    }
    sleep(UNCONFIRMED_EVERY).await;
    let now = inner.unconfirmed.lock();
    before.iter().any(|(subject, version)| now.get(subject) == Some(version))
}

async fn audit_all(inner: &Arc<Inner>) -> Result<(), String> {
    streams::ensure(inner).await?;
    let own = subject::own(subject::REVOCATIONS, &inner.author);
    audit(inner, Topic::Revocations, format!("{own}."), format!("{own}.>")).await?;
    let own = subject::own(subject::ORDERS, &inner.author);
    audit(inner, Topic::Orders, format!("{own}."), format!("{own}.>")).await?;
    let own = subject::own(subject::NODES, &inner.author);
    audit(inner, Topic::Nodes, own.clone(), own).await?;
    audit_decisions(inner).await
}

/// Compares the decisions: briefly if that will do.
async fn audit_decisions(inner: &Arc<Inner>) -> Result<(), String> {
    let own = subject::own(subject::DECISIONS, &inner.author);
    let (prefix, filter) = (format!("{own}."), format!("{own}.>"));
    let started = Instant::now();
    let (since, confirmed) = inner.audited.lock().begin(started);
    if let Some(since) = since {
        let read_all_at = since.read_all_at;
        if let Some(found) = compare_since(inner, since, confirmed, filter.clone()).await? {
            inner.audited.lock().end(found, read_all_at);
            return Ok(());
        }
        tracing::info!("the last own records are not where they were in the stream, comparing all");
    }
    let found = audit(inner, Topic::Decisions, prefix, filter).await?;
    inner.audited.lock().end(found, started);
    Ok(())
}

/// Looks for the last record found before, and for what came since. `None`: something is not there, or nothing of what was found
/// before counts any more.
async fn compare_since(
    inner: &Arc<Inner>,
    since: Since,
    confirmed: HashMap<String, u64>,
    filter: String,
) -> Result<Option<InStream>, String> {
    let waiting = inner.unconfirmed.lock().clone();
    let mut latest = since.latest;
    let subjects = latest.values().map(|found| found.subject.clone()).collect();
    let kept = still_kept(inner, subjects).await?;
    latest.retain(|_, found| kept.get(&found.subject).is_some_and(|kept| is_same(found, kept)));
    let Some((&from, last)) = latest.last_key_value() else { return Ok(None) };
    let from_last = DeliverPolicy::ByStartSequence { start_sequence: from };
    let read = read(inner, Topic::Decisions, filter, from_last).await?;
    if read.get(&from) != Some(last) {
        return Ok(None);
    }
    let by_subject: HashMap<&str, &Found> =
        read.values().map(|found| (found.subject.as_str(), found)).collect();
    let subjects = confirmed.keys().chain(waiting.keys()).cloned().collect();
    let mut unsent = Vec::new();
    for (subject, record) in still_kept(inner, subjects).await? {
        if by_subject.get(subject.as_str()).is_some_and(|found| is_same(found, &record)) {
            inner.confirm(&subject, record.version);
        } else if confirmed.get(&subject) == Some(&record.version) {
            return Ok(None);
        } else if inner.unconfirmed.lock().get(&subject) == Some(&record.version) {
            unsent.push(record);
        }
    }
    resend_all(inner, unsent).await?;
    latest.extend(read);
    Ok(Some(latest))
}

/// Those of these subjects whose own records are kept and not over.
async fn still_kept(inner: &Inner, subjects: Vec<String>) -> Result<HashMap<String, Kept>, String> {
    let (store, now_ms) = (Arc::clone(&inner.store), inner.clock.now_ms());
    let kept = crate::local::blocking(move || store.some(&subjects)).await;
    let kept = kept.map_err(|error: FleetError| error.to_string())?.into_iter();
    let counts = |record: &Kept| record.own && record.expires_at_ms > now_ms;
    Ok(kept.filter(counts).map(|record| (record.subject.clone(), record)).collect())
}

fn is_same(found: &Found, kept: &Kept) -> bool {
    found.digest == phalanx_trust::sha256(&kept.bytes)
}

/// Compares what is kept under `prefix` with what the stream has under `filter`, and repairs. Returns what was in its place.
async fn audit(inner: &Arc<Inner>, topic: Topic, prefix: String, filter: String) -> Result<InStream, String> {
    let store = Arc::clone(&inner.store);
    let kept = crate::local::blocking(move || store.records(&prefix)).await;
    let (kept, _) = kept.map_err(|error: FleetError| error.to_string())?;
    let in_stream = read(inner, topic, filter, DeliverPolicy::LastPerSubject).await?;
    let now_ms = inner.clock.now_ms();
    let mut by_subject: HashMap<&str, (u64, &Found)> =
        in_stream.iter().map(|(sequence, found)| (found.subject.as_str(), (*sequence, found))).collect();
    let (mut in_place, mut missing) = (InStream::new(), Vec::new());
    for record in kept {
        match by_subject.remove(record.subject.as_str()).filter(|(_, found)| is_same(found, &record)) {
            Some((sequence, found)) => {
                inner.confirm(&record.subject, record.version);
                in_place.insert(sequence, found.clone());
            }
            None if record.own && record.expires_at_ms > now_ms => missing.push(record),
            None => {}
        }
    }
    if !missing.is_empty() {
        let (topic, count) = (topic.prefix(), missing.len());
        tracing::info!(topic, count, "stream lacks own records, sending them again");
    }
    resend_all(inner, missing).await?;
    Ok(in_place)
}

async fn resend_all(inner: &Inner, missing: Vec<Kept>) -> Result<(), String> {
    let sent = stream::iter(missing).map(|record| resend(inner, record)).buffer_unordered(RESEND_AT_ONCE);
    match sent.filter(|sent| std::future::ready(!sent)).count().await {
        0 => Ok(()),
        unsent => Err(format!("{unsent} records were not confirmed")),
    }
}

/// Sends a record again. It is counted for as long as that takes and not noted as waiting: it may have been forgotten since it was
/// read, and nobody would take the note away. What is not confirmed makes the audit fail, and so is sent by the next one.
async fn resend(inner: &Inner, record: Kept) -> bool {
    let bytes = Bytes::from(record.bytes);
    let _counted = Counted::one_more(&inner.resending);
    inner.send_to_stream(&record.subject, record.version, record.expires_at_ms, bytes).await.is_some()
}

/// One in a count, also when the work it stands for is given up.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn one_more(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a stream has under `filter`, from where `deliver` says.
async fn read(
    inner: &Inner,
    topic: Topic,
    filter: String,
    deliver: DeliverPolicy,
) -> Result<InStream, String> {
    let name = streams::name(topic, &inner.author.site).ok_or("no stream")?;
    let config =
        OrderedConfig { deliver_policy: deliver, filter_subject: filter, ..OrderedConfig::default() };
    let consumer: Consumer<OrderedConfig> = inner
        .jetstream()
        .create_consumer_on_stream(config, name.as_str())
        .await
        .map_err(|error| error.to_string())?;
    let mut found = InStream::new();
    if consumer.cached_info().num_pending == 0 {
        return Ok(found);
    }
    let mut messages = consumer.messages().await.map_err(|error| error.to_string())?;
    loop {
        let next = tokio::time::timeout(READ_TIMEOUT, messages.next()).await;
        let message = match next {
            Ok(Some(message)) => message.map_err(|error| error.to_string())?,
            Ok(None) => return Err("the stream ended".into()),
            Err(_) => return Err("the stream answers too slowly".into()),
        };
        inner.audit_reads.fetch_add(1, Ordering::Relaxed);
        let info = message.info().map_err(|error| error.to_string())?;
        let (sequence, last) = (info.stream_sequence, info.pending == 0);
        let digest = phalanx_trust::sha256(&message.payload);
        found.insert(sequence, Found { subject: message.subject.to_string(), digest });
        if last {
            return Ok(found);
        }
    }
}

/// A server just started answers requests for streams a little later than connections.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
const UNCONFIRMED_EVERY: Duration = Duration::from_secs(3);
/// A site is invited before its first node starts; half a second is sooner than a person is.
const SITES_EVERY: Duration = Duration::from_millis(500);
const READ_TIMEOUT: Duration = Duration::from_secs(5);
const RESEND_AT_ONCE: usize = 256;
