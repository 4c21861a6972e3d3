//! The narrowest exclusion that would have let a request pass, judged by what is recorded of it and of others.
//!
//! Flow in names: findings in the history -> [`Draft`] -> the recording, if the request is there: judged again with the exclusions, until
//! no rule refuses it -> [`Suggestion`].
//!
//! Without the recording there are findings alone: one is gone when an exclusion takes away all that it matched. What was
//! not found, because the first rule that refuses ends the inspection, is not known then; the suggestion says so.
//!
//! INVARIANT: a suggestion is never wider than the request: its app, its path and below, its method, the rules that decided.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use phalanx_model::limits::{ROUTE_PATH_BYTES_MAX, SIGNALS_KEPT_MAX};
use phalanx_model::{Action, Confidence, Reason, Recorded, RequestId, RuleClass, Signal, Verdict};
use phalanx_policy::Exclusion;
use phalanx_record::{Explanation, RecordedRequest};
use phalanx_trust::sha256;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::ReplayExample;
use crate::inquiry::{RedactedRequest, network};
use crate::replay::{example, why};

/// What would let a request pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Suggestion {
    /// The request.
    pub id: RequestId,
    /// The app that it was for, where the exclusions belong.
    pub app: Arc<str>,
    /// One for each thing that rules shall not look at.
    pub exclusions: Vec<Narrow>,
    /// The same as policy is written.
    pub toml: String,
    /// Whether nothing that is known of the request would refuse it any more: the request itself, where `recording` is given, else its findings.
    pub passes: bool,
    /// What speaks against it.
    pub warnings: Vec<String>,
    /// What else it would let pass, of the requests in the history.
    pub lets_pass: LetsPass,
    /// What it would let pass of the requests in the recording; not given if the request is not there as it was refused.
    pub recording: Option<PassesRecorded>,
    /// The hash of what this shows and of the policy that it would be added to, for who orders it; empty where what all nodes run is not known.
    #[serde(default)]
    pub shown: String,
}

/// An exclusion without its paperwork.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Narrow {
    /// The rules.
    pub rules: Vec<u64>,
    /// What they do not look at; not given: they are not run.
    pub target: Option<String>,
    /// There and below; not given: everywhere.
    pub path: Option<String>,
    /// With these methods.
    pub methods: Vec<String>,
}

/// Refused and flagged requests of others, judged as if the exclusions were there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LetsPass {
    /// How many of other clients were looked at.
    pub others: usize,
    /// How many of the same client's network were left aside: who attacks must not make the case for its own exclusion.
    pub own: usize,
    /// How many would pass.
    pub passed: usize,
    /// Some of these, the latest first.
    pub examples: Vec<RedactedRequest>,
}

/// Recorded requests of others, judged by the policy in force and again with the exclusions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PassesRecorded {
    /// How many of the app's, of other clients, were judged.
    pub others: u64,
    /// How many of the same client's network were left aside.
    pub own: u64,
    /// How many of these are refused by rules now and would pass.
    pub passed: u64,
    /// Some of these, the oldest first.
    pub examples: Vec<ReplayExample>,
    /// Whether that was all of the recording; else requests or time ran out.
    pub complete: bool,
}

/// The paperwork of an exclusion.
#[derive(Debug, Clone, Default)]
pub(crate) struct Paperwork {
    pub(crate) owner: String,
    pub(crate) reason: String,
    /// As in 2027-06-01, or a time.
    pub(crate) until: String,
}

/// A suggestion that is being made.
#[derive(Debug, Clone)]
pub struct Draft {
    record: RecordedRequest,
    /// None where it is for an operator at another node, who writes its text there.
    paperwork: Option<Paperwork>,
    /// The findings to be rid of, those of the first inspection first.
    deciding: Vec<Signal>,
    exclusions: Vec<Narrow>,
    known: Known,
}

/// What the recording knows of the request.
#[derive(Debug, Clone)]
enum Known {
    /// It was not asked, or has not got it.
    Nothing,
    /// What is there is not refused: a mask took away what rules saw, or the policy is another now.
    NotRefused,
    /// It was judged with the exclusions.
    Judged {
        /// What refuses it nevertheless.
        refused: Option<Reason>,
        /// It is there without its secrets or parts of its body.
        lacks: bool,
        others: PassesRecorded,
    },
}

