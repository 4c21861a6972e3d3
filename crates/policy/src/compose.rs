//! What a policy text says once and means in many places: variables, defaults of the fleet and of its sites, templates.
//!
//! A step between the text and its types, on the tree of TOML values. Flow in names: `${...}` is replaced ([`variables`]), then what an
//! app does not say is filled in ([`layers`]): by its template, by the defaults of the site that reads, by those of the fleet. Each
//! value keeps its place in the text, so that a fault in a default is told where the default stands; what comes of a template stands
//! where the template is named.
//!
//! INVARIANT: what is filled in never replaces what an app says. What it makes of a text is bounded by [`VALUES_MAX`].

mod layers;
mod variables;

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use crate::Diagnostic;
use crate::toml_text::{FAULTS_MAX, Text};

/// Composes the tree for the nodes of a site; `None`: for those of sites that the text does not name.
pub(crate) fn compose<'a>(
    text: &Text<'_>,
    root: &mut DeTable<'a>,
    site: Option<&str>,
) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let mut compose = Compose { text, found: Vec::new(), values: 0, bytes: 0 };
    compose.variables(root, site);
    if compose.found.iter().any(Diagnostic::is_error) {
        return Err(compose.found);
    }
    compose.layers(root, site);
    match compose.found.iter().any(Diagnostic::is_error) {
        true => Err(compose.found),
        false => Ok(compose.found),
    }
}

/// The sites that a text says something of, in order.
pub(crate) fn sites(root: &DeTable<'_>) -> Vec<String> {
    let sites = root.get("sites").and_then(|sites| table(sites.get_ref()));
    let mut names: Vec<String> =
        sites.into_iter().flat_map(|sites| sites.keys()).map(|name| name.get_ref().to_string()).collect();
    names.sort();
    names
}

struct Compose<'t> {
    text: &'t Text<'t>,
    found: Vec<Diagnostic>,
    /// Values that were put in so far.
    values: usize,
    /// Bytes of text in them.
    bytes: usize,
}

impl Compose<'_> {
    fn error(&mut self, span: std::ops::Range<usize>, message: impl Into<String>, help: &str) {
        self.found.push(self.text.error_at(&span, message).with_help(help));
    }

    /// Counts what is put in, before it is made; false, with a fault, once it is too much.
    fn has_room(&mut self, span: std::ops::Range<usize>, size: Size) -> bool {
        let had_room = self.is_within();
        self.values = self.values.saturating_add(size.values);
        self.bytes = self.bytes.saturating_add(size.bytes);
        if had_room && !self.is_within() {
            let message = format!(
                "variables, defaults and templates make more than {VALUES_MAX} values or {} MiB",
                BYTES_MAX / 1024 / 1024
            );
            self.error(span, message, "say less of it for each app, or have several policies");
        }
        self.is_within()
    }

    /// Whether more may be made. Nothing is done any more once it may not.
    fn is_within(&self) -> bool {
        self.values <= VALUES_MAX && self.bytes <= BYTES_MAX && self.found.len() < FAULTS_MAX
    }
}

fn table<'v, 'a>(value: &'v DeValue<'a>) -> Option<&'v DeTable<'a>> {
    match value {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

/// How much a tree holds, itself included.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    values: usize,
    bytes: usize,
}

impl Size {
    fn and(self, other: Self) -> Self {
        Self {
            values: self.values.saturating_add(other.values),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::Table(table) => Self::of_table(table).and(Self { values: 1, bytes: 0 }),
            DeValue::Array(items) => {
                items.iter().fold(Self { values: 1, bytes: 0 }, |sum, item| sum.and(Self::of(item.get_ref())))
            }
            DeValue::String(text) => Self { values: 1, bytes: text.len() },
            _ => Self { values: 1, bytes: 0 },
        }
    }

    fn of_table(table: &DeTable<'_>) -> Self {
        let entry = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
            Self { values: 0, bytes: key.get_ref().len() }.and(Self::of(value.get_ref()))
        };
        table.iter().map(entry).fold(Self::default(), Self::and)
    }
}

/// The same tree, all of it at one place.
fn placed<'a>(value: &DeValue<'a>, span: &std::ops::Range<usize>) -> Spanned<DeValue<'a>> {
    let value = match value {
        DeValue::Table(table) => {
            let put = |(key, value): (&Spanned<DeString<'a>>, &Spanned<DeValue<'a>>)| {
                (Spanned::new(span.clone(), key.get_ref().clone()), placed(value.get_ref(), span))
            };
            DeValue::Table(table.iter().map(put).collect())
        }
        DeValue::Array(items) => {
            let mut array = DeArray::new();
            items.iter().for_each(|item| array.push(placed(item.get_ref(), span)));
            DeValue::Array(array)
        }
        other => other.clone(),
    };
    Spanned::new(span.clone(), value)
}

/// Values that are put in, in all; so that a short text cannot become a plan without end.
const VALUES_MAX: usize = 300_000;
/// Bytes of text in them.
const BYTES_MAX: usize = 16 * 1024 * 1024;
