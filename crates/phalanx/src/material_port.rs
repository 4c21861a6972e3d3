//! Keeps the certificates that the edge shows, and replaces them: with each reload the files are read again. A pair of files that
//! cannot be shown leaves the one in force as it is, and is told.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use phalanx_control::acme::{Issued, Proof};
use phalanx_control::{Acme, api};
use phalanx_edge::{Challenges, Identities, Material, Served, TlsListener};
use phalanx_model::limits::CERTIFICATE_ENDS_SOON_MS;
use phalanx_model::{Clock, Swap};
use phalanx_policy::Diagnostic;
use phalanx_trust::{Sealer, ServedCertificate, TicketKeys, Ticketer, private_file, served};
use zeroize::Zeroizing;

use crate::console_port::ConsoleKeeper;
use crate::identity_port::IdentityKeeper;
use crate::tls_settings::{CertificateFiles, ClientCertificates, TlsListen, TlsSettings};

/// The certificates in force, and where the next ones come from.
pub(crate) struct MaterialKeeper {
    files: Vec<CertificateFiles>,
    listeners: Vec<TlsListener>,
    tickets: Arc<Swap<TicketKeys>>,
    acme: OnceLock<Acme>,
    placeholder: bool,
    /// Where certificates that were ordered are kept for the next start, sealed.
    kept: OnceLock<(Arc<Sealer>, PathBuf)>,
    material: Arc<Swap<Material>>,
    /// What upstreams get to see.
    upstreams: IdentityKeeper,
    /// What the console shows, if it speaks TLS.
    console: Option<ConsoleKeeper>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// In the order of the files.
    shown: Vec<ServedCertificate>,
    faults: Vec<Diagnostic>,
    ordered: Ordered,
}

/// What is ordered, and what came of it.
#[derive(Default)]
struct Ordered {
    /// By host.
    shown: Vec<(String, Issued, ServedCertificate)>,
    /// Hosts that there shall be a certificate for.
    hosts: Vec<String>,
    challenges: Challenges,
}

