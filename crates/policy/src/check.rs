//! From policy as written to policy that may be compiled. All faults are found, not only the first.

use std::collections::HashMap;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use phalanx_model::{Confidence, Prefix, limits};

use self::paranoia::Inspected;
use crate::compose;
use crate::path_pattern::PathPattern;
use crate::policy::{
    App, ClassUse, Classes, Limits, PARANOIA_DEFAULT, Policy, RuleSource, Strikes, loopback,
};
use crate::raw::{RawApp, RawClasses, RawLimits, RawPolicy, RawRules, RawStrikes};
use crate::toml_text::{At, Text};
use crate::units::{duration_ms, size_bytes};
use crate::{Diagnostic, Level};

mod accounts;
mod challenge;
mod client_address;
mod client_certificate;
mod compression;
mod detection;
mod exclusions;
mod hosts;
mod networks;
mod origin_tls;
mod paranoia;
mod passthrough;
mod playbooks;
mod rates;
mod responses;
mod routes;
mod upstreams;

pub(crate) use responses::unix_seconds;

/// Reads and checks a policy text. The name of the file is used in faults and to find rule folders, which are relative
/// to it. On success the warnings come with the policy.
///
/// # Errors
/// All faults found, when one of them is an error.
pub fn parse_policy(file: &str, text: &str) -> Result<(Policy, Vec<Diagnostic>), Vec<Diagnostic>> {
    parse_policy_at(file, text, None)
}

/// The sites that a policy text says something of, in order; none of a text that is no TOML.
pub fn policy_sites(text: &str) -> Vec<String> {
    toml::de::DeTable::parse(text).map(|root| compose::sites(root.get_ref())).unwrap_or_default()
}

/// Like [`parse_policy`], as the nodes of a site read it; `None`: as those of sites that the text does not name.
///
/// # Errors
/// All faults found, when one of them is an error.
pub fn parse_policy_at(
    file: &str,
    text: &str,
    site: Option<&str>,
) -> Result<(Policy, Vec<Diagnostic>), Vec<Diagnostic>> {
    let text = Text::new(file, text);
    let (raw, found) = read_raw(&text, site);
    let folder = Path::new(file).parent().unwrap_or(Path::new("")).to_path_buf();
    let mut check = Check { text, folder, found, passes: false, patterns: HashMap::new(), pattern_bytes: 0 };
    let policy = raw.map(|raw| check.policy(raw));
    let mut found = check.found;
    found.sort_by_key(|fault| fault.line);
    // A fault in a default is found with every app that it is filled into.
    found.dedup();
    match policy {
        Some(policy) if found.iter().all(|fault| fault.level == Level::Warning) => Ok((policy, found)),
        _ => Err(found),
    }
}

/// A policy as it is written and composed, for a site; with what was found on the way.
pub(crate) fn read_raw(text: &Text<'_>, site: Option<&str>) -> (Option<RawPolicy>, Vec<Diagnostic>) {
    text.read_composed(|root| compose::compose(text, root, site))
}

struct Check<'a> {
    text: Text<'a>,
    folder: PathBuf,
    found: Vec<Diagnostic>,
    /// The upstreams that are read are those of an app whose connections are passed on.
    passes: bool,
    /// What routes' patterns were compiled to, by their text and whether case counts; `None` for one with a fault.
    patterns: HashMap<(String, bool), Option<PathPattern>>,
    /// What they take together.
    pattern_bytes: usize,
}

