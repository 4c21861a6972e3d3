//! `[log.events]` of the node's settings: where events in OCSF's form go.

use std::path::{Path, PathBuf};

use phalanx_policy::Diagnostic;
use phalanx_policy::toml_text::{At, Text};
use phalanx_record::{EventSettings, SyslogTo};
use schemars::JsonSchema;
use serde::Deserialize;

/// Events in the form of OCSF, for SIEMs. At least one of `file`, `syslog` and `otlp` has to be there.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEvents {
    /// A file, one event a line.
    pub(crate) file: Option<At<PathBuf>>,
    /// A receiver, as in "udp://127.0.0.1:514", "tcp://logs.example:601" or "unix:///dev/log".
    syslog: Option<At<String>>,
    /// A collector, as in "http://127.0.0.1:4318"; in a build with `otel`.
    otlp: Option<At<String>>,
    /// What the node is called there.
    service: Option<At<String>>,
    /// Which requests are events. "notable" if not given.
    requests: Option<At<Requests>>,
}

/// Which requests are events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Requests {
    /// Those that were refused or flagged.
    #[default]
    Notable,
    /// All.
    All,
}

/// Checks the table; `file` has been checked with those of other logs.
pub(crate) fn check(
    text: &Text<'_>,
    raw: &At<RawEvents>,
    file: Option<PathBuf>,
    faults: &mut Vec<Diagnostic>,
) -> EventSettings {
    let written = &raw.value;
    if written.file.is_none() && written.syslog.is_none() && written.otlp.is_none() {
        let fault = text.error_at(&raw.span, "these events go nowhere");
        faults.push(fault.with_help("add `file`, `syslog` or `otlp`, or take the table out"));
    }
    let syslog = written.syslog.as_ref().and_then(|address| {
        let to = syslog_to(&address.value);
        if to.is_none() {
            let fault = text.error_at(&address.span, format!("`{}` is no receiver of syslog", address.value));
            faults.push(
                fault.with_help("write `udp://127.0.0.1:514`, `tcp://logs.example:601` or `unix:///dev/log`"),
            );
        }
        to
    });
    if let (Some(service), None) = (&written.service, &written.otlp) {
        let fault = text.error_at(&service.span, "`service` is a name at a collector, and none is named");
        faults.push(fault.with_help("add `otlp = \"http://127.0.0.1:4318\"`, or take it out"));
    }
    let endpoint = written.otlp.as_ref().and_then(|address| check_otlp(text, address, faults));
    #[cfg(feature = "otel")]
    let otlp = endpoint.map(|endpoint| phalanx_record::OtlpLogs {
        endpoint,
        service: written.service.as_ref().map_or("phalanx", |service| &service.value).to_owned(),
    });
    // A build that cannot send has said so.
    #[cfg(not(feature = "otel"))]
    drop(endpoint);
    EventSettings {
        file,
        syslog,
        #[cfg(feature = "otel")]
        otlp,
        all_requests: written.requests.as_ref().is_some_and(|which| which.value == Requests::All),
    }
}

/// Reads a receiver's address.
fn syslog_to(address: &str) -> Option<SyslogTo> {
    let (scheme, rest) = address.split_once("://")?;
    let is_place = || {
        let (host, port) = rest.rsplit_once(':')?;
        (!host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)).then(|| rest.to_owned())
    };
    match scheme {
        "udp" => is_place().map(SyslogTo::Udp),
        "tcp" => is_place().map(SyslogTo::Tcp),
        "unix" => Some(SyslogTo::Unix(rest.into())).filter(|_| Path::new(rest).is_absolute()),
        _ => None,
    }
}

fn check_otlp(text: &Text<'_>, address: &At<String>, faults: &mut Vec<Diagnostic>) -> Option<String> {
    if !cfg!(feature = "otel") {
        let fault = text.error_at(&address.span, "this build cannot send events to a collector");
        faults.push(fault.with_help("build it with `cargo build --release --features otel`, or take it out"));
        return None;
    }
    let endpoint = address.value.trim_end_matches('/');
    let url = endpoint.parse::<http::Uri>().ok();
    if !url.is_some_and(|url| url.scheme_str() == Some("http") && url.host().is_some()) {
        let fault = text.error_at(&address.span, format!("`{}` is no address of a collector", address.value));
        faults.push(fault.with_help(
            "write `http://127.0.0.1:4318`: a collector on this machine, which sends events on over TLS",
        ));
        return None;
    }
    Some(endpoint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::read_with;

    fn told(events: &str) -> (EventSettings, Vec<String>) {
        let (settings, faults) = read_with(&format!("[log.events]\n{events}"));
        (settings.map(|settings| settings.logs.events).unwrap_or_default(), faults)
    }

    #[test]
    fn events_go_where_it_is_said() {
        let (events, faults) = told("file = \"e.json\"\nsyslog = \"udp://[::1]:514\"\nrequests = \"all\"\n");
        assert!(faults.is_empty() && events.all_requests && events.file.unwrap().ends_with("e.json"));
        assert_eq!(events.syslog, Some(SyslogTo::Udp("[::1]:514".into())));
        for (address, expected) in [
            ("tcp://logs.example:601", Some(SyslogTo::Tcp("logs.example:601".into()))),
            ("unix:///dev/log", Some(SyslogTo::Unix("/dev/log".into()))),
            ("unix://dev/log", None),
            ("udp://127.0.0.1", None),
            ("udp://:514", None),
            ("udp://a:0", None),
            ("tls://a:6514", None),
            ("127.0.0.1:514", None),
        ] {
            assert_eq!(syslog_to(address), expected, "{address}");
        }
    }

    #[test]
    fn mistakes_about_events_are_told_with_line_and_help() {
        for (events, expected) in [
            (
                "requests = \"all\"\n",
                "error: 4: these events go nowhere\n  help: add `file`, `syslog` or `otlp`, or take the table out",
            ),
            (
                "syslog = \"localhost\"\n",
                "error: 5: `localhost` is no receiver of syslog\n  help: write `udp://127.0.0.1:514`, `tcp://logs.example:601` or `unix:///dev/log`",
            ),
            (
                "file = \"e.json\"\nservice = \"edge\"\n",
                "error: 6: `service` is a name at a collector, and none is named\n  help: add `otlp = \"http://127.0.0.1:4318\"`, or take it out",
            ),
            ("fil = \"e.json\"\n", "error: 5: unknown key `fil`\n  help: did you mean `file`?"),
            (
                "file = \"e.json\"\nrequests = \"none\"\n",
                "error: 6: unknown value `none`\n  help: known here: notable, all",
            ),
        ] {
            assert!(told(events).1.contains(&expected.to_owned()), "{:?}", told(events).1);
        }
        #[cfg(not(feature = "otel"))]
        assert!(
            told("otlp = \"http://127.0.0.1:4318\"\n").1[0].starts_with("error: 5: this build cannot send")
        );
        #[cfg(feature = "otel")]
        assert!(told("otlp = \"https://c\"\n").1[0].starts_with("error: 5: `https://c` is no address"));
    }

    #[test]
    fn events_have_a_file_of_their_own() {
        let (_, faults) = read_with("[log]\naccess = \"/tmp/a.log\"\n[log.events]\nfile = \"/tmp/a.log\"\n");
        assert!(faults[0].starts_with("error: 7: `access` goes to the same file"), "{faults:?}");
        let (_, faults) = told("file = \"state/events.json\"\n");
        assert!(
            faults[0].starts_with("error: 5: the state folder is for the node's own files"),
            "{faults:?}"
        );
    }
}