impl Draft {
    /// Finds what would let a request pass as far as its findings tell.
    ///
    /// # Errors
    /// A sentence that says why no exclusion would help, and what would.
    pub(crate) fn new(record: RecordedRequest, paperwork: Option<Paperwork>) -> Result<Self, String> {
        let deciding: Vec<Signal> = deciding(&record).into_iter().cloned().collect();
        if deciding.is_empty() {
            return Err(no_use(&record));
        }
        let exclusions = narrow(&record, &deciding);
        Ok(Self { record, paperwork, deciding, exclusions, known: Known::Nothing })
    }

    /// The request that it is for, and when that came.
    pub fn request(&self) -> (RequestId, u64) {
        (self.record.id(), self.record.access.at_ms)
    }

    /// The app that it was for.
    pub fn app(&self) -> &str {
        &self.record.access.app
    }

    /// The network of the client that it is for: who attacks must not make the case for its own exclusion.
    pub fn is_own(&self, client: IpAddr) -> bool {
        network(client) == network(self.record.access.client)
    }

    /// The exclusions as policy has them.
    pub fn exclusions(&self) -> Vec<Exclusion> {
        let Paperwork { owner, reason, .. } = self.paperwork.clone().unwrap_or_default();
        let exclusion = |one: &Narrow| Exclusion {
            rules: one.rules.clone(),
            tags: Vec::new(),
            target: one.target.clone(),
            path: one.path.clone(),
            methods: one.methods.clone(),
            owner: owner.clone(),
            reason: reason.clone(),
            until: None,
            line: 0,
        };
        self.exclusions.iter().map(exclusion).collect()
    }

    /// Adds what let rules refuse the request although the exclusions are there. False if no exclusion would help against it.
    pub fn refused_again(&mut self, verdict: Verdict, signals: Vec<Signal>) -> bool {
        let RecordedRequest { site, node, access, faults, .. } = &self.record;
        let mut access = access.clone();
        access.verdict = verdict;
        // As the first: masked, and no more than a record holds.
        let again = RecordedRequest::new(site, node, access, signals, faults.clone());
        self.deciding.extend(deciding(&again).into_iter().cloned());
        let before = std::mem::take(&mut self.exclusions);
        self.exclusions = narrow(&self.record, &self.deciding);
        self.exclusions != before
    }

    /// The request is in the recording, and what is there of it is not refused by the policy in force.
    pub fn not_refused(&mut self) {
        self.known = Known::NotRefused;
    }

    /// What the recording says. `refused`: what refuses the request nevertheless. `lacks`: it is there without its secrets or parts of its
    /// body.
    pub fn judged(&mut self, refused: Option<Reason>, lacks: bool, others: PassesRecorded) {
        self.known = Known::Judged { refused, lacks, others };
    }

    /// The suggestion; what else it would let pass of the history is still to be found, with [`Suggestion::judge`].
    pub(crate) fn finish(self) -> (Suggestion, RecordedRequest) {
        let suggestion = Suggestion {
            id: self.record.id(),
            app: Arc::clone(&self.record.access.app),
            toml: self
                .paperwork
                .as_ref()
                .map(|paperwork| text(&self.exclusions, paperwork))
                .unwrap_or_default(),
            passes: match &self.known {
                Known::Judged { refused, .. } => refused.is_none(),
                Known::Nothing | Known::NotRefused => passes(&self.exclusions, &self.record),
            },
            warnings: warnings(&self),
            exclusions: self.exclusions,
            lets_pass: LetsPass::default(),
            recording: match self.known {
                Known::Judged { others, .. } if self.paperwork.is_some() => Some(others),
                Known::Judged { others, .. } => Some(others.redacted()),
                Known::Nothing | Known::NotRefused => None,
            },
            shown: String::new(),
        };
        (suggestion, self.record)
    }
}

