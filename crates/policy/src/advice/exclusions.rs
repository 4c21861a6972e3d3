//! Exclusions that take away more than one argument of one place, or nothing, and those that nobody looks at again.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;

use super::Advice;
use crate::Files;
use crate::exclusion::Exclusion;
use crate::path_pattern::PathPattern;
use crate::policy::{App, RuleSource};
use crate::raw::RawApp;
use crate::raw::exclusions::RawExclusion;
use crate::seclang::ir::{Action, Item, MacroPart};
use crate::seclang::{LoadOptions, load_baseline, load_dirs_from};
use crate::suggest::did_you_mean;
use crate::toml_text::At;

/// Rules by id, with their tags.
type Tagged = BTreeMap<u64, Vec<String>>;

/// Where rules stand, and what is loaded after them.
type Sources = (RuleSource, Vec<PathBuf>);

/// The rules of apps. Many apps have the same, and reading them takes time.
pub(super) struct KnownRules<'a> {
    files: Files<'a>,
    known: RefCell<HashMap<Sources, Option<Rc<Tagged>>>>,
}

/// Where, what, and what to do about it.
type Told = (Range<usize>, String, String);

impl Advice<'_> {
    /// One thing of each: who mends that looks at the rest of it, too.
    pub(super) fn exclusions(&mut self, raw: &RawApp, app: &App) {
        if app.exclusions.is_empty() {
            return;
        }
        let known = self.known.of(app);
        for (place, (written, exclusion)) in raw.exclusions.iter().zip(&app.exclusions).enumerate() {
            let told = known
                .as_ref()
                .and_then(|known| unknown(written, exclusion, known))
                .or_else(|| adding_up(written, exclusion))
                .or_else(|| wide(written, exclusion, known.as_deref()))
                .or_else(|| covered(place, raw, app))
                .or_else(|| elsewhere(written, exclusion))
                .or_else(|| self.unending(written, exclusion));
            if let Some((span, message, help)) = told {
                self.say(&span, message, help);
            }
        }
    }

    fn unending(&self, written: &At<RawExclusion>, exclusion: &Exclusion) -> Option<Told> {
        let now_s = i64::try_from(self.now_ms / 1_000).unwrap_or(i64::MAX);
        let is_long = exclusion.until.is_none_or(|until| until.at_s.saturating_sub(now_s) > YEAR_S);
        is_long.then(|| {
            let span = written.until.as_ref().map_or(&written.span, |until| &until.span);
            let message = "nobody is asked within a year whether the exclusion is still needed";
            (
                span.clone(),
                message.to_owned(),
                "write the day on which its owner looks at it again".to_owned(),
            )
        })
    }
}

impl<'a> KnownRules<'a> {
    pub(super) fn new(files: Files<'a>) -> Self {
        Self { files, known: RefCell::default() }
    }

    /// The rules of an app and its routes; `None` if they cannot be read.
    fn of(&self, app: &App) -> Option<Rc<Tagged>> {
        let mut all = Tagged::new();
        let own = app.routes.iter().filter_map(|route| route.own.as_ref());
        let sources = own.map(|own| (&own.rules, &own.extra_rules));
        let mut read: Vec<_> = std::iter::once((&app.rules, &app.extra_rules)).chain(sources).collect();
        read.dedup();
        let [first, others @ ..] = read.as_slice() else { return None };
        let first = self.read(first.0, first.1)?;
        if others.is_empty() {
            return Some(first);
        }
        all.extend(first.iter().map(|(id, tags)| (*id, tags.clone())));
        for (rules, extra) in others {
            all.extend(self.read(rules, extra)?.iter().map(|(id, tags)| (*id, tags.clone())));
        }
        Some(Rc::new(all))
    }

    fn read(&self, rules: &RuleSource, extra: &[PathBuf]) -> Option<Rc<Tagged>> {
        let key = (rules.clone(), extra.to_vec());
        let mut known = self.known.borrow_mut();
        known.entry(key).or_insert_with(|| load(self.files, rules, extra).map(Rc::new)).clone()
    }
}

