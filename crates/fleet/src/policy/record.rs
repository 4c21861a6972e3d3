//! The fleet's one record of policy: which bundle all nodes run, which one some of them try, and the chain they stand in. No IO.

use std::sync::Arc;

use phalanx_model::limits::{
    DECISION_MAX_MS, POLICY_BUNDLE_BYTES_MAX, POLICY_CHAIN_MAX, REASON_BYTES_MAX, RECORD_FUTURE_MAX_MS,
};
use phalanx_trust::{Refusal, valid_name};
use serde::{Deserialize, Serialize};

use super::origin::Origin;
use crate::BlobHash;

/// What the fleet's policy is. Readers ignore fields that they do not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// The schema it was written with.
    pub schema: u16,
    /// Raised when the home of policy moves: whatever was written under a lower one does not count any more.
    pub epoch: u64,
    /// The site where the record is kept, and in whose stream writers swap it.
    pub home: Arc<str>,
    /// Counts the changes of the record in its epoch.
    pub serial: u64,
    /// What all nodes run that try nothing.
    pub stable: BundleRef,
    /// What some nodes try.
    pub trial: Option<Trial>,
    /// The last bundles in the order of their versions, the newest last; each names the one before.
    pub chain: Vec<BundleRef>,
    /// Where they come from, as far as that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<Origin>,
    /// What happened last, in words.
    pub note: String,
    /// When that was, in Unix milliseconds.
    pub changed_at_ms: u64,
}

/// One bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleRef {
    /// Its version.
    pub version: u64,
    /// The SHA-256 of its bytes.
    pub hash: String,
    /// The hash of the one before; none for the first.
    pub previous: Option<String>,
    /// How many bytes it has.
    pub bytes: u64,
}

/// A bundle that a part of the fleet tries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The bundle.
    pub bundle: BundleRef,
    /// Where.
    pub stage: Stage,
    /// Since when, in Unix milliseconds.
    pub started_at_ms: u64,
    /// For how long it is judged before all nodes get it; without it, until an operator says so.
    pub bake_ms: Option<u64>,
}

/// A part of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "stage")]
pub enum Stage {
    /// One node.
    Node {
        /// Its site.
        site: String,
        /// Its name.
        node: String,
    },
    /// One site.
    Site {
        /// Its name.
        site: String,
    },
}

impl Stage {
    /// Whether a node is in it.
    pub fn holds(&self, of_site: &str, of_node: &str) -> bool {
        match self {
            Self::Node { site, node } => site == of_site && node == of_node,
            Self::Site { site } => site == of_site,
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node { site, node } => write!(f, "node {site}/{node}"),
            Self::Site { site } => write!(f, "site {site}"),
        }
    }
}

impl PolicyRecord {
    /// The total order of records: a later epoch goes before an earlier one; of two homes of one epoch the one whose stable
    /// version is higher, so that none is ever left for a lower, or else the same one everywhere.
    pub fn rank(&self) -> (u64, u64, &str, u64) {
        (self.epoch, self.stable.version, &self.home, self.serial)
    }

    /// Its place in the history: there is one record of each, unless a stream lost what it had confirmed.
    pub fn place(&self) -> (u64, &str, u64) {
        (self.epoch, &self.home, self.serial)
    }

    /// The newest bundle of its chain.
    pub fn newest(&self) -> &BundleRef {
        self.chain.last().unwrap_or(&self.stable)
    }

    /// What a node runs.
    pub fn for_node(&self, site: &str, node: &str) -> &BundleRef {
        match &self.trial {
            Some(trial) if trial.stage.holds(site, node) => &trial.bundle,
            _ => &self.stable,
        }
    }

    /// Whether a node tries something.
    pub fn tries(&self, site: &str, node: &str) -> bool {
        self.trial.as_ref().is_some_and(|trial| trial.stage.holds(site, node))
    }

