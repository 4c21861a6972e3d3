//! What holds for a request in an app or one of its routes, and which changes of it are harmless.
//!
//! INVARIANT: each field of an app's, route's and handling's type is named here or in [`super::app`], so that a new one has to say what is
//! harmless about it before it compiles.

use std::path::{Path, PathBuf};

use phalanx_model::Confidence;

use super::networks::wider;
use super::{Findings, NewFiles};
use crate::challenge::ChallengeUse;
use crate::diff::files::may_do_more;
use crate::files::normal;
use crate::handling::{Cookies, EditKind, Handling, HeaderEdit, Of, Part, Responses, Template};
use crate::route::{Does, Own};
use crate::{App, ClassUse, Classes, Limits, Mode, Networks, OnError, Route, RuleSource, Upstreams};

/// All that holds for a request: what its route says, else what its app does.
pub(super) struct Scope<'a> {
    mode: Mode,
    rules: &'a RuleSource,
    extra_rules: &'a [PathBuf],
    paranoia: u8,
    raise_paranoia: Option<u8>,
    classes: Classes,
    on_error: OnError,
    challenge: ChallengeUse,
    networks: &'a Networks,
    limits: Limits,
    pub(super) upstreams: &'a Upstreams,
    handling: &'a Handling,
    /// `None`: it goes on as it is.
    does: Option<&'a Does>,
    /// The segments of the route's path: what is below them a rewrite keeps.
    at: Vec<&'a str>,
}

impl<'a> Scope<'a> {
    /// What holds in an app, or in the route of it at this place.
    pub(super) fn of(app: &'a App, route: Option<usize>) -> Option<Self> {
        match route {
            None => Some(Self::of_app(app)),
            Some(at) => app.routes.get(at).map(|route| Self::of_route(app, route)),
        }
    }

    /// What holds in an app, and in each of its routes.
    pub(super) fn all(app: &'a App) -> impl Iterator<Item = Self> {
        let routes = app.routes.iter().map(move |route| Self::of_route(app, route));
        [Self::of_app(app)].into_iter().chain(routes)
    }

    fn of_app(app: &'a App) -> Self {
        let App {
            mode,
            rules,
            extra_rules,
            paranoia,
            raise_paranoia,
            classes,
            on_error,
            challenge,
            networks,
            limits,
            upstreams,
            handling,
            // What holds for all of an app is compared in `app`.
            name: _,
            hosts: _,
            exclusions: _,
            accounts: _,
            rate_limits: _,
            compression: _,
            passthrough: _,
            tcp: _,
            trust_forwarded: _,
            client_address: _,
            client_certificate: _,
            routes: _,
            security_txt: _,
        } = app;
        Self {
            mode: *mode,
            rules,
            extra_rules,
            paranoia: *paranoia,
            raise_paranoia: *raise_paranoia,
            classes: *classes,
            on_error: *on_error,
            challenge: *challenge,
            networks,
            limits: *limits,
            upstreams,
            handling,
            does: None,
            at: Vec::new(),
        }
    }

    fn of_route(app: &'a App, route: &'a Route) -> Self {
        // Which requests it is about is compared in `paths`.
        let Route { name: _, when, own, does, handling } = route;
        let at = when.segments().collect();
        let of_app = Self { handling, does: Some(does), at, ..Self::of_app(app) };
        let Some(own) = own.as_deref() else { return of_app };
        let Own {
            mode,
            rules,
            extra_rules,
            paranoia,
            raise_paranoia,
            classes,
            on_error,
            challenge,
            networks,
            limits,
            upstreams,
        } = own;
        Self {
            mode: *mode,
            rules,
            extra_rules,
            paranoia: *paranoia,
            raise_paranoia: *raise_paranoia,
            classes: *classes,
            on_error: *on_error,
            challenge: *challenge,
            networks,
            limits: *limits,
            upstreams: upstreams.as_ref().unwrap_or(of_app.upstreams),
            handling,
            does: Some(does),
            at: of_app.at,
        }
    }
}

/// What of the protection of requests goes.
pub(super) fn compare(old: &Scope<'_>, new: &Scope<'_>, files: &NewFiles, found: &mut Findings) {
    if mode(new.mode) < mode(old.mode) {
        let off = new.mode == Mode::Off;
        found.say("mode", if off { "no rules look at requests" } else { "its rules refuse nothing" });
    }
    rules(old, new, files, found);
    found.say_if(new.paranoia < old.paranoia, "paranoia", "fewer rules look at requests");
    let raised = |of: &Scope<'_>| of.raise_paranoia.unwrap_or_default().max(of.paranoia);
    // Where there are no rules, nothing is ready for an attack: that is one danger, not two. And so where fewer look always.
    let is_said = new.mode == Mode::Off || new.raise_paranoia.is_none() && old.raise_paranoia.is_none();
    let fewer = raised(new) < raised(old);
    found.say_if(!is_said && fewer, "raise_paranoia", "fewer rules are ready for an attack");
    classes(old.classes, new.classes, found);
    let opens = old.on_error == OnError::Deny && new.on_error == OnError::Allow;
    found.say_if(opens, "on_error", "what cannot be inspected is let through");
    let unasked = old.challenge == ChallengeUse::Always && new.challenge == ChallengeUse::Ordered;
    found.say_if(unasked, "challenge", "clients are not challenged first");
    networks(old.networks, new.networks, found);
    limits(&old.limits, &new.limits, found);
}

