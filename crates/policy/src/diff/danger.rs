//! Which changes of a policy take protection away. Who orders changes asks for a second pair of eyes for these.
//!
//! Failure direction: a change that cannot be judged is no danger; what is listed here is what is looked for.

use phalanx_model::Prefix;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Facts, Part, Place, is_inherited, own, places};
use crate::{Rate, prefix};

/// A change that takes protection away.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Danger {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// The setting; empty for the whole place.
    pub setting: String,
    /// Why it is one.
    pub why: String,
}

type Settings = Map<String, Value>;

/// The changes that take protection away, by place.
pub(super) fn dangers(before: &Facts, after: &Facts) -> Vec<Danger> {
    let mut found = Vec::new();
    for place in places(before, after) {
        let mut say = |setting: &str, why: String| {
            found.push(Danger { place: place.clone(), setting: setting.to_owned(), why });
        };
        // A part of an app that goes takes nothing from anybody.
        let app = place.app().map(|app| after.get(&app));
        if app == Some(None) {
            continue;
        }
        let of_app = app.flatten();
        match (place.part, before.get(place), after.get(place)) {
            (_, Some(old), Some(new)) => each(place.part, old, new, &mut |setting, why| {
                let values = (old.get(setting), new.get(setting));
                if !is_inherited(place, setting, values, (before, after)) {
                    say(setting, why);
                }
            }),
            (Part::App, None, Some(new)) => {
                each(Part::App, &Settings::new(), &only(new, OF_NEW_APPS), &mut say)
            }
            (Part::Route, None, Some(new)) => {
                let of_app = of_app.cloned().unwrap_or_default();
                each(Part::Route, &of_app, &without_match(new), &mut say);
            }
            (Part::Route, Some(old), None) => {
                let said = own(place, old, before);
                each(
                    Part::Route,
                    &without_match(old),
                    &of_app.cloned().unwrap_or_default(),
                    &mut |setting, why| {
                        // What it had of its app goes with the app's, of which that is said.
                        if said.contains_key(setting) {
                            say(setting, format!("without this route {why}"));
                        }
                    },
                );
            }
            (Part::RateLimit, Some(_), None) => say("", "the rate limit goes".to_owned()),
            (Part::Exclusion, None, Some(new)) => {
                if let Some(why) = of_exclusion(place, new, (before, after)) {
                    say("", why);
                }
            }
            (Part::RouteOrder, ..) => say("", "requests may meet another route".to_owned()),
            (Part::Upstream, None, Some(new)) => each(Part::Upstream, &Settings::new(), new, &mut say),
            _ => {}
        }
    }
    found
}