impl PassesRecorded {
    /// Adds a request that rules refuse now and would not.
    pub fn add(&mut self, request: &Recorded) {
        self.passed += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example(request));
        }
    }

    /// Without what strangers wrote but methods and paths.
    fn redacted(mut self) -> Self {
        for one in &mut self.examples {
            let cut = one.request.find(['?', '#', ';']).unwrap_or(one.request.len());
            one.request = one.request.chars().take(cut.min(EXAMPLE_CHARS_MAX)).collect();
        }
        self
    }
}

impl Suggestion {
    /// What another node says of a request that it served, as policy of this node's writing.
    ///
    /// # Errors
    /// It is none that policy could say.
    pub(crate) fn of_another(mut self, id: RequestId, paperwork: &Paperwork) -> Result<Self, &'static str> {
        let is_few = self.exclusions.len() <= EXCLUSIONS_MAX && !self.exclusions.is_empty();
        if self.id != id || !is_few || !self.exclusions.iter().all(Narrow::is_policy) {
            return Err("it answered with what is no exclusion of this request");
        }
        self.toml = text(&self.exclusions, paperwork);
        self.warnings.truncate(WARNINGS_MAX);
        self.warnings
            .iter_mut()
            .for_each(|warning| *warning = warning.chars().take(WARNING_CHARS_MAX).collect());
        self.lets_pass.examples.truncate(EXAMPLES_MAX);
        self.recording.iter_mut().for_each(|recording| recording.examples.truncate(EXAMPLES_MAX));
        Ok(self)
    }

    /// The hash of what it says and of the policy that it would be added to, by version and hash. Who orders it names it, so that nothing
    /// comes into force that he was not shown, though it is made anew then, perhaps by a node that says something else this time.
    ///
    /// How much else would pass counts by its order of magnitude: it grows with each attack, and nobody could order anything on a node that
    /// is attacked. That something would pass where nothing did is told.
    pub(crate) fn shown_on(&self, (version, hash): &(u64, String)) -> String {
        let Self { id, app, exclusions, toml: _, passes, warnings, lets_pass, recording, shown: _ } = self;
        let magnitude = |count: u64| count.checked_ilog10();
        let of_history = magnitude(u64::try_from(lets_pass.passed).unwrap_or(u64::MAX));
        let of_recording = recording.as_ref().map(|recorded| magnitude(recorded.passed));
        let all = (id, app, exclusions, passes, warnings, of_history, of_recording, version, hash);
        // Texts and numbers: there is nothing that JSON could not say.
        let all = serde_json::to_vec(&all).unwrap_or_default();
        sha256(&all).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether it takes no more from rules than single values at single paths.
    pub fn is_of_single_values(&self) -> bool {
        let is_one =
            |one: &Narrow| one.path.is_some() && one.target.as_deref().is_some_and(|of| of.contains(':'));
        self.exclusions.iter().all(is_one)
    }

    /// The rules that are spoken of.
    pub(crate) fn rules(&self) -> BTreeSet<u64> {
        self.exclusions.iter().flat_map(|one| one.rules.iter().copied()).collect()
    }

    /// Judges other requests as if the exclusions were there. `record`: the one that they are for.
    pub(crate) fn judge(&mut self, record: &RecordedRequest, others: &[RecordedRequest]) {
        let own = network(record.access.client);
        for other in others.iter().filter(|other| other.access.app == self.app && other.id() != self.id) {
            if network(other.access.client) == own {
                self.lets_pass.own += 1;
                continue;
            }
            self.lets_pass.others += 1;
            if passes(&self.exclusions, other) {
                self.lets_pass.passed += 1;
                if self.lets_pass.examples.len() < EXAMPLES_MAX {
                    self.lets_pass.examples.push(RedactedRequest::of(other, Vec::new()));
                }
            }
        }
    }
}

impl Narrow {
    /// Whether it is one that this node could have found.
    fn is_policy(&self) -> bool {
        let is_method = |method: &String| {
            (1..=METHOD_BYTES_MAX).contains(&method.len())
                && method.bytes().all(|byte| byte.is_ascii_uppercase())
        };
        (1..=RULES_NAMED_MAX).contains(&self.rules.len())
            && self.target.as_ref().is_none_or(|target| Exclusion::is_target(target))
            && self.path.as_ref().is_none_or(|one| !one.is_empty() && path(one).as_ref() == Some(one))
            && self.methods.len() <= 1
            && self.methods.iter().all(is_method)
    }