fn load(files: Files<'_>, rules: &RuleSource, extra: &[PathBuf]) -> Option<Tagged> {
    let options = LoadOptions::default();
    let loaded = match rules {
        RuleSource::Baseline => load_baseline(files, extra, &options),
        RuleSource::Dirs(dirs) => {
            let all: Vec<PathBuf> = dirs.iter().chain(extra).cloned().collect();
            load_dirs_from(files, &all, &options)
        }
    };
    let mut tagged = Tagged::new();
    for item in loaded.ok()?.rules.items {
        let Item::Rule(rule) = item else { continue };
        let tags = rule.actions().filter_map(|action| match action {
            Action::Tag(tag) => match tag.0.as_slice() {
                [MacroPart::Text(text)] => Some(text.to_string()),
                _ => None,
            },
            _ => None,
        });
        tagged.insert(rule.id, tags.collect());
    }
    Some(tagged)
}

/// Names of rules that there are not: whoever wrote them believes that something is excluded.
fn unknown(written: &At<RawExclusion>, exclusion: &Exclusion, known: &Tagged) -> Option<Told> {
    if let Some(rule) = written.rules.iter().find(|rule| !known.contains_key(&rule.value)) {
        let message = format!("no rule of this app has the id {}: nothing is excluded by it", rule.value);
        return Some((rule.span.clone(), message, "write the id that `phalanx explain` names".to_owned()));
    }
    let all = || known.values().flatten().map(String::as_str);
    // What is more than plain text is left to the engine.
    let is_unknown = |tag: &&String| is_plain(tag) && !all().any(|known| known.contains(tag.as_str()));
    let tag = exclusion.tags.iter().find(is_unknown)?;
    let span = written.tags.iter().find(|at| at.value == *tag).map_or(&written.span, |at| &at.span);
    let message = format!("no rule of this app has the tag `{tag}`: nothing is excluded by it");
    let help =
        did_you_mean(tag, all()).unwrap_or_else(|| "write the tag that `phalanx explain` names".to_owned());
    Some((span.clone(), message, help))
}

/// The rules that refuse for what all the others found.
fn adding_up(written: &At<RawExclusion>, exclusion: &Exclusion) -> Option<Told> {
    let rule = written.rules.iter().find(|rule| is_adding_up(rule.value))?;
    let place = path(exclusion).map(|path| format!(" at {path}")).unwrap_or_default();
    let message = format!(
        "rule {} refuses for what all others found: without it they refuse nothing{place}",
        rule.value
    );
    Some((
        rule.span.clone(),
        message,
        "exclude the rule that found something, as `phalanx explain` names it".to_owned(),
    ))
}

/// Whether it is a rule of the Core Rule Set that sums up, for requests or responses.
pub(super) fn is_adding_up(rule: u64) -> bool {
    (949_000..950_000).contains(&rule) || (959_000..960_000).contains(&rule)
}

/// What is taken from rules beyond one argument of one place.
fn wide(written: &At<RawExclusion>, exclusion: &Exclusion, known: Option<&Tagged>) -> Option<Told> {
    let path = path(exclusion);
    let by_tag = !exclusion.tags.is_empty();
    let above = || exclusion.tags.iter().find(|tag| known.is_some_and(|known| families(tag, known) > 1));
    let message = match (exclusion.target.as_deref(), path) {
        (None, None) => "no request is looked at by these rules any more".to_owned(),
        (None, Some(_)) if by_tag => {
            "nothing of these requests is looked at by all rules of a tag".to_owned()
        }
        (Some(target), _) if target.starts_with("ARGS") && !target.contains(':') => {
            "these rules look at no argument any more".to_owned()
        }
        (Some(target @ ("REQUEST_HEADERS" | "REQUEST_COOKIES")), _) => {
            format!("these rules are blind for all of {target}")
        }
        (Some(target), None) if !target.contains(':') => {
            format!("these rules are blind for all of {target}")
        }
        (Some(target), None) => {
            let tag = above()?;
            format!(
                "the tag `{tag}` is of attacks of many kinds: none is looked for in {target}, wherever it is sent"
            )
        }
        _ => return None,
    };
    let help =
        "name the one argument that disturbs, and where: `target = \"ARGS:comment\"`, `path = \"/blog\"`";
    Some((written.span.clone(), message, help.to_owned()))
}

