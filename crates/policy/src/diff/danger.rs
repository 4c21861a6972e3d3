//! Which changes of a policy take protection away. Who orders changes asks for a second pair of eyes for these.
//!
//! Flow in names: two policies -> [`hosts`]: which apps answered a host, and which will -> [`paths`]: which routes of these a request may
//! meet -> [`scope`], [`upstreams`], [`app`]: what holds for it, before and after; and [`whole`]: what holds for all.
//!
//! Failure direction: closed. What is compared is what holds for a request, whatever the app or route that says it is called; each setting
//! says which of its changes are harmless, and every other change of it is a danger. A setting that says nothing does not compile.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use self::paths::Met;
use self::scope::Scope;
use super::{Part, Place, order};
use crate::policy::App;
use crate::{Policy, Upstreams};

mod app;
mod conditions;
mod hosts;
mod lasting;
mod networks;
mod paths;
mod scope;
mod upstreams;
mod whole;

pub(super) use conditions::may_both;
pub use lasting::lasting_exclusions;

/// A change that takes protection away.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Danger {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// The setting; empty for the whole place.
    pub setting: String,
    /// Why it is one.
    pub why: String,
}

/// The files that the new policy names, with what they say.
pub(super) type NewFiles = BTreeMap<String, Vec<u8>>;

