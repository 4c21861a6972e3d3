//! Field scenarios by name: thresholds of detectors for places that are attacked in a way of their own. `packs/scenarios` brings them; each says
//! which playbooks go with it and how the simulator replays it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::raw::detection::RawDetection;
use crate::toml_text::Text;

/// One of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// As policy names it.
    pub name: String,
    /// What it finds that is no visitor's, in a sentence.
    pub about: String,
    /// Those of `packs/playbooks` that answer it.
    pub playbooks: Vec<String>,
    /// How it is tested.
    pub replays: Replay,
    pub(crate) detection: RawDetection,
}

/// How the simulator replays it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// The simulator's scenario.
    pub scenario: String,
    /// At so many per cent of its rate.
    pub attack: u64,
    /// Among so many per cent of its honest people; all of them where it is not written.
    pub honest: Option<u64>,
    /// It is found within this time.
    pub within: String,
}

/// Those that the product knows.
pub fn built_in() -> &'static BTreeMap<String, Scenario> {
    // What is in the product is covered by a test; one that should ever not be readable does not exist.
    static KNOWN: LazyLock<BTreeMap<String, Scenario>> = LazyLock::new(|| {
        let read = |(file, text): &(&str, &str)| Text::new(file, text).read_partly::<Scenario>().0;
        BUILT_IN.iter().filter_map(read).map(|scenario| (scenario.name.clone(), scenario)).collect()
    });
    &KNOWN
}

const BUILT_IN: [(&str, &str); 6] = [
    ("packs/scenarios/wordpress-login.toml", include_str!("../../../packs/scenarios/wordpress-login.toml")),
    ("packs/scenarios/webshop-carding.toml", include_str!("../../../packs/scenarios/webshop-carding.toml")),
    ("packs/scenarios/webshop-prices.toml", include_str!("../../../packs/scenarios/webshop-prices.toml")),
    (
        "packs/scenarios/numbered-documents.toml",
        include_str!("../../../packs/scenarios/numbered-documents.toml"),
    ),
    (
        "packs/scenarios/forgotten-password.toml",
        include_str!("../../../packs/scenarios/forgotten-password.toml"),
    ),
    ("packs/scenarios/hidden-places.toml", include_str!("../../../packs/scenarios/hidden-places.toml")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_that_is_shipped_is_read_and_names_what_there_is() {
        assert_eq!(built_in().len(), BUILT_IN.len());
        let playbooks = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packs/playbooks");
        for (file, text) in BUILT_IN {
            let (scenario, faults) = Text::new(file, text).read_partly::<Scenario>();
            assert!(faults.is_empty(), "{file}: {faults:?}");
            let scenario = scenario.unwrap();
            assert!(
                file.ends_with(&format!("/{}.toml", scenario.name)) && scenario.about.ends_with('.'),
                "{file}"
            );
            assert!(scenario.detection.mode.is_none() && scenario.detection.scenarios.is_empty(), "{file}");
            for playbook in &scenario.playbooks {
                let path = format!("{playbooks}/{playbook}.toml");
                assert!(std::path::Path::new(&path).exists(), "{file}: {playbook}");
            }
        }
        let folder =
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../packs/scenarios")).unwrap();
        assert_eq!(folder.count(), BUILT_IN.len(), "each that lies there is shipped");
    }
}
