//! What holds for all of an app, and which changes of it are harmless: what is passed on unseen, rate limits, exclusions, who is believed,
//! and how accounts are known.

use std::sync::Arc;

use super::networks::wider;
use super::{Findings, Part, Place};
use crate::accounts::{AccountEndpoint, Accounts};
use crate::client_certificate::{CertificateMode, ClientCertificate};
use crate::diff::name_of;
use crate::policy::ClientAddress;
use crate::rate_limit::{Rate, RateAction, RateKey, RateLimit, RateScope};
use crate::{App, Exclusion, Policy};

/// What takes protection away of all of an app, by place.
pub(super) fn compare(old: &App, new: &App) -> Vec<(Place, String, String)> {
    let App {
        passthrough,
        tcp,
        rate_limits,
        exclusions: of_exclusions,
        accounts: of_accounts,
        trust_forwarded,
        client_address: of_addresses,
        client_certificate,
        // It loses no protection: what a compressed response tells about itself it tells by its length as well.
        compression: _,
        security_txt: _,
        // What it is called, and what requests meet by their host and path, is what is compared.
        name: _,
        hosts: _,
        routes: _,
        // What its routes may say otherwise is compared in `scope`.
        upstreams: _,
        mode: _,
        rules: _,
        extra_rules: _,
        paranoia: _,
        raise_paranoia: _,
        classes: _,
        on_error: _,
        challenge: _,
        networks: _,
        limits: _,
        handling: _,
    } = new;
    let mut found = Findings::default();
    found.say_if(*passthrough && !old.passthrough && !old.tcp, "passthrough", "no request is seen");
    found.say_if(*tcp && !old.tcp && !old.passthrough, "tcp", "no request is seen");
    if let Some(network) = wider(&old.trust_forwarded, trust_forwarded) {
        found.say("trust_forwarded", format!("{network} may claim any client address"));
    }
    addresses(&old.client_address, of_addresses, &mut found);
    certificate(old.client_certificate.as_ref(), client_certificate.as_ref(), &mut found);
    accounts(&old.accounts, of_accounts, &mut found);
    let place = Place::of_app(&new.name, Part::App, "");
    let mut all: Vec<_> =
        found.0.into_iter().map(|(setting, why)| (place.clone(), setting.to_owned(), why)).collect();
    limits(old, rate_limits, &new.name, &mut all);
    exclusions(old, of_exclusions, &new.name, &mut all);
    all
}

/// An app as one begins that nobody has said anything about: what it is asked for is its own, and so is how its application is reached.
pub(super) fn fresh(new: &App, old: &[App]) -> Option<App> {
    let mut fresh = Policy::one_app("http://localhost").ok()?.apps.into_iter().next()?;
    fresh.name.clone_from(&new.name);
    fresh.upstreams = new.upstreams.clone();
    fresh.handling = Arc::clone(&new.handling);
    fresh.limits.body_bytes_max = u64::MAX;
    fresh.client_certificate.clone_from(&new.client_certificate);
    fresh.accounts = Accounts { learn: true, common_cookies: true, ..new.accounts.clone() };
    // Whom other apps believe it may believe as well.
    fresh.trust_forwarded = old.iter().flat_map(|app| app.trust_forwarded.iter().copied()).collect();
    fresh.client_address = ClientAddress { certified: false, ..new.client_address.clone() };
    if !old.iter().any(|app| app.client_address.preset == new.client_address.preset) {
        fresh.client_address.preset = None;
    }
    Some(fresh)
}

fn addresses(old: &ClientAddress, new: &ClientAddress, found: &mut Findings) {
    let ClientAddress { preset, from, hops, certified } = new;
    if *preset != old.preset {
        let why = match preset {
            Some(name) => format!("the networks of {name} may claim any client address"),
            None => "clients' addresses are taken from elsewhere".to_owned(),
        };
        found.say("client_address.preset", why);
    } else {
        found.say_if(*from != old.from, "client_address.from", "clients' addresses are taken from elsewhere");
    }
    found.say_if(*hops != old.hops, "client_address.hops", "clients' addresses are taken from elsewhere");
    let unasked = old.certified && !certified;
    found.say_if(unasked, "client_address.certified", "forwarders are believed without a certificate");
}

