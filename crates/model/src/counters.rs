//! Counts that the data plane adds to and metrics read. One per worker, so that no two cores share a cache line.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Action;
use crate::latency::{AppCounters, Latencies};

/// A worker's counts since it started. All are totals. Only the worker itself adds to them.
#[derive(Debug, Default)]
#[repr(align(128))]
#[expect(missing_docs, reason = "the names say it; metrics documents them")]
pub struct WorkerCounters {
    pub connections_accepted: AtomicU64,
    pub connections_refused: AtomicU64,
    pub connections_closed: AtomicU64,
    pub requests: AtomicU64,
    pub requests_allowed: AtomicU64,
    pub requests_observed: AtomicU64,
    pub requests_challenged: AtomicU64,
    /// Slowed down or told to come later.
    pub requests_throttled: AtomicU64,
    /// Refused, also those that were answered slowly first.
    pub requests_denied: AtomicU64,
    pub requests_malformed: AtomicU64,
    pub upstream_errors: AtomicU64,
    pub upstream_connects: AtomicU64,
    pub upstream_reuses: AtomicU64,
    pub request_body_bytes: AtomicU64,
    pub response_body_bytes: AtomicU64,
    pub strikes: AtomicU64,
    pub inspect_failures: AtomicU64,
    /// Time spent in inspection, in nanoseconds.
    pub inspect_ns: AtomicU64,
    /// Signals, by [`RuleClass::index`](crate::RuleClass::index).
    pub class_signals: [AtomicU64; 5],
    /// Refusals by rules, by the class of the finding that speaks most for an attack.
    pub class_refusals: [AtomicU64; 5],
    pub tls12_handshakes: AtomicU64,
    pub tls13_handshakes: AtomicU64,
    /// Handshakes that resumed an earlier session.
    pub tls_resumed: AtomicU64,
    /// Handshakes by key exchange, by the place in [`KeyExchange::ALL`].
    pub tls_key_exchanges: [AtomicU64; KeyExchange::ALL.len()],
    /// Connections to TLS listeners that came to nothing, by the place in [`TlsFailure::ALL`].
    pub tls_failures: [AtomicU64; TlsFailure::ALL.len()],
    /// Where requests spent their time, by the place in [`Phase::ALL`].
    pub phases: [Latencies; Phase::ALL.len()],
    /// By app; see [`AppSlots`](crate::latency::AppSlots).
    pub apps: AppCounters,
    /// Connections to listeners behind balancers that came to nothing, by the place in [`ProxyFailure::ALL`].
    pub proxy_failures: [AtomicU64; ProxyFailure::ALL.len()],
    /// Clients that met a limit, by the place in [`LimitReached::ALL`].
    pub limits_reached: [AtomicU64; LimitReached::ALL.len()],
}

