//! What the process may touch: files that the settings name (landlock), and calls to the kernel that a node makes (seccomp).
//!
//! Both hold for the thread that enters and for all that it starts, so the process enters before it starts any, and for good. Failure direction: open; a kernel
//! without one of them leaves the node as it would be, and the status says so.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    path_beneath_rules,
};
use phalanx_policy::handling::Pages;
use phalanx_policy::route::{Does, ReplyBody, StaticReply};
use phalanx_policy::toml_text::{At, Text};
use phalanx_policy::{Diagnostic, Policy, RuleSource, Upstreams};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{privileges, syscalls};
use crate::plan::PolicySource;
use crate::settings::Settings;

/// What an operator says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SandboxSettings {
    /// Files are confined.
    pub(crate) files: bool,
    /// Calls to the kernel are confined.
    pub(crate) calls: bool,
    /// Folders or files that may be read beyond those that settings and policy name.
    pub(crate) read: Vec<PathBuf>,
    /// Folders of these settings, whose files may be read.
    pub(crate) folders: Vec<PathBuf>,
}

impl Default for SandboxSettings {
    fn default() -> Self {
        Self { files: true, calls: true, read: Vec::new(), folders: Vec::new() }
    }
}

/// What the process may touch.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSandbox {
    /// It reaches only files that are named, where the kernel has landlock. `true` if not given.
    files: Option<bool>,
    /// It makes only the calls that a node makes, where the kernel has seccomp. `true` if not given.
    calls: Option<bool>,
    /// Up to 64 folders or files that it may read besides.
    #[serde(default)]
    read: Vec<At<PathBuf>>,
}

/// Checks what was written; `folder` is that of the settings file.
pub(crate) fn check(
    text: &Text<'_>,
    raw: &RawSandbox,
    folder: &Path,
    faults: &mut Vec<Diagnostic>,
) -> SandboxSettings {
    if let Some(one_more) = raw.read.get(READ_MAX) {
        faults.push(text.error_at(&one_more.span, format!("there are more than {READ_MAX} entries")));
    }
    SandboxSettings {
        files: raw.files.unwrap_or(true),
        calls: raw.calls.unwrap_or(true),
        read: raw.read.iter().take(READ_MAX).map(|path| folder.join(&path.value)).collect(),
        folders: vec![folder.to_owned()],
    }
}

/// What holds, as the status tells it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Confinement {
    /// One sentence each.
    pub(crate) holds: Vec<String>,
    /// What was asked for and could not be had.
    pub(crate) degraded: Vec<String>,
}

/// Gives up what a node does not need. To be called before any other thread is started, and after the launcher was.
pub(crate) fn enter(settings: &Settings, state: &Path, source: &PolicySource) -> Confinement {
    let mut confinement = Confinement::default();
    let (user, is_fault) = privileges::give_up();
    if is_fault {
        confinement.degraded.push(format!("the process runs as {user}"));
    }
    confinement.holds.push(format!("runs as {user}"));
    let (files, calls) = (settings.sandbox.files, settings.sandbox.calls);
    confinement.note("files", files, || confine_files(&Reach::of(settings, state, source)));
    confinement.note("calls", calls, syscalls::confine);
    for line in &confinement.degraded {
        tracing::warn!("{line}");
    }
    confinement
}

impl Confinement {
    fn note(&mut self, what: &str, asked: bool, confine: impl FnOnce() -> Result<String, String>) {
        if !asked {
            return self.holds.push(format!("{what}: not confined, as the settings say"));
        }
        match confine() {
            Ok(holds) => self.holds.push(format!("{what}: {holds}")),
            Err(why) => {
                self.holds.push(format!("{what}: NOT confined: {why}"));
                self.degraded.push(format!("the process is not confined in its {what}: {why}"));
            }
        }
    }
}

/// Says of files that may not be read what to do when that is because they are new to the process.
pub(crate) fn explain(faults: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let explain = |fault: Diagnostic| {
        match fault.help.is_none() && fault.message.contains("Permission denied") {
        true => fault.with_help(
            "a file in a folder that nothing named when the process started is out of its reach: `phalanx upgrade` takes it in; or name the \
             folder in `read` of [sandbox]",
        ),
        false => fault,
    }
    };
    faults.into_iter().map(explain).collect()
}

