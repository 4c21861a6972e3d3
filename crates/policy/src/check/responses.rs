//! What is done beyond passing on: maintenance, header fields, hardening, pages, security.txt.

use std::sync::Arc;

use phalanx_model::limits::{HEADER_EDIT_BYTES_MAX, HEADER_EDITS_MAX};

use super::Check;
use crate::handling::{
    Brand, Cookies, EditKind, Expiry, Handling, HeaderEdit, Maintenance, Pages, Responses, Template,
    UpstreamHost, is_reserved_field,
};
use crate::policy::App;
use crate::rate_limit::is_token;
use crate::raw::RawApp;
use crate::raw::routes::{
    PageForm, Preset, RawHeaderEdits, RawHsts, RawMaintenance, RawPages, RawResponses, RawSecurityTxt,
};
use crate::route::{Does, ReplyBody, Route, StaticReply, When};
use crate::toml_text::At;
use crate::units::duration_ms;

/// Which way header fields go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

impl Check<'_> {
    /// What an app does beyond passing on.
    pub(super) fn handling(&mut self, raw: &RawApp) -> Handling {
        Handling {
            maintenance: raw.maintenance.as_ref().map(|written| self.maintenance(written)),
            upstream_host: raw
                .upstream_host
                .as_ref()
                .map(|host| self.upstream_host(host))
                .unwrap_or_default(),
            request_headers: self.header_edits(&raw.request_headers, Side::Request),
            response_headers: self.header_edits(&raw.response_headers, Side::Response),
            responses: self.responses(&raw.responses),
            pages: self.pages(&raw.pages),
        }
    }

    pub(super) fn maintenance(&mut self, raw: &At<RawMaintenance>) -> Maintenance {
        let wait = self.duration(raw.retry_after.as_ref(), RETRY_AFTER_MS, &(1_000..=7 * 24 * 3_600_000));
        Maintenance {
            retry_after_s: u32::try_from(wait.div_ceil(1_000)).unwrap_or(u32::MAX),
            allow: self.prefixes(&raw.allow, "nobody meets the maintenance"),
        }
    }

    pub(super) fn upstream_host(&mut self, host: &At<String>) -> UpstreamHost {
        match host.as_str() {
            "client" => UpstreamHost::Client,
            "upstream" => UpstreamHost::Upstream,
            name => {
                let (bare, port) = name.split_once(':').unwrap_or((name, "1"));
                if super::hosts::host_name(bare).is_none() || port.parse::<u16>().is_err() {
                    let fault = self.text.error_at(&host.span, format!("`{name}` is no host"));
                    self.found.push(fault.with_help("write \"client\", \"upstream\" or a name"));
                }
                UpstreamHost::Name(name.to_owned())
            }
        }
    }

    pub(super) fn header_edits(&mut self, raw: &RawHeaderEdits, side: Side) -> Vec<HeaderEdit> {
        let mut edits = Vec::new();
        for name in &raw.remove {
            if self.may_change(name, &name.span, side) {
                edits.push(HeaderEdit { name: name.value.clone(), does: EditKind::Remove });
            }
        }
        for (texts, of) in [(&raw.set, EditKind::Set as fn(Template) -> EditKind), (&raw.add, EditKind::Add)]
        {
            for (name, text) in texts {
                if !self.may_change(name, &text.span, side) {
                    continue;
                }
                match value(text) {
                    Ok(template) => edits.push(HeaderEdit { name: name.clone(), does: of(template) }),
                    Err(message) => self.error(&text.span, message),
                }
            }
        }
        if edits.len() > HEADER_EDITS_MAX
            && let Some(span) = raw.remove.first().or(raw.set.values().next()).or(raw.add.values().next())
        {
            let message = format!("{HEADER_EDITS_MAX} header fields at most are changed in one place");
            self.error(&span.span.clone(), message);
        }
        edits
    }

    /// Fields that frame messages, end at a hop, or say what was inspected or who asks, are the node's business alone.
    fn may_change(&mut self, name: &str, span: &std::ops::Range<usize>, side: Side) -> bool {
        if !is_token(name) {
            self.error(span, format!("`{name}` is no name of a header field"));
            return false;
        }
        let lower = name.to_ascii_lowercase().replace('_', "-");
        let reserved = is_reserved_field(name, side == Side::Request);
        if reserved {
            let fault = self.text.error_at(span, format!("`{name}` is not to be changed here"));
            self.found.push(match lower.as_str() {
                "host" => fault.with_help("write `upstream_host`"),
                "strict-transport-security" => {
                    fault.with_help("write `responses = { hsts = { max_age = \"365d\" } }`")
                }
                _ => fault.with_help("it frames the message, ends at this hop, or is the node's own"),
            });
        }
        !reserved
    }

    fn responses(&mut self, raw: &RawResponses) -> Responses {
        let standard = raw.headers == Some(Preset::Standard);
        let hsts = match &raw.hsts {
            Some(written) => self.hsts(written),
            None if standard => Some(HSTS_DEFAULT.to_owned()),
            None => None,
        };
        let cookies = (raw.cookies == Some(Preset::Standard))
            .then(|| Cookies { except: raw.cookies_except.iter().map(|name| name.value.clone()).collect() });
        if let (None, Some(first)) = (&cookies, raw.cookies_except.first()) {
            let fault = self.text.warning_at(&first.span, "all cookies are left alone");
            self.found.push(fault.with_help("add `cookies = \"standard\"`, or take it out"));
        }
        Responses { standard, hsts, cookies }
    }

    fn hsts(&mut self, raw: &At<RawHsts>) -> Option<String> {
        let Some(max_age) = &raw.max_age else {
            let fault = self.text.error_at(&raw.span, "`hsts` has no `max_age`");
            self.found.push(fault.with_help("write `hsts = { max_age = \"365d\" }`"));
            return None;
        };
        let seconds = match duration_ms(max_age) {
            Ok(ms) => ms / 1_000,
            Err(message) => {
                self.error(&max_age.span, message);
                return None;
            }
        };
        let mut value = format!("max-age={seconds}");
        if raw.subdomains == Some(true) {
            value.push_str("; includeSubDomains");
        }
        if raw.preload == Some(true) {
            value.push_str("; preload");
            if seconds < 31_536_000 || raw.subdomains != Some(true) {
                let message = "browsers take `preload` only with `subdomains = true` and a year or more";
                self.found.push(self.text.warning_at(&raw.span, message));
            }
        }
        Some(value)
    }

    pub(super) fn pages(&mut self, raw: &RawPages) -> Pages {
        let file = |at: &Option<At<String>>| at.as_ref().map(|file| self.folder.join(&file.value));
        let (refused, error, maintenance) = (file(&raw.refused), file(&raw.error), file(&raw.maintenance));
        let brand = Brand { logo: file(&raw.logo), ..self.brand(raw) };
        Pages { refused, error, maintenance, brand, problem: raw.form == Some(PageForm::Problem) }
    }

    fn brand(&mut self, raw: &RawPages) -> Brand {
        for (key, at) in [("name", &raw.name), ("contact", &raw.contact)] {
            let Some(at) = at else { continue };
            if at.trim().is_empty() || at.len() > BRAND_BYTES_MAX || at.chars().any(char::is_control) {
                let fault = format!("`{key}` is one line of 1 to {BRAND_BYTES_MAX} bytes");
                self.error(&at.span, fault);
            }
        }
        if let Some(accent) = raw.accent.as_ref().filter(|accent| !is_colour(accent)) {
            let fault =
                self.text.error_at(&accent.span, format!("`{}` is no colour", accent.value.escape_debug()));
            self.found.push(fault.with_help("write three or six hexadecimal digits, as in \"#0a6\""));
        }
        let value = |at: &Option<At<String>>| at.as_ref().map(|at| at.value.clone());
        Brand { name: value(&raw.name), contact: value(&raw.contact), accent: value(&raw.accent), logo: None }
    }

    /// Adds the route that answers with the app's security.txt.
    pub(super) fn security_txt(&mut self, raw: &RawApp, app: &mut App) {
        let Some(written) = &raw.security_txt else { return };
        let Some(expires) = &written.expires else {
            let fault = self.text.error_at(&written.span, "`security_txt` has no `expires`");
            self.found.push(fault.with_help("write a time within a year: `expires = 2027-06-01T00:00:00Z`"));
            return;
        };
        if written.contact.is_empty() {
            let fault = self.text.error_at(&written.span, "`security_txt` has no `contact`");
            self.found.push(fault.with_help("write `contact = [\"mailto:security@example.org\"]`"));
        }
        for uri in written.contact.iter().chain(&written.encryption).chain(&written.policy) {
            if !["https://", "mailto:", "tel:", "dns:", "openpgp4fpr:"].iter().any(|s| uri.starts_with(s)) {
                let fault = self.text.error_at(&uri.span, format!("`{}` is no URI for this", uri.value));
                self.found.push(fault.with_help("write `https://...`, `mailto:...` or `tel:...`"));
            }
        }
        let Some(at_s) = unix_seconds(&expires.value) else {
            self.error(&expires.span, "`expires` needs a date, a time and `Z` or an offset");
            return;
        };
        let body = security_txt(written, &expires.value);
        if body.chars().any(|c| c.is_control() && c != '\n') {
            self.error(&written.span, "control characters cannot stand in security.txt");
        }
        app.security_txt = Some(Expiry { at_s, line: self.text.line_of(expires.span.start) });
        let mut when = When { exact: true, ..When::below(SECURITY_TXT_PATH) };
        when.methods = vec!["GET".to_owned(), "HEAD".to_owned()];
        let reply = StaticReply {
            status: 200,
            content_type: "text/plain; charset=utf-8".to_owned(),
            body: ReplyBody::Text(body),
        };
        let route = Route {
            name: "security.txt".to_owned(),
            when,
            own: None,
            does: Does::Reply(reply),
            handling: Arc::clone(&app.handling),
        };
        app.routes.insert(0, route);
    }
}

