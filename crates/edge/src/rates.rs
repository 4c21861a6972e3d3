//! Rate limits as the pipeline calls them: after standing decisions and the allow-list, before anything is inspected.
//!
//! Whom the allow-list or an operator lets pass is not counted. A request that is refused for its framing is not, either: it
//! never gets here.

use phalanx_decide::Mode;
use std::io::Write;

use phalanx_decide::rate::{Asked, Left, Quota, RateRule, judge, path};
use phalanx_model::{Action, Reason, Verdict};

use crate::client::Client;
use crate::http1::encode;
use crate::reply::Reply;
use crate::request::Request;
use crate::stop::Stop;

/// Counts a request under the app's rate limits.
pub(crate) fn check(client: &Client, request: &mut Request) -> Result<(), Stop> {
    let app = request.app();
    if app.rates.is_empty() || request.allowed {
        return Ok(());
    }
    let worker = &client.worker;
    let (mut normal, mut plain) = (worker.take_buffer(), worker.take_buffer());
    if app.rates.iter().any(RateRule::looks_at_paths) {
        path::normalise(request.head.target(), path::Separators::Any, &mut normal);
        path::normalise(request.head.target(), path::Separators::Slash, &mut plain);
    }
    let asked = Asked { client: request.client, head: &request.head, paths: [&normal, &plain] };
    let rates = &worker.shared.tables.rates;
    let mut told = Told::default();
    let tell = |rule: &RateRule, quota, left| told.add(rule, quota, left);
    let over = judge(&app.rates, &rates.table, &asked, app.mode == Mode::Block, rates.now_ns(), tell);
    worker.give_buffer(normal);
    worker.give_buffer(plain);
    let over = over.map(|over| (Reply::too_many(over.excess.retry_after_s), over));
    request.rate_fields = told.fields();
    let Some((reply, over)) = over else { return Ok(()) };
    let verdict = Verdict::deny(Reason::RateLimit(Box::new(over.excess)), reply.status);
    if !over.refuses {
        request.verdict = Verdict { action: Action::Observe, ..verdict };
        return Ok(());
    }
    request.verdict = verdict;
    Err(Stop::Answered(reply))
}

/// What a client is told of limits (draft-ietf-httpapi-ratelimit-headers-10): lists of structured fields (RFC 9651), an item for
/// each limit. Takes no memory where no limit tells anything.
#[derive(Default)]
struct Told {
    policies: Vec<u8>,
    left: Vec<u8>,
}

impl Told {
    fn add(&mut self, rule: &RateRule, quota: Quota, left: Left) {
        let gap = if self.left.is_empty() { "" } else { ", " };
        // Writing to memory cannot fail. A limit's name holds nothing that a string must escape.
        let _ = write!(self.policies, "{gap}\"{}\";q={};w={}", rule.name, quota.requests, quota.window_s);
        let _ = write!(self.left, "{gap}\"{}\";r={};t={}", rule.name, left.requests, left.restored_s);
    }

    fn fields(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        if !self.left.is_empty() {
            encode::field(&mut fields, b"RateLimit-Policy", &self.policies);
            encode::field(&mut fields, b"RateLimit", &self.left);
        }
        fields
    }
}
