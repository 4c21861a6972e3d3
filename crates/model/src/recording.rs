//! A request as it is kept for replay: what rules and limits were shown, and what became of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{FramingFault, HttpVersion, RequestId, Verdict};

/// A recorded request.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// What is known beside its bytes.
    pub facts: RecordedFacts,
    /// The head from the request line to the empty line, as received but for secrets.
    pub head: Bytes,
    /// The body as rules saw it, but for secrets.
    pub body: Bytes,
    /// Names of fields that policy says hold secrets, beside those that tell it themselves. Once secrets are masked there are none.
    pub secret_names: Vec<String>,
}

/// What is known of a recorded request beside its bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedFacts {
    /// Its id.
    pub id: RequestId,
    /// When it came, in Unix milliseconds.
    pub at_ms: u64,
    /// The client, after trusted forwarders.
    pub client: IpAddr,
    /// Whose connection it came on.
    pub peer: SocketAddr,
    /// The address it came to.
    pub local: SocketAddr,
    /// It came over TLS.
    pub secure: bool,
    /// The peer showed a certificate that its listener believes.
    pub certified: bool,
    /// The version of HTTP.
    pub version: HttpVersion,
    /// The app that it was for; empty where none answers.
    pub app: Arc<str>,
    /// The route that it met.
    pub route: Option<Arc<str>>,
    /// What was decided.
    pub verdict: Verdict,
    /// The rules that matched.
    pub rules: Vec<u64>,
    /// The status that the client got.
    pub status: u16,
    /// The version of the policy that decided.
    pub plan_version: u64,
    /// What was wrong with its framing.
    pub faults: Vec<FramingFault>,
    /// Bytes of its body that came.
    pub body_bytes: u64,
    /// How much of the body is here.
    pub seen: BodySeen,
    /// Secrets in it were masked: rules that looked at one may now say something else.
    pub masked: bool,
}

impl RecordedFacts {
    /// Whether policy or the fleet refused it.
    pub fn was_refused(&self) -> bool {
        self.verdict.refuses()
    }
}

/// How much of a request's body a recording has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodySeen {
    /// All that came, or there was none.
    Whole,
    /// What rules saw, which was not all of it.
    Part,
    /// No rule wanted it.
    Unseen,
    /// It was left out: too large, or in no form in which secrets are known.
    Withheld,
}

/// What was kept of an app's requests within a short time.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedBatch {
    /// The app; empty for requests that no app answers.
    pub app: Arc<str>,
    /// How many requests there were; those beyond what is here were not kept.
    pub seen: u64,
    /// Those kept, in the order in which they came.
    pub requests: Vec<Recorded>,
}
