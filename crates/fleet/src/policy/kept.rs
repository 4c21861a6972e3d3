//! The last known good policy on the node's own disk, sealed: it is in force from the first moment of a start, whoever can be reached.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::BASE64;
use phalanx_model::limits::POLICY_BUNDLE_BYTES_MAX;
use phalanx_trust::{Sealer, private_file};
use serde::{Deserialize, Serialize};

use super::record::{BundleRef, PolicyRecord};

/// A policy as it was in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptPolicy {
    /// The fleet it is of.
    pub fleet: String,
    /// The record by which it came.
    pub record: Arc<PolicyRecord>,
    /// Which of its bundles was in force.
    pub reference: BundleRef,
    /// That bundle.
    pub bundle: Vec<u8>,
}

/// Where it is kept.
#[derive(Debug, Clone)]
pub struct PolicyFile {
    path: PathBuf,
    sealer: Arc<Sealer>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    fleet: String,
    record: PolicyRecord,
    reference: BundleRef,
    bundle: String,
}

impl PolicyFile {
    /// The file in this state folder.
    pub fn new(state_dir: &Path, sealer: Arc<Sealer>) -> Self {
        Self { path: state_dir.join("policy.kept"), sealer }
    }

    /// What was kept; none where nothing was. Blocks on the disk.
    ///
    /// # Errors
    /// Why what is there cannot be used; it is set aside.
    pub fn read(&self) -> Result<Option<KeptPolicy>, String> {
        let refuse = |cause: String| {
            let aside = self.path.with_extension("kept.set-aside");
            let done = std::fs::rename(&self.path, &aside).is_ok();
            tracing::warn!(file = %self.path.display(), cause, done, "kept policy is not used");
            format!("the kept policy bundle cannot be used and was set aside: {cause}")
        };
        let sealed = match private_file::read(&self.path, 3 * POLICY_BUNDLE_BYTES_MAX) {
            Ok(Some(sealed)) => sealed,
            Ok(None) => return Ok(None),
            Err(error) => return Err(refuse(error.to_string())),
        };
        let plain = self.sealer.open(CONTEXT, &sealed).map_err(|error| refuse(error.to_string()))?;
        let wire: Wire = serde_json::from_slice(&plain).map_err(|error| refuse(error.to_string()))?;
        let bundle = BASE64.decode(wire.bundle.as_bytes()).map_err(|error| refuse(error.to_string()))?;
        let Wire { fleet, record, reference, .. } = wire;
        Ok(Some(KeptPolicy { fleet, record: Arc::new(record), reference, bundle }))
    }

    /// Keeps a policy in place of the one before; a crash leaves one or the other. Blocks on the disk.
    ///
    /// # Errors
    /// Why it is not kept.
    pub fn write(&self, kept: &KeptPolicy) -> Result<(), String> {
        let wire = Wire {
            fleet: kept.fleet.clone(),
            record: (*kept.record).clone(),
            reference: kept.reference.clone(),
            bundle: BASE64.encode(&kept.bundle),
        };
        let plain = serde_json::to_vec(&wire).map_err(|error| error.to_string())?;
        let sealed = self.sealer.seal(CONTEXT, &plain).map_err(|error| error.to_string())?;
        private_file::replace(&self.path, &sealed).map_err(|error| error.to_string())
    }
}

const CONTEXT: &str = "kept policy";
