//! Playbooks: what is done about an incident, in which order, as text that is reviewed like policy.
//!
//! A playbook is a list of steps, one after the other. A step has a condition or not, and says what happens if it fails. There are no loops and no
//! branches: who reads it knows what will happen.

use serde::{Deserialize, Serialize};

use crate::toml_text::{At, Text};
use crate::units::duration_ms;
use crate::{Diagnostic, suggest::did_you_mean};

/// A checked playbook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Playbook {
    /// Its name: 1 to 64 of a-z, 0-9 and -.
    pub name: String,
    /// Counts up with each change.
    pub version: u64,
    /// What it is for, in a sentence.
    pub about: String,
    /// What starts it.
    pub trigger: Trigger,
    /// What it does, at most [`STEPS_MAX`].
    pub steps: Vec<PlaybookStep>,
}

/// What starts a playbook. All that is said has to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Detectors of which one has to have found something; none: any.
    pub detectors: Vec<String>,
    /// The least gravity of the incident.
    pub gravity: Option<GravityWord>,
    /// The least confidence of a finding.
    pub confidence: Option<ConfidenceWord>,
    /// Only an operator starts it.
    pub manual: bool,
}

/// How bad an incident has to be.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "they are words")]
pub enum GravityWord {
    Low,
    Medium,
    High,
    Critical,
}

/// How sure a finding has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "they are words")]
pub enum ConfidenceWord {
    Low,
    Medium,
    High,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaybookStep {
    /// Its name in the playbook, as the playbook's.
    pub id: String,
    /// It is left out unless the incident is at least this bad when its turn comes.
    pub only_from: Option<GravityWord>,
    /// What happens if it fails.
    pub on_failure: OnFailure,
    /// What it does.
    pub action: StepAction,
}

/// What happens when a step has failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// The playbook ends.
    #[default]
    Stop,
    /// The next step comes.
    Continue,
    /// What the playbook ordered is withdrawn, and it ends.
    Revert,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum StepAction {
    /// Order a countermeasure about the incident's suspects.
    Countermeasure {
        /// Which.
        measure: String,
        /// About which of the targets that suspects have.
        scope: String,
        /// How long it holds, in milliseconds.
        for_ms: u64,
    },
    /// Tell somebody, over a webhook.
    Notify {
        /// The webhook's name in the node's settings.
        to: String,
        /// What; `{incident}`, `{summary}`, `{gravity}`, `{playbook}` and `{nodes}` are filled in.
        text: String,
    },
    /// Open a ticket, over a webhook.
    Ticket {
        /// The webhook's name in the node's settings.
        to: String,
        /// Its title, filled in as texts are.
        text: String,
    },
    /// Do nothing for a time.
    Wait {
        /// How long, in milliseconds.
        for_ms: u64,
    },
    /// Ask an operator.
    Ask {
        /// What; yes goes on, no ends the playbook.
        question: String,
        /// How long to wait for an answer, in milliseconds,
        within_ms: u64,
        /// and which is taken if none comes.
        otherwise: bool,
    },
    /// Wait until nothing new was seen of the incident for a time; fails if that does not come about.
    Verify {
        /// For how long nothing, in milliseconds.
        quiet_ms: u64,
        /// How long that may take, in milliseconds.
        within_ms: u64,
    },
    /// Withdraw what the playbook ordered.
    Revert,
}

impl StepAction {
    /// In text.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Countermeasure { .. } => "countermeasure",
            Self::Notify { .. } => "notify",
            Self::Ticket { .. } => "ticket",
            Self::Wait { .. } => "wait",
            Self::Ask { .. } => "ask",
            Self::Verify { .. } => "verify",
            Self::Revert => "revert",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPlaybook {
    name: At<String>,
    version: Option<At<u64>>,
    about: Option<String>,
    #[serde(default)]
    trigger: RawTrigger,
    #[serde(default)]
    steps: Vec<At<RawStep>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTrigger {
    #[serde(default)]
    detectors: Vec<At<String>>,
    gravity: Option<GravityWord>,
    confidence: Option<ConfidenceWord>,
    #[serde(default)]
    manual: bool,
}

/// A step as written; which keys it may have is for what it does.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    id: At<String>,
    r#do: At<Deed>,
    only_from: Option<GravityWord>,
    on_failure: Option<OnFailure>,
    measure: Option<At<String>>,
    scope: Option<At<String>>,
    r#for: Option<At<String>>,
    to: Option<At<String>>,
    text: Option<At<String>>,
    question: Option<At<String>>,
    within: Option<At<String>>,
    otherwise: Option<At<Answer>>,
    quiet: Option<At<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Deed {
    Countermeasure,
    Notify,
    Ticket,
    Wait,
    Ask,
    Verify,
    Revert,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Yes,
    No,
}

/// Reads a playbook. `known` are the names of detectors, countermeasures and scopes of this version.
///
/// # Errors
/// Every fault found, with its line.
pub fn read(file: &str, text: &str, known: &Known<'_>) -> Result<Playbook, Vec<Diagnostic>> {
    let text = Text::new(file, text);
    let (raw, faults) = text.read_partly::<RawPlaybook>();
    let mut reader = Reader { text, known, faults };
    let playbook = raw.map(|raw| reader.playbook(&raw));
    match playbook {
        Some(playbook) if reader.faults.is_empty() => Ok(playbook),
        _ => Err(reader.faults),
    }
}

/// Words that this version of the learner and the responder knows.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Names of detectors.
    pub detectors: &'a [&'a str],
    /// Names of countermeasures.
    pub measures: &'a [&'a str],
    /// Names of scopes.
    pub scopes: &'a [&'a str],
}

