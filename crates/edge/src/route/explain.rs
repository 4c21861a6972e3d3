//! Which app and route a request meets, and why, for people.

use phalanx_model::RequestHead;

use super::table::{Ambiguous, Asked};
use crate::http1::parse_head;
use crate::http1::semantics::without_port;
use crate::plan::{EdgePlan, HostFound};

/// What a request meets.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct MetReport {
    /// The app, if one answers to the host.
    pub app: Option<String>,
    /// Why this app.
    pub why_app: String,
    /// The path as routes are compared with it.
    pub path: String,
    /// The same as servers read it to whom `/` alone separates segments, where that differs.
    pub other_reading: Option<String>,
    /// The route, if one is met.
    pub route: Option<String>,
    /// Both readings of the path meet different routes: the request is refused.
    pub ambiguous: bool,
    /// Routes that were tried, and what speaks against each; nothing against the one that is met.
    pub tried: Vec<(String, Option<String>)>,
}

impl EdgePlan {
    /// Which app and route a request meets. `secure`: it came over TLS.
    pub fn explain(&self, head: &RequestHead, secure: bool) -> MetReport {
        let host = head.header("host").unwrap_or_default();
        let shown = String::from_utf8_lossy(without_port(host)).into_owned();
        let (index, found) = self.find_host(host);
        let why_app = match found {
            HostFound::Exact => format!("it names the host {shown}"),
            HostFound::Below(at) => {
                let domain = shown.get(at..).unwrap_or_default();
                format!("it names *.{domain}, and no app names {shown}")
            }
            HostFound::Rest => format!("it takes what no other app names, and none names {shown}"),
            HostFound::Nowhere => format!("no app answers to the host {shown}; the reply is 421"),
        };
        let mut report = MetReport { why_app, ..MetReport::default() };
        let Some(app) = index.and_then(|index| self.apps().get(index)) else { return report };
        report.app = Some(app.name.to_string());
        let Some(table) = &app.table else { return report };
        let asked = Asked { head, secure };
        let (one, other) = table.readings(head.target());
        report.path = String::from_utf8_lossy(&one).into_owned();
        report.other_reading = (one != other).then(|| String::from_utf8_lossy(&other).into_owned());
        let name = |route: u32| self.route(route).map(|route| route.name.to_string()).unwrap_or_default();
        match table.find(&asked) {
            Ok(route) => report.route = route.map(name),
            Err(Ambiguous) => report.ambiguous = true,
        }
        let tried = table.tried(&one, &asked).into_iter();
        report.tried = tried.map(|(route, fits)| (name(route), fits.err())).collect();
        report
    }

    /// About how many bytes the routes take.
    pub fn route_memory(&self) -> usize {
        self.apps().iter().filter_map(|app| app.table.as_ref()).map(|table| table.memory()).sum()
    }
}

/// A request's head of a method, a target and header fields.
///
/// # Errors
/// A sentence that says why it is none.
pub fn request_head(
    method: &str,
    host: &str,
    target: &str,
    fields: &[String],
) -> Result<RequestHead, String> {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let raw = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
    let head = parse_head(raw.as_bytes()).map_err(|error| format!("this is no request: {error}"))?;
    match head.faults.first() {
        None => Ok(head),
        Some(fault) => Err(format!("this request is refused: {fault}")),
    }
}