macro_rules! labels {
    ($($(#[$about:meta])* $type:ident { $($(#[$what:meta])* $variant:ident => $name:literal,)+ })+) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type {
            $($(#[$what])* $variant,)+
        }

        impl $type {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its label.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    )+};
}

labels! {
    /// A part of a request's time.
    Phase {
        /// The head arrives.
        Head => "head",
        /// Rules and parsers.
        Inspect => "inspect",
        /// No upstream has room.
        Queue => "queue",
        /// A new connection to the upstream is made.
        Connect => "connect",
        /// The upstream is asked and has not answered yet.
        Upstream => "upstream",
    }
    /// How the keys of a TLS session were agreed on.
    KeyExchange {
        /// Hybrid: safe also against quantum computers.
        X25519Mlkem768 => "X25519MLKEM768",
        /// Curve25519.
        X25519 => "X25519",
        /// P-256.
        Secp256r1 => "secp256r1",
        /// P-384.
        Secp384r1 => "secp384r1",
    }
    /// Which limit a client met, so that it was refused or its connection ended.
    LimitReached {
        /// Connections in all.
        Connections => "connections",
        /// Connections of one address.
        ConnectionsPerAddress => "connections_per_address",
        /// TLS handshakes that one address begins in a second.
        HandshakeRate => "handshake_rate",
        /// The time for a head.
        HeadTime => "head_time",
        /// A body came too slowly.
        BodyRate => "body_rate",
        /// A reply was taken too slowly.
        ReplyRate => "reply_rate",
        /// The requests of one connection; it ended in good order.
        RequestsPerConnection => "requests_per_connection",
        /// Streams were opened and given up.
        H2Resets => "h2_resets",
        /// Frames came that move no request on.
        H2ControlFrames => "h2_control_frames",
        /// The codec of HTTP/2 ended a connection: too many resets before anything was served, CONTINUATION, empty or tiny DATA.
        H2Codec => "h2_codec",
        /// A connection was refused, because the node is overloaded.
        OverloadConnection => "overload_connection",
        /// A request was refused, because the node is overloaded.
        OverloadRequest => "overload_request",
        /// An idle connection was closed, because the node runs short of something.
        OverloadIdle => "overload_idle",
    }
    /// Why a connection to a TLS listener came to nothing.
    TlsFailure {
        /// Too many handshakes were under way.
        Limit => "limit",
        /// It took too long.
        Timeout => "timeout",
        /// It ended in the middle.
        Closed => "closed",
        /// It began in plain HTTP.
        PlainHttp => "plain_http",
        /// What came was not TLS as it should be.
        Malformed => "malformed",
        /// No version, suite or group in common.
        Incompatible => "incompatible",
        /// No hybrid key exchange, where one is required.
        NotPostQuantum => "not_post_quantum",
        /// The client's certificate is missing, or is not believed.
        ClientCertificate => "client_certificate",
        /// The client refused what we showed, most often the certificate.
        Refused => "refused",
        /// There is no certificate for the name yet.
        NoCertificate => "no_certificate",
        /// It was a certificate authority's challenge, answered.
        AcmeChallenge => "acme_challenge",
    }
    /// Why a connection to a listener that demands a PROXY header came to nothing.
    ProxyFailure {
        /// It came from none of the balancers.
        Stranger => "stranger",
        /// The header took too long.
        Timeout => "timeout",
        /// It ended before the header did.
        Closed => "closed",
        /// What came was no header, or a broken one.
        Malformed => "malformed",
        /// The header's checksum is wrong.
        Checksum => "checksum",
        /// The client that it names has too many connections.
        Limit => "limit",
    }
}

impl WorkerCounters {
    /// Adds one to a count.
    pub fn add_one(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection to a TLS listener that came to nothing.
    pub fn count_tls_failure(&self, failure: TlsFailure) {
        self.tls_failures.get(failure as usize).into_iter().for_each(Self::add_one);
    }

    /// Counts a connection to a listener behind balancers that came to nothing.
    pub fn count_proxy_failure(&self, failure: ProxyFailure) {
        self.proxy_failures.get(failure as usize).into_iter().for_each(Self::add_one);
    }

    /// Counts a client that met a limit.
    pub fn count_limit(&self, limit: LimitReached) {
        self.limits_reached.get(limit as usize).into_iter().for_each(Self::add_one);
    }

    /// Counts how the keys of a session were agreed on.
    pub fn count_key_exchange(&self, group: KeyExchange) {
        self.tls_key_exchanges.get(group as usize).into_iter().for_each(Self::add_one);
    }

    /// Counts the time that a request spent in a phase.
    pub fn count_phase(&self, phase: Phase, us: u64) {
        self.phases.get(phase as usize).into_iter().for_each(|latencies| latencies.count(us));
    }

    /// Counts what was done with a request.
    pub fn count_action(&self, action: Action) {
        Self::add_one(match action {
            Action::Allow => &self.requests_allowed,
            Action::Observe => &self.requests_observed,
            Action::Challenge => &self.requests_challenged,
            Action::Throttle => &self.requests_throttled,
            Action::Tarpit | Action::Deny => &self.requests_denied,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_asked_for_a_proof_or_to_come_later_was_not_refused() {
        let counters = WorkerCounters::default();
        for action in [
            Action::Allow,
            Action::Observe,
            Action::Challenge,
            Action::Challenge,
            Action::Throttle,
            Action::Tarpit,
            Action::Deny,
        ] {
            counters.count_action(action);
        }
        let counted = [
            &counters.requests_allowed,
            &counters.requests_observed,
            &counters.requests_challenged,
            &counters.requests_throttled,
            &counters.requests_denied,
        ];
        assert_eq!(counted.map(|one| one.load(Ordering::Relaxed)), [1, 1, 2, 1, 2]);
    }
}
