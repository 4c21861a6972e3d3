//! Playbooks as CACAO 2.0 (OASIS, Committee Specification 01), and those of others as far as they map.
//!
//! Out: each step is an action, whose command says in words what to do, so that any tool can show it to a person; what Phalanx needs to do it by itself stands beside
//! it, in an extension. In: our own come back as they were. Of others a plain sequence of actions is taken: manual commands become questions, HTTP calls become
//! notices to a webhook that has to be named, delays become waits. Branches, loops, calls of other playbooks and commands for shells map to nothing; they are named, and nothing is imported.
//!
//! Identifiers are UUIDs in the form of version 4, taken from a hash of names: the same playbook has the same ones.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use phalanx_policy::playbook::{OnFailure, Playbook, PlaybookStep, STEPS_MAX, StepAction, Trigger, to_text};
use serde_json::{Map, Value, json};

/// A playbook as CACAO. `at_ms` is when this version was made, in Unix milliseconds.
pub fn export(playbook: &Playbook, at_ms: u64) -> Value {
    let name = &playbook.name;
    let id = |kind: &str, what: &str| identifier(kind, &format!("{name}/{what}"));
    let (start, end, revert) = (id("start", "start"), id("end", "end"), id("action", "(revert)"));
    let steps: Vec<String> = playbook.steps.iter().map(|step| id("action", &step.id)).collect();
    let mut workflow = Map::new();
    let first = steps.first().unwrap_or(&end);
    workflow.insert(start.clone(), json!({"type": "start", "on_completion": first}));
    for (place, step) in playbook.steps.iter().enumerate() {
        let next = steps.get(place + 1).unwrap_or(&end);
        let on_failure = match step.on_failure {
            OnFailure::Stop => &end,
            OnFailure::Continue => next,
            OnFailure::Revert => &revert,
        };
        workflow.insert(id("action", &step.id), action(step, next, on_failure));
    }
    if playbook.steps.iter().any(|step| step.on_failure == OnFailure::Revert) {
        let command = json!({
            "type": "manual", "command": "withdraw what this playbook ordered", "playbook_activity": "revert-system",
        });
        let step = json!({
            "type": "action", "name": "revert", "commands": [command], "agent": agent(PHALANX), "on_success": end, "on_failure": end,
        });
        workflow.insert(revert, step);
    }
    workflow.insert(end, json!({"type": "end"}));
    let time = phalanx_record::rfc3339(at_ms);
    let activities: Vec<&str> = {
        let mut all: Vec<&str> = playbook.steps.iter().map(|step| activity(&step.action)).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let mut document = json!({
        "type": "playbook",
        "spec_version": SPEC,
        "id": id("playbook", ""),
        "name": name,
        "playbook_types": ["mitigation"],
        "playbook_activities": activities,
        "created_by": identifier("identity", "phalanx"),
        "created": time,
        "modified": time,
        "labels": [format!("version-{}", playbook.version)],
        "workflow_start": start,
        "workflow": workflow,
        "playbook_extensions": {extension(): {"version": playbook.version, "trigger": playbook.trigger}},
        "agent_definitions": {
            agent(PHALANX): {"type": "group", "name": PHALANX, "description": "the nodes of the fleet"},
            agent(OPERATORS): {"type": "group", "name": OPERATORS, "description": "who answers for the fleet"},
        },
        "extension_definitions": {extension(): {
            "type": "extension-definition",
            "name": "phalanx playbook",
            "description": "what a step does, as Phalanx reads it",
            "created_by": identifier("identity", "phalanx"),
            "schema": "the keys of [[steps]] and [trigger] in Phalanx's guide to playbooks, durations in milliseconds",
            "version": "1.0.0",
        }},
    });
    if let (false, Some(members)) = (playbook.about.is_empty(), document.as_object_mut()) {
        members.insert("description".into(), playbook.about.clone().into());
    }
    document
}

fn action(step: &PlaybookStep, next: &str, on_failure: &str) -> Value {
    let minutes = |ms: u64| format!("{} s", ms / 1_000);
    let (words, who) = match &step.action {
        StepAction::Countermeasure { measure, scope, for_ms } => {
            (format!("{measure} each {scope} that the incident names, for {}", minutes(*for_ms)), PHALANX)
        }
        StepAction::Notify { to, text } => (format!("tell {to}: {text}"), PHALANX),
        StepAction::Ticket { to, text } => (format!("open a ticket at {to}: {text}"), PHALANX),
        StepAction::Wait { for_ms } => (format!("wait for {}", minutes(*for_ms)), PHALANX),
        StepAction::Ask { question, .. } => (question.clone(), OPERATORS),
        StepAction::Verify { quiet_ms, .. } => {
            (format!("see that nothing new is seen of the incident for {}", minutes(*quiet_ms)), PHALANX)
        }
        StepAction::Revert => ("withdraw what this playbook ordered".to_owned(), PHALANX),
    };
    let mut out = json!({
        "type": "action",
        "name": step.id,
        "commands": [{"type": "manual", "command": words, "playbook_activity": activity(&step.action)}],
        "agent": agent(who),
        "on_success": next,
        "on_failure": on_failure,
        "step_extensions": {extension(): step},
    });
    let timeout = match &step.action {
        StepAction::Ask { within_ms, .. } | StepAction::Verify { within_ms, .. } => Some(*within_ms),
        _ => None,
    };
    if let (Some(timeout), Some(members)) = (timeout, out.as_object_mut()) {
        members.insert("timeout".into(), timeout.into());
    }
    out
}

/// By CACAO's vocabulary of activities.
fn activity(action: &StepAction) -> &'static str {
    match action {
        StepAction::Countermeasure { .. } => "restrict-access",
        StepAction::Notify { .. } | StepAction::Ticket { .. } => "deliver-content",
        StepAction::Wait { .. } => "step-sequence",
        StepAction::Ask { .. } => "identify-steps",
        StepAction::Verify { .. } => "analyze-collected-data",
        StepAction::Revert => "revert-system",
    }
}

