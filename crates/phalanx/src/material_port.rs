//! Keeps the certificates that the edge shows, and replaces them: with each reload the files are read again. A pair of files that
//! cannot be shown leaves the one in force as it is, and is told.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use phalanx_control::api;
use phalanx_edge::{Material, Served, TlsListener};
use phalanx_model::limits::CERTIFICATE_ENDS_SOON_MS;
use phalanx_model::{Clock, Swap};
use phalanx_policy::Diagnostic;
use phalanx_trust::{ServedCertificate, served};

use crate::tls_settings::{CertificateFiles, ClientCertificates, TlsListen, TlsSettings};

/// The certificates in force, and where the next ones come from.
pub(crate) struct MaterialKeeper {
    files: Vec<CertificateFiles>,
    /// They keep their ticket keys for as long as the node runs.
    listeners: Vec<TlsListener>,
    material: Arc<Swap<Material>>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// In the order of the files.
    shown: Vec<ServedCertificate>,
    faults: Vec<Diagnostic>,
}

impl MaterialKeeper {
    /// Reads all that the settings name; a node whose certificates cannot be shown does not start. One that has expired is shown
    /// all the same: the others are of use.
    pub(crate) fn start(settings: &TlsSettings, clock: Arc<dyn Clock>) -> Result<Self, Vec<Diagnostic>> {
        let (mut listeners, mut shown, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        for one in settings.all() {
            match listener(one) {
                Ok(listener) => listeners.push(listener),
                Err(fault) => faults.push(fault),
            }
        }
        for files in &settings.certificates {
            match read(files) {
                Ok(certificate) => shown.push(certificate),
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let material = Arc::new(Swap::new(material(&shown, &listeners).map_err(|fault| vec![fault])?));
        let files = settings.certificates.clone();
        let state = Mutex::new(State { shown, faults });
        Ok(Self { files, listeners, material, clock, state })
    }

    /// The material as the edge reads it.
    pub(crate) fn material(&self) -> Arc<Swap<Material>> {
        Arc::clone(&self.material)
    }

    /// Reads the files again. What can be shown is in force afterwards; for the rest what was in force stays.
    pub(crate) fn reload(&self) -> Result<(), Vec<Diagnostic>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = self.clock.now_ms();
        let mut faults = Vec::new();
        let mut shown = Vec::new();
        for (files, before) in self.files.iter().zip(&state.shown) {
            match read(files).and_then(|new| newer(files, new, before, now_ms)) {
                Ok(new) => shown.push(new),
                Err(fault) => {
                    tracing::warn!(%fault, "a certificate was refused; the one in force stays");
                    faults.push(fault);
                    shown.push(before.clone());
                }
            }
        }
        match material(&shown, &self.listeners) {
            Ok(material) => {
                self.material.store(Arc::new(material));
                state.shown = shown;
            }
            Err(fault) => faults.push(fault),
        }
        state.faults.clone_from(&faults);
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// What an operator should know.
    pub(crate) fn degraded(&self) -> Vec<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = self.clock.now_ms();
        let refused = state.faults.iter().map(|fault| {
            format!("a certificate was refused, the one in force stays: {}: {}", fault.file, fault.message)
        });
        let ends = self.files.iter().zip(&state.shown).filter_map(|(files, shown)| {
            Some(format!("the certificate {} {}", files.name(), term(shown, now_ms)?))
        });
        refused.chain(ends).collect()
    }

    /// The certificates in force.
    pub(crate) fn certificates(&self) -> Vec<api::Certificate> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let one = |(files, shown): (&CertificateFiles, &ServedCertificate)| api::Certificate {
            file: files.name().to_string(),
            names: shown.names.clone(),
            expires_at_ms: shown.not_after_ms,
        };
        self.files.iter().zip(&state.shown).map(one).collect()
    }
}

/// Every fault of the files that settings name, and what will be one soon.
pub(crate) fn check(settings: &TlsSettings, now_ms: u64) -> Vec<Diagnostic> {
    let mut found: Vec<_> = settings.all().filter_map(|one| listener(one).err()).collect();
    for files in &settings.certificates {
        match read(files) {
            Ok(certificate) => found.extend(warnings(files, &certificate, now_ms)),
            Err(fault) => found.push(fault),
        }
    }
    found
}

fn warnings(files: &CertificateFiles, certificate: &ServedCertificate, now_ms: u64) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if let Some(term) = term(certificate, now_ms) {
        let warning = Diagnostic::warning(files.name(), 0, format!("the certificate {term}"));
        found.push(warning.with_help("renew it, put it in place of the old files, and run `phalanx reload`"));
    }
    let open = std::fs::metadata(&files.key).is_ok_and(|key| key.permissions().mode() & 0o007 != 0);
    if open {
        let name = files.key.display().to_string();
        let warning = Diagnostic::warning(name.as_str(), 0, "every user of this machine may read the key");
        found.push(warning.with_help(format!("run `chmod 600 {name}`")));
    }
    found
}

