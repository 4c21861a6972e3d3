//! The action list of a rule: split into words, then read one by one.

use phalanx_model::Severity;

use super::ctl;
use super::ir::{Action, AllowScope, Change, Macro, SetVar, Transformation, Variable};
use super::lines::{Logical, Word};
use super::macros::{self, Unknown};
use super::names;
use super::report::Report;
use crate::suggest::did_you_mean;

/// What an action list says, before defaults and chains are applied.
#[derive(Debug, Default)]
pub(super) struct ActionList {
    pub(super) id: Option<u64>,
    pub(super) phase: Option<u8>,
    pub(super) chain: bool,
    pub(super) multi_match: bool,
    /// `None` stands for `t:none`.
    pub(super) transformations: Vec<Option<Transformation>>,
    pub(super) actions: Vec<Action>,
}

impl ActionList {
    /// Reads an action list. Faults get the physical line they stand on.
    pub(super) fn parse(line: &Logical, word: &Word, report: &mut Report<'_>) -> Self {
        let mut list = Self::default();
        for item in split(&word.text) {
            report.set_line(line.line_in(word, item.offset));
            match item.fault {
                Some(fault) => report.error(fault),
                None => list.add(&item, report),
            }
        }
        report.set_line(line.line);
        list
    }

    fn add(&mut self, item: &Item<'_>, report: &mut Report<'_>) {
        let name = item.name.to_ascii_lowercase();
        let value = item.value.as_deref();
        match (name.as_str(), value) {
            ("chain", None) => self.chain = true,
            ("multimatch", None) => self.multi_match = true,
            ("id", Some(value)) => set_once("id", &mut self.id, id(value, report), report),
            ("phase", Some(value)) => set_once("phase", &mut self.phase, phase(value, report), report),
            ("t", Some(value)) => self.transformations.extend(transformation(value, report)),
            ("ctl", Some(value)) => {
                self.actions.extend(ctl::parse(value, report).into_iter().map(Action::Ctl))
            }
            ("xmlns", Some(_)) => {
                report.warning("`xmlns` has no effect: the supported XPath expressions name no namespace")
            }
            (_, None) => self.push(plain(&name), &name, item, report),
            (_, Some(value)) => match with_value(&name, value, report) {
                Known::Yes(action) => self.push_action(action, report),
                Known::Faulty => {}
                Known::No => self.push(None, &name, item, report),
            },
        }
    }

    fn push(&mut self, action: Option<Action>, name: &str, item: &Item<'_>, report: &mut Report<'_>) {
        match action {
            Some(action) => self.push_action(action, report),
            None => unknown(name, item, report),
        }
    }

    fn push_action(&mut self, action: Action, report: &mut Report<'_>) {
        if action.is_disruptive() && self.actions.iter().any(Action::is_disruptive) {
            report.warning("the rule has several disruptive actions; the last one is done");
            self.actions.retain(|earlier| !earlier.is_disruptive());
        }
        self.actions.push(action);
    }
}

impl Action {
    /// Whether the action decides what becomes of the transaction; a rule has at most one such.
    pub fn is_disruptive(&self) -> bool {
        matches!(
            self,
            Self::Allow(_) | Self::Block | Self::Deny | Self::Drop | Self::Pass | Self::Redirect(_)
        )
    }

    /// Whether the action says if and where the match is logged.
    pub fn is_logging(&self) -> bool {
        matches!(self, Self::Log | Self::NoLog | Self::AuditLog | Self::NoAuditLog)
    }
}

/// One action as written.
#[derive(Debug)]
struct Item<'t> {
    offset: usize,
    name: &'t str,
    value: Option<String>,
    fault: Option<String>,
}