struct Reader<'a> {
    text: Text<'a>,
    known: &'a Known<'a>,
    faults: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn playbook(&mut self, raw: &RawPlaybook) -> Playbook {
        self.name(&raw.name);
        let detectors = raw.trigger.detectors.iter();
        let detectors: Vec<String> =
            detectors.map(|name| self.word(name, self.known.detectors, "detector")).collect();
        let trigger = Trigger {
            detectors,
            gravity: raw.trigger.gravity,
            confidence: raw.trigger.confidence,
            manual: raw.trigger.manual,
        };
        if !trigger.manual && trigger.detectors.is_empty() && trigger.gravity.is_none() {
            let fault = self.text.error_at(&raw.name.span, "every incident would start it");
            self.faults
                .push(fault.with_help("add `[trigger]` with `detectors`, `gravity` or `manual = true`"));
        }
        if raw.steps.is_empty() || raw.steps.len() > STEPS_MAX {
            let what = format!("a playbook has 1 to {STEPS_MAX} steps, this one {}", raw.steps.len());
            self.faults.push(self.text.error_at(&raw.name.span, what));
        }
        let mut steps: Vec<PlaybookStep> = Vec::new();
        for raw in &raw.steps {
            self.name(&raw.id);
            if steps.iter().any(|step| step.id == raw.id.value) {
                let fault = self.text.error_at(&raw.id.span, format!("there are two steps `{}`", *raw.id));
                self.faults
                    .push(fault.with_help("what was done is kept under the step's name: give each its own"));
            }
            if let Some(action) = self.action(raw) {
                steps.push(PlaybookStep {
                    id: raw.id.value.clone(),
                    only_from: raw.only_from,
                    on_failure: raw.on_failure.unwrap_or_default(),
                    action,
                });
            }
        }
        Playbook {
            name: raw.name.value.clone(),
            version: raw.version.as_ref().map_or(1, |version| version.value),
            about: raw.about.clone().unwrap_or_default(),
            trigger,
            steps,
        }
    }

    fn action(&mut self, raw: &At<RawStep>) -> Option<StepAction> {
        let step = &raw.value;
        self.refuse_others(raw);
        Some(match step.r#do.value {
            Deed::Countermeasure => StepAction::Countermeasure {
                measure: self.known_word(raw, &step.measure, "measure", self.known.measures)?,
                scope: self.known_word(raw, &step.scope, "scope", self.known.scopes)?,
                for_ms: self.duration(raw, &step.r#for, "for", (1_000, FOR_MAX_MS))?,
            },
            Deed::Notify => StepAction::Notify {
                to: self.required(raw, &step.to, "to")?,
                text: self.filled(raw, &step.text, "text")?,
            },
            Deed::Ticket => StepAction::Ticket {
                to: self.required(raw, &step.to, "to")?,
                text: self.filled(raw, &step.text, "text")?,
            },
            Deed::Wait => {
                StepAction::Wait { for_ms: self.duration(raw, &step.r#for, "for", (1, FOR_MAX_MS))? }
            }
            Deed::Ask => StepAction::Ask {
                question: self.filled(raw, &step.question, "question")?,
                within_ms: self.duration(raw, &step.within, "within", (1_000, FOR_MAX_MS))?,
                otherwise: step.otherwise.as_ref().is_some_and(|answer| answer.value == Answer::Yes),
            },
            Deed::Verify => StepAction::Verify {
                quiet_ms: self.duration(raw, &step.quiet, "quiet", (1_000, FOR_MAX_MS))?,
                within_ms: self.duration(raw, &step.within, "within", (1_000, FOR_MAX_MS))?,
            },
            Deed::Revert => StepAction::Revert,
        })
    }

    /// A key that means nothing for what the step does is a mistake.
    fn refuse_others(&mut self, raw: &At<RawStep>) {
        let step = &raw.value;
        let takes: &[&str] = match step.r#do.value {
            Deed::Countermeasure => &["measure", "scope", "for"],
            Deed::Notify | Deed::Ticket => &["to", "text"],
            Deed::Wait => &["for"],
            Deed::Ask => &["question", "within", "otherwise"],
            Deed::Verify => &["quiet", "within"],
            Deed::Revert => &[],
        };
        let span = |at: &Option<At<String>>| at.as_ref().map(|at| at.span.clone());
        for (key, span) in [
            ("measure", span(&step.measure)),
            ("scope", span(&step.scope)),
            ("for", span(&step.r#for)),
            ("to", span(&step.to)),
            ("text", span(&step.text)),
            ("question", span(&step.question)),
            ("within", span(&step.within)),
            ("otherwise", step.otherwise.as_ref().map(|at| at.span.clone())),
            ("quiet", span(&step.quiet)),
        ] {
            if let Some(span) = span.filter(|_| !takes.contains(&key)) {
                let fault = self.text.error_at(&span, format!("`{key}` means nothing for this step"));
                let help = if takes.is_empty() {
                    "take it out".to_owned()
                } else {
                    format!("it takes {}", takes.join(", "))
                };
                self.faults.push(fault.with_help(help));
            }
        }
    }

    fn name(&mut self, name: &At<String>) {
        let is_name = (1..=64).contains(&name.len())
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if !is_name {
            let fault = self.text.error_at(&name.span, format!("`{}` is no name", name.value));
            self.faults.push(fault.with_help("a name is 1 to 64 of a-z, 0-9 and -"));
        }
    }

    fn word(&mut self, word: &At<String>, known: &[&str], kind: &str) -> String {
        if !known.contains(&word.as_str()) {
            let fault = self.text.error_at(&word.span, format!("there is no {kind} `{}`", word.value));
            let help = did_you_mean(word, known.iter().copied());
            self.faults
                .push(fault.with_help(help.unwrap_or_else(|| format!("known here: {}", known.join(", ")))));
        }
        word.value.clone()
    }

    fn required(&mut self, step: &At<RawStep>, at: &Option<At<String>>, key: &str) -> Option<String> {
        let Some(at) = at.as_ref().filter(|at| !at.is_empty()) else {
            self.faults
                .push(self.text.error_at(&step.span, format!("step `{}` has no `{key}`", *step.value.id)));
            return None;
        };
        if at.len() > TEXT_BYTES_MAX {
            self.faults
                .push(self.text.error_at(&at.span, format!("`{key}` is longer than {TEXT_BYTES_MAX} bytes")));
        }
        Some(at.value.clone())
    }

    fn known_word(
        &mut self,
        step: &At<RawStep>,
        at: &Option<At<String>>,
        key: &str,
        known: &[&str],
    ) -> Option<String> {
        self.required(step, at, key)?;
        at.as_ref().map(|word| self.word(word, known, key))
    }

    /// A text whose gaps are known.
    fn filled(&mut self, step: &At<RawStep>, at: &Option<At<String>>, key: &str) -> Option<String> {
        let text = self.required(step, at, key)?;
        let unknown = gaps(&text).find(|gap| !GAPS.contains(gap)).map(str::to_owned);
        if let (Some(gap), Some(at)) = (unknown, at) {
            let fault = self.text.error_at(&at.span, format!("nothing is known of `{{{gap}}}`"));
            self.faults.push(fault.with_help(format!("known here: {{{}}}", GAPS.join("}, {"))));
        }
        Some(text)
    }

    fn duration(
        &mut self,
        step: &At<RawStep>,
        at: &Option<At<String>>,
        key: &str,
        (least, most): (u64, u64),
    ) -> Option<u64> {
        let text = self.required(step, at, key)?;
        let span = at.as_ref().map(|at| at.span.clone()).unwrap_or_default();
        match duration_ms(&text) {
            Ok(ms) if (least..=most).contains(&ms) => Some(ms),
            Ok(_) => {
                let what = format!("`{key}` goes from {} s to 7d", least.div_ceil(1_000));
                self.faults.push(self.text.error_at(&span, what));
                None
            }
            Err(fault) => {
                self.faults.push(self.text.error_at(&span, fault));
                None
            }
        }
    }
}

/// A playbook as text that [`read`] reads.
pub fn to_text(playbook: &Playbook) -> String {
    let mut out = Lines(String::new());
    out.text("name", &playbook.name);
    out.line("version", &playbook.version.to_string());
    if !playbook.about.is_empty() {
        out.text("about", &playbook.about);
    }
    let trigger = &playbook.trigger;
    out.0.push_str("\n[trigger]\n");
    if !trigger.detectors.is_empty() {
        let all: Vec<String> = trigger.detectors.iter().map(|one| quoted(one)).collect();
        out.line("detectors", &format!("[{}]", all.join(", ")));
    }
    if let Some(gravity) = trigger.gravity {
        out.text("gravity", gravity.name());
    }
    if let Some(confidence) = trigger.confidence {
        out.text("confidence", confidence.name());
    }
    if trigger.manual {
        out.line("manual", "true");
    }
    for step in &playbook.steps {
        out.0.push_str("\n[[steps]]\n");
        out.text("id", &step.id);
        out.text("do", step.action.name());
        out.action(&step.action);
        if let Some(gravity) = step.only_from {
            out.text("only_from", gravity.name());
        }
        match step.on_failure {
            OnFailure::Stop => {}
            OnFailure::Continue => out.text("on_failure", "continue"),
            OnFailure::Revert => out.text("on_failure", "revert"),
        }
    }
    out.0
}

impl GravityWord {
    /// In text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl ConfidenceWord {
    /// In text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

struct Lines(String);

impl Lines {
    fn line(&mut self, key: &str, value: &str) {
        self.0.push_str(&format!("{key} = {value}\n"));
    }

    fn text(&mut self, key: &str, value: &str) {
        self.line(key, &quoted(value));
    }

    fn action(&mut self, action: &StepAction) {
        match action {
            StepAction::Countermeasure { measure, scope, for_ms } => {
                self.text("measure", measure);
                self.text("scope", scope);
                self.text("for", &duration(*for_ms));
            }
            StepAction::Notify { to, text } | StepAction::Ticket { to, text } => {
                self.text("to", to);
                self.text("text", text);
            }
            StepAction::Wait { for_ms } => self.text("for", &duration(*for_ms)),
            StepAction::Ask { question, within_ms, otherwise } => {
                self.text("question", question);
                self.text("within", &duration(*within_ms));
                self.text("otherwise", if *otherwise { "yes" } else { "no" });
            }
            StepAction::Verify { quiet_ms, within_ms } => {
                self.text("quiet", &duration(*quiet_ms));
                self.text("within", &duration(*within_ms));
            }
            StepAction::Revert => {}
        }
    }
}

fn duration(ms: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let whole = units.into_iter().find(|(unit, _)| ms >= *unit && ms.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{ms}ms"), |(unit, name)| format!("{}{name}", ms / unit))
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Those that come with the product, by name, with their texts: `packs/playbooks`, embedded.
pub fn shipped() -> &'static [(&'static str, &'static str)] {
    SHIPPED
}

const SHIPPED: &[(&str, &str)] = &[
    ("critical-cve", include_str!("../../../packs/playbooks/critical-cve.toml")),
    ("exploit-attempt", include_str!("../../../packs/playbooks/exploit-attempt.toml")),
    ("flood", include_str!("../../../packs/playbooks/flood.toml")),
    ("leaked-session", include_str!("../../../packs/playbooks/leaked-session.toml")),
    ("scraping", include_str!("../../../packs/playbooks/scraping.toml")),
    ("stuffing", include_str!("../../../packs/playbooks/stuffing.toml")),
];

/// Playbooks of a policy: each is looked at for each incident.
pub const PLAYBOOKS_MAX: usize = 64;

/// The names in braces of a text.
pub fn gaps(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(gap, _)| gap))
}

/// What texts are filled in with.
pub const GAPS: [&str; 5] = ["incident", "summary", "gravity", "playbook", "nodes"];
/// Steps of a playbook.
pub const STEPS_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 2_048;
const FOR_MAX_MS: u64 = 7 * 24 * 60 * 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known<'_> = Known {
        detectors: &["credential-stuffing", "scanning"],
        measures: &["challenge", "ban"],
        scopes: &["client", "software"],
    };
    const HEAD: &str = "name = \"stuffing\"\n[trigger]\ndetectors = [\"credential-stuffing\"]\n";

    fn faults(steps: &str) -> Vec<String> {
        let read = read("p", &format!("{HEAD}{steps}"), &KNOWN);
        read.err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_kind_of_step_is_read() {
        let text = format!(
            "{HEAD}gravity = \"high\"\n\
             [[steps]]\nid = \"a\"\ndo = \"countermeasure\"\nmeasure = \"challenge\"\nscope = \"software\"\nfor = \"30m\"\non_failure = \"continue\"\n\
             [[steps]]\nid = \"b\"\ndo = \"notify\"\nto = \"oncall\"\ntext = \"{{incident}}: {{summary}}\"\nonly_from = \"critical\"\n\
             [[steps]]\nid = \"c\"\ndo = \"ask\"\nquestion = \"Close the route?\"\nwithin = \"10m\"\notherwise = \"yes\"\n\
             [[steps]]\nid = \"d\"\ndo = \"verify\"\nquiet = \"60s\"\nwithin = \"1h\"\non_failure = \"revert\"\n\
             [[steps]]\nid = \"e\"\ndo = \"wait\"\nfor = \"5s\"\n\
             [[steps]]\nid = \"f\"\ndo = \"revert\"\n"
        );
        let playbook = read("p", &text, &KNOWN).unwrap();
        assert_eq!((playbook.name.as_str(), playbook.version, playbook.steps.len()), ("stuffing", 1, 6));
        assert_eq!(playbook.trigger.gravity, Some(GravityWord::High));
        let actions: Vec<&str> = playbook.steps.iter().map(|step| step.action.name()).collect();
        assert_eq!(actions, ["countermeasure", "notify", "ask", "verify", "wait", "revert"]);
        assert!(matches!(
            playbook.steps[2].action,
            StepAction::Ask { otherwise: true, within_ms: 600_000, .. }
        ));
        assert_eq!(playbook.steps[1].only_from, Some(GravityWord::Critical));
        assert_eq!(read("p", &to_text(&playbook), &KNOWN).unwrap(), playbook);
    }

    #[test]
    fn mistakes_are_told_with_line_and_help() {
        for (steps, expected) in [
            ("", "error: p:1: a playbook has 1 to 64 steps, this one 0"),
            (
                "[[steps]]\nid = \"A\"\ndo = \"revert\"\n",
                "error: p:5: `A` is no name\n  help: a name is 1 to 64 of a-z, 0-9 and -",
            ),
            (
                "[[steps]]\nid = \"a\"\ndo = \"revert\"\n[[steps]]\nid = \"a\"\ndo = \"revert\"\n",
                "error: p:8: there are two steps `a`\n  help: what was done is kept under the step's name: give each its own",
            ),
            (
                "[[steps]]\nid = \"a\"\ndo = \"countermeasure\"\nmeasure = \"challange\"\nscope = \"client\"\nfor = \"5m\"\n",
                "error: p:7: there is no measure `challange`\n  help: did you mean `challenge`?",
            ),
            ("[[steps]]\nid = \"a\"\ndo = \"wait\"\n", "error: p:4: step `a` has no `for`"),
            (
                "[[steps]]\nid = \"a\"\ndo = \"wait\"\nfor = \"30d\"\n",
                "error: p:7: `for` goes from 1 s to 7d",
            ),
            (
                "[[steps]]\nid = \"a\"\ndo = \"revert\"\nto = \"x\"\n",
                "error: p:7: `to` means nothing for this step\n  help: take it out",
            ),
            (
                "[[steps]]\nid = \"a\"\ndo = \"notify\"\nto = \"x\"\ntext = \"{who}\"\n",
                "error: p:8: nothing is known of `{who}`\n  help: known here: {incident}, {summary}, {gravity}, {playbook}, {nodes}",
            ),
            (
                "[[steps]]\nid = \"a\"\ndo = \"notfy\"\n",
                "error: p:6: unknown value `notfy`\n  help: did you mean `notify`?",
            ),
        ] {
            assert!(faults(steps).contains(&expected.to_owned()), "{steps}: {:?}", faults(steps));
        }
        let all = "name = \"x\"\n[[steps]]\nid = \"a\"\ndo = \"revert\"\n";
        let told = read("p", all, &KNOWN).unwrap_err();
        assert!(told[0].message.contains("every incident would start it"), "{told:?}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_playbook_or_faults(text in ".{0,200}") {
            let _ = read("p", &text, &KNOWN);
        }

        #[test]
        fn what_is_written_reads_back(question in "[^{]{1,50}", within_ms in 1_000u64..604_800_000) {
            let action = StepAction::Ask { question, within_ms, otherwise: false };
            let step = PlaybookStep { id: "a".into(), only_from: None, on_failure: OnFailure::Stop, action };
            let trigger = Trigger { manual: true, ..Trigger::default() };
            let about = "\u{7}\"\\".to_owned();
            let playbook = Playbook { name: "x".into(), version: 7, about, trigger, steps: vec![step] };
            proptest::prop_assert_eq!(read("p", &to_text(&playbook), &KNOWN).unwrap(), playbook);
        }
    }
}