/// What is to be said of the time for which a certificate counts.
fn term(certificate: &ServedCertificate, now_ms: u64) -> Option<String> {
    let days = |ms: u64| ms / (24 * 60 * 60_000);
    if now_ms < certificate.not_before_ms {
        return Some("does not count yet: compare the clocks".to_owned());
    }
    match certificate.not_after_ms.checked_sub(now_ms) {
        None => Some("has expired".to_owned()),
        Some(left) if left < CERTIFICATE_ENDS_SOON_MS => Some(format!("ends in {} days", days(left))),
        Some(_) => None,
    }
}

/// A certificate that clients do not accept by now takes the place of none that they do.
fn newer(
    files: &CertificateFiles,
    new: ServedCertificate,
    before: &ServedCertificate,
    now_ms: u64,
) -> Result<ServedCertificate, Diagnostic> {
    let counts = |one: &ServedCertificate| (one.not_before_ms..one.not_after_ms).contains(&now_ms);
    match term(&new, now_ms) {
        Some(term) if !counts(&new) && counts(before) => {
            let fault = Diagnostic::error(files.name(), 0, format!("the certificate {term}"));
            Err(fault.with_help("put one in its place that counts now"))
        }
        _ => Ok(new),
    }
}

fn material(shown: &[ServedCertificate], listeners: &[TlsListener]) -> Result<Material, Diagnostic> {
    let served = |one: &ServedCertificate| Served { names: one.names.clone(), key: Arc::clone(&one.key) };
    let served: Vec<_> = shown.iter().map(served).collect();
    Material::new(&served, listeners)
        .map_err(|error| Diagnostic::error("certificates", 0, format!("TLS cannot be set up: {error}")))
}

fn read(files: &CertificateFiles) -> Result<ServedCertificate, Diagnostic> {
    let (chain, key) = (read_file(&files.cert)?, read_file(&files.key)?);
    ServedCertificate::read(&chain, &key).map_err(|fault| {
        let file = if fault.in_key { files.key.display().to_string().into() } else { files.name() };
        Diagnostic::error(file, fault.line, fault.cause).with_help(fault.fix)
    })
}

fn listener(settings: &TlsListen) -> Result<TlsListener, Diagnostic> {
    let failed = |error| Diagnostic::error("listen.tls", 0, format!("TLS cannot be set up: {error}"));
    let mut listener = TlsListener::new().map_err(failed)?;
    listener.require_pq = settings.require_pq;
    let Some(ClientCertificates { ca_file, required }) = &settings.clients else { return Ok(listener) };
    let verifier = served::client_verifier(&read_file(ca_file)?, *required).map_err(|fault| {
        Diagnostic::error(ca_file.display().to_string(), fault.line, fault.cause).with_help(fault.fix)
    })?;
    Ok(listener.asking(verifier))
}

fn read_file(path: &Path) -> Result<Vec<u8>, Diagnostic> {
    let fault = |message: String| Diagnostic::error(path.display().to_string(), 0, message);
    let bytes = std::fs::metadata(path).map_or(0, |file| file.len());
    if bytes > FILE_BYTES_MAX {
        return Err(fault("it is too large for a certificate or a key".to_owned()));
    }
    std::fs::read(path).map_err(|error| {
        fault(format!("cannot be read: {error}"))
            .with_help("look whether it is there, and readable for the user that runs phalanx")
    })
}

/// Largest file of certificates that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;