/// What of the settings of one place takes protection away.
#[derive(Debug, Default)]
struct Findings(Vec<(&'static str, String)>);

impl Findings {
    fn say(&mut self, setting: &'static str, why: impl Into<String>) {
        self.0.push((setting, why.into()));
    }

    fn say_if(&mut self, is_so: bool, setting: &'static str, why: &str) {
        if is_so {
            self.say(setting, why);
        }
    }
}

/// The changes that take protection away, by place.
pub(super) fn dangers(old: &Policy, new: &Policy, files: &NewFiles) -> Vec<Danger> {
    let mut found = BTreeSet::new();
    let place = Place { site: None, app: None, route: None, part: Part::Policy, name: String::new() };
    for (setting, why) in whole::compare(old, new).0 {
        found.insert(Danger { place: place.clone(), setting: setting.to_owned(), why });
    }
    for exemption in &new.exemptions {
        if let Some((setting, why)) = whole::exemption(old, exemption) {
            let place = Place::of_exemption(exemption);
            found.insert(Danger { place, setting: setting.to_owned(), why });
        }
    }
    let mut comparing = Comparing { old, new, files, servers: upstreams::by_place(&old.apps), found };
    comparing.apps();
    comparing.found.into_iter().collect()
}

/// Both policies, and what is found.
struct Comparing<'a> {
    old: &'a Policy,
    new: &'a Policy,
    files: &'a NewFiles,
    /// The old apps by their servers.
    servers: BTreeMap<String, BTreeSet<usize>>,
    found: BTreeSet<Danger>,
}

impl<'a> Comparing<'a> {
    /// Compares each app with those that answered its hosts, and with those whose servers it reaches.
    fn apps(&mut self) {
        let mut answered = BTreeMap::<usize, BTreeSet<usize>>::new();
        for (before, after) in hosts::answered(&self.old.apps, &self.new.apps) {
            let before_these = answered.entry(after).or_default();
            before_these.extend(before);
        }
        let mut left = PAIRS_MAX;
        for (after, mut before) in answered {
            let Some(new) = self.new.apps.get(after) else { continue };
            let (places, had) = (upstreams::places(new), self.places_of(&before));
            for place in places.difference(&had) {
                // A server that other apps have: what protects it there is not to be missing here.
                before.extend(self.servers.get(place).into_iter().flatten());
            }
            let place = || Place::of_app(&new.name, Part::App, "");
            match left.checked_sub(before.len()) {
                Some(less) => left = less,
                None => return self.unjudged(place(), "too many apps have the same servers"),
            }
            if before.is_empty() {
                match app::fresh(new, &self.old.apps) {
                    Some(fresh) => self.pair(&fresh, new, Pair::Fresh),
                    None => self.unjudged(place(), "nothing is known to compare it with"),
                }
            }
            for old in before.iter().filter_map(|old| self.old.apps.get(*old)) {
                self.pair(old, new, Pair::Known);
            }
        }
    }

    fn unjudged(&mut self, place: Place, why: &str) {
        let why = format!("it cannot be judged: {why}");
        self.found.insert(Danger { place, setting: String::new(), why });
    }

    fn places_of(&self, apps: &BTreeSet<usize>) -> BTreeSet<String> {
        apps.iter().filter_map(|app| self.old.apps.get(*app)).flat_map(upstreams::places).collect()
    }

    /// Compares what holds for the requests of an app with what held for them in another.
    fn pair(&mut self, old: &App, new: &App, pair: Pair) {
        if old == new {
            return;
        }
        let other = match pair {
            Pair::Known if old.name != new.name => format!(", other than in app {}", old.name),
            _ => String::new(),
        };
        for (place, setting, why) in app::compare(old, new) {
            self.found.insert(Danger { place, setting, why: why + &other });
        }
        let names = (order::names(old), order::names(new));
        let met = match paths::met(&old.routes, &new.routes) {
            Ok(met) => met,
            Err(why) => {
                let place = Place::of_app(&new.name, Part::App, "");
                self.found.insert(Danger { place, setting: "routes".to_owned(), why: why + &other });
                return;
            }
        };
        let mut of_app = Vec::new();
        let had: Vec<&Upstreams> = Scope::all(old).map(|scope| scope.upstreams).collect();
        // What holds for the app comes first: its routes do not repeat it.
        for met in met {
            let (Some(was), Some(is)) = (Scope::of(old, met.old), Scope::of(new, met.new)) else { continue };
            let mut found = Findings::default();
            scope::compare(&was, &is, self.files, &mut found);
            if pair == Pair::Known {
                scope::compare_passing_on(&was, &is, &mut found);
                if was.upstreams != is.upstreams {
                    upstreams::compare(was.upstreams, is.upstreams, &had, &mut found);
                    self.gained(old, (&was, &is), &of_app, &mut found);
                }
            }
            if met == Met::default() {
                of_app.clone_from(&found.0);
            } else {
                found.0.retain(|one| !of_app.contains(one));
            }
            let (place, begins) = placed((old, new), &names, met);
            for (setting, why) in found.0 {
                let why = format!("{begins}{why}{other}");
                self.found.insert(Danger { place: place.clone(), setting: setting.to_owned(), why });
            }
        }
    }

    /// A server that other routes of the app had keeps what protected it there. What it loses with all of the app is said of that.
    fn gained(
        &self,
        old: &App,
        (was, is): (&Scope<'_>, &Scope<'_>),
        of_app: &[(&'static str, String)],
        found: &mut Findings,
    ) {
        let (had, has) = (upstreams::places_of(was.upstreams), upstreams::places_of(is.upstreams));
        for place in has.difference(&had) {
            let reached =
                Scope::all(old).filter(|scope| upstreams::places_of(scope.upstreams).contains(place));
            let mut more = Findings::default();
            reached.for_each(|scope| scope::compare(&scope, is, self.files, &mut more));
            if let Some((_, why)) = more.0.iter().find(|one| !of_app.contains(one)) {
                found.say("upstreams", format!("{place} is protected more by other routes: {why}"));
            }
        }
    }
}

/// What an app is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pair {
    /// One that was there.
    Known,
    /// One that begins: nobody answered its hosts before.
    Fresh,
}

/// Where a change of what requests meet is, and how what it does begins there.
fn placed((old, new): (&App, &App), (olds, news): &(Vec<String>, Vec<String>), met: Met) -> (Place, String) {
    let name = |names: &[String], at: Option<usize>| at.and_then(|at| names.get(at)).cloned();
    let route = |app: &App, name: String| {
        let mut place = Place::of_app(&app.name, Part::Route, name.clone());
        place.route = Some(name);
        place
    };
    match (name(olds, met.old), name(news, met.new)) {
        (None, None) => (Place::of_app(&new.name, Part::App, ""), String::new()),
        (Some(was), None) => (route(old, was), "without this route ".to_owned()),
        (Some(was), Some(is)) if was != is => (route(new, is), format!("requests that met route {was}: ")),
        (_, Some(is)) => (route(new, is), String::new()),
    }
}

/// Apps that are compared with others: some for each of the most that a policy may have.
const PAIRS_MAX: usize = 50_000;
