//! Rules that no request reaches: one before them refuses or skips all that they are about.

use std::sync::Arc;

use super::rules::{at_place, too_many};
use crate::Diagnostic;
use crate::seclang::ir::{
    Action, Ctl, Item, Link, Location, Macro, MacroPart, Rule, RuleSelector, Selector, Target, Test, Variable,
};

/// What is to be said of the order of rules. Each is compared with [`BEFORE_MAX`] that refuse before it.
pub(super) fn unreached(items: &[Item]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut before: Vec<&Rule> = Vec::new();
    // Where all requests skip to, by phase, and the line in which they begin to.
    let mut skips: [Option<(Arc<str>, u32)>; 5] = Default::default();
    // Where some skip to, and how many rules came before: of those between, nobody knows who meets them.
    let mut partly: Vec<(Arc<str>, usize)> = Vec::new();
    let is_let_off = items.iter().any(lets_off_a_phase);
    for item in items {
        match item {
            Item::Rule(rule) => {
                let earlier = before.iter().copied().filter(|earlier| {
                    earlier.phase == rule.phase
                        || !is_let_off && earlier.phase < rule.phase && is_of_head(earlier)
                });
                found.extend(of_rule(rule, &earlier.collect::<Vec<_>>(), &mut skips));
                partly.extend(skip_of(rule).map(|marker| (Arc::clone(marker), before.len())));
                if before.len() < BEFORE_MAX && !items.iter().any(|item| changes(item, rule)) {
                    before.push(rule);
                }
            }
            Item::Marker(marker) => {
                for skip in &mut skips {
                    if skip.as_ref().is_some_and(|(to, _)| to == marker) {
                        *skip = None;
                    }
                }
                if let Some((_, begins)) = partly.iter().find(|(to, _)| to == marker) {
                    before.truncate(*begins);
                }
                partly.retain(|(to, begins)| to != marker && *begins <= before.len());
            }
            Item::Remove(selector @ RuleSelector::Ids(ranges), at) if too_many(selector).is_none() => {
                found.extend(taken_out(items, ranges, at));
            }
            Item::Remove(..) | Item::UpdateTargets(..) | Item::UpdateActions(..) => {}
        }
    }
    found
}

/// A rule that a later line of its own file takes out.
fn taken_out(items: &[Item], ranges: &[(u64, u64)], at: &Location) -> Option<Diagnostic> {
    let rules = items.iter().filter_map(|item| match item {
        Item::Rule(rule) => Some((rule, rule.links.first()?)),
        _ => None,
    });
    let is_meant = |rule: &Rule| ranges.iter().any(|(from, to)| (*from..=*to).contains(&rule.id));
    let mut own = rules.filter(|(_, first)| first.at.file == at.file && first.at.line < at.line);
    let (rule, first) = own.find(|(rule, _)| is_meant(rule))?;
    let message = format!("rule {} of line {} is taken out again", rule.id, first.at.line);
    Some(at_place(at, message).with_help("take out both lines, or this one if the rule is meant"))
}

/// Whether what a rule looks at or does may be changed by something else.
fn changes(item: &Item, rule: &Rule) -> bool {
    let means = |selector: &RuleSelector| match selector {
        RuleSelector::Ids(ranges) => ranges.iter().any(|(from, to)| (*from..=*to).contains(&rule.id)),
        // By a pattern, which may fit.
        RuleSelector::Tag(_) => rule.actions().any(|action| matches!(action, Action::Tag(_))),
        RuleSelector::Message(_) => rule.actions().any(|action| matches!(action, Action::Msg(_))),
    };
    match item {
        Item::Remove(selector, _) | Item::UpdateTargets(selector, ..) | Item::UpdateActions(selector, ..) => {
            means(selector)
        }
        Item::Rule(other) => other.actions().any(|action| match action {
            Action::Ctl(Ctl::RuleRemove(selector) | Ctl::RuleRemoveTarget(selector, _)) => means(selector),
            _ => false,
        }),
        Item::Marker(_) => false,
    }
}

fn skip_of(rule: &Rule) -> Option<&Arc<str>> {
    rule.actions().find_map(|action| match action {
        Action::SkipAfter(marker) => Some(marker),
        _ => None,
    })
}

/// Whether some requests are let off the rest of a phase, and meet the rules of later ones.
fn lets_off_a_phase(item: &Item) -> bool {
    matches!(item, Item::Rule(rule) if rule.actions().any(|action| matches!(action, Action::Allow(_))))
}

