//! Where the edge is stricter than a test wants: a short list with reasons, told and never hidden.

use anyhow::Context as _;
use phalanx_model::FramingFault;
use serde::{Deserialize, Serialize};

/// A test that fails over the wire because the edge refuses its request.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deviation {
    /// The test's id.
    pub(crate) test: String,
    /// What the node must have refused the request for.
    pub(crate) fault: FramingFault,
    /// Why that is right.
    pub(crate) reason: String,
}

/// The list.
pub(crate) fn deviations() -> anyhow::Result<Vec<Deviation>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct List {
        #[serde(default)]
        deviation: Vec<Deviation>,
    }
    let list: List = toml::from_str(include_str!("deviations.toml")).context("deviations.toml")?;
    Ok(list.deviation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_short_and_gives_reasons() {
        let list = deviations().unwrap();
        assert!(list.len() <= 5, "{list:?}");
        assert!(list.iter().all(|deviation| deviation.reason.len() > 20), "{list:?}");
    }
}