fn rules(old: &Scope<'_>, new: &Scope<'_>, files: &NewFiles, found: &mut Findings) {
    if new.mode == Mode::Off {
        return;
    }
    match (old.rules, new.rules) {
        (RuleSource::Baseline, RuleSource::Baseline) => {}
        (RuleSource::Baseline, RuleSource::Dirs(_)) => found.say("rules.dirs", "the product's own rules go"),
        (RuleSource::Dirs(dirs), RuleSource::Baseline) => {
            let gone = dirs.first().map_or_else(String::new, |dir| dir.display().to_string());
            found.say("rules", format!("the rules of {gone} go"));
        }
        (RuleSource::Dirs(old), RuleSource::Dirs(new)) => {
            let below = |dir: &Path| {
                let below = format!("{}/", normal(&dir.to_string_lossy()));
                let inside = files.iter().filter(move |(name, _)| name.starts_with(&below));
                inside.map(|(_, bytes)| bytes.as_slice()).collect::<Vec<_>>()
            };
            files_of_rules((old, new), "rules.dirs", below, found);
        }
    }
    let one = |file: &Path| {
        files.get(&normal(&file.to_string_lossy())).map(Vec::as_slice).into_iter().collect::<Vec<_>>()
    };
    files_of_rules((old.extra_rules, new.extra_rules), "extra_rules", one, found);
}

/// Rules that stay, in their order, with others that can only refuse, are no fewer.
fn files_of_rules<'a>(
    (old, new): (&[PathBuf], &[PathBuf]),
    setting: &'static str,
    content: impl Fn(&Path) -> Vec<&'a [u8]>,
    found: &mut Findings,
) {
    if let Some(gone) = old.iter().find(|one| !new.contains(one)) {
        return found.say(setting, format!("the rules of {} go", gone.display()));
    }
    let mut stay = old.iter().peekable();
    for file in new {
        if stay.next_if_eq(&file).is_some() {
            continue;
        }
        let texts = content(file);
        // That some policy has looked at them before says nothing about what they do here.
        if texts.is_empty() || texts.iter().any(|text| may_do_more(text).is_some()) {
            let why = format!("the rules of {} may do more than refuse", file.display());
            found.say(setting, why);
        }
    }
    found.say_if(stay.next().is_some(), setting, "rules stand in another order");
}

fn classes(old: Classes, new: Classes, found: &mut Findings) {
    let Classes { detection, policy, protocol, min_confidence } = new;
    for (setting, word, was, is) in [
        ("classes.detection", "detection", old.detection, detection),
        ("classes.policy", "policy", old.policy, policy),
        ("classes.protocol", "protocol", old.protocol, protocol),
    ] {
        if class(is) < class(was) {
            found.say(setting, format!("rules of the class {word} refuse nothing"));
        }
    }
    let less = confidence(min_confidence) > confidence(old.min_confidence);
    found.say_if(less, "classes.min_confidence", "detections that are less sure refuse nothing");
}

fn networks(old: &Networks, new: &Networks, found: &mut Findings) {
    let Networks { allow, deny } = new;
    if !old.allow.is_empty() {
        match wider(&old.allow, allow) {
            _ if allow.is_empty() => found.say("networks.allow", "every network may ask"),
            Some(network) => found.say("networks.allow", format!("{network} may ask, too")),
            None => {}
        }
    }
    if let Some(network) = wider(deny, &old.deny) {
        found.say("networks.deny", format!("{network} is not kept out"));
    }
}

fn limits(old: &Limits, new: &Limits, found: &mut Findings) {
    let Limits {
        body_bytes_max,
        body_held_bytes_max,
        response_held_bytes_max,
        // How long an upstream is waited for protects nobody from a client.
        upstream_connect_max_ms: _,
        upstream_head_max_ms: _,
        upstream_gap_max_ms: _,
        upstream_total_max_ms,
    } = new;
    found.say_if(*body_bytes_max > old.body_bytes_max, "limits.body_bytes_max", "larger bodies are taken");
    let less = *body_held_bytes_max < old.body_held_bytes_max;
    found.say_if(less, "limits.body_held_bytes_max", "less of a body is inspected");
    let less = *response_held_bytes_max < old.response_held_bytes_max;
    found.say_if(less, "limits.response_held_bytes_max", "less of a response is inspected");
    let any = upstream_total_max_ms.is_none() && old.upstream_total_max_ms.is_some();
    found.say_if(any, "limits.upstream_total_max_ms", "requests may take any time");
}