/// What a route does with requests, without which they are and what answers them.
fn without_match(route: &Settings) -> Settings {
    let kept = route.iter().filter(|(key, _)| !key.starts_with("when.") && !key.starts_with("does"));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The settings of these kinds.
fn only(settings: &Settings, kinds: &[&str]) -> Settings {
    let of_kind = |key: &str| kinds.contains(&key.split('.').next().unwrap_or_default());
    let kept = settings.iter().filter(|(key, _)| of_kind(key));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Tells of each setting that takes protection away when it goes from one value to another.
fn each(part: Part, old: &Settings, new: &Settings, say: &mut dyn FnMut(&str, String)) {
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let (was, is) = (old.get(name), new.get(name));
        // Where there are no rules, nothing is ready for an attack: that is one danger, not two.
        let is_said = name == "raise_paranoia" && rank(new.get("mode")) == 0;
        let why = if was == is || is_said { None } else { judge(part, name, was, is) };
        if let Some(why) = why {
            say(name, why);
        }
    }
}

fn judge(part: Part, setting: &str, old: Option<&Value>, new: Option<&Value>) -> Option<String> {
    match part {
        Part::Policy => of_policy(setting, old, new),
        Part::App if setting == "hosts" => Some("another app serves some hosts, or none does".to_owned()),
        Part::App if ["client_address.from", "client_address.hops"].contains(&setting) => {
            Some("clients' addresses are taken from elsewhere".to_owned())
        }
        Part::Route if setting.starts_with("when.") => {
            Some("requests that met the route meet another, or the other way round".to_owned())
        }
        Part::Route if setting.starts_with("does") => {
            Some("what is done with its requests changes".to_owned())
        }
        Part::App | Part::Route => of_protection(setting, old, new).or_else(|| of_access(setting, old, new)),
        Part::RateLimit => of_limit(setting, old, new),
        Part::Exclusion if setting == "until.at_s" && new.is_none() => {
            Some("the exclusion never ends".to_owned())
        }
        Part::Exclusion if setting == "until.at_s" && number(new) > number(old) => {
            Some("the exclusion ends later".to_owned())
        }
        Part::Upstream if setting == "tls.unverified" && new == Some(&Value::Bool(true)) => {
            Some("the upstream's certificate is not looked at".to_owned())
        }
        _ => None,
    }
}

fn of_policy(setting: &str, old: Option<&Value>, new: Option<&Value>) -> Option<String> {
    match setting {
        "detection.mode" if rank(new) < rank(old) => {
            Some("attacks that show over many requests are not answered any more".to_owned())
        }
        _ if setting.starts_with("detection.") && setting != "detection.mode" => {
            let counts = ["events", "different", "requests"].iter().any(|end| setting.ends_with(end));
            let is_less = counts && old.is_some() && new.is_some() && number(new) < number(old);
            (!is_less).then(|| "what it takes to be an attack changes".to_owned())
        }
        "cdn_networks" => Some("other networks may claim any client address".to_owned()),
        "crawlers" => Some("others may be taken for crawlers, who are not challenged".to_owned()),
        "allow" => wider(old, new).map(|network| format!("{network} is never refused for what it asks")),
        "operator_networks" => wider(old, new).map(|network| format!("{network} is never banned")),
        "strikes.count" if number(new) > number(old) => Some("it takes more attacks to be banned".to_owned()),
        "strikes.first_ban_ms" | "strikes.max_ban_ms" if number(new) < number(old) => {
            Some("bans are shorter".to_owned())
        }
        "challenge.bits" if number(new) < number(old) => Some("challenges are easier".to_owned()),
        "throttle.rate" if is_faster(old, new) => Some("whoever is throttled may ask more often".to_owned()),
        "playbooks.shipped" | "playbooks.files" => {
            lost(old, new).map(|name| format!("the playbook {name} is not run"))
        }
        _ => None,
    }
}

/// What is looked for, and what is done about it.
fn of_protection(setting: &str, old: Option<&Value>, new: Option<&Value>) -> Option<String> {
    let is = |word: &str| new.and_then(Value::as_str) == Some(word);
    let on = |value: Option<&Value>| value == Some(&Value::Bool(true));
    let said = match setting {
        "mode" if rank(new) < rank(old) && is("off") => "no rules look at requests",
        "mode" if rank(new) < rank(old) => "its rules refuse nothing",
        "classes.min_confidence" if confidence(new) > confidence(old) => {
            "detections that are less sure refuse nothing"
        }
        "classes.detection" | "classes.policy" | "classes.protocol" if rank(new) < rank(old) => {
            let class = setting.trim_start_matches("classes.");
            return Some(format!("rules of the class {class} refuse nothing"));
        }
        "extra_rules" | "rules.dirs" => {
            // What a rule file without its ending says is not looked at.
            let unread = |name: &&str| {
                name.rsplit('/').next().is_some_and(|last| last.contains('.')) && !name.ends_with(".conf")
            };
            let mut came =
                items(new).iter().filter(|one| !items(old).contains(one)).filter_map(Value::as_str);
            let unread =
                || came.find(unread).map(|file| format!("what the rules of {file} do cannot be judged"));
            return lost(old, new).map(|file| format!("the rules of {file} go")).or_else(unread);
        }
        "rules" if old.and_then(Value::as_str) == Some("baseline") => "the product's own rules go",
        "paranoia" if number(new) < number(old) => "fewer rules look at requests",
        "raise_paranoia" if number(new) < number(old) => "fewer rules are ready for an attack",
        "on_error" if is("allow") => "what cannot be inspected is let through",
        "challenge" if is("ordered") => "clients are not challenged first",
        "passthrough" | "tcp" if on(new) => "no request is seen",
        "limits.body_bytes_max" if number(new) > number(old) => "larger bodies are taken",
        "limits.body_held_bytes_max" if number(new) < number(old) => "less of a body is inspected",
        "limits.response_held_bytes_max" if number(new) < number(old) => "less of a response is inspected",
        "limits.upstream_total_max_ms" if new.is_none() => "requests may take any time",
        "handling.responses.standard" if on(old) => "responses are not hardened",
        "handling.responses.hsts" if new.is_none() => "browsers are not told to come with TLS",
        "handling.responses.cookies.except" if new.is_none() || items(new).len() > items(old).len() => {
            "cookies are not hardened"
        }
        _ => return None,
    };
    Some(said.to_owned())
}

/// Who may ask, and who is believed.
fn of_access(setting: &str, old: Option<&Value>, new: Option<&Value>) -> Option<String> {
    match setting {
        "networks.allow" if items(new).is_empty() => Some("every network may ask".to_owned()),
        // From all to some is narrower.
        "networks.allow" if items(old).is_empty() => None,
        "networks.allow" => wider(old, new).map(|network| format!("{network} may ask, too")),
        "networks.deny" => wider(new, old).map(|network| format!("{network} is not kept out")),
        "trust_forwarded" => wider(old, new).map(|network| format!("{network} may claim any client address")),
        "client_address.preset" => new
            .and_then(Value::as_str)
            .map(|name| format!("the networks of {name} may claim any client address")),
        "client_address.certified" if old == Some(&Value::Bool(true)) => {
            Some("forwarders are believed without a certificate".to_owned())
        }
        "client_certificate.mode" if new.and_then(Value::as_str) != Some("require") => {
            Some("clients need no certificate".to_owned())
        }
        _ => None,
    }
}

fn of_limit(setting: &str, old: Option<&Value>, new: Option<&Value>) -> Option<String> {
    match setting {
        "action" if new.and_then(Value::as_str) == Some("observe") => {
            Some("the rate limit refuses nothing".to_owned())
        }
        "rate" if is_faster(old, new) => Some("clients may ask more often".to_owned()),
        "key" => Some("other requests are counted together".to_owned()),
        "scope" if new.and_then(Value::as_str) == Some("node") => {
            Some("each node counts for itself".to_owned())
        }
        "share_percent" if number(new) > number(old) => Some("a node may admit more by itself".to_owned()),
        "burst" if number(new) > number(old) => Some("more requests may come at once".to_owned()),
        // None means all.
        "paths" | "methods" if items(new).is_empty() => None,
        "paths" | "methods" if items(old).is_empty() => Some("it counts some requests only".to_owned()),
        "paths" | "methods" => lost(old, new).map(|one| format!("{one} is not counted")),
        _ => None,
    }
}

fn of_exclusion(place: &Place, new: &Settings, (before, after): (&Facts, &Facts)) -> Option<String> {
    let path = new.get("path").and_then(Value::as_str).unwrap_or("/");
    match new.get("target").and_then(Value::as_str) {
        None if path == "/" => return Some("its rules look at nothing in the whole app".to_owned()),
        Some(target) if path == "/" && !target.contains(':') => {
            return Some(format!("its rules look at no {target} in the whole app"));
        }
        _ => {}
    }
    let gone = before.iter().filter(|(other, _)| {
        other.part == Part::Exclusion && other.app == place.app && !after.contains_key(*other)
    });
    let mut narrower = gone.filter(|(_, old)| is_within(old, new));
    narrower.next().map(|(other, _)| format!("it is wider than the one that goes: {}", other.name))
}

/// Whether all that one exclusion spares another spares, too.
fn is_within(narrow: &Settings, wide: &Settings) -> bool {
    let text = |of: &'_ Settings, key: &str| of.get(key).and_then(Value::as_str).map(str::to_owned);
    let holds = |key: &str| items(narrow.get(key)).iter().all(|one| items(wide.get(key)).contains(one));
    let target = match (text(narrow, "target"), text(wide, "target")) {
        (_, None) => true,
        (Some(narrow), Some(wide)) => {
            narrow == wide || narrow.strip_prefix(&wide).is_some_and(|rest| rest.starts_with(':'))
        }
        (None, Some(_)) => false,
    };
    let path = text(wide, "path").is_none_or(|wide| {
        let path = text(narrow, "path").unwrap_or_default();
        let below = path.strip_prefix(wide.trim_end_matches('/'));
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
    });
    let all = |of: &Settings| items(of.get("methods")).is_empty();
    let methods = all(wide) || !all(narrow) && holds("methods");
    holds("rules") && holds("tags") && target && path && methods
}

/// How much is done under a word; where none is said, all.
fn rank(word: Option<&Value>) -> u8 {
    match word.and_then(Value::as_str) {
        Some("off") => 0,
        Some("observe") => 1,
        _ => 2,
    }
}

fn confidence(word: Option<&Value>) -> u8 {
    match word.and_then(Value::as_str) {
        Some("high") => 2,
        Some("medium") => 1,
        _ => 0,
    }
}

fn number(value: Option<&Value>) -> u64 {
    value.and_then(Value::as_u64).unwrap_or_default()
}

fn is_faster(old: Option<&Value>, new: Option<&Value>) -> bool {
    let read = |value: Option<&Value>| Rate::parse(value?.as_str()?).ok();
    let (Some(old), Some(new)) = (read(old), read(new)) else { return false };
    let times = |count: u32, period_ms: u64| u128::from(count) * u128::from(period_ms);
    times(new.count, old.period_ms) > times(old.count, new.period_ms)
}

fn items(list: Option<&Value>) -> &[Value] {
    list.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Something that a list had and has no more.
fn lost<'a>(old: Option<&'a Value>, new: Option<&Value>) -> Option<&'a str> {
    items(old).iter().find(|one| !items(new).contains(one)).and_then(Value::as_str)
}

/// A network of the second list that the first does not hold.
fn wider(old: Option<&Value>, new: Option<&Value>) -> Option<Prefix> {
    let read =
        |list| items(list).iter().filter_map(Value::as_str).filter_map(prefix::parse).collect::<Vec<_>>();
    let old = read(old);
    read(new).into_iter().find(|network| !is_covered(*network, &old))
}

/// Whether networks hold all addresses of one, be it in pieces.
fn is_covered(network: Prefix, by: &[Prefix]) -> bool {
    if by.iter().any(|one| one.contains(&network)) {
        return true;
    }
    // Halves are looked at only where there are pieces of them: that bounds the work.
    let pieces: Vec<Prefix> = by.iter().filter(|one| network.contains(*one)).copied().collect();
    let halves = network.subnets(network.prefix_len().saturating_add(1));
    !pieces.is_empty() && halves.is_ok_and(|mut halves| halves.all(|half| is_covered(half, &pieces)))
}

/// A new app has nothing that could be taken from it; it begins without some of what others have.
const OF_NEW_APPS: &[&str] = &["mode", "classes", "on_error", "passthrough", "tcp"];