    fn toml(&self, paperwork: &Paperwork) -> String {
        let mut text = String::from("[[apps.exclusions]]\n");
        let rules: Vec<String> = self.rules.iter().map(u64::to_string).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "rules = [{}]", rules.join(", "));
        if let Some(target) = &self.target {
            let _ = writeln!(text, "target = {}", quoted(target));
        }
        if let Some(path) = &self.path {
            let _ = writeln!(text, "path = {}", quoted(path));
        }
        if !self.methods.is_empty() {
            let methods: Vec<String> = self.methods.iter().map(|method| quoted(method)).collect();
            let _ = writeln!(text, "methods = [{}]", methods.join(", "));
        }
        let Paperwork { owner, reason, until } = paperwork;
        let _ = writeln!(text, "owner = {}\nreason = {}\nuntil = {until}", quoted(owner), quoted(reason));
        text
    }

    /// Why it takes away more than what was matched.
    fn wide(&self) -> Option<String> {
        let rules = &self.rules;
        match &self.target {
            None => Some(format!(
                "wide: what rules {rules:?} looked at cannot be taken away alone, so they would not be run at all"
            )),
            Some(target) if !target.contains(':') => Some(format!(
                "wide: rules {rules:?} would look at nothing of {target}, because one of its members has a name that policy cannot write"
            )),
            Some(_) => None,
        }
    }

    fn covers(&self, record: &RecordedRequest) -> bool {
        let access = &record.access;
        let at = path(&access.target);
        let below = self.path.as_ref().is_none_or(|path| {
            at.as_ref()
                .and_then(|at| at.strip_prefix(path.as_str()))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        below && (self.methods.is_empty() || self.methods.contains(&access.method))
    }

    fn takes(&self, rule: u64, variable: &str) -> bool {
        let takes = |target: &String| {
            target == variable
                || !target.contains(':') && variable.split_once(':').is_some_and(|(of, _)| of == target)
        };
        self.rules.contains(&rule) && self.target.as_ref().is_none_or(takes)
    }
}

/// The findings because of which a request was refused, or would have been: those that scored, and the rule that decided. Rules that
/// only add up scores fall with them.
fn deciding(record: &RecordedRequest) -> Vec<&Signal> {
    let Reason::Rule { rule: decided } = record.access.verdict.reason else { return Vec::new() };
    let adds_up = |signal: &Signal| {
        !signal.matches.is_empty() && signal.matches.iter().all(|one| one.variable.starts_with("TX:"))
    };
    let decides = |signal: &&Signal| {
        signal.rule.id != 0 && !adds_up(signal) && (signal.score > 0 || signal.rule.id == decided)
    };
    record.signals.iter().filter(decides).collect()
}

/// One exclusion for each thing that was matched, with all rules that matched it.
fn narrow(record: &RecordedRequest, deciding: &[Signal]) -> Vec<Narrow> {
    let mut rules_of: BTreeMap<Option<String>, BTreeSet<u64>> = BTreeMap::new();
    for signal in deciding {
        let targets: BTreeSet<String> =
            signal.matches.iter().filter_map(|one| target(&one.variable)).collect();
        let rule = signal.rule.id;
        if targets.is_empty() {
            rules_of.entry(None).or_default().insert(rule);
        }
        for target in targets {
            rules_of.entry(Some(target)).or_default().insert(rule);
        }
    }
    let whole = rules_of.get(&None).cloned().unwrap_or_default();
    let path = path(&record.access.target).filter(|path| !path.is_empty());
    let method = &record.access.method;
    let is_plain = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    let methods = if is_plain { vec![method.clone()] } else { Vec::new() };
    let one = |(target, rules): (Option<String>, BTreeSet<u64>)| {
        let rules: Vec<u64> =
            rules.into_iter().filter(|rule| target.is_none() || !whole.contains(rule)).collect();
        let narrow = Narrow { rules, target, path: path.clone(), methods: methods.clone() };
        (!narrow.rules.is_empty()).then_some(narrow)
    };
    rules_of.into_iter().filter_map(one).collect()
}

/// What an exclusion can take away of what was matched: the member, or all of its collection where its name cannot be written.
fn target(variable: &str) -> Option<String> {
    let collection = variable.split(':').next().unwrap_or_default();
    [variable, collection].into_iter().find(|target| Exclusion::is_target(target)).map(str::to_owned)
}

/// Whether rules refused a request and none of them would with the exclusions.
fn passes(exclusions: &[Narrow], record: &RecordedRequest) -> bool {
    let covering: Vec<&Narrow> = exclusions.iter().filter(|one| one.covers(record)).collect();
    let is_gone = |signal: &&Signal| {
        let rule = signal.rule.id;
        if covering.iter().any(|one| one.target.is_none() && one.rules.contains(&rule)) {
            return true;
        }
        let mut takeable = signal.matches.iter().filter(|one| target(&one.variable).is_some()).peekable();
        takeable.peek().is_some()
            && takeable.all(|found| covering.iter().any(|one| one.takes(rule, &found.variable)))
    };
    let deciding = deciding(record);
    !deciding.is_empty() && deciding.iter().all(is_gone)
}

fn warnings(draft: &Draft) -> Vec<String> {
    let Draft { record, deciding, exclusions, known, .. } = draft;
    let mut warnings = Vec::new();
    let is_sure = |signal: &&Signal| matches!(signal.rule.class, RuleClass::Detection(Confidence::High));
    for signal in deciding.iter().filter(is_sure) {
        // What a stranger wrote stays where he wrote it.
        let found = signal.matches.first().filter(|_| draft.paperwork.is_some());
        let found = found.map(|one| format!(": it found `{}` in {}", one.fragment, one.variable));
        warnings.push(format!(
            "rule {} is sure that this is an attack{}. Exclude it only if you know that such text belongs there",
            signal.rule.id,
            found.unwrap_or_default()
        ));
    }
    warnings.extend(exclusions.iter().filter_map(Narrow::wide));
    if exclusions.iter().any(|one| one.path.is_none()) {
        warnings.push(
            "wide: it holds for every path, because the request's own is `/` or cannot be written".to_owned(),
        );
    }
    warnings.extend(unsure(record, known));
    if record.signals.len() >= SIGNALS_KEPT_MAX {
        warnings.push(format!("only the first {SIGNALS_KEPT_MAX} findings are kept: there may be more"));
    }
    warnings
}

/// What is not known of whether the request would pass.
fn unsure(record: &RecordedRequest, known: &Known) -> Option<String> {
    match known {
        Known::Judged { refused: Some(reason), .. } => {
            Some(format!("with these exclusions the request is refused nevertheless: {}", why(reason)))
        }
        Known::Judged { lacks: true, .. } => Some(
            "the request is recorded without its secrets or parts of its body: a rule that looks there may refuse it still".to_owned(),
        ),
        Known::Judged { .. } => None,
        Known::NotRefused => Some(
            "what is recorded of the request is not refused by the policy in force: a mask took away what rules saw, or the policy is \
             another now. So only its findings are judged, and once they are excluded, another rule may refuse it"
                .to_owned(),
        ),
        Known::Nothing => {
            let adds_up = record.signals.len() > deciding(record).len();
            (record.access.verdict.action == Action::Deny && !adds_up).then(|| {
                "the request is not in this node's recording, and the first rule that refuses ends the inspection: once it is excluded, \
                 another may refuse the request"
                    .to_owned()
            })
        }
    }
}

/// Why an exclusion would not help, and what would.
fn no_use(record: &RecordedRequest) -> String {
    let id = record.id();
    if let Reason::Decision { decision } = &record.access.verdict.reason {
        let evidence = decision.evidence.filter(|evidence| *evidence != id);
        let because =
            evidence.map(|evidence| format!("; it followed from request {evidence}: ask for that one"));
        return format!(
            "decision {} refused request {id}, no rule did: `phalanx decision delete {}` ends it{}",
            decision.id,
            decision.id,
            because.unwrap_or_default()
        );
    }
    let why = Explanation::new(record.clone(), Vec::new()).summary.into_iter().nth(1).unwrap_or_default();
    format!("no rule that an exclusion can name decided about request {id}: {why}")
}

/// The path that an exclusion would name: decoded once, without query and without a `/` at its end; `None` where it cannot be written.
fn path(target: &str) -> Option<String> {
    let local = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest.split_at_checked(rest.find('/')?)?.1,
        _ => target,
    };
    let raw = local.split(['?', '#']).next().unwrap_or_default();
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    let path = String::from_utf8(bytes).ok()?;
    let path = path.trim_end_matches('/');
    let is_strange = path.contains("//")
        || path.contains(['%', '?', '#', '\\', ';', '*', '"'])
        || path.chars().any(char::is_control)
        || path.split('/').any(|segment| segment == "." || segment == "..")
        || !path.is_empty() && !path.starts_with('/')
        || path.len() > ROUTE_PATH_BYTES_MAX;
    (!is_strange).then(|| path.to_owned())
}

