//! Rate limits as the pipeline calls them: after standing decisions and the allow-list, before anything is inspected.
//!
//! Whom the allow-list or an operator lets pass is not counted. A request that is refused for its framing is not, either: it
//! never gets here.

use phalanx_decide::Mode;
use phalanx_decide::rate::{Asked, RateRule, judge, path};
use phalanx_model::{Action, Reason, Verdict};

use crate::client::Client;
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
    let over = judge(&app.rates, &rates.table, &asked, app.mode == Mode::Block, rates.now_ns());
    worker.give_buffer(normal);
    worker.give_buffer(plain);
    let Some(over) = over else { return Ok(()) };
    let reply = Reply::too_many(over.excess.retry_after_s);
    let verdict = Verdict::deny(Reason::RateLimit(Box::new(over.excess)), reply.status);
    if !over.refuses {
        request.verdict = Verdict { action: Action::Observe, ..verdict };
        return Ok(());
    }
    request.verdict = verdict;
    Err(Stop::Answered(reply))
}
