//! What routes ask beyond the path: which requests may fit two of them, and when whoever fits one fits the other.

use crate::route::{FieldIs, HeaderIs, When};

/// Whether all that one asks beyond the path is asked by the other, so that whoever fits the other fits it.
pub(super) fn implies(one: &When, other: &When) -> bool {
    // Where they are in the tree of paths, and how letters compare, is looked at before.
    let When { path: _, exact: _, suffix, pattern, methods, headers, scheme, ignore_case: _ } = other;
    let suffixes = suffix.as_ref().is_none_or(|suffix| {
        one.suffix.as_ref().is_some_and(|longer| match one.ignore_case {
            true => longer.to_ascii_lowercase().ends_with(&suffix.to_ascii_lowercase()),
            false => longer.ends_with(suffix.as_str()),
        })
    });
    let of_methods = methods.is_empty()
        || !one.methods.is_empty() && one.methods.iter().all(|method| methods.contains(method));
    let has = |asked: &HeaderIs| {
        one.headers.iter().any(|field| {
            let is =
                field.is == asked.is || asked.is == FieldIs::Present && matches!(field.is, FieldIs::Equal(_));
            field.name.eq_ignore_ascii_case(&asked.name) && is
        })
    };
    suffixes
        && of_methods
        && (pattern.is_none() || *pattern == one.pattern)
        && headers.iter().all(has)
        && (scheme.is_none() || *scheme == one.scheme)
}

/// Whether one request may fit both, as far as that can be told: of two patterns it cannot.
pub(in crate::diff) fn may_both(one: &When, other: &When) -> bool {
    let methods = one.methods.is_empty()
        || other.methods.is_empty()
        || one.methods.iter().any(|method| other.methods.contains(method));
    let schemes = one.scheme.is_none() || other.scheme.is_none() || one.scheme == other.scheme;
    let suffixes = match (&one.suffix, &other.suffix) {
        (Some(one), Some(other)) => {
            let (one, other) = (one.to_ascii_lowercase(), other.to_ascii_lowercase());
            one.ends_with(&other) || other.ends_with(&one)
        }
        _ => true,
    };
    let apart = |one: &FieldIs, other: &FieldIs| (*one == FieldIs::Absent) != (*other == FieldIs::Absent);
    let headers = one.headers.iter().all(|field| {
        let mut same = other.headers.iter().filter(|other| other.name.eq_ignore_ascii_case(&field.name));
        !same.any(|other| apart(&field.is, &other.is))
    });
    methods && schemes && suffixes && headers
}