/// Exclusions as policy is written.
fn text(exclusions: &[Narrow], paperwork: &Paperwork) -> String {
    exclusions.iter().map(|one| one.toml(paperwork)).collect::<Vec<_>>().join("\n")
}

/// A text as a string of TOML: JSON's escapes are among TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Requests that are shown of those that would pass.
const EXAMPLES_MAX: usize = 10;
/// Of the request line of an example that leaves its node.
const EXAMPLE_CHARS_MAX: usize = 140;
/// Of what another node suggests; a record holds no more findings.
const EXCLUSIONS_MAX: usize = SIGNALS_KEPT_MAX;
const RULES_NAMED_MAX: usize = SIGNALS_KEPT_MAX;
const METHOD_BYTES_MAX: usize = 32;
const WARNINGS_MAX: usize = 32;
const WARNING_CHARS_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_named_as_policy_would() {
        for (target, expected) in [
            ("/blog/a%20b?c=d", Some("/blog/a b")),
            ("http://a.example/x/?y", Some("/x")),
            ("/", Some("")),
            ("/a/../b", None),
            ("/a//b", None),
            ("/%2500", None),
            ("/%0a", None),
            ("/%zz", None),
            ("*", None),
            ("/a?u=http://b/", Some("/a")),
        ] {
            assert_eq!(path(target).as_deref(), expected, "{target}");
        }
    }

    #[test]
    fn a_member_is_named_or_else_its_collection() {
        for (variable, expected) in [
            ("ARGS:q", Some("ARGS:q")),
            ("ARGS:a b", Some("ARGS")),
            ("REQUEST_HEADERS:User-Agent", Some("REQUEST_HEADERS:User-Agent")),
            ("REQUEST_METHOD", None),
            ("TX:score", None),
        ] {
            assert_eq!(target(variable).as_deref(), expected, "{variable}");
        }
    }

    fn record(id: u64, client: &str, target: &str, variable: &str) -> RecordedRequest {
        let explanation: Explanation =
            serde_json::from_str(include_str!("../../phalanx/testdata/explain.json")).unwrap();
        let mut access = explanation.access;
        access.id = RequestId::from_parts(id, 0, 0);
        (access.client, access.target) = (client.parse().unwrap(), target.into());
        let mut signals = explanation.signals;
        for one in signals.iter_mut().flat_map(|signal| &mut signal.matches) {
            if one.variable.starts_with("ARGS") {
                one.variable = variable.into();
            }
        }
        let (site, node) = (explanation.site, explanation.node);
        RecordedRequest { site, node, access, signals, faults: Vec::new(), like: None }
    }

    fn draft(record: &RecordedRequest) -> Draft {
        let paperwork =
            Paperwork { owner: "ann".into(), reason: "a \"b\"".into(), until: "2027-01-01".into() };
        Draft::new(record.clone(), Some(paperwork)).unwrap()
    }

    fn suggested(record: &RecordedRequest) -> Suggestion {
        draft(record).finish().0
    }

    #[test]
    fn what_refuses_it_again_is_excluded_as_well() {
        let asked = record(1, "192.0.2.1", "/blog?q=x", "ARGS:q");
        let mut draft = draft(&asked);
        let mut again = asked.signals.clone();
        for signal in &mut again {
            let mut rule = (*signal.rule).clone();
            rule.id += 1;
            signal.rule = Arc::new(rule);
        }
        assert!(draft.refused_again(asked.access.verdict.clone(), again.clone()));
        assert!(!draft.refused_again(asked.access.verdict.clone(), again));
        assert_eq!(draft.exclusions()[0].rules, [942190, 942191]);
        draft.judged(None, false, PassesRecorded::default());
        let (told, _) = draft.clone().finish();
        assert!(told.passes && told.recording.is_some() && told.toml.contains("rules = [942190, 942191]"));
        draft.judged(Some(Reason::Network), false, PassesRecorded::default());
        let (told, _) = draft.finish();
        assert!(!told.passes && told.warnings.iter().any(|one| one.ends_with("nevertheless: networks")));
    }

    #[test]
    fn what_was_matched_is_excluded_and_nothing_else() {
        let asked = record(1, "192.0.2.1", "/blog?q=x", "ARGS:q");
        let mut suggestion = suggested(&asked);
        let expected = "[[apps.exclusions]]\nrules = [942190]\ntarget = \"ARGS:q\"\npath = \"/blog\"\nmethods = [\"GET\"]\n\
                        owner = \"ann\"\nreason = \"a \\\"b\\\"\"\nuntil = 2027-01-01\n";
        assert_eq!(suggestion.toml, expected);
        assert!(suggestion.passes);
        assert!(suggestion.warnings.iter().any(|one| one.starts_with("rule 942190 is sure")));
        let others = [
            record(2, "198.51.100.1", "/blog/7?q=x", "ARGS:q"),
            record(3, "198.51.100.1", "/blog?r=x", "ARGS:r"),
            record(4, "198.51.100.1", "/blogs?q=x", "ARGS:q"),
            record(5, "192.0.2.77", "/blog?q=x", "ARGS:q"),
        ];
        suggestion.judge(&asked, &others);
        let LetsPass { others, own, passed, examples } = suggestion.lets_pass;
        assert_eq!((others, own, passed), (3, 1, 1));
        assert_eq!(examples.first().unwrap().id, RequestId::from_parts(2, 0, 0));
    }

    #[test]
    fn what_leaves_its_node_is_no_text_of_policy_and_quotes_nobody() {
        let asked = record(1, "192.0.2.1", "/blog?q=x", "ARGS:q");
        let fragment = asked.signals[0].matches[0].fragment.clone();
        let mut draft = Draft::new(asked, None).unwrap();
        let example =
            |request: &str| ReplayExample { id: RequestId::from_parts(7, 0, 0), request: request.into() };
        let recording = PassesRecorded {
            examples: vec![example("GET /a?token=secret"), example("GET /b;x#y"), example("GET /c")],
            ..PassesRecorded::default()
        };
        draft.judged(None, false, recording);
        let (told, _) = draft.finish();
        assert!(told.toml.is_empty() && !told.warnings.iter().any(|one| one.contains(&fragment)), "{told:?}");
        let requests: Vec<String> =
            told.recording.unwrap().examples.into_iter().map(|one| one.request).collect();
        assert_eq!(requests, ["GET /a", "GET /b", "GET /c"]);
    }

    #[test]
    fn another_node_writes_no_policy_by_the_hand_of_an_operator() {
        let asked = record(1, "192.0.2.1", "/blog?q=x", "ARGS:q");
        let paperwork = Paperwork { owner: "ann".into(), reason: "r".into(), until: "2027-01-01".into() };
        let honest = Draft::new(asked.clone(), None).unwrap().finish().0;
        let told = |change: fn(&mut Suggestion)| {
            let mut told = Suggestion { toml: "mode = \"off\"".into(), ..honest.clone() };
            change(&mut told);
            told.of_another(asked.id(), &paperwork)
        };
        let taken = told(|_| {}).unwrap();
        let own = "[[apps.exclusions]]\nrules = [942190]\ntarget = \"ARGS:q\"\npath = \"/blog\"\nmethods = [\"GET\"]\n\
                   owner = \"ann\"\nreason = \"r\"\nuntil = 2027-01-01\n";
        assert_eq!(taken.toml, own);
        type Hostile = (&'static str, fn(&mut Suggestion));
        let hostile: [Hostile; 8] = [
            ("another request", |one| one.id = RequestId::from_parts(9, 0, 0)),
            ("no exclusion", |one| one.exclusions.clear()),
            ("no rules", |one| one.exclusions[0].rules.clear()),
            ("many exclusions", |one| one.exclusions = vec![one.exclusions[0].clone(); EXCLUSIONS_MAX + 1]),
            ("a target", |one| one.exclusions[0].target = Some("ARGS:q\"\nmode = \"off".into())),
            ("a path", |one| one.exclusions[0].path = Some("/a\"\nmode = \"off".into())),
            ("every path", |one| one.exclusions[0].path = Some(String::new())),
            ("a method", |one| one.exclusions[0].methods = vec!["GET\"]\nmode = \"off".into()]),
        ];
        for (case, change) in hostile {
            assert!(told(change).is_err(), "{case}");
        }
    }

    #[test]
    fn whatever_another_node_says_otherwise_when_it_is_ordered_was_not_shown() {
        let asked = record(1, "192.0.2.1", "/blog?q=x", "ARGS:q");
        let base = (7, "ab".to_owned());
        let shown = Suggestion { recording: Some(PassesRecorded::default()), ..suggested(&asked) };
        let hash = shown.shown_on(&base);
        type Other = (&'static str, fn(&mut Suggestion));
        let other: [Other; 9] = [
            ("no target", |one| one.exclusions[0].target = None),
            ("all arguments", |one| one.exclusions[0].target = Some("ARGS".into())),
            ("no path", |one| one.exclusions[0].path = None),
            ("another rule", |one| one.exclusions[0].rules.push(942100)),
            ("all methods", |one| one.exclusions[0].methods.clear()),
            ("it is not enough", |one| one.passes = false),
            ("a warning less", |one| _ = one.warnings.pop()),
            ("something would pass", |one| one.lets_pass.passed = 1),
            ("recorded requests would pass", |one| one.recording.as_mut().unwrap().passed = 1),
        ];
        for (case, change) in other {
            let mut told = shown.clone();
            change(&mut told);
            assert_ne!(told.shown_on(&base), hash, "{case}");
        }
        assert_ne!(shown.shown_on(&(8, "ab".to_owned())), hash);
        assert_ne!(shown.shown_on(&(7, "ac".to_owned())), hash);
        // Another end and owner are the word of who orders; and attacks go on meanwhile.
        let mut later = Suggestion { toml: String::new(), ..shown };
        later.lets_pass.others += 1;
        later.lets_pass.own += 1;
        assert_eq!(later.shown_on(&base), hash);
        later.lets_pass.passed = 3;
        let several = later.shown_on(&base);
        later.lets_pass.passed = 4;
        assert_eq!(later.shown_on(&base), several);
    }

    #[test]
    fn a_request_that_no_rule_refused_is_told_so() {
        let mut asked = record(1, "192.0.2.1", "/", "ARGS:q");
        asked.access.verdict.reason = Reason::Network;
        assert!(Draft::new(asked, None).unwrap_err().contains("deny_networks"));
    }

    #[test]
    fn what_is_wide_is_said() {
        let wide = suggested(&record(1, "192.0.2.1", "/?q=x", "ARGS:a b"));
        let count = wide.warnings.iter().filter(|one| one.starts_with("wide: ")).count();
        assert_eq!((count, wide.passes), (2, true), "{:?}", wide.warnings);
        let whole = suggested(&record(1, "192.0.2.1", "/a?q=x", "REQUEST_METHOD"));
        assert!(whole.passes && whole.exclusions.iter().all(|one| one.target.is_none()));
    }
}
