//! What changes from one policy to another, by what it means: places, settings, and their values before and after.
//!
//! Flow in names: two [`Policy`]s -> facts of each, by [`Place`] -> [`diff`] -> [`Change`]s, and the [`Danger`]s among them.
//!
//! INVARIANT: a policy differs from itself in nothing, however it is written: formatting, comments, the order of apps, of hosts and of
//! networks are no part of what is compared. The order of routes is where it decides which of them a request meets. A route has all that
//! holds for it, its app's settings included; what changes for it because it changes for its app is said of the app alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::balance::Upstreams;
use crate::{App, Exclusion, Exemption, Policy, RateKey, RateLimit, Route};

mod danger;
mod files;
mod order;
mod uses;

pub use danger::{Danger, lasting_exclusions};
pub use files::{FileChange, WithFiles, compare_files};

/// All that changes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PolicyDiff {
    /// By place and setting.
    pub changes: Vec<Change>,
    /// What of it takes protection away.
    pub dangers: Vec<Danger>,
}

/// One thing that changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// Which setting; empty for the whole place.
    pub setting: String,
    /// What it was; `None`: it was not there.
    pub old: Option<Value>,
    /// What it will be; `None`: it goes.
    pub new: Option<Value>,
}

/// A part of a policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The site, if it is so at this one and not elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// The app, if it is a part of one.
    pub app: Option<String>,
    /// The route of that app, if it is a part of one.
    pub route: Option<String>,
    /// What it is.
    pub part: Part,
    /// Its name among its like; empty for what there is one of.
    pub name: String,
}

/// Kinds of parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// What holds for all apps.
    Policy,
    /// An app.
    App,
    /// A route.
    Route,
    /// The order of routes that a request may both fit.
    RouteOrder,
    /// A server of an app or route.
    Upstream,
    /// A rate limit.
    RateLimit,
    /// An exclusion.
    Exclusion,
    /// An exemption of clients.
    Exemption,
}

/// What changes from `old` to `new`. `files` are those that the new policy names, by name: what they say decides whether rules that come
/// take protection away.
pub fn diff(old: &Policy, new: &Policy, files: &BTreeMap<String, Vec<u8>>) -> PolicyDiff {
    let (before, after) = (facts(old), facts(new));
    let mut changes = Vec::new();
    for place in places(&before, &after) {
        match (before.get(place), after.get(place)) {
            (Some(was), Some(is)) => settings(place, (was, is), (&before, &after), &mut changes),
            (was, is) if place.comes_alone(&before, &after) => changes.push(Change {
                place: place.clone(),
                setting: String::new(),
                old: was.map(|was| Value::Object(own(place, was, &before))),
                new: is.map(|is| Value::Object(own(place, is, &after))),
            }),
            // What is said of a whole says it of its parts.
            _ => {}
        }
    }
    for app in &new.apps {
        if let Some(before) = old.apps.iter().find(|old| old.name == app.name) {
            order::compare(before, app, &mut changes);
        }
    }
    changes.sort_by(|one, other| one.place.cmp(&other.place));
    PolicyDiff { changes, dangers: danger::dangers(old, new, files) }
}

type Facts = BTreeMap<Place, Map<String, Value>>;

fn places<'a>(before: &'a Facts, after: &'a Facts) -> BTreeSet<&'a Place> {
    before.keys().chain(after.keys()).collect()
}

impl Place {
    fn of_app(app: &str, part: Part, name: impl Into<String>) -> Self {
        Self { site: None, app: Some(app.to_owned()), route: None, part, name: name.into() }
    }

    fn of_exemption(exemption: &Exemption) -> Self {
        Self { site: None, app: None, route: None, part: Part::Exemption, name: exemption.name() }
    }

    /// The app that it is a part of.
    fn app(&self) -> Option<Self> {
        let app = self.app.as_ref().filter(|_| self.part != Part::App)?;
        Some(Self::of_app(app, Part::App, ""))
    }

    /// What it is a part of, and comes and goes with.
    fn whole(&self) -> Option<Self> {
        match &self.route {
            Some(route) if self.part == Part::Upstream => {
                Some(Self { part: Part::Route, name: route.clone(), ..self.clone() })
            }
            _ => self.app(),
        }
    }

