//! Rules of the Core Rule Set that never act unless its set-up asks for it: nobody need be told that they would not find anything.

use super::ir::{Action, Change, Item, MacroPart, Rule, RuleSet, Variable};
use crate::{Diagnostic, Level};

/// Whether a warning is about such a rule, and nothing has turned it on.
pub(super) fn is_dormant(warning: &Diagnostic, set: &RuleSet) -> bool {
    let rules = || {
        set.items.iter().filter_map(|item| match item {
            Item::Rule(rule) => Some(rule),
            _ => None,
        })
    };
    // The link that begins last before it.
    let links = rules().flat_map(|rule| rule.links.iter().map(move |link| (&link.at, rule.id)));
    let before = links.filter(|(at, _)| at.file == warning.file && at.line <= warning.line);
    let rule = before.max_by_key(|(at, _)| at.line);
    warning.level == Level::Warning
        && rule.is_some_and(|(_, id)| REPUTATION.contains(&id))
        && !rules().any(turns_on)
}

fn turns_on(rule: &Rule) -> bool {
    rule.actions().any(|action| match action {
        Action::SetVar(set) if set.collection == Variable::Tx => {
            let key = matches!(set.key.0.as_slice(), [MacroPart::Text(key)] if SWITCHES.contains(&&**key));
            let value = matches!(&set.change, Change::Set(value) if is_something(&value.0));
            key && value
        }
        _ => false,
    })
}

fn is_something(value: &[MacroPart]) -> bool {
    match value {
        [] => false,
        [MacroPart::Text(text)] => !matches!(text.trim(), "" | "0"),
        _ => true,
    }
}

/// Ids of the rules that ask where an address is, and lists of addresses on the net.
const REPUTATION: std::ops::RangeInclusive<u64> = 910_000..=910_999;
/// What the set-up sets for them, under `tx`.
const SWITCHES: [&str; 5] = [
    "high_risk_country_codes",
    "block_search_ip",
    "block_suspicious_ip",
    "block_harvester_ip",
    "block_spammer_ip",
];
