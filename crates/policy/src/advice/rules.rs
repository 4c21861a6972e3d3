//! Rule files of one's own that take more away than they say.

use std::path::Path;

use super::networks::is_public;
use crate::Diagnostic;
use crate::seclang::ir::{
    Action, AllowScope, Ctl, Item, Link, Location, Rule, RuleEngine, RuleSelector, Selector, Target, Test,
    Variable,
};
use crate::seclang::{LoadOptions, load_dirs};

/// What to look at again in a rule file of an app's own. A file with faults gets no advice.
pub fn advise_rules(file: &Path) -> Vec<Diagnostic> {
    let Ok(loaded) = load_dirs(&[file.to_path_buf()], &LoadOptions::default()) else { return Vec::new() };
    let name = file.display().to_string();
    let mut found = Vec::new();
    let engine = loaded.rules.engine;
    let folder = file.parent().unwrap_or(Path::new(""));
    // Rules of others, which it includes, lie elsewhere.
    let is_own = |read: &str| Path::new(read).starts_with(folder) && !read.ends_with("(built in)");
    let read: Vec<&str> = loaded.files.iter().map(|read| &**read).filter(|read| is_own(read)).collect();
    let at = |directive: &str| place_of(&read, directive).unwrap_or_else(|| (name.clone(), 0));
    if engine.rule_engine != RuleEngine::On {
        let (file, line) = at("SecRuleEngine");
        found.push(
            Diagnostic::warning(file, line, "rules refuse nothing any more: their engine is not on")
                .with_help(
                    "take out `SecRuleEngine`; an app's `mode` says what is refused, where everybody sees it",
                ),
        );
    }
    if !engine.request_body_access {
        let (file, line) = at("SecRequestBodyAccess");
        found.push(Diagnostic::warning(file, line, "no rule sees what is sent in a body").with_help(
            "take out `SecRequestBodyAccess`, or turn it off for one path with `ctl:requestBodyAccess=Off`",
        ));
    }
    let of_items = loaded.rules.items.iter().filter_map(of_item);
    let of_order = super::order::unreached(&loaded.rules.items);
    found.extend(of_items.chain(of_order).filter(|advice| is_own(&advice.file)));
    found.sort_by(|one, other| (&one.file, one.line).cmp(&(&other.file, other.line)));
    found
}

/// The last place of a directive in these files, which is the one that counts.
fn place_of(files: &[&str], directive: &str) -> Option<(String, u32)> {
    let is_it = |line: &&str| {
        line.trim_start().get(..directive.len()).is_some_and(|start| start.eq_ignore_ascii_case(directive))
    };
    files.iter().rev().find_map(|file| {
        let text = std::fs::read_to_string(file).ok()?;
        let (place, _) = text.lines().enumerate().filter(|(_, line)| is_it(line)).last()?;
        Some(((*file).to_owned(), u32::try_from(place + 1).ok()?))
    })
}

fn of_item(item: &Item) -> Option<Diagnostic> {
    match item {
        Item::Rule(rule) => of_rule(rule),
        Item::Remove(selector, at) => {
            if let Some(rule) = adding_up(selector) {
                let message =
                    format!("rule {rule} refuses for what all others found: without it they refuse nothing");
                return Some(
                    at_place(at, message)
                        .with_help("remove the rule that found something, as `phalanx explain` names it"),
                );
            }
            let what = too_many(selector)?;
            let help = "remove the one rule that disturbs, by its id, or let it not look at one argument: SecRuleUpdateTargetById ID \"!ARGS:name\"";
            Some(at_place(at, format!("{what} removed, for all requests")).with_help(help))
        }
        Item::UpdateTargets(selector, targets, at) => {
            let whole = targets.iter().find(|target| is_whole(target))?;
            let of = too_many(selector).unwrap_or_else(|| "a rule is".to_owned());
            let message = format!("{of} blind for all of {}", whole.variable.name());
            Some(at_place(at, message).with_help("name the one argument that disturbs: \"!ARGS:name\""))
        }
        Item::Marker(_) | Item::UpdateActions(..) => None,
    }
}