    /// Whether what it is a part of stays.
    fn comes_alone(&self, before: &Facts, after: &Facts) -> bool {
        self.whole().is_none_or(|whole| before.contains_key(&whole) && after.contains_key(&whole))
    }
}

fn facts(policy: &Policy) -> Facts {
    let mut facts = Facts::new();
    let place = Place { site: None, app: None, route: None, part: Part::Policy, name: String::new() };
    facts.insert(place, flat(policy, &["apps", "exemptions"]));
    for exemption in &policy.exemptions {
        add(&mut facts, Place::of_exemption(exemption), flat(exemption, &[]));
    }
    for app in &policy.apps {
        let place = Place::of_app(&app.name, Part::App, "");
        let mut settings = flat(app, &["name", "routes", "rate_limits", "exclusions"]);
        settings.remove(SERVERS);
        add_servers(&mut facts, &place, &app.upstreams);
        for limit in &app.rate_limits {
            add(&mut facts, Place::of_app(&app.name, Part::RateLimit, &limit.name), of_limit(limit));
        }
        // Several about the same get numbers, which are not to depend on their order.
        let mut exclusions: Vec<&Exclusion> = app.exclusions.iter().collect();
        exclusions.sort_by_key(|exclusion| (&exclusion.owner, &exclusion.reason));
        for exclusion in exclusions {
            let name = name_of(exclusion);
            add(&mut facts, Place::of_app(&app.name, Part::Exclusion, name), flat(exclusion, &[]));
        }
        for (route, name) in app.routes.iter().zip(order::names(app)) {
            add_route(&mut facts, (app, &settings), route, &name);
        }
        facts.insert(place, settings);
    }
    facts
}

/// Two of one name are told apart by their number.
fn add(facts: &mut Facts, mut place: Place, settings: Map<String, Value>) {
    let name = place.name.clone();
    let mut number = 1;
    while facts.contains_key(&place) {
        number += 1;
        place.name = format!("{name} ({number})");
    }
    facts.insert(place, settings);
}

/// All that holds for a route: what it does not say itself its app says.
fn add_route(facts: &mut Facts, app: (&App, &Map<String, Value>), route: &Route, name: &str) {
    let (app, of_app) = app;
    let mut place = Place::of_app(&app.name, Part::Route, name);
    place.route = Some(name.to_owned());
    let mut settings = flat(&route.when, &[]);
    settings = settings.into_iter().map(|(key, value)| (format!("when.{key}"), value)).collect();
    settings.extend(does(route));
    settings.extend(flat(route, &["name", "when", "does", "own"]));
    let upstreams = route.own.as_ref().and_then(|own| own.upstreams.as_ref());
    let inherited = of_app.iter().filter(|(key, _)| match key.split('.').next().unwrap_or_default() {
        "upstreams" => upstreams.is_none(),
        key => route.own.is_none() && OF_ROUTES.contains(&key),
    });
    settings.extend(inherited.map(|(key, value)| (key.clone(), value.clone())));
    if let Some(own) = &route.own {
        settings.extend(flat(own, &[]));
    }
    settings.remove(SERVERS);
    if let Some(upstreams) = upstreams {
        add_servers(facts, &place, upstreams);
    }
    add(facts, place, settings);
}

fn does(route: &Route) -> Map<String, Value> {
    let mut out = Map::new();
    if let Ok(Value::Object(does)) = serde_json::to_value(&route.does) {
        let word = does.keys().next().cloned().unwrap_or_default();
        out.insert("does".to_owned(), Value::String(word));
        for (word, value) in does {
            flatten(format!("does.{word}"), value, &mut out);
        }
    }
    out
}

/// Servers stand by themselves, by where they are.
fn add_servers(facts: &mut Facts, of: &Place, upstreams: &Upstreams) {
    for server in &upstreams.servers {
        let place = Place { part: Part::Upstream, name: server.upstream.to_string(), ..of.clone() };
        add(facts, place, flat(server, &["upstream"]));
    }
}

fn of_limit(limit: &RateLimit) -> Map<String, Value> {
    let mut limit = limit.clone();
    // Where each path has its own count, a request counts for the first that it matches.
    if !limit.key.contains(&RateKey::Path) {
        limit.paths.sort();
    }
    flat(&limit, &["name"])
}