/// The value of a header field, with placeholders.
fn value(text: &str) -> Result<Template, String> {
    if text.len() > HEADER_EDIT_BYTES_MAX {
        return Err(format!("a header field's value has {HEADER_EDIT_BYTES_MAX} bytes at most"));
    }
    if text.trim() != text || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(format!(
            "{text:?} cannot be the value of a header field: printable ASCII, no space around it"
        ));
    }
    Template::parse(text)
}

fn security_txt(raw: &RawSecurityTxt, expires: &toml::value::Datetime) -> String {
    let mut lines = String::new();
    let mut say = |name: &str, values: &[At<String>]| {
        for value in values {
            lines.push_str(&format!("{name}: {}\n", value.value));
        }
    };
    say("Contact", &raw.contact);
    say("Encryption", &raw.encryption);
    say("Acknowledgments", &raw.acknowledgments);
    say("Canonical", &raw.canonical);
    say("Policy", &raw.policy);
    say("Hiring", &raw.hiring);
    if !raw.preferred_languages.is_empty() {
        let languages: Vec<&str> = raw.preferred_languages.iter().map(|at| at.value.as_str()).collect();
        lines.push_str(&format!("Preferred-Languages: {}\n", languages.join(", ")));
    }
    lines.push_str(&format!("Expires: {expires}\n"));
    lines
}