    /// Whether it makes sense by itself.
    pub fn check(&self, now_ms: u64) -> Result<(), Refusal> {
        let no = |why| Err(Refusal::NotAllowed(why));
        if self.schema == 0 || self.epoch == 0 || self.serial == 0 || !valid_name(&self.home) {
            return no("the policy record has no schema, epoch, serial or home");
        }
        if self.changed_at_ms > now_ms.saturating_add(RECORD_FUTURE_MAX_MS) {
            return Err(Refusal::FromTheFuture);
        }
        if self.note.len() > REASON_BYTES_MAX || self.chain.is_empty() || self.chain.len() > POLICY_CHAIN_MAX
        {
            return no("the policy record's note or chain has no fitting length");
        }
        if !self.origins_fit() {
            return no("what the policy record says of its versions has no fitting length");
        }
        let trial = self.trial.as_ref().map(|trial| &trial.bundle);
        let bundles = self.chain.iter().chain([&self.stable]).chain(trial);
        if bundles.clone().any(|bundle| BlobHash::parse(&bundle.hash).is_none() || bundle.version == 0) {
            return no("the policy record names a bundle without a hash or version");
        }
        let size_max = u64::try_from(POLICY_BUNDLE_BYTES_MAX).unwrap_or(u64::MAX);
        if bundles.clone().any(|bundle| bundle.bytes > size_max) {
            return no("the bundle is too large");
        }
        let mut links = self.chain.iter().zip(self.chain.iter().skip(1));
        if !links.all(|(one, next)| next.version > one.version && next.previous.as_ref() == Some(&one.hash)) {
            return no("the policy record's chain is broken");
        }
        let newest = self.newest();
        if trial.is_some_and(|bundle| bundle != newest || bundle.version <= self.stable.version)
            || trial.is_none() && self.stable != *newest
        {
            return no("the policy record does not lead to the end of its chain");
        }
        match &self.trial {
            Some(Trial { bake_ms: Some(bake_ms), .. }) if *bake_ms > DECISION_MAX_MS => {
                no("the trial lasts too long")
            }
            _ => Ok(()),
        }
    }

    /// Whether both order the same, whatever they say of where it comes from.
    pub(crate) fn means(&self, other: &Self) -> bool {
        let plain = |record: &Self| Self { origins: Vec::new(), ..record.clone() };
        self == other || plain(self) == plain(other)
    }

    /// Whether it may follow on `known`: later, and of the same chain as long as the home is the same.
    ///
    /// # Errors
    /// Why not; `Ok(false)` if it is no news.
    pub fn follows(&self, known: &Self) -> Result<bool, String> {
        if self.place() == known.place() {
            return match self.means(known) {
                // One that was kept by a version of the product that knew of no origins is completed.
                true => Ok(known.origins.is_empty() && !self.origins.is_empty()),
                false => Err(format!(
                    "two policy records have the number {} of epoch {}: the one that came first stays; \
                     `phalanx policy move-home` begins a new epoch",
                    self.serial, self.epoch
                )),
            };
        }
        if (self.epoch, &self.home) != (known.epoch, &known.home) {
            return Ok(self.rank() > known.rank());
        }
        if self.serial < known.serial {
            return Ok(false);
        }
        let (new, old) = (self.newest(), known.newest());
        if new.version < old.version {
            return Err(format!(
                "policy version {} is lower than {}, which was seen before",
                new.version, old.version
            ));
        }
        let same = self.chain.iter().find(|link| link.version == old.version);
        let forgotten = self.chain.first().is_some_and(|first| first.version > old.version)
            && self.chain.len() >= POLICY_CHAIN_MAX;
        match same {
            Some(same) if same.hash == old.hash => Ok(true),
            None if forgotten => Ok(true),
            _ => Err(format!(
                "policy version {} does not follow on version {} as it is known here; \
                 `phalanx policy move-home` begins a new epoch",
                new.version, old.version
            )),
        }
    }
}