fn certificate(old: Option<&ClientCertificate>, new: Option<&ClientCertificate>, found: &mut Findings) {
    let (old, new) = match (old, new) {
        (None, None) => return,
        (Some(_), None) => return found.say("client_certificate.mode", "clients need no certificate"),
        // The listener may have asked for one of another authority.
        (None, Some(_)) => {
            return found.say("client_certificate.ca_file", "other certificates of clients are believed");
        }
        (Some(old), Some(new)) => (old, new),
    };
    let ClientCertificate { ca_file, mode, header, fingerprint_header } = new;
    let unasked = old.mode == CertificateMode::Require && *mode != CertificateMode::Require;
    found.say_if(unasked, "client_certificate.mode", "clients need no certificate");
    let other = *ca_file != old.ca_file;
    found.say_if(other, "client_certificate.ca_file", "other certificates of clients are believed");
    let told = *header != old.header || *fingerprint_header != old.fingerprint_header;
    found.say_if(
        told,
        "client_certificate.header",
        "the application is told of certificates in another field, and clients may write the old one",
    );
}

fn accounts(old: &Accounts, new: &Accounts, found: &mut Findings) {
    let Accounts { learn, session_cookies, common_cookies, session_header, endpoints } = new;
    found.say_if(old.learn && !learn, "accounts.learn", "logins are known only where they are declared");
    let other = !session_cookies.starts_with(&old.session_cookies)
        || old.common_cookies && !common_cookies
        || *session_header != old.session_header;
    found.say_if(other, "accounts.session_cookies", "sessions are known by something else");
    let mut stay = old.endpoints.iter().peekable();
    let same = |one: &AccountEndpoint, other: &AccountEndpoint| {
        // All of it: what they try, how it is read, and what tells that it went through.
        let AccountEndpoint { kind: _, path, method, account: _, secret: _, success: _ } = one;
        *path == other.path && *method == other.method
    };
    let mut covered = false;
    for endpoint in endpoints {
        covered |=
            stay.next_if_eq(&endpoint).is_none() && old.endpoints.iter().any(|old| same(old, endpoint));
    }
    let other = covered || stay.next().is_some();
    found.say_if(
        other,
        "accounts.endpoints",
        "what counts as a login, a question about accounts or a payment changes",
    );
}

type All = Vec<(Place, String, String)>;

fn limits(old: &App, new: &[RateLimit], app: &str, all: &mut All) {
    for was in &old.rate_limits {
        let mut found = Findings::default();
        let named = new.iter().find(|is| is.name == was.name);
        // One that is called something else goes on counting.
        let other = || new.iter().find(|is| RateLimit { name: was.name.clone(), ..(*is).clone() } == *was);
        let place = match named.or_else(other) {
            Some(is) => {
                limit(was, is, &mut found);
                Place::of_app(app, Part::RateLimit, &is.name)
            }
            None => {
                found.say_if(was.action != RateAction::Observe, "", "the rate limit goes");
                Place::of_app(&old.name, Part::RateLimit, &was.name)
            }
        };
        all.extend(found.0.into_iter().map(|(setting, why)| (place.clone(), setting.to_owned(), why)));
    }
}

fn limit(old: &RateLimit, new: &RateLimit, found: &mut Findings) {
    let RateLimit { name: _, key, paths, methods, rate, burst, scope, share_percent, action, headers: _ } =
        new;
    if old.action == RateAction::Observe {
        return;
    }
    found.say_if(*action == RateAction::Observe, "action", "the rate limit refuses nothing");
    found.say_if(*key != old.key, "key", "other requests are counted together");
    found.say_if(is_faster(old.rate, *rate), "rate", "clients may ask more often");
    found.say_if(*burst > old.burst, "burst", "more requests may come at once");
    let alone = *scope == RateScope::Node && old.scope != RateScope::Node;
    found.say_if(alone, "scope", "each node counts for itself");
    let more = match (old.share_percent, share_percent) {
        (Some(old), Some(new)) => *new > old,
        // How large an even part is the fleet's size says.
        (old, new) => old != *new && *scope == RateScope::Fleet,
    };
    found.say_if(more, "share_percent", "a node may admit more by itself");
    if key.contains(&RateKey::Path) && *key == old.key && !paths.starts_with(&old.paths) {
        // A request counts for the first that it matches.
        return found.say("paths", "other requests are counted together");
    }
    for (setting, old, new) in [("paths", &old.paths, paths), ("methods", &old.methods, methods)] {
        if new.is_empty() {
            // All.
        } else if old.is_empty() {
            found.say(setting, "it counts some requests only");
        } else if let Some(gone) = old.iter().find(|one| !new.contains(one)) {
            found.say(setting, format!("{gone} is not counted"));
        }
    }
}