/// Paths that a node reaches.
#[derive(Debug, Default)]
struct Reach {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
}

impl Reach {
    fn of(settings: &Settings, state: &Path, source: &PolicySource) -> Self {
        let mut reach = Self::default();
        reach.read.extend(SYSTEM_READ.iter().map(PathBuf::from));
        // Where the system's certificates are, if it is said.
        for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
            reach.read.extend(std::env::var_os(name).map(PathBuf::from));
        }
        reach.write.extend(SYSTEM_WRITE.iter().map(PathBuf::from));
        reach.write.push(state.to_owned());
        let logs = [
            settings.logs.access.as_ref().and_then(|to| match to {
                phalanx_record::AccessLogTo::File(log) => Some(log.as_path()),
                _ => None,
            }),
            settings.logs.modsecurity.as_deref(),
            settings.logs.audit.as_ref().map(|(log, _)| log.as_path()),
            settings.logs.events.file.as_deref(),
        ];
        logs.into_iter().flatten().for_each(|log| reach.write_beside(log));
        reach.read.extend(settings.sandbox.folders.iter().cloned());
        reach.read.extend(settings.sandbox.read.iter().cloned());
        let identities = settings.tls.identities.iter().map(|(_, files)| files);
        for files in settings.tls.certificates.iter().chain(identities).chain(&settings.tls.console) {
            reach.read_beside(&files.cert);
            reach.read_beside(&files.key);
        }
        for listener in &settings.tls.listeners {
            listener.clients.iter().for_each(|clients| reach.read_beside(&clients.ca_file));
        }
        if let Some(acme) = &settings.tls.acme {
            acme.order.ca_file.iter().for_each(|file| reach.read_beside(file));
            acme.order.external_account.iter().for_each(|(_, file)| reach.read_beside(file));
        }
        settings.geo.iter().for_each(|file| reach.read_beside(file));
        let secret = settings.fleet.as_ref().and_then(|fleet| fleet.secret_file.as_deref());
        secret.into_iter().for_each(|file| reach.read_beside(file));
        for import in &settings.imports {
            reach.read_beside(&import.key_file);
            import.ca_file.iter().for_each(|file| reach.read_beside(file));
        }
        settings.tell.secrets.iter().for_each(|file| reach.read_beside(file));
        settings.oidc.files.iter().for_each(|file| reach.read_beside(file));
        reach.policy(&settings.site, source);
        for paths in [&mut reach.read, &mut reach.write] {
            paths.sort();
            paths.dedup();
        }
        reach
    }

    /// The folders of a policy and of the rules that it names now. One that has faults names none; it is refused in a moment.
    fn policy(&mut self, site: &str, source: &PolicySource) {
        let read;
        let policy: &Policy = match source {
            PolicySource::Built(policy) => policy,
            PolicySource::File(path) => {
                self.read_beside(path);
                let text = std::fs::read_to_string(path).unwrap_or_default();
                let name = path.display().to_string();
                let Ok((policy, _)) = phalanx_policy::parse_policy_at(&name, &text, Some(site)) else {
                    return;
                };
                read = policy;
                &read
            }
        };
        policy.cdn_networks.iter().for_each(|file| self.read_beside(file));
        policy.crawlers.iter().for_each(|file| self.read_beside(file));
        policy.playbooks.files.iter().for_each(|file| self.read_beside(file));
        for app in &policy.apps {
            app.client_certificate.iter().for_each(|asked| self.read_beside(&asked.ca_file));
            self.upstreams(&app.upstreams);
            self.rule_set(&app.rules, &app.extra_rules);
            self.pages(&app.handling.pages);
            for route in &app.routes {
                self.pages(&route.handling.pages);
                if let Does::Reply(StaticReply { body: ReplyBody::File(file), .. }) = &route.does {
                    self.read_beside(file);
                }
                let Some(own) = &route.own else { continue };
                own.upstreams.iter().for_each(|upstreams| self.upstreams(upstreams));
                self.rule_set(&own.rules, &own.extra_rules);
            }
        }
    }

    fn upstreams(&mut self, upstreams: &Upstreams) {
        let origins = upstreams.servers.iter().filter_map(|server| server.tls.as_ref());
        origins.filter_map(|tls| tls.ca_file.as_ref()).for_each(|file| self.read_beside(file));
    }

    fn pages(&mut self, pages: &Pages) {
        let files = [&pages.refused, &pages.error, &pages.maintenance, &pages.brand.logo];
        files.into_iter().flatten().for_each(|file| self.read_beside(file));
    }

    fn rule_set(&mut self, rules: &RuleSource, extra: &[PathBuf]) {
        if let RuleSource::Dirs(folders) = rules {
            for folder in folders
                .iter()
                .flat_map(|folder| [folder.clone(), folder.join("rules"), folder.join("plugins")])
            {
                let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
                files.for_each(|file| self.rules(&file.path(), INCLUDES_DEEP));
                self.read.push(folder);
            }
        }
        extra.iter().for_each(|file| self.rules(file, INCLUDES_DEEP));
    }

    /// A rule file, and the folders of those that it includes from elsewhere.
    fn rules(&mut self, file: &Path, deep: u8) {
        self.read_beside(file);
        let is_text = file.extension().is_some_and(|ending| ending == "conf" || ending == "load");
        let Some(deep) = deep.checked_sub(1).filter(|_| is_text) else { return };
        let text = std::fs::read(file).unwrap_or_default();
        for line in String::from_utf8_lossy(&text).lines() {
            let (directive, path) = line.trim().split_once(char::is_whitespace).unwrap_or_default();
            let path = Path::new(path.trim().trim_matches('"'));
            let includes =
                ["include", "includeoptional"].iter().any(|word| directive.eq_ignore_ascii_case(word));
            if includes && path.is_absolute() {
                self.rules(path, deep);
            }
        }
    }

    /// A file, or a pattern of files, and those beside it: what is replaced is written under another name first, and is another file then.
    fn read_beside(&mut self, file: &Path) {
        self.read.push(folder_of(file));
        // Certificates are often links to where a client of an authority keeps them.
        self.read.extend(file.canonicalize().ok().map(|target| folder_of(&target)));
    }

    /// A log is made anew, and rotated, in its folder. A device is no such file.
    fn write_beside(&mut self, file: &Path) {
        let folder = folder_of(file);
        self.write.push(if folder == Path::new("/dev") { file.to_owned() } else { folder });
    }
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn confine_files(reach: &Reach) -> Result<String, String> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::from_all(KNOWN) & !AccessFs::Execute & !AccessFs::MakeChar & !AccessFs::MakeBlock;
    let enter = || {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(KNOWN))?
            .create()?
            .add_rules(path_beneath_rules(&reach.read, read))?
            .add_rules(path_beneath_rules(&reach.write, write))?
            .restrict_self()
    };
    match enter().map_err(|error| error.to_string())?.ruleset {
        RulesetStatus::FullyEnforced => Ok("only those that the settings name (landlock)".to_owned()),
        RulesetStatus::PartiallyEnforced => {
            Ok("only those that the settings name, as far as this kernel's landlock goes".to_owned())
        }
        RulesetStatus::NotEnforced => Err("the kernel has no landlock".to_owned()),
    }
}

/// What the rules are written for; an older kernel holds fewer of them.
const KNOWN: ABI = ABI::V5;
/// What names, certificates of authorities, time zones and figures of the process itself are read from.
const SYSTEM_READ: [&str; 18] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/localtime",
    "/etc/ld.so.cache",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/usr",
    "/lib",
    "/lib64",
    "/proc",
    "/sys",
];
const SYSTEM_WRITE: [&str; 3] = ["/dev/null", "/dev/urandom", "/dev/random"];
const READ_MAX: usize = 64;
/// How far files that include others are looked through; the rest is for `read` to name.
const INCLUDES_DEEP: u8 = 4;
