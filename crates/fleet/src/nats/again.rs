//! Own records once more to whoever listens, past the streams: these answer seconds after a cut has healed, or never.
//!
//! Said again is what waited for the link, what the stream does not confirm, and what a peer missed that was not heard for a while.
//! Whoever has it already passes over it before its signature is checked.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_TTL;
use tokio::time::{Instant, sleep_until};

use super::{Inner, ttl_to};
use crate::store::Kept;
use crate::{FleetError, subject};

/// Says what is to be said again, for as long as a session lasts.
pub(super) async fn run(inner: &Arc<Inner>) {
    let mut waiting = inner.unconfirmed.lock().clone();
    let announcement = subject::of_node(&inner.author.site, &inner.author.node);
    let first = waiting.keys().cloned().chain([announcement]).collect();
    note(say(inner, first).await);
    let mut next = Instant::now() + EVERY;
    let mut next_missed = Instant::now();
    loop {
        tokio::select! {
            () = sleep_until(next) => {}
            () = async {
                inner.missed.notified().await;
                sleep_until(next_missed).await;
            } => {
                let (started, since) = (Instant::now(), inner.missed_since.lock().take());
                if let Some(version) = since {
                    note(say_since(inner, version).await);
                    next_missed = Instant::now() + started.elapsed().max(MISSED_EVERY);
                }
                continue;
            }
        }
        let before = std::mem::replace(&mut waiting, inner.unconfirmed.lock().clone());
        let lingering = newest(&waiting, |subject, version| before.get(subject) == Some(version));
        note(say(inner, lingering).await);
        next = Instant::now() + EVERY;
    }
}

/// The newest of what waits and is as described.
fn newest(waiting: &HashMap<String, u64>, so: impl Fn(&String, &u64) -> bool) -> Vec<String> {
    let mut found: Vec<_> = waiting.iter().filter(|(subject, version)| so(subject, version)).collect();
    found.sort_unstable_by_key(|(_, version)| Reverse(**version));
    found.into_iter().take(AT_ONCE_MAX).map(|(subject, _)| subject.clone()).collect()
}

async fn say(inner: &Inner, subjects: Vec<String>) -> Result<(), FleetError> {
    if subjects.is_empty() {
        return Ok(());
    }
    let store = Arc::clone(&inner.store);
    let kept = crate::local::blocking(move || store.some(&subjects)).await?;
    send(inner, kept).await
}

/// All own records of at least this version, of each topic the newest where they are too many; revocations first.
async fn say_since(inner: &Inner, version: u64) -> Result<(), FleetError> {
    let of = |topic| format!("{}.", subject::own(topic, &inner.author));
    let prefixes = [of(subject::REVOCATIONS), of(subject::ORDERS), of(subject::DECISIONS)];
    let store = Arc::clone(&inner.store);
    let read = move || {
        let mut since = Vec::new();
        for prefix in prefixes {
            let (mut records, _) = store.records(&prefix)?;
            records.retain(|record| record.version >= version);
            records.sort_unstable_by_key(|record| Reverse(record.version));
            records.truncate(AT_ONCE_MAX);
            since.extend(records);
        }
        Ok(since)
    };
    let since = crate::local::blocking(read).await?;
    if !since.is_empty() {
        tracing::debug!(records = since.len(), "said again for a peer that was not heard for a while");
    }
    send(inner, since).await
}

async fn send(inner: &Inner, records: Vec<Kept>) -> Result<(), FleetError> {
    let client = inner.client();
    let now_ms = inner.clock.now_ms();
    for record in records {
        // The stream keeps what comes last: what is sent in a newer version this moment must not be followed by its old one.
        let newer =
            inner.unconfirmed.lock().get(&record.subject).is_some_and(|newer| *newer > record.version);
        if !record.own || newer || record.expires_at_ms <= now_ms {
            continue;
        }
        let bytes = record.bytes.into();
        let sent = match record.expires_at_ms {
            u64::MAX => client.publish(record.subject, bytes).await,
            ends => {
                let mut headers = HeaderMap::new();
                headers.insert(NATS_MESSAGE_TTL, ttl_to(ends, now_ms).as_secs().to_string());
                client.publish_with_headers(record.subject, headers, bytes).await
            }
        };
        sent.map_err(|error| FleetError::Unreachable(error.to_string()))?;
    }
    Ok(())
}

fn note(said: Result<(), FleetError>) {
    if let Err(error) = said {
        tracing::debug!(%error, "own records were not said again");
    }
}

/// Sooner than a stream that lost its leader answers.
const EVERY: Duration = Duration::from_secs(1);
/// Peers that come back at about the same time are answered together, and this takes half the time at most.
const MISSED_EVERY: Duration = Duration::from_millis(20);
/// Records of a topic said again in one go; the streams have the rest.
const AT_ONCE_MAX: usize = 4096;
