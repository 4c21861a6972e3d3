//! Node settings: what `phalanx.toml` says, and the same from the command line of `phalanx up`.
//!
//! `RawSettings` is what was written; [`Settings`] is checked and ready. Policy (apps, rules, limits, access) is a
//! separate file, named by `policy`, because in a fleet it is shared while addresses and state are a node's own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use phalanx_policy::Diagnostic;
use phalanx_policy::toml_text::{At, Text};
use phalanx_record::AuditFormat;
use serde::Deserialize;

use crate::args::parse_name;

/// A node's settings, checked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) state: PathBuf,
    /// Data plane threads; one runtime each.
    pub(crate) workers: usize,
    pub(crate) site: String,
    pub(crate) node: String,
    pub(crate) fleet: Option<FleetSettings>,
    pub(crate) fleet_id: String,
    pub(crate) logs: LogSettings,
    /// Databases that say where addresses are.
    pub(crate) geo: Vec<PathBuf>,
}

/// Logs in other tools' formats; there are none unless they are asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogSettings {
    pub(crate) modsecurity: Option<PathBuf>,
    pub(crate) audit: Option<(PathBuf, AuditFormat)>,
}

/// How the node reaches its fleet.
#[derive(Debug, Clone)]
pub(crate) struct FleetSettings {
    /// The NATS server; none for a node that is told by the fleet's authority.
    pub(crate) url: Option<String>,
    pub(crate) secret_file: Option<PathBuf>,
    /// The token to join with.
    pub(crate) join: Option<String>,
    /// Where nodes join and renew, where the fleet's authority is.
    pub(crate) enroll: Option<SocketAddr>,
    /// How joiners reach it.
    pub(crate) enroll_at: Vec<String>,
}

/// Reads a settings file: the settings and the policy file they name, as far as they can be read, and every fault.
/// What was read must not be used when there are faults.
pub(crate) fn read(path: &Path) -> (Option<(Settings, PathBuf)>, Vec<Diagnostic>) {
    let name = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            return (None, vec![Diagnostic::error(name.as_str(), 0, format!("cannot be read: {error}"))]);
        }
    };
    let text = Text::new(&name, &text);
    let (raw, mut faults) = text.read_partly::<RawSettings>();
    let folder = path.parent().unwrap_or(Path::new(""));
    (raw.map(|raw| check(&text, &raw, folder, &mut faults)), faults)
}

fn check(
    text: &Text<'_>,
    raw: &RawSettings,
    folder: &Path,
    faults: &mut Vec<Diagnostic>,
) -> (Settings, PathBuf) {
    let listen = raw.listen.address.clone().unwrap_or_default();
    let mut addresses: Vec<_> = listen.iter().filter_map(|a| address(text, a, faults)).collect();
    if listen.is_empty() {
        addresses.push(DEFAULT_LISTEN);
    }
    let admin = raw.listen.admin.as_ref().and_then(|a| address(text, a, faults)).unwrap_or(DEFAULT_ADMIN);
    if !admin.ip().is_loopback()
        && let Some(at) = &raw.listen.admin
    {
        let fault = text.error_at(&at.span, "the admin listener has no TLS yet and must be on loopback");
        faults.push(fault.with_help("write `127.0.0.1:8900` and reach it through SSH"));
    }
    let site = name(text, raw.node.site.as_ref(), "local", faults);
    let node = name(text, raw.node.name.as_ref(), "node", faults);
    let fleet_id = name(text, raw.fleet.as_ref().and_then(|f| f.id.as_ref()), "default", faults);
    let fleet = raw.fleet.as_ref().map(|raw| fleet(text, raw, folder, faults));
    let workers = match &raw.node.workers {
        Some(workers) if !(1..=256).contains(&workers.value) => {
            faults.push(text.error_at(&workers.span, "`workers` goes from 1 to 256"));
            1
        }
        Some(workers) => usize::from(workers.value),
        None => default_workers(),
    };
    let state = raw.node.state.as_ref().map_or_else(default_state, |state| folder.join(state));
    let settings = Settings {
        listen: addresses,
        admin,
        logs: logs(text, &raw.log, folder, &state, faults),
        state,
        workers,
        site,
        node,
        fleet,
        fleet_id,
        geo: geo(text, &raw.geo, folder, faults),
    };
    (settings, folder.join(&raw.policy))
}