/// Seconds of Unix time; `None` for a time without date or offset.
pub(crate) fn unix_seconds(at: &toml::value::Datetime) -> Option<i64> {
    let (date, time) = (at.date?, at.time?);
    let offset_min = match at.offset? {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes),
    };
    // Days from the civil date: Howard Hinnant, "chrono-compatible low-level date algorithms".
    let (year, month, day) = (i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    let seconds =
        i64::from(time.hour) * 3_600 + i64::from(time.minute) * 60 + i64::from(time.second.unwrap_or(0));
    Some(days * 86_400 + seconds - offset_min * 60)
}

fn is_colour(text: &str) -> bool {
    text.strip_prefix('#').is_some_and(|digits| {
        matches!(digits.len(), 3 | 6) && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// A line on a page.
const BRAND_BYTES_MAX: usize = 200;
/// Where RFC 9116 section 3 wants it.
const SECURITY_TXT_PATH: &str = "/.well-known/security.txt";
const RETRY_AFTER_MS: u64 = 600_000;
const HSTS_DEFAULT: &str = "max-age=31536000";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_from_1970() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2027-06-01T00:00:00+02:00", 1_811_800_800),
            ("1969-12-31T23:59:59Z", -1),
        ] {
            assert_eq!(unix_seconds(&text.parse().unwrap()), Some(expected), "{text}");
        }
        assert_eq!(unix_seconds(&"2027-06-01".parse().unwrap()), None);
    }
}
