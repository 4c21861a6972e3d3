//! `[notify]` of `phalanx.toml`: who is told, and of what, without a playbook.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use phalanx_control::receiver::Receiver;
use phalanx_policy::Diagnostic;
use phalanx_policy::playbook::GravityWord;
use phalanx_policy::toml_text::{At, Text};
use phalanx_policy::units::duration_ms;
use schemars::JsonSchema;
use serde::Deserialize;

use super::receivers;

/// Who is told, by name, and of what without a playbook.
#[derive(Debug, Clone, Default)]
pub(crate) struct TellSettings {
    pub(crate) receivers: BTreeMap<String, Receiver>,
    /// Files with their secrets, and others that they need.
    pub(crate) secrets: Vec<PathBuf>,
    pub(crate) notify: Option<NotifySettings>,
}

/// Of which incidents receivers hear without a playbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotifySettings {
    /// Receivers, by name.
    pub(crate) to: Vec<String>,
    /// The least gravity.
    pub(crate) from: GravityWord,
    pub(crate) opened: bool,
    pub(crate) worse: bool,
    pub(crate) closed: bool,
    /// The least time between two messages; what comes meanwhile is told together.
    pub(crate) every_ms: u64,
}

/// Who hears of incidents.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawNotify {
    /// Receivers, by name.
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
    (raw, notify): (receivers::Raw<'_>, Option<&RawNotify>),
    folder: &Path,
    faults: &mut Vec<Diagnostic>,
) -> TellSettings {
    let (receivers, secrets) = receivers::read(text, raw, folder, faults);
    let known = |name: &str| raw.0.contains_key(name) || raw.1.contains_key(name);
    let notify = notify.map(|raw| notices(text, raw, known, faults));
    TellSettings { receivers, secrets, notify }
}

fn notices(
    text: &Text<'_>,
    raw: &RawNotify,
    known: impl Fn(&str) -> bool,
    faults: &mut Vec<Diagnostic>,
) -> NotifySettings {
    if raw.to.value.is_empty() {
        let fault = text.error_at(&raw.to.span, "nobody is told: no receiver is named");
        faults.push(fault.with_help("write `to = [\"oncall\"]`, with a `[webhooks.oncall]`"));
    }
    for name in raw.to.value.iter().filter(|name| !known(name)) {
        let fault = text.error_at(&name.span, format!("there is no receiver `{}`", name.value));
        faults.push(fault.with_help(format!(
            "add `[webhooks.{}]` with `url` and `secret_file`, or `[mail.{}]`",
            name.value, name.value
        )));
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

/// As patient as somebody who is called.
const EVERY_MS: u64 = 30_000;
