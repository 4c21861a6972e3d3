//! Pages of lists: `limit` rows, and `before`, a cursor: the last row of the page before, by what names it.

use axum::extract::{FromRequestParts, Query};
use http::request::Parts;
use serde::Deserialize;

use crate::error::ApiError;
use crate::limits::{PAGE_DEFAULT, PAGE_MAX};

/// Which part of a list is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) limit: usize,
    pub(crate) before: Option<String>,
}

/// The parameters of a list, as they are documented.
pub(crate) const PARAMETERS: &[(&str, &str, &str, &str)] = &[
    ("limit", "query", "integer", "at most this many; 1000 without it, 10000 at most"),
    (
        "before",
        "query",
        "string",
        "only what follows this one, the last of the page before, in the list's order",
    ),
];

/// Texts, so that each mistake gets an answer of its own.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    limit: Option<String>,
    before: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Page {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<PageQuery>::from_request_parts(parts, state).await;
        let Query(PageQuery { limit, before }) = query?;
        let limit = match limit {
            None => PAGE_DEFAULT,
            Some(text) => match text.parse::<usize>() {
                Ok(limit) if limit > 0 => limit.min(PAGE_MAX),
                _ => {
                    return Err(ApiError::bad_request(format!(
                        "limit `{text}`: write a number from 1 to {PAGE_MAX}"
                    )));
                }
            },
        };
        Ok(Self { limit, before })
    }
}

impl Page {
    /// This part of a list whose rows are told apart by what `names` them.
    pub(crate) fn of<T>(&self, mut rows: Vec<T>, names: impl Fn(&T) -> String) -> Result<Vec<T>, ApiError> {
        if let Some(before) = &self.before {
            let place = rows.iter().position(|row| names(row) == *before).ok_or_else(|| {
                ApiError::bad_request(format!(
                    "before `{before}`: it is not in the list any more; ask from its beginning"
                ))
            })?;
            rows.drain(..=place);
        }
        rows.truncate(self.limit);
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_until_the_list_is_over() {
        let page = |before: Option<&str>, limit| {
            let page = Page { limit, before: before.map(str::to_owned) };
            page.of(vec!["a", "b", "c"], |row| (*row).to_owned())
        };
        assert_eq!(page(None, 2).unwrap(), ["a", "b"]);
        assert_eq!(page(Some("b"), 2).unwrap(), ["c"]);
        assert!(page(Some("c"), 2).unwrap().is_empty());
        assert!(page(Some("x"), 2).unwrap_err().problem().detail.contains("not in the list any more"));
    }
}
