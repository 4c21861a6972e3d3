//! `[webhooks.NAME]` and `[notify]` of `phalanx.toml`: who is told, and of what without a playbook.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use phalanx_control::playbook::Webhook;
use phalanx_policy::Diagnostic;
use phalanx_policy::playbook::GravityWord;
use phalanx_policy::toml_text::{At, Text};
use phalanx_policy::units::duration_ms;
use phalanx_trust::private_file;
use schemars::JsonSchema;
use serde::Deserialize;

/// Who is told, by name, and of what without a playbook.
#[derive(Debug, Clone, Default)]
pub(crate) struct TellSettings {
    pub(crate) webhooks: BTreeMap<String, Webhook>,
    /// Files with their secrets.
    pub(crate) secrets: Vec<PathBuf>,
    pub(crate) notify: Option<NotifySettings>,
}

/// Of which incidents receivers hear without a playbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotifySettings {
    /// Webhooks, by name.
    pub(crate) to: Vec<String>,
    /// The least gravity.
    pub(crate) from: GravityWord,
    pub(crate) opened: bool,
    pub(crate) worse: bool,
    pub(crate) closed: bool,
    /// The least time between two messages; what comes meanwhile is told together.
    pub(crate) every_ms: u64,
}

/// A receiver of webhooks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWebhook {
    /// Where it is, `https://`.
    url: At<String>,
    /// A file with the secret that messages are signed with, mode 0600.
    secret_file: At<PathBuf>,
    /// It may be at a private address. `false` if not given.
    #[serde(default)]
    allow_private: bool,
}

/// Who hears of incidents.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawNotify {
    /// Webhooks, by name.
    to: At<Vec<At<String>>>,
    /// From which severity on. "high" if not given.
    from: Option<GravityWord>,
    /// When: an incident is opened, grows worse, is closed. All if not given.
    on: Option<At<Vec<At<Occasion>>>>,
    /// How often at most; what comes meanwhile is told together. "30s" if not given.
    every: Option<At<String>>,
}

/// When somebody hears of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Occasion {
    Opened,
    Worse,
    Closed,
}

pub(crate) fn check(
    text: &Text<'_>,
    (raw, notify): (&BTreeMap<String, At<RawWebhook>>, Option<&RawNotify>),
    folder: &Path,
    faults: &mut Vec<Diagnostic>,
) -> TellSettings {
    let mut tell = TellSettings::default();
    if let Some(one_more) = raw.values().nth(WEBHOOKS_MAX) {
        faults.push(text.error_at(&one_more.span, format!("there are more than {WEBHOOKS_MAX} webhooks")));
    }
    for (name, raw) in raw.iter().take(WEBHOOKS_MAX) {
        let is_name = (1..=64).contains(&name.len())
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if !is_name {
            let fault =
                text.error_at(&raw.span, format!("`{}` is no name of a webhook", name.escape_debug()));
            faults.push(fault.with_help("a name is 1 to 64 of a-z, 0-9 and -"));
        }
        let file = folder.join(&raw.secret_file.value);
        match webhook(text, raw, &file) {
            Ok(webhook) => _ = tell.webhooks.insert(name.clone(), webhook),
            Err(fault) => faults.push(fault),
        }
        tell.secrets.push(file);
    }
    let known = |name: &str| raw.contains_key(name);
    tell.notify = notify.map(|raw| notices(text, raw, known, faults));
    tell
}

fn webhook(text: &Text<'_>, raw: &RawWebhook, file: &Path) -> Result<Webhook, Diagnostic> {
    let at = &raw.secret_file.span;
    let help = "write 16 random bytes or more into it: `umask 077; openssl rand -hex 32 > FILE`";
    let secret = match private_file::read(file, SECRET_BYTES_MAX) {
        Ok(Some(secret)) => secret,
        Ok(None) => {
            return Err(text.error_at(at, format!("{} does not exist", file.display())).with_help(help));
        }
        Err(error) => return Err(text.error_at(at, error.to_string())),
    };
    let end = secret.iter().rposition(|byte| !byte.is_ascii_whitespace()).map_or(0, |end| end + 1);
    let secret = secret.get(..end).unwrap_or_default();
    Webhook::new(&raw.url, secret, raw.allow_private).map_err(|fault| {
        let told = fault.to_string();
        let is_secret = told.starts_with("the secret");
        let fault = text.error_at(if is_secret { at } else { &raw.url.span }, told);
        match (is_secret, raw.url.starts_with("http://")) {
            (true, _) => fault.with_help(help),
            (_, true) => fault.with_help(
                "a receiver in a network of your own may be told without TLS: write `allow_private = true`",
            ),
            _ => fault,
        }
    })
}

fn notices(
    text: &Text<'_>,
    raw: &RawNotify,
    known: impl Fn(&str) -> bool,
    faults: &mut Vec<Diagnostic>,
) -> NotifySettings {
    if raw.to.value.is_empty() {
        let fault = text.error_at(&raw.to.span, "nobody is told: no webhook is named");
        faults.push(fault.with_help("write `to = [\"oncall\"]`, with a `[webhooks.oncall]`"));
    }
    for name in raw.to.value.iter().filter(|name| !known(name)) {
        let fault = text.error_at(&name.span, format!("there is no webhook `{}`", name.value));
        faults.push(fault.with_help(format!("add `[webhooks.{}]` with `url` and `secret_file`", name.value)));
    }
    let mut every_ms = EVERY_MS;
    if let Some(written) = &raw.every {
        match duration_ms(written) {
            Ok(ms) if (1_000..=3_600_000).contains(&ms) => every_ms = ms,
            Ok(_) => faults.push(text.error_at(&written.span, "`every` goes from 1s to 1h")),
            Err(fault) => faults.push(text.error_at(&written.span, fault)),
        }
    }
    let on = |occasion| raw.on.as_ref().is_none_or(|on| on.value.iter().any(|one| one.value == occasion));
    NotifySettings {
        to: raw.to.value.iter().map(|name| name.value.clone()).collect(),
        from: raw.from.unwrap_or(GravityWord::High),
        opened: on(Occasion::Opened),
        worse: on(Occasion::Worse),
        closed: on(Occasion::Closed),
        every_ms,
    }
}

/// Receivers; each playbook names a few.
const WEBHOOKS_MAX: usize = 64;
const SECRET_BYTES_MAX: usize = 1_024;
/// As patient as somebody who is called.
const EVERY_MS: u64 = 30_000;
