//! From what policy says of TLS towards upstreams to the plans of it, one for each distinct setting.

use std::sync::Arc;

use phalanx_policy::seclang::read_text;
use phalanx_policy::{Diagnostic, Files, OriginTls};
use rustls::RootCertStore;

use crate::tls::OriginPlan;
use crate::tls::origin::{Trust, read_authorities, system_authorities};

/// The plans made so far, and what was found wrong.
pub(crate) struct Origins<'a> {
    files: Files<'a>,
    known: Vec<(OriginTls, Option<Arc<OriginPlan>>)>,
    system: Option<Arc<RootCertStore>>,
    errors: Vec<Diagnostic>,
}

impl<'a> Origins<'a> {
    pub(crate) fn new(files: Files<'a>) -> Self {
        Self { files, known: Vec::new(), system: None, errors: Vec::new() }
    }

    /// The plan for a setting; `None` for a faulty one, whose fault is kept.
    pub(crate) fn of(&mut self, tls: &OriginTls) -> Option<Arc<OriginPlan>> {
        if let Some((_, plan)) = self.known.iter().find(|(known, _)| known == tls) {
            return plan.clone();
        }
        let plan = self.build(tls).map_err(|fault| self.errors.push(fault)).ok();
        self.known.push((tls.clone(), plan.clone()));
        plan
    }

    pub(crate) fn into_errors(self) -> Vec<Diagnostic> {
        self.errors
    }

    fn build(&mut self, tls: &OriginTls) -> Result<Arc<OriginPlan>, Diagnostic> {
        let trust = match &tls.ca_file {
            _ if tls.unverified => Trust::Unverified,
            Some(path) => {
                let name = path.display().to_string();
                let fault = |(line, message)| {
                    Diagnostic::error(name.as_str(), line, message).with_help(
                        "name the PEM file of the authority that signed the upstream's certificate",
                    )
                };
                let text = read_text(self.files, &name).map_err(fault)?;
                Trust::Roots(Arc::new(read_authorities(text.as_bytes()).map_err(fault)?))
            }
            None if !tls.pins.is_empty() => Trust::PinsAlone,
            None => Trust::Roots(self.system()?),
        };
        let plan = OriginPlan::new(tls, trust);
        plan.map(Arc::new).map_err(|error| {
            Diagnostic::error("policy", 0, format!("TLS towards upstreams cannot be set up: {error}"))
        })
    }

    fn system(&mut self) -> Result<Arc<RootCertStore>, Diagnostic> {
        if let Some(system) = &self.system {
            return Ok(Arc::clone(system));
        }
        let roots = system_authorities();
        if roots.is_empty() {
            let fault = Diagnostic::error(
                "policy",
                0,
                "this system trusts no authority that could vouch for an upstream",
            );
            return Err(fault.with_help("install its certificates (Debian: `ca-certificates`), or name a `ca_file` or `pins` in `upstream_tls`"));
        }
        Ok(Arc::clone(self.system.insert(Arc::new(roots))))
    }
}