/// Splits at the commas outside single quotes.
fn split(text: &str) -> Vec<Item<'_>> {
    let mut items = Vec::new();
    let mut rest = text;
    loop {
        let trimmed = rest.trim_start();
        let offset = text.len() - trimmed.len();
        if trimmed.is_empty() {
            if !items.is_empty() || !text.trim().is_empty() {
                items.push(Item {
                    offset: text.len(),
                    name: "",
                    value: None,
                    fault: Some("a comma at the end of the actions".into()),
                });
            }
            return items;
        }
        let (item, after) = take_item(trimmed, offset);
        items.push(item);
        match after.trim_start().strip_prefix(',') {
            Some(next) => rest = next,
            None => return items,
        }
    }
}

fn take_item(text: &str, offset: usize) -> (Item<'_>, &str) {
    let name_end = text.find([':', ',']).unwrap_or(text.len());
    let (name, after) = text.split_at_checked(name_end).unwrap_or((text, ""));
    let name = name.trim();
    let mut item = Item { offset, name, value: None, fault: None };
    if name.is_empty() {
        item.fault = Some("an action's name is missing".into());
    }
    let Some(value) = after.strip_prefix(':') else {
        return (item, after);
    };
    let value = value.trim_start();
    let Some(inside) = value.strip_prefix('\'') else {
        let end = value.find(',').unwrap_or(value.len());
        let (value, after) = value.split_at_checked(end).unwrap_or((value, ""));
        item.value = Some(value.trim().to_owned());
        return (item, after);
    };
    match quoted_value(inside) {
        Some((value, after)) => {
            item.value = Some(value);
            let next = after.trim_start();
            if !next.is_empty() && !next.starts_with(',') {
                let end = after.find(',').unwrap_or(after.len());
                let (extra, after) = after.split_at_checked(end).unwrap_or((after, ""));
                item.fault =
                    Some(format!("`{}` stands right behind the quoted value of `{name}`", extra.trim()));
                return (item, after);
            }
            (item, after)
        }
        None => {
            item.fault = Some(format!("the single quote in `{name}` is not closed"));
            (item, "")
        }
    }
}

/// Reads up to the closing quote; `\'` is the quote itself, other backslashes stay.
fn quoted_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => return Some((value, text.get(at + 1..).unwrap_or_default())),
            '\\' => match chars.next() {
                Some((_, '\'')) => value.push('\''),
                Some((_, next)) => {
                    value.push('\\');
                    value.push(next);
                }
                None => return None,
            },
            c => value.push(c),
        }
    }
    None
}

fn set_once<T>(name: &str, field: &mut Option<T>, value: Option<T>, report: &mut Report<'_>) {
    if field.is_some() {
        report.error(format!("`{name}` is given twice"));
    }
    if value.is_some() {
        *field = value;
    }
}

fn id(value: &str, report: &mut Report<'_>) -> Option<u64> {
    match value.parse() {
        Ok(0) | Err(_) => {
            report.error(format!("`{value}` is no rule id; ids are positive numbers"));
            None
        }
        Ok(id) => Some(id),
    }
}

fn phase(value: &str, report: &mut Report<'_>) -> Option<u8> {
    match value.to_ascii_lowercase().as_str() {
        "1" => Some(1),
        "2" | "request" => Some(2),
        "3" => Some(3),
        "4" | "response" => Some(4),
        "5" | "logging" => Some(5),
        _ => {
            report.error_help(
                format!("`{value}` is no phase"),
                Some("phases are 1 to 5, or `request` (2), `response` (4), `logging` (5)".into()),
            );
            None
        }
    }
}

fn transformation(value: &str, report: &mut Report<'_>) -> Option<Option<Transformation>> {
    if value.eq_ignore_ascii_case("none") {
        return Some(None);
    }
    let found = Transformation::from_name(value);
    if found.is_none() {
        report.error_help(
            format!("unknown transformation `{value}`"),
            did_you_mean(value, names::transformation_names()),
        );
    }
    found.map(Some)
}

/// Actions without a value.
fn plain(name: &str) -> Option<Action> {
    PLAIN.iter().find(|(known, _)| *known == name).map(|(_, action)| action.clone())
}

/// What became of a name with a value.
enum Known {
    Yes(Action),
    /// The name is known, its value wrong and reported.
    Faulty,
    No,
}

