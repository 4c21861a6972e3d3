//! Sessions and accounts of one app.

use phalanx_model::limits::ACCOUNT_ENDPOINTS_PER_APP_MAX;

use super::Check;
use crate::accounts::{AccountEndpoint, Accounts, EndpointKind, Success};
use crate::policy::FIELD_NAME_BYTES_MAX;
use crate::rate_limit::is_token;
use crate::raw::RawApp;
use crate::raw::accounts::{RawAttempt, RawLookup, RawSuccess};
use crate::toml_text::At;

impl Check<'_> {
    /// How an app's sessions and accounts are known; faulty endpoints are reported and left out.
    pub(super) fn accounts(&mut self, raw: &RawApp) -> Accounts {
        let Some(raw) = &raw.accounts else { return Accounts::default() };
        let lookups = raw.lookups.iter().map(|raw| At { value: like_attempt(raw), span: raw.span.clone() });
        let lookups: Vec<At<RawAttempt>> = lookups.collect();
        let all = [
            (EndpointKind::Login, &raw.logins),
            (EndpointKind::Lookup, &lookups),
            (EndpointKind::Payment, &raw.payments),
        ];
        let all = all.into_iter().flat_map(|(kind, list)| list.iter().map(move |one| (kind, one)));
        let mut endpoints: Vec<AccountEndpoint> = Vec::new();
        for (kind, written) in all {
            let Some(endpoint) = self.endpoint(kind, written) else { continue };
            let same =
                |known: &AccountEndpoint| (&known.path, &known.method) == (&endpoint.path, &endpoint.method);
            if endpoints.iter().any(same) {
                let message = format!("`{} {}` is already declared", endpoint.method, endpoint.path);
                let fault = self.text.error_at(&written.span, message);
                self.found.push(fault.with_help("a request is one thing: take one of them out"));
            } else if endpoints.len() == ACCOUNT_ENDPOINTS_PER_APP_MAX {
                let message = format!("an app declares {ACCOUNT_ENDPOINTS_PER_APP_MAX} of these at most");
                self.error(&written.span, message);
            }
            endpoints.push(endpoint);
        }
        endpoints.truncate(ACCOUNT_ENDPOINTS_PER_APP_MAX);
        let named = raw.session_cookies.iter().flatten();
        let mut session_cookies: Vec<String> = named.filter_map(|name| self.cookie(name, true)).collect();
        // A cookie that tells of a login begins a session.
        let told = endpoints.iter().filter(|endpoint| endpoint.kind == EndpointKind::Login);
        for cookie in told.filter_map(|endpoint| endpoint.success.cookie.as_ref()) {
            if !session_cookies.contains(cookie) {
                session_cookies.push(cookie.clone());
            }
        }
        Accounts {
            learn: raw.learn.unwrap_or(true),
            session_cookies,
            common_cookies: raw.session_cookies.is_none(),
            session_header: raw.session_header.as_ref().and_then(|name| self.session_header(name)),
            endpoints,
        }
    }

    fn endpoint(&mut self, kind: EndpointKind, raw: &At<RawAttempt>) -> Option<AccountEndpoint> {
        let Some(path) = &raw.path else {
            let fault = self.text.error_at(&raw.span, "nothing says which requests these are");
            self.found.push(fault.with_help("name their path: `path = \"/login\"`"));
            return None;
        };
        let path = self.route_path(path)?;
        let method = match &raw.method {
            Some(method) if matches!(method.as_str(), "GET" | "HEAD") => {
                let message =
                    format!("what `{}` requests ask for stands in logs and histories", method.value);
                let fault = self.text.error_at(&method.span, message);
                self.found
                    .push(fault.with_help("only what comes with a body is looked at, as with \"POST\""));
                return None;
            }
            Some(method) => self.method(method)?,
            None => "POST".to_owned(),
        };
        Some(AccountEndpoint {
            kind,
            path: if path.len() > 1 { path.trim_end_matches('/').to_owned() } else { path },
            method,
            account: raw.account.as_ref().and_then(|name| self.body_field(name)),
            secret: raw.secret.as_ref().and_then(|name| self.body_field(name)),
            success: raw.success.as_ref().map(|raw| self.success(raw)).unwrap_or_default(),
        })
    }

    fn success(&mut self, raw: &At<RawSuccess>) -> Success {
        let success = Success {
            statuses: raw.status.iter().filter_map(|status| self.answer_status(status)).collect(),
            location: raw.location.as_ref().map(|location| location.value.clone()),
            cookie: raw.cookie.as_ref().and_then(|name| self.cookie(name, false)),
            body: raw.body.as_ref().map(|body| body.value.clone()),
        };
        if success.body.as_ref().is_some_and(|body| body.is_empty() || body.len() > FIELD_NAME_BYTES_MAX) {
            let message = format!("a text to find in a body has 1 to {FIELD_NAME_BYTES_MAX} bytes");
            self.error(&raw.span, message);
        }
        if success.location.as_ref().is_some_and(String::is_empty) {
            self.error(&raw.span, "every place begins with nothing: `location` tells nothing");
        }
        if raw.status.is_empty() && success.is_usual() && raw.cookie.is_none() {
            let fault = self.text.error_at(&raw.span, "nothing is said of success");
            self.found
                .push(fault.with_help("say `status`, `location`, `cookie` or `body`, or take out `success`"));
        }
        success
    }

    fn answer_status(&mut self, status: &At<u16>) -> Option<u16> {
        if (200..500).contains(&status.value) && status.value != 429 {
            return Some(status.value);
        }
        let message =
            format!("{} tells nothing about an attempt; it goes from 200 to 499 but for 429", status.value);
        self.error(&status.span, message);
        None
    }

    /// The name of a field of a body.
    fn body_field(&mut self, name: &At<String>) -> Option<String> {
        if name.is_empty() || name.len() > FIELD_NAME_BYTES_MAX || name.chars().any(char::is_control) {
            let message =
                format!("a field's name has 1 to {FIELD_NAME_BYTES_MAX} bytes and no control characters");
            self.error(&name.span, message);
            return None;
        }
        Some(name.value.clone())
    }

    fn cookie(&mut self, name: &At<String>, with_star: bool) -> Option<String> {
        let plain = if with_star { name.strip_suffix('*').unwrap_or(name) } else { name.as_str() };
        if !is_token(plain) || plain.contains('*') || plain.len() > FIELD_NAME_BYTES_MAX {
            let fault = format!("`{}` is no name of a cookie", name.value.escape_debug());
            self.error(&name.span, fault);
            return None;
        }
        Some(name.value.clone())
    }

    fn session_header(&mut self, name: &At<String>) -> Option<String> {
        let lower = name.to_ascii_lowercase();
        if !is_token(name) || name.len() > FIELD_NAME_BYTES_MAX {
            let fault = format!("`{}` is no name of a header field", name.value.escape_debug());
            self.error(&name.span, fault);
            return None;
        }
        if lower == "cookie" {
            let fault = self.text.error_at(&name.span, "cookies are looked at one by one");
            self.found
                .push(fault.with_help("name those that hold the session: `session_cookies = [\"sid\"]`"));
            return None;
        }
        Some(lower)
    }
}

fn like_attempt(raw: &RawLookup) -> RawAttempt {
    let RawLookup { path, method, account } = raw.clone();
    RawAttempt { path, method, account, secret: None, success: None }
}
