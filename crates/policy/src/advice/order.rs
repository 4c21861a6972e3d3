//! Rules that no request reaches: one before them refuses or skips all that they are about.

use std::sync::Arc;

use super::rules::{at_place, too_many};
use crate::Diagnostic;
use crate::seclang::ir::{Action, Item, Link, Macro, MacroPart, Rule, RuleSelector, Test, Variable};

/// What is to be said of the order of rules. Each is compared with [`BEFORE_MAX`] that refuse before it.
pub(super) fn unreached(items: &[Item]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut before: Vec<&Rule> = Vec::new();
    // Where all requests skip to, by phase, and the line in which they begin to.
    let mut skips: [Option<(Arc<str>, u32)>; 5] = Default::default();
    for item in items {
        match item {
            Item::Rule(rule) => {
                found.extend(of_rule(rule, &before, &mut skips));
                if before.len() < BEFORE_MAX {
                    before.push(rule);
                }
            }
            Item::Marker(marker) => {
                for skip in &mut skips {
                    if skip.as_ref().is_some_and(|(to, _)| to == marker) {
                        *skip = None;
                    }
                }
            }
            Item::Remove(selector @ RuleSelector::Ids(ranges), at) if too_many(selector).is_none() => {
                let is_meant = |rule: &Rule| ranges.iter().any(|(from, to)| (*from..=*to).contains(&rule.id));
                let own = before.iter().filter_map(|rule| Some((rule, rule.links.first()?)));
                if let Some((rule, first)) =
                    own.into_iter().find(|(rule, first)| is_meant(rule) && first.at.file == at.file)
                {
                    let message = format!("rule {} of line {} is taken out again", rule.id, first.at.line);
                    found.push(
                        at_place(at, message)
                            .with_help("take out both lines, or this one if the rule is meant"),
                    );
                }
                before.retain(|rule| !is_meant(rule));
            }
            Item::Remove(..) | Item::UpdateTargets(..) | Item::UpdateActions(..) => {}
        }
    }
    found
}

fn of_rule(rule: &Rule, before: &[&Rule], skips: &mut [Option<(Arc<str>, u32)>; 5]) -> Option<Diagnostic> {
    let first = rule.links.first()?;
    let skip = skips.get_mut(usize::from(rule.phase).checked_sub(1)?)?;
    if let Some((_, line)) = skip {
        let message = format!("no request reaches this rule: all skip it from line {line} on");
        return Some(at_place(&first.at, message).with_help("take it out, or write it before that line"));
    }
    if rule.links.iter().all(meets_all) {
        if refuses(rule) {
            let help =
                "ask for what is to be refused, or close the app with `maintenance` or `allow_networks`";
            let message = "every request is refused, and no rule after this one is reached";
            return Some(at_place(&first.at, message).with_help(help));
        }
        *skip = rule.links.iter().flat_map(|link| &link.actions).find_map(|action| match action {
            Action::SkipAfter(marker) => Some((Arc::clone(marker), first.at.line)),
            _ => None,
        });
    }
    let same_phase = before.iter().filter(|earlier| earlier.phase == rule.phase);
    let goes_first = |earlier: &&&Rule| match earlier.links.as_slice() {
        // The rest of a chain is about what is left of what its first link takes.
        [one] if refuses(earlier) => takes_all(one, first),
        links => {
            links.len() == rule.links.len()
                && links.iter().zip(&rule.links).all(|(earlier, later)| is_same(earlier, later))
                && (refuses(earlier) || same_actions(earlier, rule))
        }
    };
    let earlier = same_phase.into_iter().find(goes_first)?;
    let line = earlier.links.first().map_or(0, |link| link.at.line);
    let (message, help) = if refuses(earlier) {
        (
            format!("no request reaches this rule: the one in line {line} refuses all that it would meet"),
            "take it out, or write it before that one",
        )
    } else {
        (
            format!("this rule is the same as the one in line {line}: what it does is done twice"),
            "take out one of them",
        )
    };
    Some(at_place(&first.at, message).with_help(help))
}

/// Whether a link is met by each request there is.
fn meets_all(link: &Link) -> bool {
    let Some(operator) = &link.operator else { return true };
    let is_always = matches!(
        (&operator.test, operator.negated),
        (Test::UnconditionalMatch, false) | (Test::NoMatch, true)
    ) || matches!(&operator.test, Test::IpMatch(networks) if !operator.negated && is_everywhere(networks));
    let is_there = |variable: Variable| {
        matches!(
            variable,
            Variable::RemoteAddr
                | Variable::RequestMethod
                | Variable::RequestUri
                | Variable::RequestUriRaw
                | Variable::RequestFilename
                | Variable::RequestLine
                | Variable::RequestProtocol
        )
    };
    is_always && link.targets.iter().any(|target| is_there(target.variable) && !target.exclude)
}

/// All of IPv4: hardly anybody has a node that strangers reach by the other alone.
fn is_everywhere(networks: &[phalanx_model::Prefix]) -> bool {
    networks.iter().any(|network| network.prefix_len() == 0 && network.addr().is_ipv4())
}

fn refuses(rule: &Rule) -> bool {
    let actions = || rule.links.iter().flat_map(|link| &link.actions);
    let refuses =
        |action: &Action| matches!(action, Action::Deny | Action::Drop | Action::Block | Action::Redirect(_));
    let lets_pass = |action: &Action| matches!(action, Action::Pass | Action::Allow(_));
    actions().any(refuses) && !actions().any(lets_pass)
}

/// Whether what meets the later link meets the earlier one, too.
fn takes_all(earlier: &Link, later: &Link) -> bool {
    if is_same(earlier, later) {
        return true;
    }
    let same_place = earlier.targets == later.targets
        && earlier.transformations == later.transformations
        && earlier.multi_match == later.multi_match;
    let (Some(one), Some(other)) = (&earlier.operator, &later.operator) else { return false };
    if !same_place || one.negated || other.negated {
        return false;
    }
    match (&one.test, &other.test) {
        (
            Test::Contains(part),
            Test::Contains(whole) | Test::Streq(whole) | Test::BeginsWith(whole) | Test::EndsWith(whole),
        ) => holds(whole, part, |whole, part| whole.contains(part)),
        (Test::BeginsWith(start), Test::BeginsWith(whole) | Test::Streq(whole)) => {
            holds(whole, start, |whole, start| whole.starts_with(start))
        }
        (Test::EndsWith(end), Test::EndsWith(whole) | Test::Streq(whole)) => {
            holds(whole, end, |whole, end| whole.ends_with(end))
        }
        _ => false,
    }
}

/// Of texts that are the same for each request.
fn holds(whole: &Macro, part: &Macro, compare: impl Fn(&str, &str) -> bool) -> bool {
    match (whole.0.as_slice(), part.0.as_slice()) {
        ([MacroPart::Text(whole)], [MacroPart::Text(part)]) => compare(whole, part),
        _ => false,
    }
}

fn is_same(one: &Link, other: &Link) -> bool {
    let operators = match (&one.operator, &other.operator) {
        (Some(one), Some(other)) => one.negated == other.negated && one.test == other.test,
        (None, None) => true,
        _ => false,
    };
    operators
        && one.targets == other.targets
        && one.transformations == other.transformations
        && one.multi_match == other.multi_match
}

fn same_actions(one: &Rule, other: &Rule) -> bool {
    one.links.iter().zip(&other.links).all(|(one, other)| one.actions == other.actions)
}

/// Rules that later ones are compared with. Files of one's own have fewer.
const BEFORE_MAX: usize = 500;