/// How many kinds of attacks the rules of a tag look for.
fn families(tag: &str, known: &Tagged) -> usize {
    // As the engine: a pattern, anywhere in a tag.
    let pattern = if is_plain(tag) { None } else { PathPattern::new(tag, false).ok() };
    let is_meant = |known: &String| match &pattern {
        Some(pattern) => pattern.is_match(known.as_bytes()),
        None => known.contains(tag),
    };
    let meant = known.values().filter(|tags| tags.iter().any(is_meant));
    let kinds =
        meant.flatten().filter(|tag| ["phalanx/attack/", "attack-"].iter().any(|of| tag.starts_with(of)));
    kinds.collect::<std::collections::BTreeSet<_>>().len()
}

/// One that takes away nothing that another one does not.
fn covered(place: usize, raw: &RawApp, app: &App) -> Option<Told> {
    let (written, exclusion) = (raw.exclusions.get(place)?, app.exclusions.get(place)?);
    let covers_it = |(other, by): &(usize, &Exclusion)| {
        // Of two that are the same the second one is told.
        *other != place && covers(by, exclusion) && (*other < place || !covers(exclusion, by))
    };
    let (other, by) = app.exclusions.iter().enumerate().find(covers_it)?;
    let how =
        if covers(exclusion, by) && exclusion.target == by.target { "is the same as" } else { "is within" };
    // Two of one default, of one template or of one line have nothing to tell.
    if raw.exclusions.get(other)?.span == written.span {
        return None;
    }
    let message = format!("this exclusion {how} the one in line {}: it takes away nothing more", by.line);
    Some((written.span.clone(), message, "take out the one that is not needed".to_owned()))
}

fn covers(wide: &Exclusion, narrow: &Exclusion) -> bool {
    let lasts = match (wide.until, narrow.until) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => wide.at_s >= narrow.at_s,
        (Some(_), None) => false,
    };
    let tag = |tag: &String| {
        wide.tags.iter().any(|wide| wide == tag || is_plain(wide) && tag.contains(wide.as_str()))
    };
    lasts
        && wide.holds_for(narrow.target.as_deref(), path(narrow), &narrow.methods)
        && narrow.rules.iter().all(|rule| wide.rules.contains(rule))
        && narrow.tags.iter().all(tag)
}

/// A reason that names a place or an argument, of an exclusion that holds for more.
fn elsewhere(written: &At<RawExclusion>, exclusion: &Exclusion) -> Option<Told> {
    let words = || {
        let words = exclusion.reason.split(|c: char| c.is_whitespace() || "\"'`(),;".contains(c));
        words.map(|word| word.trim_end_matches(['.', ':', '!', '?', '/']))
    };
    let span = written.reason.as_ref().map_or(&written.span, |reason| &reason.span);
    let is_argument = |word: &&str| word.contains(':') && Exclusion::is_target(word);
    if exclusion.target.is_none()
        && let Some(named) = words().find(is_argument)
    {
        let message =
            format!("the reason is about {named}, and these rules look at nothing of the request any more");
        return Some((span.clone(), message, format!("add `target = \"{named}\"`")));
    }
    let is_path = |word: &&str| {
        word.strip_prefix('/').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
    };
    let (named, holds) = match path(exclusion) {
        None => (words().find(is_path)?, "all paths".to_owned()),
        Some(path) => {
            let is_inner =
                |word: &&str| super::routes::is_below(word, path) && *word != path.trim_end_matches('/');
            // What names the whole of it is about that.
            if words().any(|word| word == path) {
                return None;
            }
            (words().filter(is_path).find(is_inner)?, format!("all that is below {path}"))
        }
    };
    let message = format!("the reason is about {named}, and the exclusion holds for {holds}");
    Some((span.clone(), message, format!("write `path = \"{named}\"`")))
}

/// Its path, if that is not all paths.
fn path(exclusion: &Exclusion) -> Option<&str> {
    exclusion.path.as_deref().filter(|path| *path != "/")
}

/// Whether a pattern of tags stands for its own letters.
fn is_plain(pattern: &str) -> bool {
    pattern.chars().all(|c| c.is_ascii_alphanumeric() || "/_-".contains(c))
}

const YEAR_S: i64 = 366 * 86_400;