/// Whether a rule looks at nothing but what is known, and stays as it is, from the first phase on.
fn is_of_head(rule: &Rule) -> bool {
    let is_known = |variable: Variable| {
        is_of_each(variable)
            || matches!(
                variable,
                Variable::RequestHeaders
                    | Variable::RequestHeadersNames
                    | Variable::RequestCookies
                    | Variable::RequestCookiesNames
                    | Variable::RequestBasename
                    | Variable::QueryString
                    | Variable::ArgsGet
                    | Variable::ArgsGetNames
            )
    };
    rule.links.iter().flat_map(|link| &link.targets).all(|target| is_known(target.variable))
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
        *skip = skip_of(rule).map(|marker| (Arc::clone(marker), first.at.line));
    }
    let goes_first = |earlier: &&&Rule| match earlier.links.as_slice() {
        // The rest of a chain is about what is left of what its first link takes.
        [one] if refuses(earlier) => takes_all(one, first),
        links => {
            links.len() == rule.links.len()
                && links.iter().zip(&rule.links).all(|(earlier, later)| is_same(earlier, later))
                && (refuses(earlier) || earlier.phase == rule.phase && same_actions(earlier, rule))
        }
    };
    let earlier = before.iter().find(goes_first)?;
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
pub(super) fn meets_all(link: &Link) -> bool {
    let Some(operator) = &link.operator else { return true };
    let is = |text: &Macro, any: &[&str]| matches!(text.0.as_slice(), [MacroPart::Text(text)] if any.contains(&&**text));
    let of_path = link.targets.iter().all(|target| {
        matches!(target.variable, Variable::RequestUri | Variable::RequestUriRaw | Variable::RequestFilename)
    });
    let is_always = match (&operator.test, operator.negated) {
        (Test::UnconditionalMatch, negated) => !negated,
        (Test::NoMatch, negated) => negated,
        (Test::IpMatch(networks), false) => is_everywhere(networks),
        (Test::Rx(pattern), false) => {
            is(pattern, &["", "^", ".", ".*", "^.*", "^.*$", ".+", "^.+$"])
                || of_path && is(pattern, &["/", "^/"])
        }
        (Test::BeginsWith(text) | Test::Contains(text), false) => of_path && is(text, &["/"]),
        _ => false,
    };
    is_always
        && link.targets.iter().any(|target| is_of_each(target.variable) && !target.exclude && !target.count)
}

/// Whether each request has one.
pub(super) fn is_of_each(variable: Variable) -> bool {
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
}

/// All of IPv4: hardly anybody has a node that strangers reach by the other alone.
fn is_everywhere(networks: &[phalanx_model::Prefix]) -> bool {
    networks.iter().any(|network| network.prefix_len() == 0 && network.addr().is_ipv4())
}

fn refuses(rule: &Rule) -> bool {
    let refuses =
        |action: &Action| matches!(action, Action::Deny | Action::Drop | Action::Block | Action::Redirect(_));
    let lets_pass = |action: &Action| matches!(action, Action::Pass | Action::Allow(_));
    rule.actions().any(refuses) && !rule.actions().any(lets_pass)
}

/// Whether what meets the later link meets the earlier one, too.
fn takes_all(earlier: &Link, later: &Link) -> bool {
    if is_same(earlier, later) {
        return true;
    }
    let same_form =
        earlier.transformations == later.transformations && earlier.multi_match == later.multi_match;
    let (Some(one), Some(other)) = (&earlier.operator, &later.operator) else { return false };
    if !same_form || !holds_targets(&earlier.targets, &later.targets) || one.negated != other.negated {
        return false;
    }
    if one.test == other.test {
        return true;
    }
    if one.negated {
        return false;
    }
    match (&one.test, &other.test) {
        (Test::IpMatch(wide), Test::IpMatch(narrow)) => {
            narrow.iter().all(|narrow| wide.iter().any(|wide| wide.contains(narrow)))
        }
        (Test::Pm(short), Test::Pm(long)) => long.iter().all(|long| holds_phrase(long, short)),
        (
            Test::Pm(short),
            Test::Contains(whole) | Test::Streq(whole) | Test::BeginsWith(whole) | Test::EndsWith(whole),
        ) => matches!(whole.0.as_slice(), [MacroPart::Text(whole)] if holds_phrase(whole.as_bytes(), short)),
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

/// Whether a phrase holds one of these, whatever the case.
fn holds_phrase(long: &[u8], short: &[Vec<u8>]) -> bool {
    let long = long.to_ascii_lowercase();
    short.iter().any(|short| {
        !short.is_empty() && long.windows(short.len()).any(|part| part == short.to_ascii_lowercase())
    })
}

/// Whether a rule looks at all that another one does.
fn holds_targets(wide: &[Target], narrow: &[Target]) -> bool {
    let with_part = |wide: Variable, narrow: Variable| {
        wide == narrow || wide == Variable::Args && matches!(narrow, Variable::ArgsGet | Variable::ArgsPost)
    };
    let holds = |wide: &Target, narrow: &Target| {
        wide == narrow
            || !wide.count
                && !narrow.count
                && wide.exclude == narrow.exclude
                && with_part(wide.variable, narrow.variable)
                && (wide.selector == Selector::All || wide.selector == narrow.selector)
    };
    let (less, more): (Vec<_>, Vec<_>) = wide.iter().partition(|target| target.exclude);
    let mut looked_at = narrow.iter().filter(|target| !target.exclude);
    // What the wide one leaves out, the narrow one leaves out as well.
    less.iter().all(|less| narrow.iter().any(|target| target.exclude && holds(target, less)))
        && looked_at.all(|target| more.iter().any(|wide| holds(wide, target)))
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