/// What of passing on takes protection away from an application, or from browsers.
pub(super) fn compare_passing_on(old: &Scope<'_>, new: &Scope<'_>, found: &mut Findings) {
    does(old, new, found);
    let Handling {
        // It is no protection, and whoever is spared by it is where everybody is without it.
        maintenance: _,
        upstream_host,
        request_headers,
        response_headers,
        responses: of_responses,
        // How it looks.
        pages: _,
    } = new.handling;
    let other = *upstream_host != old.handling.upstream_host;
    found.say_if(other, "handling.upstream_host", "another host of the upstream may answer");
    // An application may take the lack of a field for a word, too.
    let other = *request_headers != old.handling.request_headers;
    found.say_if(
        other,
        "handling.request_headers",
        "the upstream is told other fields, which it may believe",
    );
    let hides = is_more_removed(&old.handling.response_headers, response_headers);
    if !hides.is_some_and(|more| more.iter().all(|edit| names_software(&edit.name))) {
        found.say(
            "handling.response_headers",
            "browsers get other fields, which may be those that make them careful",
        );
    }
    responses(&old.handling.responses, of_responses, found);
}

fn does(was: &Scope<'_>, is: &Scope<'_>, found: &mut Findings) {
    let as_it_is = Does::Forward { rewrite: None };
    let (old, new) = (was.does.unwrap_or(&as_it_is), is.does.unwrap_or(&as_it_is));
    match (old, new) {
        (old, new) if old == new && (was.at == is.at || !hangs_on_path(new)) => {}
        // Nothing of an application is reached.
        (_, Does::Reply(_)) => {}
        (_, Does::Redirect { to, status: _ }) if is_same_site(to) => {}
        (_, Does::Redirect { .. }) => found.say("does.redirect.to", "clients are sent to another site"),
        (Does::Forward { .. }, Does::Forward { .. }) => {
            found.say("does.forward.rewrite", "other paths of the upstream are reached");
        }
        (_, Does::Forward { .. }) => found.say("does", "requests that were answered here go to an upstream"),
    }
}

/// Whether the same at a deeper path leads elsewhere: it keeps what is below the route.
fn hangs_on_path(does: &Does) -> bool {
    match does {
        Does::Forward { rewrite } => rewrite.is_some(),
        Does::Redirect { to, status: _ } => to.0.contains(&Part::Of(Of::Rest)),
        Does::Reply(_) => false,
    }
}

/// Whether a redirect leads to the same host, whatever its scheme.
fn is_same_site(to: &Template) -> bool {
    match to.0.as_slice() {
        // Two slashes begin another host.
        [Part::Text(text), ..] if text.starts_with('/') => {
            !text.starts_with("//") && !text.starts_with("/\\") && text.len() > 1
        }
        [Part::Text(scheme), Part::Of(Of::Host), after @ ..] if scheme == "https://" => match after {
            // A path begins with `/`; a query may be empty, and what follows it would go on with the host.
            [] | [Part::Of(Of::Path), ..] | [Part::Of(Of::Query)] => true,
            [Part::Text(text), ..] => text.starts_with('/'),
            _ => false,
        },
        _ => false,
    }
}

/// The edits that come, where all that come take fields away after those that stay.
fn is_more_removed<'a>(old: &[HeaderEdit], new: &'a [HeaderEdit]) -> Option<&'a [HeaderEdit]> {
    let more = new.strip_prefix(old)?;
    more.iter().all(|edit| edit.does == EditKind::Remove).then_some(more)
}

fn names_software(field: &str) -> bool {
    SOFTWARE.iter().any(|known| field.eq_ignore_ascii_case(known))
}

fn responses(old: &Responses, new: &Responses, found: &mut Findings) {
    let Responses { standard, hsts, cookies } = new;
    found.say_if(old.standard && !standard, "handling.responses.standard", "responses are not hardened");
    if old.hsts.is_some() && *hsts != old.hsts {
        let why = match hsts {
            None => "browsers are not told to come with TLS",
            Some(_) => "browsers are told something else about coming with TLS",
        };
        found.say("handling.responses.hsts", why);
    }
    let less = match (&old.cookies, cookies) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(Cookies { except: old }), Some(Cookies { except })) => {
            except.iter().any(|one| !old.contains(one))
        }
    };
    found.say_if(less, "handling.responses.cookies.except", "cookies are not hardened");
}

fn mode(mode: Mode) -> u8 {
    match mode {
        Mode::Off => 0,
        Mode::Observe => 1,
        Mode::Block => 2,
    }
}

fn class(class: ClassUse) -> u8 {
    match class {
        ClassUse::Off => 0,
        ClassUse::Observe => 1,
        ClassUse::Block => 2,
    }
}

fn confidence(confidence: Confidence) -> u8 {
    match confidence {
        Confidence::Low => 0,
        Confidence::Medium => 1,
        Confidence::High => 2,
    }
}

/// Fields of responses that help nobody but attackers.
const SOFTWARE: [&str; 4] = ["server", "x-powered-by", "x-aspnet-version", "x-generator"];