/// What an exclusion is about, as its name.
fn name_of(exclusion: &Exclusion) -> String {
    let mut rules: Vec<String> =
        exclusion.rules.iter().map(u64::to_string).chain(exclusion.tags.iter().cloned()).collect();
    rules.sort();
    let mut name = rules.join(", ");
    if let Some(target) = &exclusion.target {
        name.push_str(&format!(" for {target}"));
    }
    if let Some(path) = &exclusion.path {
        name.push_str(&format!(" at {path}"));
    }
    if !exclusion.methods.is_empty() {
        let mut methods = exclusion.methods.clone();
        methods.sort();
        name.push_str(&format!(" ({})", methods.join(", ")));
    }
    name
}

/// The settings of a part as a table of one level: `limits.body_bytes_max`. `but`: keys that stand elsewhere.
fn flat<T: Serialize>(part: &T, but: &[&str]) -> Map<String, Value> {
    let mut out = Map::new();
    // Policy holds text and numbers under names: there is nothing that JSON could not say.
    if let Ok(Value::Object(fields)) = serde_json::to_value(part) {
        for (key, value) in fields {
            if !but.contains(&key.as_str()) {
                flatten(key, value, &mut out);
            }
        }
    }
    out
}

fn flatten(key: String, value: Value, out: &mut Map<String, Value>) {
    match value {
        Value::Object(mut fields) => {
            // Where a time stands in its file says nothing about it.
            if fields.contains_key("at_s") {
                fields.remove("line");
            }
            for (inner, value) in fields {
                flatten(format!("{key}.{inner}"), value, out);
            }
        }
        Value::Array(mut items) => {
            let last = key.rsplit('.').next().unwrap_or_default();
            if UNORDERED.contains(&last) && items.iter().all(|item| !item.is_object()) {
                items.sort_by_cached_key(ToString::to_string);
                items.dedup();
            }
            out.insert(key, Value::Array(items));
        }
        Value::Null => {}
        value => _ = out.insert(key, value),
    }
}

fn settings(
    place: &Place,
    (was, is): (&Map<String, Value>, &Map<String, Value>),
    (before, after): (&Facts, &Facts),
    changes: &mut Vec<Change>,
) {
    let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    for setting in names {
        let (old, new) = (was.get(setting), is.get(setting));
        if old != new && !is_inherited(place, setting, (old, new), (before, after)) {
            let (old, new) = (old.cloned(), new.cloned());
            changes.push(Change { place: place.clone(), setting: setting.clone(), old, new });
        }
    }
}

/// Whether a route's setting changes because it is its app's, which changes.
fn is_inherited(
    place: &Place,
    setting: &str,
    (old, new): (Option<&Value>, Option<&Value>),
    (before, after): (&Facts, &Facts),
) -> bool {
    let of_app = |facts: &Facts, value: Option<&Value>| {
        place.app().and_then(|app| Some(facts.get(&app)?.get(setting) == value)) == Some(true)
    };
    place.part == Part::Route && of_app(before, old) && of_app(after, new)
}

/// What a part says that comes or goes; of a route what differs from its app.
fn own(place: &Place, settings: &Map<String, Value>, facts: &Facts) -> Map<String, Value> {
    let app = place.app().filter(|_| place.part == Part::Route).and_then(|app| facts.get(&app));
    let differs = |key: &str, value: &Value| app.is_none_or(|app| app.get(key) != Some(value));
    let own = settings.iter().filter(|(key, value)| differs(key, value));
    own.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Where the servers stand among an app's or route's settings.
const SERVERS: &str = "upstreams.servers";
/// What routes have of their app unless they say otherwise, beside their handling, which says all.
const OF_ROUTES: &[&str] = &[
    "mode",
    "rules",
    "extra_rules",
    "paranoia",
    "raise_paranoia",
    "classes",
    "on_error",
    "challenge",
    "networks",
    "limits",
];
/// Lists whose order says nothing.
const UNORDERED: &[&str] = &[
    "hosts",
    "allow",
    "deny",
    "operator_networks",
    "networks",
    "trust_forwarded",
    "methods",
    "rules",
    "tags",
    "shipped",
    "statuses",
    "on_statuses",
    "pins",
    "except",
];