pub(super) fn is_faster(old: Rate, new: Rate) -> bool {
    let times = |count: u32, period_ms: u64| u128::from(count) * u128::from(period_ms);
    times(new.count, old.period_ms) > times(old.count, new.period_ms)
}

fn exclusions(old: &App, new: &[Exclusion], app: &str, all: &mut All) {
    let gone: Vec<&Exclusion> = old.exclusions.iter().filter(|was| !new.contains(was)).collect();
    let come: Vec<&Exclusion> =
        new.iter().filter(|new| !old.exclusions.iter().any(|old| is_within(new, old))).collect();
    for exclusion in new {
        if let Some((setting, why)) = exclusion_is_danger(exclusion, &old.exclusions, (&gone, &come)) {
            let place = Place::of_app(app, Part::Exclusion, name_of(exclusion));
            all.push((place, setting.to_owned(), why));
        }
    }
}

fn exclusion_is_danger(
    new: &Exclusion,
    old: &[Exclusion],
    (gone, come): (&[&Exclusion], &[&Exclusion]),
) -> Option<(&'static str, String)> {
    let ends = |of: &Exclusion| of.until.map_or(i64::MAX, |until| until.at_s);
    // What was spared as long as this needs nobody.
    if old.iter().any(|old| is_within(new, old) && ends(new) <= ends(old)) {
        return None;
    }
    if old.iter().any(|old| is_within(new, old)) {
        let why = if new.until.is_none() { "the exclusion never ends" } else { "the exclusion ends later" };
        return Some(("until.at_s", why.to_owned()));
    }
    if let Some(wide) = too_wide(new) {
        return Some(("", wide));
    }
    if let Some(narrower) = gone.iter().find(|old| is_within(old, new)) {
        return Some(("", format!("it is wider than the one that goes: {}", name_of(narrower))));
    }
    if new.until.is_none() {
        return Some(("until.at_s", "the exclusion never ends".to_owned()));
    }
    // Many that are narrow are wide together.
    let together = come
        .iter()
        .filter(|other| new.is_about(other.path.as_deref()) || other.is_about(new.path.as_deref()));
    let rules: usize = together.map(|other| other.rules.len().saturating_add(other.tags.len())).sum();
    (rules > RULES_NARROW_MAX)
        .then(|| ("", "with the others that come so many rules look at less there".to_owned()))
}

/// Why an exclusion is none of one value or one part of an app.
fn too_wide(new: &Exclusion) -> Option<String> {
    let Exclusion { rules, tags, target, path, methods: _, owner: _, reason: _, until: _, line: _ } = new;
    let everywhere = path.as_deref().is_none_or(|path| path.trim_end_matches('/').is_empty());
    if let Some(rule) = rules.iter().find(|rule| WITHOUT_WHICH_NOTHING.contains(&(**rule / 1_000))) {
        return Some(format!("rule {rule} sets up the others, or refuses for what they find"));
    }
    let is_one_value = target.as_deref().is_some_and(|target| target.contains(':'));
    match target.as_deref() {
        None if everywhere => Some("its rules look at nothing in the whole app".to_owned()),
        Some(target) if everywhere && !is_one_value => {
            Some(format!("its rules look at no {target} in the whole app"))
        }
        // A tag may be that of nearly all rules.
        None if !tags.is_empty() => Some("all rules of a tag look at nothing there".to_owned()),
        Some(target) if !tags.is_empty() && !is_one_value => {
            Some(format!("all rules of a tag look at no {target} there"))
        }
        _ if everywhere && !tags.is_empty() => {
            Some("all rules of a tag do not look at it in the whole app".to_owned())
        }
        _ if rules.len() > RULES_NARROW_MAX => Some("so many rules look at less there".to_owned()),
        _ => None,
    }
}

/// Whether all that one exclusion spares another spares, too.
pub(super) fn is_within(narrow: &Exclusion, wide: &Exclusion) -> bool {
    narrow.rules.iter().all(|one| wide.rules.contains(one))
        && narrow.tags.iter().all(|one| wide.tags.contains(one))
        && wide.holds_for(narrow.target.as_deref(), narrow.path.as_deref(), &narrow.methods)
}

/// Rules that exclusions which come may take out of a part of an app: as many as one false positive has.
const RULES_NARROW_MAX: usize = 10;
/// The Core Rule Set's rules, by the first digits of their ids, that set up what the others count by, spare requests, and refuse by what was
/// counted.
const WITHOUT_WHICH_NOTHING: [u64; 8] = [900, 901, 903, 905, 949, 959, 980, 999];
