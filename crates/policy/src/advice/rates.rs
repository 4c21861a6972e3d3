//! Limits that never act, and what nothing limits.

use std::ops::Range;

use super::Advice;
use crate::DetectionMode;
use crate::accounts::EndpointKind;
use crate::policy::{App, Policy};
use crate::rate_limit::{RateAction, RateKey, RateLimit};
use crate::raw::RawApp;
use crate::raw::routes::RawRoute;
use crate::route::{Does, Route};
use crate::toml_text::At;

impl Advice<'_> {
    pub(super) fn rates(&mut self, raw: &RawApp, app: &App) {
        let limits = || raw.rate_limits.iter().map(|at| &at.span).zip(&app.rate_limits);
        for (place, (span, limit)) in limits().enumerate() {
            if limit.action == RateAction::Observe {
                self.say(
                    span,
                    format!("`{}` refuses nobody: its `action` is \"observe\"", limit.name),
                    "take out `action` when what it records is what you want refused",
                );
            }
            if limit.key.contains(&RateKey::Ip) && per_day(limit) >= PER_DAY_IDLE {
                self.say(
                    span,
                    format!("`{}` limits nobody: no client asks so often", limit.name),
                    "write what people need, as in `rate = \"600/m\"`",
                );
                continue;
            }
            // Of two that are the same the second one is never reached.
            let goes_first = |(other, (_, strict)): &(usize, (_, &RateLimit))| {
                goes_first(strict, limit) && (*other < place || !goes_first(limit, strict))
            };
            let mut others = limits().enumerate().filter(|(other, _)| *other != place);
            if let Some((_, (_, stricter))) = others.find(goes_first) {
                self.say(
                    span,
                    format!(
                        "`{}` is never reached: `{}` admits no more, and of all that this one is about",
                        limit.name, stricter.name
                    ),
                    "take it out, or make it stricter than the other",
                );
            }
        }
        self.chosen_keys(limits().collect());
    }

    /// Whoever sends another value each time is counted anew each time.
    fn chosen_keys(&mut self, limits: Vec<(&Range<usize>, &RateLimit)>) {
        let is_chosen = |limit: &RateLimit| {
            limit.key.iter().any(|key| matches!(key, RateKey::Header(_) | RateKey::Cookie(_)))
                && !limit.key.contains(&RateKey::Ip)
        };
        if limits.iter().any(|(_, limit)| !is_chosen(limit)) {
            return;
        }
        for (span, limit) in limits {
            self.say(
                span,
                format!(
                    "`{}` limits nobody who does not want it: clients choose what they are counted by",
                    limit.name
                ),
                "add a limit with `key = \"ip\"` beside it",
            );
        }
    }

    /// Passwords may be tried as fast as the app answers.
    pub(super) fn logins(&mut self, raw: &RawApp, app: &App, policy: &Policy) {
        if policy.detection.mode == DetectionMode::Act {
            return;
        }
        let declared = raw.accounts.as_ref().map(|accounts| accounts.logins.as_slice()).unwrap_or_default();
        let limited = |path: &str| {
            let is_posted = |limit: &RateLimit| {
                limit.methods.is_empty() || limit.methods.iter().any(|method| method == "POST")
            };
            app.rate_limits
                .iter()
                .any(|limit| limit.action == RateAction::Deny && is_posted(limit) && is_about(limit, path))
        };
        let logins = app.accounts.endpoints.iter().filter(|endpoint| endpoint.kind == EndpointKind::Login);
        for (at, login) in declared.iter().zip(logins) {
            if !limited(&login.path) {
                self.say(
                    &at.span,
                    format!("passwords may be tried at {} as fast as it answers", login.path),
                    "add a rate limit for its path and POST, or write `mode = \"act\"` in `[detection]`",
                );
            }
        }
        // By its name; one for an app.
        let is_declared = |path: &str| app.accounts.endpoints.iter().any(|endpoint| endpoint.path == path);
        let is_open = |(_, route): &(&At<RawRoute>, &Route)| {
            let path = &route.when.path;
            let is_login = route.when.segments().last().is_some_and(|last| LOGINS.contains(&last));
            is_login && matches!(route.does, Does::Forward { .. }) && !is_declared(path) && !limited(path)
        };
        if let Some((at, route)) = raw.routes.iter().zip(&app.routes).find(is_open) {
            self.say(
                &at.span,
                format!("passwords may be tried at {} as fast as it answers", route.when.path),
                "add a rate limit for its path, or declare it in `accounts.logins` and write `mode = \"act\"` in `[detection]`",
            );
        }
    }
}

fn per_day(limit: &RateLimit) -> u128 {
    u128::from(limit.rate.count) * 86_400_000 / u128::from(limit.rate.period_ms.max(1))
}

/// Whether a limit has refused whatever another one would refuse.
fn goes_first(strict: &RateLimit, loose: &RateLimit) -> bool {
    let holds_all = |all: &[String], some: &[String]| {
        all.is_empty() || !some.is_empty() && some.iter().all(|one| all.contains(one))
    };
    strict.action == RateAction::Deny
        && strict.scope == loose.scope
        && strict.key == loose.key
        && !strict.key.contains(&RateKey::Path)
        && holds_all(&strict.paths, &loose.paths)
        && holds_all(&strict.methods, &loose.methods)
        && per_day(strict) <= per_day(loose)
        && strict.burst <= loose.burst
}

/// Whether it is about a path: by what its patterns begin with, up to their first `*`.
fn is_about(limit: &RateLimit, path: &str) -> bool {
    let begins = |pattern: &String| {
        let start = pattern.split('*').next().unwrap_or_default();
        path.starts_with(start.trim_end_matches('/'))
    };
    limit.paths.is_empty() || limit.paths.iter().any(begins)
}

/// A thousand in a second, which one address asks of no app.
const PER_DAY_IDLE: u128 = 1_000 * 86_400;
/// What pages are called at which people log in.
const LOGINS: [&str; 8] =
    ["login", "login.php", "log-in", "signin", "sign-in", "sign_in", "wp-login.php", "authenticate"];