impl MaterialKeeper {
    /// Reads all that the settings name; a node whose certificates cannot be shown does not start. One that has expired is shown
    /// all the same: the others are of use.
    pub(crate) fn start(settings: &TlsSettings, clock: Arc<dyn Clock>) -> Result<Self, Vec<Diagnostic>> {
        let (mut listeners, mut shown, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        let tickets = Arc::new(Swap::new(TicketKeys::fresh(clock.now_ms())));
        for one in settings.all() {
            match listener(one, &tickets) {
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
        let console = settings.console.as_ref().map(ConsoleKeeper::start).transpose();
        let console = console.unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
        let upstreams = match IdentityKeeper::start(&settings.identities) {
            Ok(upstreams) => upstreams,
            Err(more) => return Err([faults, more].concat()),
        };
        if !faults.is_empty() {
            return Err(faults);
        }
        let hosts = settings.acme.as_ref().map(|acme| acme.order.hosts.clone()).unwrap_or_default();
        let ordered = Ordered { hosts, ..Ordered::default() };
        let placeholder = settings.acme.as_ref().is_some_and(|acme| acme.placeholder);
        let first = material((&shown, &ordered), placeholder, &listeners).map_err(|fault| vec![fault])?;
        Ok(Self {
            files: settings.certificates.clone(),
            listeners,
            tickets,
            acme: OnceLock::new(),
            placeholder,
            upstreams,
            console,
            kept: OnceLock::new(),
            material: Arc::new(Swap::new(first)),
            clock,
            state: Mutex::new(State { shown, faults, ordered }),
        })
    }

    /// The keys of session tickets that all listeners use.
    pub(crate) fn tickets(&self) -> Arc<Swap<TicketKeys>> {
        Arc::clone(&self.tickets)
    }

    /// Shows the certificates that were there before the node stopped, and keeps those to come: a node serves before it has read
    /// what its fleet shares. What cannot be read is as if it were not there.
    pub(crate) fn remember(&self, sealer: &Arc<Sealer>, file: PathBuf) -> anyhow::Result<()> {
        let sealed = private_file::read(&file, KEPT_BYTES_MAX)?;
        let _ = self.kept.set((Arc::clone(sealer), file));
        let opened = sealed.and_then(|sealed| sealer.open(SEAL_CONTEXT, &sealed).ok().map(Zeroizing::new));
        let issued = opened.and_then(|bytes| serde_json::from_slice::<Vec<(String, Issued)>>(&bytes).ok());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = |host: &String| state.ordered.hosts.is_empty() || state.ordered.hosts.contains(host);
        let issued: Vec<_> =
            issued.unwrap_or_default().into_iter().filter(|(host, _)| wanted(host)).collect();
        state.ordered.shown = shown_of(issued, &[]);
        self.show(&state);
        Ok(())
    }

    /// Shows from here on what is ordered.
    pub(crate) fn follow(&self, acme: Acme) {
        let _ = self.acme.set(acme);
    }

    /// Puts what was ordered into force, and what is being proven. One that cannot be shown leaves the one before in its place.
    pub(crate) fn adopt(&self) {
        let Some(acme) = self.acme.get() else { return };
        let (issued, hosts) = (acme.issued(), acme.hosts());
        let challenges = challenges(&acme.proofs());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut state.ordered);
        let kept =
            |(host, issued, _): &(String, Issued, ServedCertificate)| (host.clone(), issued.chain.clone());
        let chains_before: Vec<_> = before.shown.iter().map(kept).collect();
        let shown = shown_of(issued, &before.shown);
        let news = shown.iter().map(kept).collect::<Vec<_>>() != chains_before;
        state.ordered = Ordered { shown, hosts, challenges };
        self.show(&state);
        if news {
            self.keep(&state.ordered);
        }
    }

    fn show(&self, state: &State) {
        match material((&state.shown, &state.ordered), self.placeholder, &self.listeners) {
            Ok(material) => self.material.store(Arc::new(material)),
            Err(fault) => tracing::error!(%fault, "what was ordered cannot be shown"),
        }
    }

    fn keep(&self, ordered: &Ordered) {
        let Some((sealer, file)) = self.kept.get() else { return };
        let issued: Vec<_> = ordered.shown.iter().map(|(host, issued, _)| (host, issued)).collect();
        let Ok(bytes) = serde_json::to_vec(&issued).map(Zeroizing::new) else { return };
        let sealed = sealer.seal(SEAL_CONTEXT, &bytes);
        if let Err(error) = sealed.and_then(|sealed| private_file::replace(file, &sealed)) {
            tracing::warn!(%error, "certificates that were ordered are not kept for the next start");
        }
    }

    /// The names that certificates in files are for.
    pub(crate) fn names_in_files(&self) -> Vec<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.shown.iter().flat_map(|shown| shown.names.iter().cloned()).collect()
    }

    /// The material as the edge reads it.
    pub(crate) fn material(&self) -> Arc<Swap<Material>> {
        Arc::clone(&self.material)
    }

    /// What the console shows, if it speaks TLS.
    pub(crate) fn console(&self) -> Option<&ConsoleKeeper> {
        self.console.as_ref()
    }

    /// What upstreams get to see, as the edge reads it.
    pub(crate) fn identities(&self) -> Identities {
        self.upstreams.identities()
    }

    /// Reads the files again. What can be shown is in force afterwards; for the rest what was in force stays.
    pub(crate) fn reload(&self) -> Result<(), Vec<Diagnostic>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(acme) = self.acme.get() {
            acme.try_again();
        }
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
        match material((&shown, &state.ordered), self.placeholder, &self.listeners) {
            Ok(material) => {
                self.material.store(Arc::new(material));
                state.shown = shown;
            }
            Err(fault) => faults.push(fault),
        }
        faults.extend(self.upstreams.reload());
        faults.extend(self.console.as_ref().and_then(|console| console.reload(now_ms).err()));
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
        let console = self.console.as_ref().and_then(|console| console.degraded(now_ms));
        let told: Vec<_> = refused.chain(ends).chain(console).collect();
        drop(state);
        let of_orders = self.acme.get().map(Acme::degraded).unwrap_or_default();
        told.into_iter().chain(of_orders).collect()
    }

    /// The certificates in force.
    pub(crate) fn certificates(&self) -> Vec<api::Certificate> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let one = |(files, shown): (&CertificateFiles, &ServedCertificate)| api::Certificate {
            file: files.name().to_string(),
            names: shown.names.clone(),
            expires_at_ms: shown.not_after_ms,
        };
        let ordered = |(host, _, shown): &(String, Issued, ServedCertificate)| api::Certificate {
            file: format!("acme/{host}"),
            names: shown.names.clone(),
            expires_at_ms: shown.not_after_ms,
        };
        let of_files = self.files.iter().zip(&state.shown).map(one);
        let console = self.console.as_ref().map(ConsoleKeeper::certificate);
        of_files.chain(state.ordered.shown.iter().map(ordered)).chain(console).collect()
    }
}