/// A playbook of somebody's, as text of ours to be looked at, and what to know about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The playbook, as text.
    pub text: String,
    /// What was understood in another way than it was written.
    pub notes: Vec<String>,
}

/// Reads a CACAO playbook. It is checked when its text is read.
///
/// # Errors
/// Everything in it that maps to nothing; then nothing of it is taken.
pub fn import(document: &str) -> Result<Imported, Vec<String>> {
    if document.len() > BYTES_MAX {
        return Err(vec![format!("it is larger than {BYTES_MAX} bytes")]);
    }
    let document: Value =
        serde_json::from_str(document).map_err(|error| vec![format!("it is no JSON: {error}")])?;
    let document = &document;
    if at(document, "type") != "playbook" || at(document, "spec_version") != SPEC {
        return Err(vec![format!("it is no playbook of {SPEC}")]);
    }
    let ours = at(at(document, "playbook_extensions"), &extension());
    let trigger = serde_json::from_value(at(ours, "trigger").clone())
        .unwrap_or_else(|_| Trigger { manual: true, ..Trigger::default() });
    let mut walk = Walk { document, faults: Vec::new(), notes: Vec::new(), steps: Vec::new() };
    walk.all();
    if trigger.manual && ours.is_null() {
        walk.notes.push("CACAO does not say what starts a playbook: an operator does".into());
    }
    if !walk.faults.is_empty() {
        return Err(walk.faults);
    }
    let playbook = Playbook {
        name: name_of(at(document, "name").as_str().unwrap_or("imported")),
        version: at(ours, "version").as_u64().unwrap_or(1),
        about: at(document, "description").as_str().unwrap_or_default().to_owned(),
        trigger,
        steps: walk.steps,
    };
    Ok(Imported { text: to_text(&playbook), notes: walk.notes })
}

struct Walk<'a> {
    document: &'a Value,
    faults: Vec<String>,
    notes: Vec<String>,
    steps: Vec<PlaybookStep>,
}

