//! Rate limits of one app.

use std::collections::HashMap;

use phalanx_model::limits::{RATE_LIMITS_PER_APP_MAX, RATE_PATH_BYTES_MAX, RATE_PATHS_MAX};

use super::{Check, NAME_BYTES_MAX};
use crate::rate_limit::{Rate, RateAction, RateKey, RateLimit, RateScope, is_token};
use crate::raw::{RawRateKey, RawRateLimit};
use crate::toml_text::At;
use crate::units::percent;

impl Check<'_> {
    /// The limits of an app; faulty ones are reported and left out.
    pub(super) fn rate_limits(&mut self, raw: &[At<RawRateLimit>]) -> Vec<RateLimit> {
        if let Some(one_more) = raw.get(RATE_LIMITS_PER_APP_MAX) {
            let message = format!("an app has {RATE_LIMITS_PER_APP_MAX} rate limits at most");
            self.error(&one_more.span, message);
        }
        let mut names = HashMap::new();
        for name in raw.iter().filter_map(|limit| limit.name.as_ref()) {
            let line = self.text.line_of(name.span.start);
            if let Some(first) = names.insert(name.value.clone(), line) {
                let message = format!("the rate limit `{}` is already there, on line {first}", name.value);
                self.error(&name.span, message);
            }
        }
        raw.iter().filter_map(|limit| self.rate_limit(limit)).collect()
    }

    fn rate_limit(&mut self, raw: &At<RawRateLimit>) -> Option<RateLimit> {
        let name = self.limit_name(raw);
        let paths: Vec<String> = raw.paths.iter().filter_map(|path| self.path_pattern(path)).collect();
        if raw.paths.len() > RATE_PATHS_MAX {
            self.error(&raw.span, format!("a rate limit has {RATE_PATHS_MAX} paths at most"));
        }
        let key = self.rate_key(raw);
        let rate = self.rate(raw)?;
        let scope = raw.scope.unwrap_or_default();
        Some(RateLimit {
            key,
            paths,
            methods: raw.methods.iter().filter_map(|method| self.method(method)).collect(),
            burst: self.burst(raw, rate),
            rate,
            scope,
            share_percent: self.share(raw, scope),
            action: raw.action.unwrap_or(RateAction::Deny),
            headers: raw.headers.unwrap_or_default(),
            name: name?,
        })
    }

    fn limit_name(&mut self, raw: &At<RawRateLimit>) -> Option<String> {
        let Some(name) = &raw.name else {
            self.error(&raw.span, "the rate limit has no `name`");
            return None;
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
            let message =
                format!("a rate limit's name has 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`");
            self.error(&name.span, message);
            return None;
        }
        Some(name.value.clone())
    }

    fn rate(&mut self, raw: &At<RawRateLimit>) -> Option<Rate> {
        let Some(rate) = &raw.rate else {
            let fault = self.text.error_at(&raw.span, "the rate limit has no `rate`");
            self.found.push(fault.with_help("say how often one key may ask: `rate = \"100/10s\"`"));
            return None;
        };
        Rate::parse(rate).map_err(|message| self.error(&rate.span, message)).ok()
    }

    fn burst(&mut self, raw: &At<RawRateLimit>, rate: Rate) -> u32 {
        match &raw.burst {
            None => rate.default_burst(),
            Some(burst) if burst.value == 0 => {
                let fault = self.text.error_at(&burst.span, "a burst of 0 admits nothing");
                self.found.push(fault.with_help("write 1 for requests that come evenly"));
                1
            }
            Some(burst) if burst.value > rate.count => {
                let message = format!("a burst of {} is more than the rate of {rate}", burst.value);
                let fault = self.text.error_at(&burst.span, message);
                self.found.push(fault.with_help("write a rate over a longer time, as in `100/10s`"));
                1
            }
            Some(burst) => burst.value,
        }
    }

    fn share(&mut self, raw: &At<RawRateLimit>, scope: RateScope) -> Option<u8> {
        let share = raw.share.as_ref()?;
        if scope == RateScope::Node {
            let fault = self.text.error_at(&share.span, "`share` is for limits that a fleet counts together");
            self.found.push(fault.with_help("add `scope = \"fleet\"`, or take out `share`"));
        }
        match percent(share) {
            Ok(percent) => Some(percent),
            Err(message) => {
                self.error(&share.span, message);
                None
            }
        }
    }

    fn rate_key(&mut self, raw: &At<RawRateLimit>) -> Vec<RateKey> {
        let Some(written) = &raw.key else {
            let fault = self.text.error_at(&raw.span, "the rate limit has no `key`");
            let help =
                "say what is counted apart: `key = \"ip\"`, or `key = \"global\"` for one count of all";
            self.found.push(fault.with_help(help));
            return Vec::new();
        };
        let parts: &[String] = match &written.value {
            RawRateKey::One(one) if one == "global" => return Vec::new(),
            RawRateKey::One(one) => std::slice::from_ref(one),
            RawRateKey::All(all) => all,
        };
        if parts.is_empty() {
            self.error(&written.span, "the key is empty; write `key = \"global\"` for one count of all");
        }
        let mut key: Vec<RateKey> = Vec::new();
        for part in parts {
            match RateKey::parse(part) {
                Ok(part) if key.contains(&part) => {
                    self.error(&written.span, format!("`{part}` stands in the key twice"));
                }
                Ok(part) => key.push(part),
                Err(_) if part == "global" => {
                    self.error(&written.span, "`global` stands alone: it is one count of all");
                }
                Err(message) => self.error(&written.span, message),
            }
        }
        if key.contains(&RateKey::Path) && raw.paths.is_empty() {
            let fault =
                self.text.error_at(&written.span, "the key has `path`, and the limit names no `paths`");
            self.found.push(
                fault.with_help("each of `paths` is counted apart, not each path that clients make up"),
            );
        }
        key
    }

    fn path_pattern(&mut self, path: &At<String>) -> Option<String> {
        let fault = if !path.starts_with('/') {
            format!("`{}`: a path starts with `/`", path.value)
        } else if path.len() > RATE_PATH_BYTES_MAX {
            format!("a path pattern has {RATE_PATH_BYTES_MAX} bytes at most")
        } else if path.contains(['%', '?', '#', '\\', ';']) || path.chars().any(char::is_control) {
            format!(
                "`{}`: write the path decoded, without query; `*` is the only special character",
                path.value
            )
        } else if path.split('/').any(|segment| segment.contains("**") && segment != "**") {
            format!("`{}`: `**` stands for whole segments, as in `/a/**/b`", path.value)
        } else if path.contains("//") || path.split('/').any(|segment| segment == "." || segment == "..") {
            format!("`{}` never matches: paths are compared without `//`, `.` and `..`", path.value)
        } else {
            return Some(path.value.clone());
        };
        self.error(&path.span, fault);
        None
    }

    pub(super) fn method(&mut self, method: &At<String>) -> Option<String> {
        if !is_token(method) {
            self.error(&method.span, format!("`{}` is no method", method.value));
            return None;
        }
        if method.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let fault = self.text.warning_at(&method.span, "methods are told apart by case");
            self.found.push(fault.with_help(format!("write \"{}\"", method.to_ascii_uppercase())));
        }
        Some(method.value.clone())
    }
}