/// Every fault of the files that settings name, and what will be one soon.
pub(crate) fn check(settings: &TlsSettings, now_ms: u64) -> Vec<Diagnostic> {
    let tickets = Arc::new(Swap::new(TicketKeys::fresh(now_ms)));
    let mut found: Vec<_> = settings.all().filter_map(|one| listener(one, &tickets).err()).collect();
    if let Some(Err(fault)) = settings.acme.as_ref().map(|acme| Acme::check(&acme.order)) {
        found.push(Diagnostic::error("acme", 0, fault));
    }
    for files in settings.certificates.iter().chain(&settings.console) {
        match read(files) {
            Ok(certificate) => found.extend(warnings(files, &certificate, now_ms)),
            Err(fault) => found.push(fault),
        }
    }
    found.extend(settings.identities.iter().filter_map(|(_, files)| read(files).err()));
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
pub(crate) fn term(certificate: &ServedCertificate, now_ms: u64) -> Option<String> {
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
pub(crate) fn newer(
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

/// What was ordered, as it is shown. One that cannot be shown leaves the one before.
fn shown_of(
    issued: Vec<(String, Issued)>,
    before: &[(String, Issued, ServedCertificate)],
) -> Vec<(String, Issued, ServedCertificate)> {
    let show = |(host, issued): (String, Issued)| match issued.certificate() {
        Ok(certificate) => Some((host, issued, certificate)),
        Err(error) => {
            tracing::error!(host, error, "a certificate that was ordered cannot be shown");
            before.iter().find(|(known, ..)| *known == host).cloned()
        }
    };
    issued.into_iter().filter_map(show).collect()
}

/// What is being proven, as the edge answers it.
fn challenges(proofs: &[Proof]) -> Challenges {
    let mut challenges = Challenges::default();
    for proof in proofs {
        if !proof.in_handshake {
            challenges.http.push((proof.token.clone(), proof.key_authorization.clone()));
            continue;
        }
        let digest = phalanx_trust::sha256(proof.key_authorization.as_bytes());
        match served::tls_proof(&proof.host, &digest) {
            Ok(key) => challenges.tls.push((proof.host.clone(), key)),
            Err(error) => tracing::error!(%error, host = proof.host, "a challenge cannot be answered"),
        }
    }
    challenges
}

fn material(
    (shown, ordered): (&[ServedCertificate], &Ordered),
    placeholder: bool,
    listeners: &[TlsListener],
) -> Result<Material, Diagnostic> {
    let fault =
        |error: String| Diagnostic::error("certificates", 0, format!("TLS cannot be set up: {error}"));
    let served = |one: &ServedCertificate| Served { names: one.names.clone(), key: Arc::clone(&one.key) };
    let of_orders = ordered.shown.iter().map(|(_, _, certificate)| certificate);
    let mut served: Vec<_> = shown.iter().chain(of_orders).map(served).collect();
    let there = |host: &String| served.iter().any(|one| one.names.contains(host));
    let awaited: Vec<_> = ordered.hosts.iter().filter(|host| !there(host)).cloned().collect();
    for host in awaited.iter().filter(|_| placeholder) {
        let key = served::placeholder(host).map_err(|error| fault(error.to_string()))?;
        served.push(Served { names: vec![host.clone()], key });
    }
    let material = Material::awaiting(&served, &awaited, listeners);
    material
        .and_then(|material| material.proving(&ordered.challenges))
        .map_err(|error| fault(error.to_string()))
}

pub(crate) fn read(files: &CertificateFiles) -> Result<ServedCertificate, Diagnostic> {
    let (chain, key) = (read_file(&files.cert)?, read_file(&files.key)?);
    ServedCertificate::read(&chain, &key).map_err(|fault| {
        let file = if fault.in_key { files.key.display().to_string().into() } else { files.name() };
        Diagnostic::error(file, fault.line, fault.cause).with_help(fault.fix)
    })
}

fn listener(settings: &TlsListen, tickets: &Arc<Swap<TicketKeys>>) -> Result<TlsListener, Diagnostic> {
    let failed = |error| Diagnostic::error("listen.tls", 0, format!("TLS cannot be set up: {error}"));
    let mut listener = TlsListener::new().map_err(failed)?;
    listener.require_pq = settings.require_pq;
    // Sessions go on at any listener of the site that asks for the same.
    let mut asks = format!("post-quantum {}\n", settings.require_pq).into_bytes();
    if let Some(ClientCertificates { ca_file, required }) = &settings.clients {
        let authorities = read_file(ca_file)?;
        let verifier = served::client_verifier(&authorities, *required).map_err(|fault| {
            Diagnostic::error(ca_file.display().to_string(), fault.line, fault.cause).with_help(fault.fix)
        })?;
        asks.extend_from_slice(format!("certificate {required}\n").as_bytes());
        asks.extend_from_slice(&authorities);
        listener = listener.asking(verifier);
    }
    Ok(listener.resuming(Arc::new(Ticketer::new(Arc::clone(tickets), &asks))))
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

const SEAL_CONTEXT: &str = "certificates from an authority";
/// Larger than as many certificates as there may be.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// Largest file of certificates that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;
