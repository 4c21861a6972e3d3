//! Keeps the databases of addresses that the edge reads, and replaces them: with each reload of the policy they are read again. One
//! that cannot be read leaves those in force as they are.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail};
use phalanx_edge::Places;
use phalanx_edge::places::Known;
use phalanx_model::{Retired, Swap, View};

/// The databases in force, and where the next ones come from.
pub(crate) struct PlacesKeeper {
    files: Vec<PathBuf>,
    places: Arc<Swap<Places>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    fault: Option<String>,
    /// A request may still look something up in them.
    retired: Retired<Places>,
}

impl PlacesKeeper {
    /// Reads the files. A node starts without those that cannot be read, and says so.
    pub(crate) fn start(files: Vec<PathBuf>) -> Self {
        let keeper = Self { files, places: Arc::new(Swap::new(Places::default())), state: Mutex::default() };
        keeper.reload();
        keeper
    }

    /// The databases as the edge reads them.
    pub(crate) fn places(&self) -> Arc<Swap<Places>> {
        Arc::clone(&self.places)
    }

    /// Where an address is, for the record.
    pub(crate) fn locate(&self) -> phalanx_record::Locate {
        let places = self.places();
        Arc::new(move |ip| {
            let place = places.load().of(ip);
            phalanx_record::Located { country: place.country, asn: place.asn }
        })
    }

    /// Reads the files again.
    pub(crate) fn reload(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.retired.drop_unused();
        if self.files.is_empty() {
            return;
        }
        match read(&self.files) {
            Ok(places) => {
                state.fault = None;
                state.retired.put(self.places.load_full());
                self.places.store(Arc::new(places));
                state.retired.drop_unused();
            }
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "a database of addresses was refused; what is in force stays"
                );
                state.fault = Some(format!("a database of addresses was refused: {error:#}"));
            }
        }
    }

    /// What an operator should know, given the decisions in force.
    pub(crate) fn degraded(&self, view: &View) -> Vec<String> {
        let fault = self.state.lock().unwrap_or_else(PoisonError::into_inner).fault.clone();
        if fault.is_some() {
            return fault.into_iter().collect();
        }
        let knows = self.places.load().knows();
        let missing = [
            (view.asks_for_asns() && !knows.asns, "to which AS addresses belong: decisions about AS numbers"),
            (
                view.asks_for_countries() && !knows.countries,
                "in which country addresses are: decisions about countries",
            ),
        ];
        let missing = missing.into_iter().filter(|(is_missing, _)| *is_missing);
        missing
            .map(|(_, what)| format!("no database says {what} match nobody here; name a file under [geo]"))
            .collect()
    }
}

/// Reads all files, or tells which one is of no use.
fn read(files: &[PathBuf]) -> anyhow::Result<Places> {
    let mut places = Places::default();
    for file in files {
        read_one(&mut places, file)?;
    }
    Ok(places)
}

/// Adds the database in a file.
pub(crate) fn read_one(places: &mut Places, file: &Path) -> anyhow::Result<Known> {
    let name = file.display();
    let bytes = std::fs::metadata(file).with_context(|| format!("{name} cannot be read"))?.len();
    if bytes > DATABASE_BYTES_MAX {
        bail!("{name} is larger than {} MiB", DATABASE_BYTES_MAX >> 20);
    }
    let bytes = std::fs::read(file).with_context(|| format!("{name} cannot be read"))?;
    places.add(bytes).with_context(|| format!("{name} is of no use"))
}

/// Largest database that is read: it lies in memory. Those of countries and systems have up to 20 MiB.
const DATABASE_BYTES_MAX: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_model::{Actor, Author, AuthorRole, Decision, DecisionId, DecisionKind};

    fn view(actor: Actor) -> View {
        View::from_decisions([Arc::new(Decision {
            id: DecisionId::from_parts(1, 1, 1),
            actor,
            kind: DecisionKind::Ban,
            author: Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Operator },
            reason: String::new(),
            evidence: None,
            confidence_percent: 100,
            created_at_ms: 0,
            expires_at_ms: 1,
            version: 1,
        })])
    }

    #[test]
    fn what_decisions_need_and_no_database_tells_is_said() {
        let keeper = PlacesKeeper::start(Vec::new());
        assert!(keeper.degraded(&view(Actor::ip([192, 0, 2, 1].into()))).is_empty());
        for (actor, needed) in
            [(Actor::Asn(64_500), "AS numbers"), (Actor::Country("NL".parse().unwrap()), "countries")]
        {
            let said = keeper.degraded(&view(actor)).join("; ");
            assert!(
                said.ends_with(&format!("about {needed} match nobody here; name a file under [geo]")),
                "{said}"
            );
        }
    }

    #[test]
    fn a_file_that_is_of_no_use_is_named_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let (missing, wrong) = (folder.path().join("missing.mmdb"), folder.path().join("wrong.mmdb"));
        std::fs::write(&wrong, "no database").unwrap();
        for (file, reason) in
            [(missing, "missing.mmdb cannot be read"), (wrong, "wrong.mmdb is of no use: it is no database")]
        {
            let said = PlacesKeeper::start(vec![file]).degraded(&View::default()).join("");
            assert!(said.contains(reason), "{said}");
        }
    }
}