fn of_rule(rule: &Rule) -> Option<Diagnostic> {
    let first = rule.links.first()?;
    let lets_off = rule.actions().find_map(|action| match action {
        Action::Ctl(Ctl::RuleEngine(RuleEngine::Off | RuleEngine::DetectionOnly)) => {
            Some("all rules are off")
        }
        Action::Allow(AllowScope::Transaction | AllowScope::Request) => Some("no later rule looks"),
        _ => None,
    });
    if let Some(off) = lets_off
        && let Some(who) = anybody(&rule.links)
    {
        let message = format!("{off} for {who}");
        return Some(
            at_place(&first.at, message)
                .with_help("ask for the one path that needs it, or for addresses of your own with @ipMatch"),
        );
    }
    rule.actions().find_map(|action| match action {
        Action::Ctl(Ctl::RuleRemove(selector)) if adding_up(selector).is_some() => Some(
            at_place(
                &first.at,
                "the rule that refuses for what all others found is removed: they refuse nothing then",
            )
            .with_help("remove the rule that found something, as `phalanx explain` names it"),
        ),
        Action::Ctl(Ctl::RuleRemoveTarget(selector, target)) if is_whole(target) => {
            let of = too_many(selector)?;
            let message = format!("{of} blind for all of {}", target.variable.name());
            Some(
                at_place(&first.at, message)
                    .with_help("name the one argument that disturbs, as in `;ARGS:name`"),
            )
        }
        Action::Ctl(Ctl::RuleRemove(selector)) if anybody(&rule.links).is_some() => {
            let what = too_many(selector)?;
            Some(
                at_place(&first.at, format!("{what} removed, for all requests"))
                    .with_help("ask for the one path that needs it"),
            )
        }
        _ => None,
    })
}

/// Whom a rule is about, if anybody can be that.
fn anybody(links: &[Link]) -> Option<&'static str> {
    let open: Vec<&'static str> = links.iter().filter_map(is_open).collect();
    if open.len() == links.len() { open.into_iter().next_back() } else { None }
}

/// Whether a condition is met by everybody, or by everybody who wants to.
fn is_open(link: &Link) -> Option<&'static str> {
    let Some(operator) = &link.operator else { return Some("all requests") };
    if super::order::meets_all(link) {
        return Some("all requests");
    }
    if let Test::IpMatch(networks) = &operator.test {
        let is_wide = |network: &phalanx_model::Prefix| {
            network.prefix_len() == 0 || is_public(network.addr()) && network.prefix_len() < 8
        };
        return match operator.negated {
            true => Some("all but a few addresses"),
            false => networks.iter().any(is_wide).then_some("all requests"),
        };
    }
    let is_text = matches!(
        operator.test,
        Test::Streq(_)
            | Test::Rx(_)
            | Test::Contains(_)
            | Test::BeginsWith(_)
            | Test::EndsWith(_)
            | Test::Pm(_)
    );
    let is_of_each = |target: &Target| super::order::is_of_each(target.variable) && !target.count;
    if operator.negated && is_text && link.targets.iter().all(is_of_each) {
        return Some("all requests but a few");
    }
    let is_chosen = |target: &Target| {
        matches!(
            target.variable,
            Variable::RequestHeaders | Variable::RequestCookies | Variable::Args | Variable::ArgsGet
        ) && !target.exclude
    };
    let is_all_chosen = !link.targets.is_empty() && link.targets.iter().all(is_chosen);
    is_all_chosen.then_some("whoever sends what the rule looks for")
}

/// All of a collection that clients fill.
fn is_whole(target: &Target) -> bool {
    let collections = [
        Variable::Args,
        Variable::ArgsGet,
        Variable::ArgsPost,
        Variable::RequestCookies,
        Variable::RequestHeaders,
        Variable::RequestBody,
    ];
    collections.contains(&target.variable) && target.selector == Selector::All
}

/// One of the rules that sum up, if it alone is meant.
fn adding_up(selector: &RuleSelector) -> Option<u64> {
    let RuleSelector::Ids(ranges) = selector else { return None };
    ranges.iter().map(|(from, _)| *from).find(|from| super::exclusions::is_adding_up(*from))
}

/// Rules, if there are more of them than one exclusion is for.
pub(super) fn too_many(selector: &RuleSelector) -> Option<String> {
    match selector {
        RuleSelector::Ids(ranges) => {
            let (from, to) = ranges.iter().find(|(from, to)| to.saturating_sub(*from) >= IDS_MANY)?;
            Some(format!("rules {from} to {to} are"))
        }
        RuleSelector::Tag(tag) => Some(format!("all rules with the tag `{tag}` are")),
        RuleSelector::Message(_) => None,
    }
}

pub(super) fn at_place(at: &Location, message: impl Into<String>) -> Diagnostic {
    Diagnostic::warning(std::sync::Arc::clone(&at.file), at.line, message)
}

/// A range of ids that is no longer a few rules of one kind.
const IDS_MANY: u64 = 50;
