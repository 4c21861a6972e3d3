//! A policy as each site reads it: most of a text means the same everywhere, and `[sites.NAME]` says what does not.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::diff::{PolicyDiff, diff};
use crate::{Diagnostic, Policy, parse_policy_at, policy_sites};

/// A policy at every site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Everywhere {
    /// At sites that the text does not name.
    pub elsewhere: Policy,
    /// At those that it names.
    pub sites: BTreeMap<String, Policy>,
}

/// A policy that means the same at every site.
impl From<Policy> for Everywhere {
    fn from(policy: Policy) -> Self {
        Self { elsewhere: policy, sites: BTreeMap::new() }
    }
}

impl Everywhere {
    /// Reads and checks a policy text for every site that it names, and for the others. `file` is as in [`crate::parse_policy`].
    ///
    /// # Errors
    /// All faults found at any site, when one of them is an error.
    pub fn parse(file: &str, text: &str) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let (elsewhere, warnings) = parse_policy_at(file, text, None)?;
        let (mut sites, mut of_sites) = (BTreeMap::new(), Vec::new());
        for site in policy_sites(text) {
            let (policy, found) = parse_policy_at(file, text, Some(&site))?;
            of_sites.push((site.clone(), found));
            sites.insert(site, policy);
        }
        Ok((Self { elsewhere, sites }, told_once(warnings, of_sites)))
    }

    /// As a site reads it.
    pub fn at(&self, site: &str) -> &Policy {
        self.sites.get(site).unwrap_or(&self.elsewhere)
    }

    /// What of it ends soon or has ended, at any site; as [`Policy::due`].
    pub fn due(&self, file: &str, now_ms: u64) -> Vec<Diagnostic> {
        let mut due: Vec<Diagnostic> =
            self.distinct().iter().flat_map(|(_, policy)| policy.due(file, now_ms)).collect();
        due.sort_by_key(|due| due.line);
        due.dedup();
        due
    }

    /// The policies that differ, each once, with a site that reads it so; that of sites that are not named comes first.
    pub fn distinct(&self) -> Vec<(Option<&str>, &Policy)> {
        let mut distinct = vec![(None, &self.elsewhere)];
        for (site, policy) in &self.sites {
            if !distinct.iter().any(|(_, known)| *known == policy) {
                distinct.push((Some(site.as_str()), policy));
            }
        }
        distinct
    }
}

/// What changes from one policy to another at any site. What changes at one site and not at those that neither names has its name.
/// `files` are as in [`diff`].
pub fn diff_everywhere(old: &Everywhere, new: &Everywhere, files: &BTreeMap<String, Vec<u8>>) -> PolicyDiff {
    let mut all = diff(&old.elsewhere, &new.elsewhere, files);
    let named: std::collections::BTreeSet<&String> = old.sites.keys().chain(new.sites.keys()).collect();
    let (known_changes, known_dangers) = (all.changes.len(), all.dangers.len());
    for site in named {
        let here = diff(old.at(site), new.at(site), files);
        let at_site = |mut change: crate::diff::Change| {
            change.place.site = Some(site.clone());
            change
        };
        let is_new = |change: &crate::diff::Change| {
            !all.changes.iter().take(known_changes).any(|known| known == change)
        };
        let changes: Vec<_> = here.changes.into_iter().filter(is_new).map(at_site).collect();
        let is_new = |danger: &crate::diff::Danger| {
            !all.dangers.iter().take(known_dangers).any(|known| known == danger)
        };
        let dangers: Vec<_> = here
            .dangers
            .into_iter()
            .filter(is_new)
            .map(|mut danger| {
                danger.place.site = Some(site.clone());
                danger
            })
            .collect();
        all.changes.extend(changes);
        all.dangers.extend(dangers);
    }
    all
}

/// What is told, and at which sites; `None`: at those that are not named, too.
type AtSites = (Diagnostic, Option<Vec<String>>);

/// What is told of a text, each once and by line; with the names of the sites that it is about, if those that are not named do without it.
pub(crate) fn told_once(
    elsewhere: Vec<Diagnostic>,
    of_sites: impl IntoIterator<Item = (String, Vec<Diagnostic>)>,
) -> Vec<Diagnostic> {
    let mut told = BTreeMap::<(u32, String), AtSites>::new();
    for one in elsewhere {
        told.insert((one.line, one.message.clone()), (one, None));
    }
    for (site, found) in of_sites {
        for one in found {
            let (_, at) =
                told.entry((one.line, one.message.clone())).or_insert_with(|| (one, Some(Vec::new())));
            at.iter_mut().for_each(|at| at.push(format!("`{site}`")));
        }
    }
    let with_sites = |(mut one, at): AtSites| {
        if let Some(at) = at {
            one.message = format!("{}, at {}", one.message, at.join(", "));
        }
        one
    };
    told.into_values().map(with_sites).collect()
}
