//! Certificates that apps ask of their clients.

use super::Check;
use crate::client_certificate::{CLIENT_CERT, ClientCertificate};
use crate::handling::is_reserved_field;
use crate::policy::FIELD_NAME_BYTES_MAX;
use crate::rate_limit::is_token;
use crate::raw::RawApp;
use crate::toml_text::At;

impl Check<'_> {
    /// What an app asks of its clients' certificates, if it asks for any.
    pub(super) fn client_certificate(&mut self, raw: &RawApp) -> Option<ClientCertificate> {
        let written = raw.client_certificate.as_ref()?;
        let header = self.certificate_field(written.header.as_ref());
        let fingerprint_header = self.certificate_field(written.fingerprint_header.as_ref());
        let header = header.unwrap_or_else(|| CLIENT_CERT.to_owned());
        if let Some(at) = &written.fingerprint_header
            && fingerprint_header.as_ref() == Some(&header)
        {
            let fault =
                self.text.error_at(&at.span, "one field cannot hold both certificate and fingerprint");
            self.found.push(fault.with_help(
                "give the fingerprint a field of its own: `fingerprint_header = \"client-cert-sha256\"`",
            ));
        }
        let Some(file) = written.ca_file.as_ref().filter(|file| !file.value.is_empty()) else {
            let fault = self.text.error_at(&written.span, "nothing says whose certificates are believed");
            self.found
                .push(fault.with_help("name a PEM file of their authorities: `ca_file = \"staff.pem\"`"));
            return None;
        };
        let ca_file = self.folder.join(&file.value);
        Some(ClientCertificate {
            ca_file,
            mode: written.mode.unwrap_or_default(),
            header,
            fingerprint_header,
        })
    }

    /// The name of a field that tells of a certificate, in lower case.
    fn certificate_field(&mut self, written: Option<&At<String>>) -> Option<String> {
        let name = written?;
        if !is_token(name) || name.len() > FIELD_NAME_BYTES_MAX {
            let fault = format!("`{}` is no name of a header field", name.value.escape_debug());
            let fault = self.text.error_at(&name.span, fault);
            self.found.push(fault.with_help("write a name such as `client-cert`, without a colon"));
            return None;
        }
        if is_reserved_field(name, true) {
            let fault = self.text.error_at(&name.span, format!("`{}` has a meaning of its own", name.value));
            self.found
                .push(fault.with_help("choose another name, or take it out for `client-cert` (RFC 9440)"));
            return None;
        }
        Some(name.to_ascii_lowercase())
    }
}
