//! Text with `%{...}` in it.

use super::ir::{Macro, MacroPart, Variable};
use super::names;
use super::report::Report;
use crate::suggest::did_you_mean;

/// What an unknown name between `%{` and `}` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// A fault: the author meant a macro.
    Fault,
    /// Plain text: in a pattern, `%{` may be what is looked for.
    Text,
}

/// Splits a text into literal pieces and macros.
pub(super) fn parse(text: &str, unknown: Unknown, report: &mut Report<'_>) -> Macro {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some((before, from)) = rest.split_once("%{") {
        literal.push_str(before);
        let (part, after) = reference(from, unknown, report);
        rest = after;
        match part {
            Some(part) => {
                if !literal.is_empty() {
                    parts.push(MacroPart::Text(std::mem::take(&mut literal).into()));
                }
                parts.push(part);
            }
            None => literal.push_str("%{"),
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(MacroPart::Text(literal.into()));
    }
    Macro(parts)
}

/// Reads `NAME}` or `NAME.key}`; gives back the text behind it, or all of it if it is no macro.
fn reference<'t>(from: &'t str, unknown: Unknown, report: &mut Report<'_>) -> (Option<MacroPart>, &'t str) {
    let Some((inside, after)) = from.split_once('}') else {
        return (None, from);
    };
    let (name, key) = match inside.split_once(['.', ':']) {
        Some((name, key)) => (name, Some(key)),
        None => (inside, None),
    };
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return (None, from);
    }
    let Some(variable) = Variable::from_name(name) else {
        if unknown == Unknown::Fault {
            report.error_help(
                format!("unknown variable `{name}` in the macro `%{{{inside}}}`"),
                did_you_mean(name, names::variable_names()),
            );
        }
        return (None, from);
    };
    let key = key.filter(|key| !key.is_empty()).map(|key| key.to_ascii_lowercase().into());
    if key.is_none() && variable.is_collection() && unknown == Unknown::Fault && !joins_when_whole(variable) {
        report.error(format!("the macro `%{{{inside}}}` names a collection without a key"));
    }
    (Some(MacroPart::Variable(variable, key)), after)
}

/// Collections that make sense as a whole within a text.
fn joins_when_whole(variable: Variable) -> bool {
    matches!(variable, Variable::MatchedVars | Variable::MatchedVarsNames)
}

impl Macro {
    /// The text, if it has no macro in it.
    pub fn as_constant(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [MacroPart::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// A text without macros.
    pub fn constant(text: &str) -> Self {
        if text.is_empty() { Self(Vec::new()) } else { Self(vec![MacroPart::Text(text.into())]) }
    }
}