impl From<Option<Action>> for Known {
    fn from(action: Option<Action>) -> Self {
        action.map_or(Self::Faulty, Self::Yes)
    }
}

fn with_value(name: &str, value: &str, report: &mut Report<'_>) -> Known {
    if let Some((_, make)) = TEXTS.iter().find(|(known, _)| *known == name) {
        return Known::Yes(make(macros::parse(value, Unknown::Fault, report)));
    }
    if let Some(known) = METAS.iter().find(|known| **known == name) {
        return Known::Yes(Action::Meta(known, value.into()));
    }
    match name {
        "allow" => allow(value, report).into(),
        "severity" => severity(value, report).map(Action::Severity).into(),
        "status" => status(value, report).into(),
        "skip" => count(value, report).into(),
        "skipafter" => Known::Yes(Action::SkipAfter(value.into())),
        "setvar" => set_var(value, report).map(Action::SetVar).into(),
        "expirevar" => expire_var(value, report).into(),
        "deprecatevar" => deprecate_var(value, report).into(),
        "initcol" => init_col(value, report).into(),
        "sanitisearg" | "sanitizearg" => Known::Yes(Action::SanitiseArg(value.into())),
        "sanitiserequestheader" | "sanitizerequestheader" => {
            Known::Yes(Action::SanitiseRequestHeader(value.into()))
        }
        "sanitiseresponseheader" | "sanitizeresponseheader" => {
            Known::Yes(Action::SanitiseResponseHeader(value.into()))
        }
        "sanitisematchedbytes" | "sanitizematchedbytes" => Known::Yes(Action::SanitiseMatchedBytes),
        _ => Known::No,
    }
}

fn unknown(name: &str, item: &Item<'_>, report: &mut Report<'_>) {
    if let Some((_, why)) = REFUSED.iter().find(|(known, _)| *known == name) {
        report.error(format!("the action `{}` is not supported: {why}", item.name));
    } else if is_known(name) {
        let need = if item.value.is_some() { "takes no value" } else { "needs a value" };
        report.error(format!("the action `{}` {need}", item.name));
    } else {
        report.error_help(format!("unknown action `{}`", item.name), did_you_mean(name, all_names()));
    }
}

fn is_known(name: &str) -> bool {
    all_names().any(|known| known.eq_ignore_ascii_case(name))
}

pub(super) fn all_names() -> impl Iterator<Item = &'static str> {
    let plain = PLAIN.iter().map(|(name, _)| *name);
    let texts = TEXTS.iter().map(|(name, _)| *name);
    plain.chain(texts).chain(METAS.iter().copied()).chain(OTHERS.iter().copied())
}

fn allow(value: &str, report: &mut Report<'_>) -> Option<Action> {
    match value.to_ascii_lowercase().as_str() {
        "phase" => Some(Action::Allow(AllowScope::Phase)),
        "request" => Some(Action::Allow(AllowScope::Request)),
        _ => {
            report.error(format!(
                "`allow:{value}` is unknown; write `allow`, `allow:phase` or `allow:request`"
            ));
            None
        }
    }
}

fn severity(value: &str, report: &mut Report<'_>) -> Option<Severity> {
    let lower = value.to_ascii_lowercase();
    let found = SEVERITIES.iter().find(|(number, name, _)| *number == lower || *name == lower);
    if found.is_none() {
        report.error_help(
            format!("`{value}` is no severity"),
            Some(
                "severities are 0 to 7 or EMERGENCY, ALERT, CRITICAL, ERROR, WARNING, NOTICE, INFO, DEBUG"
                    .into(),
            ),
        );
    }
    found.map(|(_, _, severity)| *severity)
}

fn status(value: &str, report: &mut Report<'_>) -> Option<Action> {
    match value.parse::<u16>() {
        Ok(status @ 100..=599) => Some(Action::Status(status)),
        _ => {
            report.error(format!("`{value}` is no HTTP status"));
            None
        }
    }
}

