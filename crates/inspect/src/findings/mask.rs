//! Secrets: which values must never leave the engine as they are, and what stands in their place.

use std::borrow::Cow;

use hashbrown::HashSet;
use phalanx_model::RuleMatch;
use phalanx_model::secret::is_secret_name;
use phalanx_policy::seclang::ir::Variable;

use crate::transaction::Transaction;
use crate::transaction::state::Name;

/// What stands in the place of a secret.
pub(crate) fn masked(bytes: usize) -> String {
    format!("[masked, {bytes} bytes]")
}

impl Transaction {
    /// Whether the values of a variable are secret: credentials, cookies, password-like fields, or sanitised by a rule.
    pub(crate) fn is_secret(&self, name: Name) -> bool {
        let state = &self.scratch.state;
        let key = name.key.map(|key| state.values.bytes(key)).unwrap_or_default();
        let by_name = match name.variable {
            Variable::RequestCookies => true,
            Variable::RequestHeaders
            | Variable::ResponseHeaders
            | Variable::Args
            | Variable::ArgsGet
            | Variable::ArgsPost => is_secret_name(key),
            _ => false,
        };
        by_name || is_sanitised(&state.sanitised, name.variable, key)
    }

    /// The bytes of a value for the log: pairs with secret names inside raw text lose their values.
    pub(crate) fn without_secrets<'a>(&self, name: Name, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        match name.variable {
            Variable::Args
            | Variable::ArgsGet
            | Variable::ArgsPost
            | Variable::ArgsNames
            | Variable::RequestMethod
            | Variable::RequestProtocol => Cow::Borrowed(bytes),
            _ => mask_pairs(bytes),
        }
    }

    /// Applies `sanitise...` of later rules to the signals of earlier ones, in one pass over what the signals show.
    pub(crate) fn mask_sanitised(&mut self) {
        let sanitised = std::mem::take(&mut self.scratch.state.sanitised);
        if sanitised.is_empty() {
            return;
        }
        let is_argument = |name: &[u8]| is_sanitised(&sanitised, Variable::Args, name);
        let mask = |text: &mut String| {
            *text = String::from_utf8_lossy(&mask_pairs_named(text.as_bytes(), is_argument)).into_owned();
        };
        for signal in &mut self.signals {
            let mut touched = false;
            for found in &mut signal.matches {
                let (base, name) = found.variable.split_once(':').unwrap_or((&found.variable, ""));
                let hidden = Variable::from_name(base)
                    .is_some_and(|base| is_sanitised(&sanitised, base, name.as_bytes()));
                if hidden {
                    for text in texts(found).filter(|text| !text.starts_with("[masked")) {
                        *text = masked(text.len());
                        touched = true;
                    }
                }
                texts(found).for_each(&mask);
            }
            if touched {
                signal.data = masked(signal.data.len());
            }
            mask(&mut signal.message);
            mask(&mut signal.data);
        }
    }
}

/// The texts of a match that hold values.
fn texts(found: &mut RuleMatch) -> impl Iterator<Item = &mut String> {
    let steps = found.steps.iter_mut().filter_map(|step| step.value.as_mut());
    std::iter::once(&mut found.fragment).chain(&mut found.value).chain(steps)
}

/// Whether a `sanitise...` named this member; one of `ARGS` also means the same of `ARGS_GET` and `ARGS_POST`.
fn is_sanitised(sanitised: &HashSet<(Variable, Vec<u8>)>, variable: Variable, key: &[u8]) -> bool {
    if sanitised.is_empty() {
        return false;
    }
    let variable = match variable {
        Variable::ArgsGet | Variable::ArgsPost => Variable::Args,
        other => other,
    };
    sanitised.contains(&(variable, key.to_ascii_lowercase()))
}

/// Masks the values of `name=value` and `"name":"value"` pairs with secret names, as in a query, a form or a request line.
pub(crate) fn mask_pairs(bytes: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'=', b':', bytes).is_none() {
        return Cow::Borrowed(bytes);
    }
    Cow::Owned(mask_pairs_named(bytes, is_secret_name))
}

/// Masks the values of pairs whose names `is_secret` picks.
fn mask_pairs_named(bytes: &[u8], is_secret: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| matches!(b, b'=' | b':')) {
        let (before, after) = rest.split_at(at);
        let after = after.get(1..).unwrap_or_default();
        let name_start = before.iter().rposition(|b| is_pair_edge(*b)).map_or(0, |edge| edge + 1);
        let quoted_end = before.len() - usize::from(before.last() == Some(&b'"'));
        let name = before.get(name_start.min(quoted_end)..quoted_end).unwrap_or_default();
        let name = if name.is_empty() {
            let open = before.get(..quoted_end).unwrap_or_default().iter().rposition(|&b| b == b'"');
            before.get(open.map_or(0, |at| at + 1)..quoted_end).unwrap_or_default()
        } else {
            name
        };
        out.extend_from_slice(before);
        out.push(rest.get(at).copied().unwrap_or(b'='));
        if is_secret(name) {
            let start = after.iter().position(|b| !matches!(b, b' ' | b'"')).unwrap_or(after.len());
            let value = after.get(start..).unwrap_or_default();
            let end = value.iter().position(|b| is_pair_edge(*b)).unwrap_or(value.len());
            out.extend_from_slice(after.get(..start).unwrap_or_default());
            if end > 0 {
                out.extend_from_slice(masked(end).as_bytes());
            }
            rest = value.get(end..).unwrap_or_default();
        } else {
            rest = after;
        }
    }
    out.extend_from_slice(rest);
    out
}

fn is_pair_edge(byte: u8) -> bool {
    matches!(byte, b'&' | b'?' | b';' | b' ' | b'\r' | b'\n' | b'"' | b',' | b'{' | b'<')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: &str) {
        assert_eq!(String::from_utf8_lossy(&mask_pairs(input.as_bytes())), expected);
    }

    #[test]
    fn secret_pairs_in_raw_text_are_masked() {
        check("a=1&password=hunter2&b=2", "a=1&password=[masked, 7 bytes]&b=2");
        check("GET /?api_key=abc HTTP/1.1", "GET /?api_key=[masked, 3 bytes] HTTP/1.1");
        check(r#"{"user":"u","password": "hunter2"}"#, r#"{"user":"u","password": "[masked, 7 bytes]"}"#);
        check("password=", "password=");
        check("q=what is a password", "q=what is a password");
    }
}