/// The schema this version writes.
pub const SCHEMA: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::origin::PolicyResult;
    use phalanx_model::limits::POLICY_RECORD_BYTES_MAX;
    use proptest::prelude::*;

    fn bundle(version: u64, branch: char) -> BundleRef {
        let hash = |version: u64| format!("{version:0>63x}{branch}");
        let previous = (version > 1).then(|| hash(version - 1));
        BundleRef { version, hash: hash(version), previous, bytes: 1 }
    }

    fn record(epoch: u64, home: &str, serial: u64, newest: u64, branch: char) -> PolicyRecord {
        let first = newest.saturating_sub(7).max(1);
        PolicyRecord {
            schema: SCHEMA,
            epoch,
            home: home.into(),
            serial,
            stable: bundle(newest, branch),
            trial: None,
            chain: (first..=newest).map(|version| bundle(version, branch)).collect(),
            origins: Vec::new(),
            note: String::new(),
            changed_at_ms: 1,
        }
    }

    #[test]
    fn what_may_follow_on_what() {
        let known = record(1, "fra", 5, 5, 'a');
        for (next, expected) in [
            (record(1, "fra", 6, 6, 'a'), Ok(true)),
            (record(1, "fra", 6, 5, 'a'), Ok(true)),
            (record(1, "fra", 9, 11, 'a'), Ok(true)),
            (record(1, "fra", 5, 5, 'a'), Ok(false)),
            (record(1, "fra", 4, 4, 'a'), Ok(false)),
            (record(1, "fra", 5, 5, 'b'), Err("two policy records")),
            (record(1, "fra", 6, 4, 'a'), Err("lower")),
            (record(1, "fra", 6, 6, 'b'), Err("does not follow")),
            // The chain forgets less than a node may have missed, unless it is as long as it may be.
            (record(1, "fra", 60, 60, 'a'), Err("does not follow")),
            // Another home goes on by itself, and only in a higher epoch, with a higher version, or by its name.
            (record(2, "syd", 1, 3, 'b'), Ok(true)),
            (record(1, "syd", 1, 1, 'b'), Ok(false)),
            (record(1, "ams", 1, 6, 'b'), Ok(true)),
            (record(1, "syd", 1, 5, 'b'), Ok(true)),
            (record(1, "ams", 99, 5, 'b'), Ok(false)),
        ] {
            match (next.follows(&known), expected) {
                (Ok(follows), Ok(expected)) => assert_eq!(follows, expected, "{next:?}"),
                (Err(cause), Err(expected)) => assert!(cause.contains(expected), "{cause}"),
                (found, expected) => panic!("{found:?}, not {expected:?}: {next:?}"),
            }
        }
    }

    #[test]
    fn a_record_that_makes_no_sense_is_refused() {
        type Harm = fn(&mut PolicyRecord);
        let good = record(1, "fra", 5, 5, 'a');
        assert_eq!(good.check(1), Ok(()));
        let harms: [Harm; 12] = [
            |record| record.epoch = 0,
            |record| record.home = "a.b".into(),
            |record| record.changed_at_ms = 2 + RECORD_FUTURE_MAX_MS,
            |record| record.note = "x".repeat(REASON_BYTES_MAX + 1),
            |record| record.chain.clear(),
            |record| record.origins = vec![origin(5); 33],
            |record| record.origins = vec![Origin { reason: "x".repeat(257), ..origin(5) }],
            |record| record.chain.swap(0, 1),
            |record| record.stable = bundle(4, 'a'),
            |record| record.stable.hash = "x".into(),
            |record| record.chain = (1..=40).map(|version| bundle(version, 'a')).collect(),
            |record| {
                let (bundle, stage) = (bundle(9, 'a'), Stage::Site { site: "fra".into() });
                record.trial = Some(Trial { bundle, stage, started_at_ms: 0, bake_ms: None });
            },
        ];
        for (number, harm) in harms.iter().enumerate() {
            let mut record = good.clone();
            harm(&mut record);
            assert!(record.check(1).is_err(), "harm {number}");
        }
    }

    /// A version of the product before or after this one may say less or more.
    #[test]
    fn fields_of_a_newer_node_are_ignored() {
        let mut written = serde_json::to_value(record(1, "fra", 5, 5, 'a')).unwrap();
        written["added_later"] = serde_json::json!({"x": 1});
        written["stable"]["added_later"] = serde_json::json!(1);
        let read: PolicyRecord = serde_json::from_value(written).unwrap();
        assert_eq!(read, record(1, "fra", 5, 5, 'a'));
    }

    fn origin(version: u64) -> Origin {
        Origin {
            version,
            author: "ann".into(),
            node: "fra/a".into(),
            approved_by: None,
            reason: "ticket 4711".into(),
            source: "files".into(),
            at_ms: 1,
            result: PolicyResult::Published,
            result_reason: String::new(),
            result_at_ms: 1,
        }
    }

    /// A node that kept a record before it knew of origins, or through one that dropped them, must not take it for another.
    #[test]
    fn a_record_is_the_same_with_and_without_the_origins_of_its_versions() {
        let known = record(1, "fra", 5, 5, 'a');
        let told = PolicyRecord { origins: vec![origin(5)], ..known.clone() };
        assert_eq!(told.follows(&known), Ok(true), "it is completed");
        assert_eq!(known.follows(&told), Ok(false), "and loses nothing again");
        assert_eq!(told.follows(&told.clone()), Ok(false));
        let other = PolicyRecord { note: "x".into(), ..told };
        assert!(other.follows(&known).unwrap_err().contains("two policy records"));
    }

    #[test]
    fn what_a_later_version_says_became_of_a_policy_is_read() {
        let mut written = serde_json::to_value(record(1, "fra", 5, 5, 'a')).unwrap();
        assert!(written.get("origins").is_none(), "it is written as before where nothing is known");
        written["origins"] = serde_json::json!([origin(5)]);
        written["origins"][0]["result"] = "withdrawn".into();
        let read: PolicyRecord = serde_json::from_value(written).unwrap();
        assert_eq!(read.origin(5).map(|origin| origin.result), Some(PolicyResult::Unknown));
    }

    #[test]
    fn a_record_keeps_its_size_however_long_the_reasons_are() {
        let mut long = record(1, "fra", 40, 40, 'a');
        long.chain = (9..=40).map(|version| bundle(version, 'a')).collect();
        let quotes = Origin {
            reason: "\"".repeat(256),
            result_reason: "\\".repeat(256),
            author: "\"".repeat(96),
            ..origin(0)
        };
        long.origins = (1..=40).map(|version| Origin { version, ..quotes.clone() }).collect();
        long.trim_origins();
        assert_eq!(long.check(1), Ok(()));
        assert!(serde_json::to_vec(&long).unwrap().len() <= POLICY_RECORD_BYTES_MAX);
        assert_eq!(long.origins.last().map(|origin| origin.version), Some(40));
        assert!(long.origins.len() > 20, "{}", long.origins.len());
    }

    proptest! {
        /// Of writers that swap one after the other, in any order of arrival and with repetition, all nodes end with the last.
        #[test]
        fn whatever_comes_first_the_last_record_stays(order in proptest::collection::vec(0usize..12, 1..40)) {
            let history: Vec<PolicyRecord> = (0..12u64)
                .map(|n| if n < 6 { record(1, "fra", n + 1, n + 1, 'a') } else { record(2, "syd", n - 5, n + 1, 'a') })
                .collect();
            let mut known = history[0].clone();
            for next in order.iter().copied().chain([11]) {
                if history[next].follows(&known).unwrap() {
                    known = history[next].clone();
                }
            }
            prop_assert_eq!(&known, &history[11]);
        }
    }
}
