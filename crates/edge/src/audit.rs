//! Header fields for the audit log: bounded, and with secrets masked, as all that leaves the data plane.

use phalanx_model::AuditDetail;
use phalanx_model::secret::is_secret_name;

use crate::client::Client;
use crate::http1::ResponseHead;
use crate::mask::{TEXT_BYTES_MAX, mask_referer, text};
use crate::request::Request;

/// Names and values in order.
pub(crate) type Fields = Vec<(String, String)>;

/// What the audit log shows of a request beyond its event; `None` where the node has no audit log, or the request is not
/// for it.
pub(crate) fn detail(client: &Client, request: &mut Request) -> Option<Box<AuditDetail>> {
    if !client.worker.shared.settings.audit {
        return None;
    }
    let audit = request.audit.take()?;
    Some(Box::new(AuditDetail {
        parts: audit.parts,
        client_port: client.peer.port(),
        host: client.local.ip().to_canonical(),
        host_port: client.local.port(),
        request_fields: shown(request.head.headers()),
        response_fields: std::mem::take(&mut request.reply_fields),
        engine: audit.engine,
        components: audit.components,
    }))
}

/// Notes the fields of an upstream's response.
pub(crate) fn note_response(client: &Client, request: &mut Request, response: &ResponseHead) {
    if client.worker.shared.settings.audit {
        request.reply_fields = shown(response.headers());
    }
}

/// The fields of a reply of our own, as it was written.
pub(crate) fn reply_fields(written: &[u8]) -> Fields {
    let head = written.split(|&b| b == b'\n').skip(1).map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let lines = head.take_while(|line| !line.is_empty());
    shown(lines.filter_map(|line| {
        let colon = line.iter().position(|&b| b == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        Some((name, value.get(1..).unwrap_or_default().trim_ascii()))
    }))
}

fn shown<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Fields {
    fields.take(FIELDS_MAX).map(|(name, value)| (text(name, NAME_BYTES_MAX), masked(name, value))).collect()
}

fn masked(name: &[u8], value: &[u8]) -> String {
    if is_secret_name(name) {
        "***".to_owned()
    } else if name.eq_ignore_ascii_case(b"referer") {
        mask_referer(value)
    } else {
        text(value, TEXT_BYTES_MAX)
    }
}

/// As many as a request's head may have.
const FIELDS_MAX: usize = phalanx_model::limits::HEAD_FIELDS_MAX;
const NAME_BYTES_MAX: usize = 128;