impl Check<'_> {
    fn policy(&mut self, mut raw: RawPolicy) -> Policy {
        let with_file = raw.cdn_networks.is_some();
        let policy = Policy {
            version: raw.version.as_ref().map_or(1, |version| version.value),
            allow: self.prefixes(&raw.allow, "nothing is refused any more, whoever asks"),
            operator_networks: match &raw.operator_networks {
                Some(networks) => self.prefixes(networks, "nobody is banned any more"),
                None => loopback(),
            },
            exemptions: self.exemptions(&raw),
            strikes: self.strikes(&raw.strikes),
            challenge: self.challenge(&raw.challenge),
            throttle: self.throttle(&raw.throttle),
            detection: self.detection(&raw.detection),
            playbooks: self.playbooks(&raw.playbooks),
            apps: raw.apps.iter_mut().map(|app| self.app(app, with_file)).collect(),
            cdn_networks: raw.cdn_networks.as_ref().map(|file| self.folder.join(file)),
            crawlers: raw.crawlers.as_ref().map(|file| self.folder.join(file)),
        };
        if policy.apps.is_empty() && self.found.is_empty() {
            self.found.push(
                self.text
                    .error("the policy protects no app")
                    .with_help("add `[[apps]]` with `name` and `upstream`"),
            );
        }
        self.distinct(&raw.apps);
        policy
    }

    fn app(&mut self, raw: &mut At<RawApp>, with_file: bool) -> App {
        let routes = std::mem::take(&mut raw.value.routes);
        let raw = &*raw;
        let mut app = self.app_alone(raw, with_file);
        app.raise_paranoia = self.raised(raw.raise_paranoia.as_ref(), &Inspected::of_app(&app));
        app.routes = self.routes(raw, &routes, &app);
        self.security_txt(raw, &mut app);
        app
    }

    /// An app without its routes.
    fn app_alone(&mut self, raw: &At<RawApp>, with_file: bool) -> App {
        let name = match &raw.name {
            Some(name)
                if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) =>
            {
                self.error(
                    &name.span,
                    format!("an app's name has 1 to {NAME_BYTES_MAX} bytes and no control characters"),
                );
                String::new()
            }
            Some(name) => name.value.clone(),
            None => {
                self.error(&raw.span, "the app has no `name`");
                String::new()
            }
        };
        self.passes = [&raw.passthrough, &raw.tcp].into_iter().flatten().any(|told| told.value);
        let upstreams = self.upstreams(raw);
        self.passes = false;
        App {
            name,
            hosts: raw.hosts.iter().filter_map(|host| self.host(host)).collect(),
            upstreams,
            mode: raw.mode.as_ref().map(|mode| mode.value).unwrap_or_default(),
            rules: self.rules(raw.rules.as_ref()),
            extra_rules: raw.extra_rules.iter().map(|file| self.folder.join(&file.value)).collect(),
            exclusions: self.exclusions(raw),
            paranoia: self.within("paranoia", raw.paranoia.as_ref(), 1..=4, PARANOIA_DEFAULT),
            raise_paranoia: None,
            classes: self.classes(&raw.classes),
            on_error: raw.on_error.as_ref().map(|on_error| on_error.value).unwrap_or_default(),
            challenge: raw.challenge.unwrap_or_default(),
            networks: self.networks(&raw.allow_networks, &raw.deny_networks),
            accounts: self.accounts(raw),
            limits: self.limits(&raw.limits, Limits::default()),
            rate_limits: self.rate_limits(&raw.rate_limits),
            compression: self.compression(raw.compression.as_ref()),
            passthrough: self.passthrough(raw),
            tcp: self.tcp(raw),
            trust_forwarded: self.prefixes(&raw.trust_forwarded, "any client can claim any address"),
            client_address: self.client_address(raw, with_file),
            client_certificate: self.client_certificate(raw),
            handling: Arc::new(self.handling(raw)),
            routes: Vec::new(),
            security_txt: None,
        }
    }

    fn rules(&mut self, raw: Option<&At<RawRules>>) -> RuleSource {
        let Some(raw) = raw else { return RuleSource::Baseline };
        match &raw.value {
            RawRules::Named(name) if name == "baseline" => RuleSource::Baseline,
            RawRules::Named(name) => {
                let fault = self.text.error_at(&raw.span, format!("there is no rule set `{name}`"));
                self.found
                    .push(fault.with_help(format!("write \"baseline\", or a list of folders: [\"{name}\"]")));
                RuleSource::Baseline
            }
            RawRules::Dirs(dirs) if dirs.is_empty() => {
                let fault = self.text.error_at(&raw.span, "the list of rule folders is empty");
                self.found.push(fault.with_help("write `mode = \"off\"` for an app without rules"));
                RuleSource::Baseline
            }
            RawRules::Dirs(dirs) => RuleSource::Dirs(dirs.iter().map(|dir| self.folder.join(dir)).collect()),
        }
    }

    fn classes(&mut self, raw: &RawClasses) -> Classes {
        let value = |at: &Option<At<ClassUse>>| at.as_ref().map(|at| at.value).unwrap_or_default();
        let classes = Classes {
            detection: value(&raw.detection),
            policy: value(&raw.policy),
            protocol: value(&raw.protocol),
            min_confidence: raw.min_confidence.as_ref().map_or(Confidence::Low, |at| at.value),
        };
        if let Some(at) = &raw.min_confidence
            && classes.detection != ClassUse::Block
        {
            let fault = self.text.warning_at(&at.span, "no detection blocks here, however sure it is");
            self.found.push(fault.with_help("take out `min_confidence`, or write `detection = \"block\"`"));
        }
        let all = [classes.detection, classes.policy, classes.protocol];
        if let Some(at) = &raw.detection
            && all == [ClassUse::Off; 3]
        {
            let fault = self.text.warning_at(&at.span, "no rule of this app finds anything any more");
            self.found.push(fault.with_help("write `mode = \"off\"` for an app without rules"));
        }
        classes
    }

    /// Limits; what is not said is as in `default`.
    fn limits(&mut self, raw: &RawLimits, default: Limits) -> Limits {
        let body_bytes_max = self.size(raw.body.as_ref(), default.body_bytes_max, 1 << 40);
        let held = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        let body_held = self.size(raw.body_held.as_ref(), held(default.body_held_bytes_max), HELD_BYTES_MAX);
        let response_held =
            self.size(raw.response_held.as_ref(), held(default.response_held_bytes_max), HELD_BYTES_MAX);
        let wait = 1..=24 * 60 * 60 * 1000;
        let head_ms = self.duration(raw.upstream_head.as_ref(), default.upstream_head_max_ms, &wait);
        let gap_ms = if raw.upstream_head.is_some() { head_ms } else { default.upstream_gap_max_ms };
        Limits {
            body_bytes_max,
            body_held_bytes_max: usize::try_from(body_held).unwrap_or(default.body_held_bytes_max),
            response_held_bytes_max: usize::try_from(response_held)
                .unwrap_or(default.response_held_bytes_max),
            upstream_connect_max_ms: self.duration(
                raw.upstream_connect.as_ref(),
                default.upstream_connect_max_ms,
                &wait,
            ),
            upstream_head_max_ms: head_ms,
            upstream_gap_max_ms: self.duration(raw.upstream_gap.as_ref(), gap_ms, &wait),
            upstream_total_max_ms: raw
                .upstream_total
                .as_ref()
                .map(|total| self.duration(Some(total), head_ms, &wait))
                .or(default.upstream_total_max_ms),
        }
    }

    fn strikes(&mut self, raw: &RawStrikes) -> Strikes {
        let default = Strikes::default();
        let most = u32::try_from(limits::STRIKES_KEPT_MAX).unwrap_or(u32::MAX);
        let ban = 1_000..=limits::BAN_AUTOMATIC_MAX_MS;
        let strikes = Strikes {
            count: self.within("count", raw.count.as_ref(), 1..=most, default.count),
            window_ms: self.duration(
                raw.window.as_ref(),
                default.window_ms,
                &(1_000..=limits::BAN_MEMORY_MS),
            ),
            first_ban_ms: self.duration(raw.first_ban.as_ref(), default.first_ban_ms, &ban),
            max_ban_ms: self.duration(raw.max_ban.as_ref(), default.max_ban_ms, &ban),
        };
        if strikes.first_ban_ms > strikes.max_ban_ms {
            let span =
                raw.max_ban.as_ref().or(raw.first_ban.as_ref()).map(|at| at.span.clone()).unwrap_or_default();
            self.error(&span, "`max_ban` is shorter than `first_ban`");
        }
        strikes
    }

    fn prefixes(&mut self, raw: &[At<String>], when_all: &str) -> Vec<Prefix> {
        let mut prefixes = Vec::new();
        for text in raw {
            match crate::prefix::parse(text) {
                Some(prefix) => {
                    if prefix.prefix_len() == 0 {
                        let message = format!("`{}` holds every address: {when_all}", text.value);
                        let fault = self.text.warning_at(&text.span, message);
                        self.found.push(fault.with_help("name the networks that are meant"));
                    }
                    prefixes.push(prefix);
                }
                None => {
                    let message = format!("`{}` is no IP address or range", text.value);
                    let fault = self.text.error_at(&text.span, message);
                    self.found.push(fault.with_help("write it as in \"203.0.113.7\", \"10.0.0.0/8\" (up to /32) or \"2001:db8::/32\" (up to /128)"));
                }
            }
        }
        prefixes
    }

    fn size(&mut self, raw: Option<&At<String>>, default: u64, most: u64) -> u64 {
        let Some(raw) = raw else { return default };
        match size_bytes(raw) {
            Ok(bytes) if bytes <= most => bytes,
            Ok(_) => {
                self.error(
                    &raw.span,
                    format!("`{}` is more than the {most} bytes that are possible", raw.value),
                );
                default
            }
            Err(message) => {
                self.error(&raw.span, message);
                default
            }
        }
    }

    fn duration(&mut self, raw: Option<&At<String>>, default: u64, allowed: &RangeInclusive<u64>) -> u64 {
        let Some(raw) = raw else { return default };
        match duration_ms(raw) {
            Ok(ms) if allowed.contains(&ms) => ms,
            Ok(_) => {
                let (least, most) = (allowed.start(), allowed.end());
                self.error(&raw.span, format!("`{}` is not between {least} ms and {most} ms", raw.value));
                default
            }
            Err(message) => {
                self.error(&raw.span, message);
                default
            }
        }
    }

    fn within<T: Copy + PartialOrd + std::fmt::Display>(
        &mut self,
        name: &str,
        raw: Option<&At<T>>,
        allowed: RangeInclusive<T>,
        default: T,
    ) -> T {
        match raw {
            Some(raw) if !allowed.contains(&raw.value) => {
                let message =
                    format!("`{name}` goes from {} to {}, not {}", allowed.start(), allowed.end(), raw.value);
                self.error(&raw.span, message);
                default
            }
            Some(raw) => raw.value,
            None => default,
        }
    }

    /// No two apps share a name or a host, and one at most takes what is left.
    fn distinct(&mut self, apps: &[At<RawApp>]) {
        let mut names = HashMap::new();
        let mut taken = HashMap::new();
        let mut rest: Option<Range<usize>> = None;
        for app in apps {
            if let Some(name) = &app.name {
                self.once("name", name, name.value.clone(), &mut names);
            }
            for host in &app.hosts {
                if let Some(normal) = hosts::app_host(host) {
                    self.once("host", host, normal, &mut taken);
                }
            }
            if app.hosts.is_empty() && app.passthrough.is_none() && app.tcp.is_none() {
                match &rest {
                    Some(first) => {
                        let message = format!(
                            "this app names no `hosts`, and the app on line {} takes all that no other app names",
                            self.text.line_of(first.start)
                        );
                        self.error(&app.span, message);
                    }
                    None => rest = Some(app.span.clone()),
                }
            }
        }
    }

    fn once(&mut self, what: &str, at: &At<String>, key: String, seen: &mut HashMap<String, u32>) {
        let line = self.text.line_of(at.span.start);
        if let Some(first) = seen.get(&key) {
            let message = format!("the {what} `{key}` is already that of the app on line {first}");
            let fault = self.text.error_at(&at.span, message);
            self.found.push(fault.with_help(format!(
                "give one of the two another {what}, or make one app of them: its routes tell paths apart"
            )));
        } else {
            seen.insert(key, line);
        }
    }

    fn error(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.found.push(self.text.error_at(span, message));
    }
}

/// Longer names do not fit into a metric's label or a column.
const NAME_BYTES_MAX: usize = 64;
/// A held body costs memory for every request in flight.
const HELD_BYTES_MAX: u64 = 256 << 20;
