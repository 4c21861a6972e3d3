//! The order in which nginx tries locations, as routes say it: exact paths, then the longest path; if that is not `^~`, expressions in
//! their order go before it.
//!
//! Ours is the longest path, then the order in the file. So an expression stands at each path that it goes before.

use phalanx_policy::PathPattern;

use super::super::Notes;
use super::super::note::Place;
use super::super::site::{At, ROUTES_MAX, Route};
use super::Scope;
use super::lex::Directive;
use super::words::{Matches, simple_regex, suffix_regex};

/// How a location is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Path,
    /// `^~`, and what is done before any location.
    Final,
    Expression,
}

/// A route on its way into an app.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) kind: Kind,
    pub(super) route: Route,
}

/// What a location says of its paths.
fn said(location: &Directive) -> (&str, &str) {
    match location.args.as_slice() {
        [path] => ("", path.as_str()),
        [modifier, path] => (modifier.as_str(), path.as_str()),
        _ => ("", ""),
    }
}

pub(super) fn kind(location: &Directive) -> Kind {
    match said(location).0 {
        "^~" => Kind::Final,
        "~" | "~*" => Kind::Expression,
        _ => Kind::Path,
    }
}

/// The paths of a server's locations, which say what an expression may be written as.
#[derive(Debug)]
pub(super) struct Paths<'a> {
    plain: Vec<&'a str>,
    finals: Vec<&'a str>,
    /// Expressions that came already.
    expressions: usize,
}

impl<'a> Paths<'a> {
    pub(super) fn of(locations: &[(&'a Directive, Scope<'a>)]) -> Self {
        let of = |wanted: &str| -> Vec<&'a str> {
            let said = locations.iter().map(|(one, _)| said(one));
            said.filter(|(modifier, _)| *modifier == wanted).map(|(_, path)| path).collect()
        };
        Self { plain: of(""), finals: of("^~"), expressions: 0 }
    }

    /// An expression as routes say it: as a path or suffix where that is the same.
    pub(super) fn expression(&mut self, modifier: &str, regex: &str) -> Result<Vec<At>, String> {
        let is_first = self.expressions == 0;
        self.expressions += 1;
        if modifier == "~" {
            if let Some(suffixes) = suffix_regex(regex) {
                return Ok(suffixes.into_iter().map(At::Suffix).collect());
            }
            let in_final =
                |path: &str| self.finals.iter().any(|one| path.starts_with(one) || one.starts_with(path));
            match simple_regex(regex) {
                Some(Matches::Below(path))
                    if !in_final(&path) && !self.plain.iter().any(|one| one.starts_with(&path)) =>
                {
                    return Ok(vec![At::Prefix(path)]);
                }
                Some(Matches::Path(path)) if is_first && !in_final(&path) => {
                    return Ok(vec![At::Exact(path)]);
                }
                _ => {}
            }
        }
        let pattern = if modifier == "~*" { format!("(?i){regex}") } else { regex.to_owned() };
        PathPattern::new(&pattern, false).map_err(|(message, _)| message)?;
        Ok(vec![At::Pattern(pattern)])
    }
}

/// The routes of a server in the order in which they mean what its locations meant. `root_is_final`: its location `/` goes before
/// expressions.
pub(super) fn routes(
    located: &[Located],
    root_is_final: bool,
    place: &Place,
    notes: &mut Notes,
) -> Vec<Route> {
    let is_expression = |one: &Located| matches!(one.route.at, At::Suffix(_) | At::Pattern(_));
    let (most, most_of_path) = ROUTES_MAX;
    let mut routes: Vec<Route> = Vec::new();
    let mut left_out = false;
    for (index, one) in located.iter().enumerate() {
        let at = &one.route.at;
        match at {
            At::Suffix(_) | At::Pattern(_) if root_is_final => {}
            At::Prefix(path) if one.kind != Kind::Final => {
                let before = if one.kind == Kind::Expression { index } else { located.len() };
                let expressions = located.iter().take(before).filter(|one| is_expression(one));
                let meant = expressions.filter(|other| may_match_below(&other.route.at, path));
                for (count, expression) in meant.enumerate() {
                    left_out |= count + 1 >= most_of_path || routes.len() >= most;
                    if left_out {
                        break;
                    }
                    routes.push(expression.route.moved(at));
                }
                routes.push(one.route.clone());
            }
            _ => routes.push(one.route.clone()),
        }
    }
    if left_out {
        let help = "join expressions with `|`, or write their routes by hand";
        notes.add(place, "there are too many expressions to stand at each path that they go before", help);
    }
    routes
}

/// Whether an expression can match a path below this one, as far as it begins with a text.
fn may_match_below(at: &At, path: &str) -> bool {
    let At::Pattern(pattern) = at else { return true };
    let Some(anchored) = pattern.strip_prefix('^') else { return true };
    let end =
        anchored.find(|c: char| !c.is_ascii_alphanumeric() && !"/_-".contains(c)).unwrap_or(anchored.len());
    let (text, rest) = anchored.split_at_checked(end).unwrap_or_default();
    // What is repeated, or one of several, need not be there.
    let text = match rest.chars().next() {
        Some('?' | '*' | '{') => text.get(..text.len().saturating_sub(1)).unwrap_or_default(),
        _ if pattern.contains('|') => "",
        _ => text,
    };
    text.starts_with(path) || path.starts_with(text)
}