fn fleet(text: &Text<'_>, raw: &RawFleet, folder: &Path, faults: &mut Vec<Diagnostic>) -> FleetSettings {
    if let Some(url) = &raw.url
        && !url.starts_with("nats://")
        && !url.starts_with("tls://")
    {
        let fault = text.error_at(&url.span, "the fleet's URL is no NATS URL");
        faults.push(fault.with_help("write `nats://HOST:4222`"));
    }
    let join = raw.join_file.as_ref().and_then(|file| match read_token(&folder.join(&file.value)) {
        Ok(token) => Some(token),
        // Needed once: after that the file may be gone, and should be.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            let fault = text.error_at(&file.span, format!("the join token cannot be read: {error}"));
            faults.push(fault.with_help("make it readable for the user that runs phalanx, or take it out"));
            None
        }
    });
    FleetSettings {
        url: raw.url.as_ref().map(|url| url.value.clone()),
        secret_file: raw.secret_file.as_ref().map(|file| folder.join(file)),
        join,
        enroll: raw.enroll.as_ref().and_then(|written| address(text, written, faults)),
        enroll_at: raw.enroll_at.clone(),
    }
}

/// Reads a join token from a file.
pub(crate) fn read_token(path: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned())
}

fn logs(
    text: &Text<'_>,
    raw: &RawLog,
    folder: &Path,
    state: &Path,
    faults: &mut Vec<Diagnostic>,
) -> LogSettings {
    let mut path = |written: &At<PathBuf>| {
        let path = folder.join(&written.value);
        if path.is_dir() {
            let fault = text.error_at(&written.span, format!("`{}` is a folder", written.value.display()));
            faults.push(fault.with_help("name the file itself, as in `/var/log/phalanx/audit.log`"));
        } else if path.starts_with(state) {
            let fault = text.error_at(&written.span, "the state folder is for the node's own files");
            faults.push(fault.with_help("write the log to another folder, as in `/var/log/phalanx`"));
        }
        path
    };
    let modsecurity = raw.modsecurity.as_ref().map(&mut path);
    let audit = raw.audit.as_ref().map(&mut path);
    if let (Some(written), true) = (&raw.audit, audit.is_some() && audit == modsecurity) {
        let fault = text.error_at(&written.span, "`modsecurity` goes to the same file");
        faults.push(fault.with_help("give each log a file of its own"));
    }
    if let (Some(format), None) = (&raw.audit_format, &raw.audit) {
        let fault = text.error_at(&format.span, "`audit_format` is the format of a log that has no file");
        faults.push(fault.with_help("add `audit = \"/var/log/phalanx/audit.log\"`, or take it out"));
    }
    let format = raw.audit_format.as_ref().map(|format| format.value).unwrap_or_default();
    LogSettings { modsecurity, audit: audit.map(|path| (path, format)) }
}

/// Whether they can be used is for `check` to say and for the running node: a node starts without them.
fn geo(text: &Text<'_>, raw: &RawGeo, folder: &Path, faults: &mut Vec<Diagnostic>) -> Vec<PathBuf> {
    if let Some(one) = raw.database.get(GEO_FILES_MAX) {
        faults.push(text.error_at(&one.span, format!("a node reads at most {GEO_FILES_MAX} databases")));
    }
    raw.database.iter().take(GEO_FILES_MAX).map(|written| folder.join(&written.value)).collect()
}

fn address(text: &Text<'_>, written: &At<String>, faults: &mut Vec<Diagnostic>) -> Option<SocketAddr> {
    let address = written.parse().ok();
    if address.is_none() {
        let fault = text.error_at(&written.span, format!("`{}` is no address with a port", written.value));
        faults.push(fault.with_help("write `0.0.0.0:8080`, `[::]:8080` or `127.0.0.1:8080`"));
    }
    address
}

fn name(
    text: &Text<'_>,
    written: Option<&At<String>>,
    default: &str,
    faults: &mut Vec<Diagnostic>,
) -> String {
    let Some(written) = written else { return default.to_owned() };
    parse_name(written).unwrap_or_else(|message| {
        faults.push(text.error_at(&written.span, format!("`{}` is no name: {message}", written.value)));
        default.to_owned()
    })
}

/// One worker per core.
pub(crate) fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Where state lies unless it is said: the service manager's folder, else the user's.
pub(crate) fn default_state() -> PathBuf {
    let folder = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(state) = folder("STATE_DIRECTORY") {
        return state;
    }
    let user = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")));
    user.unwrap_or_else(|| PathBuf::from("/var/lib")).join("phalanx")
}

