//! The certificate that console and API show, replaced with each reload as those of the edge are.

use std::sync::{Arc, Mutex, PoisonError};

use phalanx_control::{HostName, api};
use phalanx_policy::Diagnostic;
use phalanx_trust::{ServedCertificate, served};
use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;

use crate::material_port::{newer, read, term};
use crate::tls_settings::CertificateFiles;

/// The certificate in force, and where the next one comes from.
pub(crate) struct ConsoleKeeper {
    files: CertificateFiles,
    shown: Mutex<ServedCertificate>,
    config: watch::Sender<Arc<ServerConfig>>,
}

impl ConsoleKeeper {
    /// Reads the files; a node whose console cannot be shown does not start. What is not for its name is told of by [`check`].
    pub(crate) fn start(files: &CertificateFiles) -> Result<Self, Diagnostic> {
        let shown = read(files)?;
        let config = watch::Sender::new(server(files, &shown)?);
        Ok(Self { files: files.clone(), shown: Mutex::new(shown), config })
    }

    /// What connections are served with from now on.
    pub(crate) fn config(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.config.subscribe()
    }

    /// Reads the files again. What cannot be shown leaves what was in force.
    pub(crate) fn reload(&self, now_ms: u64) -> Result<(), Diagnostic> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let new = read(&self.files).and_then(|new| newer(&self.files, new, &shown, now_ms))?;
        self.config.send_replace(server(&self.files, &new)?);
        *shown = new;
        Ok(())
    }

    /// What an operator should know.
    pub(crate) fn degraded(&self, now_ms: u64) -> Option<String> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        Some(format!("the console's certificate {} {}", self.files.name(), term(&shown, now_ms)?))
    }

    /// The certificate in force.
    pub(crate) fn certificate(&self) -> api::Certificate {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.files.name().to_string();
        api::Certificate { file, names: shown.names.clone(), expires_at_ms: shown.not_after_ms }
    }
}

/// Names of the console that its certificate is not for: no browser would open it by them.
pub(crate) fn check(files: Option<&CertificateFiles>, names: &[HostName]) -> Vec<Diagnostic> {
    // A file that cannot be read is told of with the others.
    let Some((files, shown)) = files.and_then(|files| Some((files, read(files).ok()?))) else {
        return Vec::new();
    };
    let lacks = names.iter().filter(|name| !shown.names.iter().any(|known| name.is_covered_by(known)));
    let fault = |name: &HostName| {
        let fault = format!("the certificate is not for `{name}`, a name of the console");
        let fault = Diagnostic::error(files.name(), 0, fault);
        fault.with_help("order one for that name, or take the name out of `[admin]`")
    };
    lacks.map(fault).collect()
}

fn server(
    files: &CertificateFiles,
    certificate: &ServedCertificate,
) -> Result<Arc<ServerConfig>, Diagnostic> {
    let config = served::server(certificate);
    config.map(Arc::new).map_err(|error| Diagnostic::error(files.name(), 0, error.to_string()))
}
