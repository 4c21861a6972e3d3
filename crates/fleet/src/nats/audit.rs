//! Own records against the stream: on every connection and once a minute. What the stream lacks, or has in another form, is sent again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::consumer::{Consumer, DeliverPolicy};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Inner, streams};
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
    if let Err(error) = send_waiting(inner).await {
        tracing::debug!(%error, "records that waited were not sent at once");
    }
    loop {
        let started = Instant::now();
        let sites = streams::sites(inner);
        let pause = match audit_all(inner).await {
            Ok(()) => {
                inner.stream_fault(None);
                let now_ms = inner.clock.now_ms();
                inner.link.send_modify(|link| link.audited_at_ms = Some(now_ms));
                AUDIT_EVERY
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
            }
        }
    }
}

/// Sends what waited for the link to whoever listens, before the stream is asked for anything: it may not be there yet, or never.
async fn send_waiting(inner: &Arc<Inner>) -> Result<(), FleetError> {
    let announcement = subject::of_node(&inner.author.site, &inner.author.node);
    let decisions = format!("{}.", subject::own(subject::DECISIONS, &inner.author));
    let orders = format!("{}.", subject::own(subject::ORDERS, &inner.author));
    let (store, node) = (Arc::clone(&inner.store), announcement.clone());
    let read = move || {
        let later = [store.records(&orders)?.0, store.records(&decisions)?.0].concat();
        Ok((store.records(&node)?.0, later))
    };
    let (node, decisions) = crate::local::blocking(read).await?;
    let now_ms = inner.clock.now_ms();
    for record in node.into_iter().chain(decisions) {
        let waits = record.subject == announcement || inner.unconfirmed.lock().contains_key(&record.subject);
        if record.own && waits && record.expires_at_ms > now_ms {
            let sent = inner.client().publish(record.subject, record.bytes.into()).await;
            sent.map_err(|error| FleetError::Unreachable(error.to_string()))?;
        }
    }
    Ok(())
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
    let own = subject::own(subject::DECISIONS, &inner.author);
    audit(inner, Topic::Decisions, format!("{own}."), format!("{own}.>")).await
}

/// Compares what is kept under `prefix` with what the stream has under `filter`, and repairs.
async fn audit(inner: &Arc<Inner>, topic: Topic, prefix: String, filter: String) -> Result<(), String> {
    let store = Arc::clone(&inner.store);
    let kept = crate::local::blocking(move || store.records(&prefix)).await;
    let (kept, _) = kept.map_err(|error: FleetError| error.to_string())?;
    let in_stream = last_per_subject(inner, topic, filter).await?;
    let now_ms = inner.clock.now_ms();
    let missing = kept.into_iter().filter(|record| {
        let known = in_stream
            .get(&record.subject)
            .is_some_and(|digest| *digest == phalanx_trust::sha256(&record.bytes));
        if known {
            inner.confirm(&record.subject, record.version);
        }
        record.own && !known && record.expires_at_ms > now_ms
    });
    let missing: Vec<Kept> = missing.collect();
    if !missing.is_empty() {
        tracing::info!(
            topic = topic.prefix(),
            count = missing.len(),
            "stream lacks own records, sending them again"
        );
    }
    let sent = stream::iter(missing).map(|record| resend(inner, record)).buffer_unordered(RESEND_AT_ONCE);
    let unsent = sent.filter(|sent| std::future::ready(!sent)).count().await;
    if unsent > 0 {
        return Err(format!("{unsent} records were not confirmed"));
    }
    Ok(())
}

async fn resend(inner: &Inner, record: Kept) -> bool {
    inner.unconfirmed.lock().insert(record.subject.clone(), record.version);
    let bytes = Bytes::from(record.bytes);
    inner.send_to_stream(&record.subject, record.version, record.expires_at_ms, bytes).await.is_some()
}

/// The digests of the last records under `filter`, by subject.
async fn last_per_subject(
    inner: &Inner,
    topic: Topic,
    filter: String,
) -> Result<HashMap<String, [u8; 32]>, String> {
    let name = streams::name(topic, &inner.author.site).ok_or("no stream")?;
    let config = OrderedConfig {
        deliver_policy: DeliverPolicy::LastPerSubject,
        filter_subject: filter,
        ..OrderedConfig::default()
    };
    let consumer: Consumer<OrderedConfig> = inner
        .jetstream()
        .create_consumer_on_stream(config, name.as_str())
        .await
        .map_err(|error| error.to_string())?;
    let mut digests = HashMap::new();
    if consumer.cached_info().num_pending == 0 {
        return Ok(digests);
    }
    let mut messages = consumer.messages().await.map_err(|error| error.to_string())?;
    loop {
        let next = tokio::time::timeout(READ_TIMEOUT, messages.next()).await;
        let message = match next {
            Ok(Some(message)) => message.map_err(|error| error.to_string())?,
            Ok(None) => return Err("the stream ended".into()),
            Err(_) => return Err("the stream answers too slowly".into()),
        };
        digests.insert(message.subject.to_string(), phalanx_trust::sha256(&message.payload));
        if message.info().map_or(true, |info| info.pending == 0) {
            return Ok(digests);
        }
    }
}

const AUDIT_EVERY: Duration = Duration::from_secs(60);
/// A server just started answers requests for streams a little later than connections.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
const UNCONFIRMED_EVERY: Duration = Duration::from_secs(3);
/// A site is invited before its first node starts; half a second is sooner than a person is.
const SITES_EVERY: Duration = Duration::from_millis(500);
const READ_TIMEOUT: Duration = Duration::from_secs(5);
const RESEND_AT_ONCE: usize = 256;