/// `phalanx.toml` as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSettings {
    /// The policy file, relative to this one.
    policy: PathBuf,
    #[serde(default)]
    node: RawNode,
    #[serde(default)]
    listen: RawListen,
    fleet: Option<RawFleet>,
    #[serde(default)]
    log: RawLog,
    #[serde(default)]
    geo: RawGeo,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGeo {
    #[serde(default)]
    database: Vec<At<PathBuf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    modsecurity: Option<At<PathBuf>>,
    audit: Option<At<PathBuf>>,
    audit_format: Option<At<AuditFormat>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    site: Option<At<String>>,
    name: Option<At<String>>,
    state: Option<PathBuf>,
    workers: Option<At<u16>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawListen {
    address: Option<Vec<At<String>>>,
    admin: Option<At<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFleet {
    url: Option<At<String>>,
    id: Option<At<String>>,
    secret_file: Option<PathBuf>,
    join_file: Option<At<PathBuf>>,
    enroll: Option<At<String>>,
    #[serde(default)]
    enroll_at: Vec<String>,
}

/// One of countries, one of systems, and as many of the operator's own.
const GEO_FILES_MAX: usize = 4;
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8900);

#[cfg(test)]
mod tests {
    use super::*;

    fn told(log: &str) -> (Option<LogSettings>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("phalanx.toml");
        std::fs::write(&file, format!("policy = \"policy.toml\"\n[node]\nstate = \"state\"\n[log]\n{log}"))
            .unwrap();
        let (settings, faults) = read(&file);
        let name = format!("{}:", file.display());
        let faults = faults.iter().map(|fault| fault.to_string().replace(&name, "")).collect();
        (settings.map(|(settings, _)| settings.logs), faults)
    }

    #[test]
    fn there_are_no_other_logs_unless_they_are_asked_for() {
        let (logs, faults) = told("");
        let logs = logs.unwrap();
        assert!(faults.is_empty() && logs.modsecurity.is_none() && logs.audit.is_none());
        let (logs, faults) = told("modsecurity = \"m.log\"\naudit = \"a.log\"\naudit_format = \"native\"\n");
        let (path, format) = logs.unwrap().audit.unwrap();
        assert!(faults.is_empty() && path.ends_with("a.log"));
        assert_eq!(format, AuditFormat::Native);
    }

    #[test]
    fn databases_of_addresses_are_named_from_the_settings_folder_and_limited() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("phalanx.toml");
        let read = |database: &str| {
            std::fs::write(&file, format!("policy = \"policy.toml\"\n[geo]\ndatabase = [{database}]\n"))
                .unwrap();
            let (settings, faults) = read(&file);
            (settings.unwrap().0.geo, faults.iter().map(ToString::to_string).collect::<String>())
        };
        let (files, faults) = read(r#""country.mmdb", "/srv/asn.mmdb""#);
        assert_eq!(files, [folder.path().join("country.mmdb"), "/srv/asn.mmdb".into()]);
        assert!(faults.is_empty(), "{faults}");
        let (_, faults) = read(r#""1", "2", "3", "4", "5""#);
        assert!(faults.contains(":3: a node reads at most 4 databases"), "{faults}");
    }

    #[test]
    fn mistakes_about_logs_are_told_with_line_and_help() {
        for (log, expected) in [
            (
                "audit_format = \"native\"\n",
                "error: 5: `audit_format` is the format of a log that has no file\n  help: add `audit = \"/var/log/phalanx/audit.log\"`, or take it out",
            ),
            (
                "audit = \"a.log\"\naudit_format = \"natve\"\n",
                "error: 6: unknown value `natve`\n  help: did you mean `native`?",
            ),
            (
                "modsecurity = \"a.log\"\naudit = \"a.log\"\n",
                "error: 6: `modsecurity` goes to the same file\n  help: give each log a file of its own",
            ),
            (
                "audit = \"state/record/access.log\"\n",
                "error: 5: the state folder is for the node's own files\n  help: write the log to another folder, as in `/var/log/phalanx`",
            ),
            (
                "audit = \"/tmp\"\n",
                "error: 5: `/tmp` is a folder\n  help: name the file itself, as in `/var/log/phalanx/audit.log`",
            ),
            ("audi = \"a.log\"\n", "error: 5: unknown key `audi`\n  help: did you mean `audit`?"),
        ] {
            assert_eq!(told(log).1, [expected], "{log}");
        }
    }
}