fn count(value: &str, report: &mut Report<'_>) -> Option<Action> {
    match value.parse::<u32>() {
        Ok(count @ 1..) => Some(Action::Skip(count)),
        _ => {
            report.error(format!("`skip:{value}` is wrong: it takes the number of rules to skip"));
            None
        }
    }
}

fn set_var(value: &str, report: &mut Report<'_>) -> Option<SetVar> {
    if let Some(name) = value.strip_prefix('!') {
        let (collection, key) = variable("setvar", name, report)?;
        return Some(SetVar { collection, key, change: Change::Unset });
    }
    let Some((name, value)) = value.split_once('=') else {
        let (collection, key) = variable("setvar", value, report)?;
        return Some(SetVar { collection, key, change: Change::Set(Macro::constant("1")) });
    };
    let (collection, key) = variable("setvar", name, report)?;
    let change = if let Some(value) = value.strip_prefix('+') {
        Change::Add(amount(value, report)?)
    } else if let Some(value) = value.strip_prefix('-').filter(|rest| is_amount(rest)) {
        Change::Subtract(amount(value, report)?)
    } else {
        Change::Set(macros::parse(value, Unknown::Fault, report))
    };
    Some(SetVar { collection, key, change })
}

/// Whether what stands behind `=-` is something to subtract; `=-x` otherwise sets a text that begins with a dash.
fn is_amount(text: &str) -> bool {
    let text = text.trim();
    text.starts_with("%{") || (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn amount(value: &str, report: &mut Report<'_>) -> Option<Macro> {
    let parsed = macros::parse(value.trim(), Unknown::Fault, report);
    if let Some(constant) = parsed.as_constant()
        && constant.parse::<i64>().is_err()
    {
        report.error(format!("`setvar` adds and subtracts numbers, and `{constant}` is none"));
        return None;
    }
    Some(parsed)
}

/// Reads `collection.key`; only what a transaction or a persistent collection can hold may be set.
fn variable(action: &str, text: &str, report: &mut Report<'_>) -> Option<(Variable, Macro)> {
    let Some((name, key)) = text.trim().split_once(['.', ':']) else {
        report.error(format!("`{action}:{text}` names no variable; write `tx.name`"));
        return None;
    };
    let collection =
        Variable::from_name(name).filter(|found| *found == Variable::Tx || found.is_persistent());
    let Some(collection) = collection else {
        report.error_help(
            format!("`{action}` cannot change `{name}`"),
            Some("it can change TX, IP, GLOBAL, RESOURCE, SESSION and USER".into()),
        );
        return None;
    };
    if key.is_empty() {
        report.error(format!("`{action}:{text}` has an empty name"));
        return None;
    }
    Some((collection, lowercase_text(macros::parse(key, Unknown::Fault, report))))
}

fn lowercase_text(parsed: Macro) -> Macro {
    use super::ir::MacroPart;
    let lower = |part| match part {
        MacroPart::Text(text) => MacroPart::Text(text.to_ascii_lowercase().into()),
        variable => variable,
    };
    Macro(parsed.0.into_iter().map(lower).collect())
}

fn expire_var(value: &str, report: &mut Report<'_>) -> Option<Action> {
    let Some((name, seconds)) = value.split_once('=') else {
        report.error(format!("`expirevar:{value}` has no time; write `expirevar:ip.name=60`"));
        return None;
    };
    let (collection, key) = variable("expirevar", name, report)?;
    let seconds = macros::parse(seconds.trim(), Unknown::Fault, report);
    if let Some(constant) = seconds.as_constant()
        && constant.parse::<u64>().is_err()
    {
        report.error(format!("`{constant}` is no number of seconds"));
        return None;
    }
    Some(Action::ExpireVar { collection, key, seconds })
}

/// `collection.name=AMOUNT/SECONDS`
fn deprecate_var(value: &str, report: &mut Report<'_>) -> Option<Action> {
    let rate = value.split_once('=').and_then(|(name, rate)| {
        let (amount, period) = rate.split_once('/')?;
        let period_s = period.trim().parse().ok().filter(|seconds| *seconds > 0)?;
        Some((name, amount.trim().parse().ok()?, period_s))
    });
    let Some((name, amount, period_s)) = rate else {
        report.error(format!(
            "`deprecatevar:{value}` has no rate; `deprecatevar:ip.score=5/60` takes 5 away every 60 seconds"
        ));
        return None;
    };
    let (collection, key) = variable("deprecatevar", name, report)?;
    if !collection.is_persistent() {
        report.error("`deprecatevar` is for persistent collections; TX ends with the request");
        return None;
    }
    Some(Action::DeprecateVar { collection, key, amount, period_s })
}

fn init_col(value: &str, report: &mut Report<'_>) -> Option<Action> {
    let Some((name, key)) = value.split_once('=') else {
        report.error(format!("`initcol:{value}` has no key; write `initcol:ip=%{{REMOTE_ADDR}}`"));
        return None;
    };
    let collection = Variable::from_name(name.trim()).filter(|found| found.is_persistent());
    let Some(collection) = collection else {
        report.error(format!(
            "`{}` is no persistent collection; there are IP, GLOBAL, RESOURCE, SESSION and USER",
            name.trim()
        ));
        return None;
    };
    Some(Action::InitCol { collection, key: macros::parse(key, Unknown::Fault, report) })
}

const PLAIN: &[(&str, Action)] = &[
    ("allow", Action::Allow(AllowScope::Transaction)),
    ("auditlog", Action::AuditLog),
    ("block", Action::Block),
    ("capture", Action::Capture),
    ("deny", Action::Deny),
    ("drop", Action::Drop),
    ("log", Action::Log),
    ("noauditlog", Action::NoAuditLog),
    ("nolog", Action::NoLog),
    ("pass", Action::Pass),
    ("sanitisematched", Action::SanitiseMatched),
    ("sanitizematched", Action::SanitiseMatched),
    ("sanitisematchedbytes", Action::SanitiseMatchedBytes),
    ("sanitizematchedbytes", Action::SanitiseMatchedBytes),
];

type FromMacro = fn(Macro) -> Action;

const TEXTS: &[(&str, FromMacro)] = &[
    ("logdata", Action::LogData),
    ("msg", Action::Msg),
    ("redirect", Action::Redirect),
    ("setenv", Action::SetEnv),
    ("setrsc", Action::SetRsc),
    ("setsid", Action::SetSid),
    ("setuid", Action::SetUid),
    ("tag", Action::Tag),
];

const METAS: &[&str] = &["accuracy", "maturity", "rev", "ver"];

/// Names handled one by one, for suggestions.
const OTHERS: &[&str] = &[
    "chain",
    "ctl",
    "deprecatevar",
    "expirevar",
    "id",
    "initcol",
    "multiMatch",
    "phase",
    "sanitiseArg",
    "sanitiseRequestHeader",
    "sanitiseResponseHeader",
    "sanitizeArg",
    "sanitizeRequestHeader",
    "sanitizeResponseHeader",
    "setvar",
    "severity",
    "skip",
    "skipAfter",
    "status",
    "t",
    "xmlns",
];

/// Actions of the reference that this engine refuses, each with the reason.
pub(super) const REFUSED: &[(&str, &str)] = &[
    ("append", "the engine does not write into responses"),
    ("exec", "the engine runs no programs and no scripts"),
    ("pause", "a held connection costs the defender more than the attacker"),
    ("prepend", "the engine does not write into responses"),
    ("proxy", "an app's upstream is set by policy, not by a rule"),
];

const SEVERITIES: &[(&str, &str, Severity)] = &[
    ("0", "emergency", Severity::Emergency),
    ("1", "alert", Severity::Alert),
    ("2", "critical", Severity::Critical),
    ("3", "error", Severity::Error),
    ("4", "warning", Severity::Warning),
    ("5", "notice", Severity::Notice),
    ("6", "info", Severity::Info),
    ("7", "debug", Severity::Debug),
];
