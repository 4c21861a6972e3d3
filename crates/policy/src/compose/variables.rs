//! `${name}` in texts: a variable of the policy, or of the site that reads it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::{Compose, Size, placed, table};
use crate::suggest::did_you_mean;

/// What a variable stands for, where it was written, and whether anything names it.
struct Variable<'a> {
    value: DeValue<'a>,
    size: Size,
    span: Range<usize>,
    is_used: bool,
}

type Variables<'a> = BTreeMap<String, Variable<'a>>;

impl Compose<'_> {
    /// Replaces every `${name}` outside of the tables of variables.
    pub(super) fn variables<'a>(&mut self, root: &mut DeTable<'a>, site: Option<&str>) {
        let mut known = Variables::new();
        if let Some(written) = root.get("variables") {
            self.collect(written, &mut known);
        }
        let sites: Vec<(String, Spanned<DeValue<'a>>)> = match root.get("sites").map(Spanned::get_ref) {
            Some(DeValue::Table(sites)) => sites
                .iter()
                .filter_map(|(name, of)| {
                    let of = table(of.get_ref())?.get("variables")?;
                    Some((name.get_ref().to_string(), of.clone()))
                })
                .collect(),
            _ => Vec::new(),
        };
        for (name, of) in &sites {
            self.all_known(of, &known);
            if site == Some(name.as_str()) {
                self.collect(of, &mut known);
            }
        }
        for (key, value) in root.iter_mut() {
            match (key.get_ref().as_ref(), value.get_mut()) {
                ("variables", _) => {}
                ("sites", DeValue::Table(sites)) => {
                    for (_, of) in sites.iter_mut() {
                        let DeValue::Table(of) = of.get_mut() else { continue };
                        let said = of.iter_mut().filter(|(key, _)| key.get_ref() != "variables");
                        said.for_each(|(_, value)| self.replace(value, &mut known));
                    }
                }
                _ => self.replace(value, &mut known),
            }
        }
        if self.found.iter().any(crate::Diagnostic::is_error) {
            return;
        }
        for (name, unused) in known.iter().filter(|(_, variable)| !variable.is_used) {
            let fault = self.text.warning_at(&unused.span, format!("nothing names the variable `{name}`"));
            self.found.push(fault.with_help("write `${NAME}` where it is meant, or take it out"));
        }
    }

    /// A site changes what a variable of the fleet stands for; it has none of its own, or the policy would fail at other sites.
    fn all_known<'a>(&mut self, of: &Spanned<DeValue<'a>>, known: &Variables<'a>) {
        let Some(of) = table(of.get_ref()) else { return };
        for (name, _) in of.iter().filter(|(name, _)| !known.contains_key(name.get_ref().as_ref())) {
            let message = format!("a site has the variable `{}`, and `[variables]` has not", name.get_ref());
            self.error(name.span(), message, "say in `[variables]` what it is at all other sites");
        }
    }

    fn collect<'a>(&mut self, written: &Spanned<DeValue<'a>>, known: &mut Variables<'a>) {
        let Some(written) = table(written.get_ref()) else { return };
        for (name, value) in written.iter() {
            let span = name.span();
            if !is_name(name.get_ref()) {
                let help = "a name has 1 to 64 of a-z, A-Z, 0-9, `_` and `-`, and begins with a letter";
                self.error(span, format!("`{}` is no name of a variable", name.get_ref()), help);
                continue;
            }
            if known.len() >= VARIABLES_MAX && !known.contains_key(name.get_ref().as_ref()) {
                let message = format!("there are more than {VARIABLES_MAX} variables");
                return self.error(span, message, "take out what nothing names");
            }
            if !is_plain(value.get_ref()) {
                let help = "a text, number, boolean, time, or a list of them; without `${...}` in it";
                self.error(value.span(), format!("`{}` cannot stand for this", name.get_ref()), help);
                continue;
            }
            let is_used = known.get(name.get_ref().as_ref()).is_some_and(|known| known.is_used);
            let size = Size::of(value.get_ref());
            let variable = Variable { value: value.get_ref().clone(), size, span, is_used };
            known.insert(name.get_ref().to_string(), variable);
        }
    }

    fn replace<'a>(&mut self, value: &mut Spanned<DeValue<'a>>, known: &mut Variables<'a>) {
        if !self.is_within() {
            return;
        }
        let span = value.span();
        match value.get_mut() {
            DeValue::String(text) if text.contains("${") => {
                if let Some(stands_for) = self.stands_for(text, &span, known) {
                    *value = placed(&stands_for, &span);
                }
            }
            DeValue::Array(items) => {
                let has_any = |item: &Spanned<DeValue<'_>>| matches!(item.get_ref(), DeValue::String(t) if t.contains("${"));
                if items.iter().any(has_any) {
                    *items = self.replaced_items(items, known);
                }
                items.iter_mut().for_each(|item| match item.get_ref() {
                    DeValue::Array(_) | DeValue::Table(_) => self.replace(item, known),
                    _ => {}
                });
            }
            DeValue::Table(table) => table.iter_mut().for_each(|(_, value)| self.replace(value, known)),
            _ => {}
        }
    }

    /// The items of a list, with the items of every list that one of them names in its place.
    fn replaced_items<'a>(&mut self, items: &DeArray<'a>, known: &mut Variables<'a>) -> DeArray<'a> {
        let mut all = DeArray::new();
        for item in items.iter() {
            if !self.is_within() {
                return all;
            }
            let span = item.span();
            match item.get_ref() {
                DeValue::String(text) if text.contains("${") => {
                    match self.stands_for(text, &span, known) {
                        Some(DeValue::Array(inner)) => {
                            inner.iter().for_each(|one| all.push(placed(one.get_ref(), &span)));
                        }
                        Some(one) => all.push(placed(&one, &span)),
                        None => all.push(item.clone()),
                    };
                }
                _ => all.push(item.clone()),
            }
        }
        all
    }

    /// What a text with `${` in it stands for; `None` with a fault.
    fn stands_for<'a>(
        &mut self,
        text: &str,
        span: &Range<usize>,
        known: &mut Variables<'a>,
    ) -> Option<DeValue<'a>> {
        if let Some(name) = whole(text) {
            let variable = self.variable(name, span, known)?;
            return self.has_room(span.clone(), variable.size).then(|| variable.value.clone());
        }
        let mut made = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            // `$${` is a `${` that is meant as it is.
            if let Some(before) = before.strip_suffix('$') {
                made.push_str(before);
                made.push_str("${");
                rest = after;
                continue;
            }
            let Some((name, after)) = after.split_once('}') else {
                self.error(span.clone(), "`${` without `}`", "write `$${` for a `${` that is meant as it is");
                return None;
            };
            made.push_str(before);
            match &self.variable(name, span, known)?.value {
                DeValue::String(text) => made.push_str(text),
                DeValue::Integer(number) => made.push_str(&number.to_string()),
                _ => {
                    let message =
                        format!("`${{{name}}}` is neither text nor an integer, and stands within a text");
                    self.error(span.clone(), message, "let the value be this name alone");
                    return None;
                }
            }
            if made.len() > TEXT_BYTES_MAX {
                let message = format!("with its variables the text has more than {TEXT_BYTES_MAX} bytes");
                self.error(span.clone(), message, "shorten the variables");
                return None;
            }
            rest = after;
        }
        made.push_str(rest);
        self.has_room(span.clone(), Size { values: 1, bytes: made.len() })
            .then_some(DeValue::String(Cow::Owned(made)))
    }

    fn variable<'k, 'a>(
        &mut self,
        name: &str,
        span: &Range<usize>,
        known: &'k mut Variables<'a>,
    ) -> Option<&'k Variable<'a>> {
        if known.contains_key(name) {
            let variable = known.get_mut(name)?;
            variable.is_used = true;
            return Some(variable);
        }
        let help = did_you_mean(name, known.keys().map(String::as_str))
            .unwrap_or_else(|| "say under `[variables]` what it stands for".to_owned());
        self.error(span.clone(), format!("there is no variable `{name}`"), &help);
        None
    }
}

/// The name, where the text is `${name}` and nothing else.
fn whole(text: &str) -> Option<&str> {
    let name = text.strip_prefix("${")?.strip_suffix('}')?;
    is_name(name).then_some(name)
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= NAME_BYTES_MAX
        && bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// Whether a variable may stand for it: nothing that needs a variable itself, and no table.
fn is_plain(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Table(_) => false,
        DeValue::Array(items) => {
            items.iter().all(|item| !matches!(item.get_ref(), DeValue::Array(_)) && is_plain(item.get_ref()))
        }
        DeValue::String(text) => !text.contains("${"),
        _ => true,
    }
}

const VARIABLES_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 64 * 1024;
