//! nginx: `http`, `server`, `location` and `upstream`, with what they inherit.

mod access;
mod known;
pub(crate) mod lex;
mod limits;
mod location;
mod order;
mod server;
mod upstream;
mod variables;
mod words;

use lex::Directive;

use super::site::Site;
use super::{Carried, Files, Notes};

/// Carries a configuration with all that it includes.
pub(crate) fn carry(name: &str, text: &str, files: &mut dyn Files) -> Carried {
    let mut notes = Notes::default();
    let directives = lex::read(name, text, files, &mut notes);
    let mut site = Site::default();
    // A file of `conf.d` or `sites-enabled` has what stands within `http`.
    let is_part = directives.iter().any(|one| matches!(one.name.as_str(), "server" | "upstream"));
    let blocks: Vec<&[Directive]> = match is_part {
        true => vec![&directives],
        false => directives
            .iter()
            .filter(|one| one.name == "http")
            .filter_map(|one| one.block.as_deref())
            .collect(),
    };
    if !is_part {
        known::report(&directives, known::Level::Main, &mut notes);
    }
    for block in blocks {
        known::report(block, known::Level::Http, &mut notes);
        server::carry_all(&mut site, block, &mut notes);
    }
    Carried { site, notes }
}

/// Where a directive is looked for: from the outermost block to the innermost.
#[derive(Debug, Clone)]
pub(super) struct Scope<'a> {
    levels: Vec<&'a [Directive]>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(http: &'a [Directive]) -> Self {
        Self { levels: vec![http] }
    }

    /// The same with a further block.
    pub(super) fn within(&self, block: &'a [Directive]) -> Self {
        let mut levels = self.levels.clone();
        levels.push(block);
        Self { levels }
    }

    /// All of a name that hold here: those of the innermost block that has any, as nginx inherits them.
    pub(super) fn all(&self, name: &str) -> Vec<&'a Directive> {
        let of = |level: &&'a [Directive]| -> Vec<&'a Directive> {
            level.iter().filter(|one| one.name == name).collect()
        };
        self.levels.iter().rev().map(of).find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// The last one of a name that holds here.
    pub(super) fn one(&self, name: &str) -> Option<&'a Directive> {
        self.all(name).pop()
    }

    /// All of a name in the innermost block alone.
    pub(super) fn own(&self, name: &str) -> Vec<&'a Directive> {
        self.levels.last().into_iter().flat_map(|level| level.iter()).filter(|one| one.name == name).collect()
    }

    /// Whether something is switched on.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.one(name).is_some_and(|one| one.arg(0) == "on")
    }
}
