//! Keeps the certificates that the node shows to upstreams, and replaces them with each reload. They are the node's own: policy, which a
//! fleet shares, only names them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use phalanx_edge::Identities;
use phalanx_policy::Diagnostic;
use phalanx_trust::ServedCertificate;

use crate::material_port::read;
use crate::tls_settings::CertificateFiles;

/// The certificates in force, and where the next ones come from.
pub(crate) struct IdentityKeeper {
    files: Vec<(String, CertificateFiles)>,
    identities: Identities,
    shown: Mutex<HashMap<String, ServedCertificate>>,
}

impl IdentityKeeper {
    /// Reads all files; one that cannot be read is a fault of the start.
    pub(crate) fn start(files: &[(String, CertificateFiles)]) -> Result<Self, Vec<Diagnostic>> {
        let keeper =
            Self { files: files.to_vec(), identities: Identities::default(), shown: Mutex::default() };
        let faults = keeper.reload();
        if faults.is_empty() { Ok(keeper) } else { Err(faults) }
    }

    /// The certificates as the edge reads them.
    pub(crate) fn identities(&self) -> Identities {
        self.identities.clone()
    }

    /// Reads the files again. For those that cannot be read what was in force stays; their faults are returned.
    pub(crate) fn reload(&self) -> Vec<Diagnostic> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut faults = Vec::new();
        for (name, files) in &self.files {
            match read(files) {
                Ok(certificate) => drop(shown.insert(name.clone(), certificate)),
                Err(fault) => faults.push(fault),
            }
        }
        let keys = shown.iter().map(|(name, one)| (name.clone(), Arc::clone(&one.key)));
        self.identities.store(keys.collect());
        faults
    }
}