impl Walk<'_> {
    /// From the start to an end, each step once.
    fn all(&mut self) {
        let mut here = at(self.document, "workflow_start").as_str().unwrap_or_default();
        let mut seen: BTreeMap<&str, ()> = BTreeMap::new();
        loop {
            let Some(step) = at(self.document, "workflow").get(here) else {
                self.faults.push(format!("there is no step `{here}`"));
                return;
            };
            if seen.insert(here, ()).is_some() || seen.len() > STEPS_MAX + 2 {
                self.faults.push(format!("step `{here}` comes again, or there are more than {STEPS_MAX}"));
                return;
            }
            match at(step, "type").as_str() {
                Some("end") => return,
                Some("start") => {}
                Some("action") => self.action(here, step),
                other => {
                    let kind = other.unwrap_or("without a type");
                    self.faults.push(format!("step `{here}`: nothing here is like a step {kind}"));
                    return;
                }
            }
            let next = at(step, "on_success").as_str().or_else(|| at(step, "on_completion").as_str());
            let Some(next) = next else {
                self.faults.push(format!("step `{here}` does not say what comes next"));
                return;
            };
            here = next;
        }
    }

    fn action(&mut self, here: &str, step: &Value) {
        let ours = at(at(step, "step_extensions"), &extension());
        if let Ok(own) = serde_json::from_value::<PlaybookStep>(ours.clone()) {
            self.steps.push(own);
            return;
        }
        let on_failure = self.on_failure(here, step);
        let label = at(step, "name").as_str().unwrap_or(here);
        if let Some(for_ms) = at(step, "delay").as_u64().filter(|ms| *ms > 0) {
            self.add(&format!("{label}-delay"), OnFailure::Stop, StepAction::Wait { for_ms });
        }
        let commands = at(step, "commands").as_array().map(Vec::as_slice).unwrap_or_default();
        if commands.is_empty() {
            self.faults.push(format!("step `{label}` has no commands"));
        }
        for command in commands {
            let words = at(command, "command").as_str().or_else(|| at(command, "description").as_str());
            match (at(command, "type").as_str(), words) {
                (Some("manual"), Some(words)) => {
                    let within_ms =
                        at(step, "timeout").as_u64().unwrap_or(DEFAULT_TIMEOUT_MS).clamp(1_000, DAY_MS);
                    let question = literal(words);
                    self.add(label, on_failure, StepAction::Ask { question, within_ms, otherwise: false });
                }
                (Some("http-api"), Some(words)) => {
                    self.notes.push(format!("step `{label}`: name the webhook that stands for `{words}`"));
                    let text = literal(at(command, "description").as_str().unwrap_or(words));
                    self.add(label, on_failure, StepAction::Notify { to: "name-a-webhook".into(), text });
                }
                (kind, _) => {
                    let kind = kind.unwrap_or("without a type");
                    self.faults.push(format!("step `{label}`: a command {kind} maps to nothing here"));
                }
            }
        }
    }

    fn on_failure(&mut self, here: &str, step: &Value) -> OnFailure {
        let target = at(step, "on_failure").as_str();
        let next = at(step, "on_success").as_str();
        match target {
            None => OnFailure::Stop,
            target if target == next => OnFailure::Continue,
            Some(target) if at(at(at(self.document, "workflow"), target), "type") == "end" => OnFailure::Stop,
            Some(target) => {
                self.faults.push(format!("step `{here}` branches to `{target}` when it fails"));
                OnFailure::Stop
            }
        }
    }

    fn add(&mut self, label: &str, on_failure: OnFailure, action: StepAction) {
        let name = name_of(label);
        let taken = |id: &str| self.steps.iter().any(|step| step.id == id);
        let id = if taken(&name) { format!("{}-{}", cut(&name, 58), self.steps.len() + 1) } else { name };
        self.steps.push(PlaybookStep { id, only_from: None, on_failure, action });
    }
}

/// A member, or nothing.
fn at<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

/// Braces are gaps in our texts; in theirs they mean nothing.
fn literal(text: &str) -> String {
    text.replace('{', "(").replace('}', ")")
}

/// A name of ours out of one of theirs.
fn name_of(text: &str) -> String {
    let lower = text.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let name = cut(&words.join("-"), 64).trim_matches('-').to_owned();
    if name.is_empty() { "step".to_owned() } else { name }
}

/// At most so many bytes of ASCII.
fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..bytes_max.min(text.len())).unwrap_or(text)
}

fn agent(name: &str) -> String {
    identifier("group", &format!("agent/{name}"))
}

fn extension() -> String {
    identifier("extension-definition", "phalanx-playbook")
}

fn identifier(kind: &str, what: &str) -> String {
    let hash = digest::digest(&digest::SHA256, format!("{kind}\n{what}").as_bytes());
    let mut bits = [0_u8; 16];
    bits.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
    // Version and variant (RFC 9562, section 5.4).
    let bits = u128::from_be_bytes(bits) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let part = |from: u32, digits: usize| {
        let value = bits >> from & ((1_u128 << (digits * 4)) - 1);
        format!("{value:0digits$x}")
    };
    format!("{kind}--{}-{}-{}-{}-{}", part(96, 8), part(80, 4), part(64, 4), part(48, 4), part(0, 12))
}

const SPEC: &str = "cacao-2.0";
const PHALANX: &str = "phalanx";
const OPERATORS: &str = "operators";
const BYTES_MAX: usize = 1024 * 1024;
const DEFAULT_TIMEOUT_MS: u64 = 60 * 60_000;
const DAY_MS: u64 = 24 * 60 * 60_000;
