//! From the checked rule set to the program.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use phalanx_model::RuleInfo;
use phalanx_model::limits::PATTERN_BYTES_MAX;
use phalanx_policy::Diagnostic;
use phalanx_policy::seclang::ir::{self, Action, Target, Variable};

use super::classify::{Described, classify};
use super::effects::Effect;
use super::matchers::{Matcher, Matchers, PatternId, Test};
use super::targets::{Select, SetId, TargetSet};
use super::text::Names;
use super::trie::{NodeId, ROOT, Trie};
use super::updates::{Placed, Selects, apply, plain};
use super::{CompileOptions, Disruptive, Guard, Link, Program, Rule, ScoreSlots, Skip, Step};
use crate::prefilter::Prefilter;
use crate::transform::UnicodeMap;

/// Compiles a rule set; all faults at once.
pub(super) fn compile(set: &ir::RuleSet, options: &CompileOptions) -> Result<Program, Vec<Diagnostic>> {
    let mut faults = Vec::new();
    let placed = apply(set, &mut faults);
    let sources: Vec<&ir::Rule> = placed
        .iter()
        .filter_map(|one| match one {
            Placed::Rule(rule) => Some(rule.as_ref()),
            Placed::Marker(_) => None,
        })
        .collect();
    let mut builder = Builder::new(sources, faults);
    let jumps = Jumps::of(&placed);
    let mut rules = Vec::new();
    let mut phases: [Vec<Step>; 5] = Default::default();
    for (place, source) in builder.sources.clone().into_iter().enumerate() {
        let Some(steps) = phases.get_mut(usize::from(source.phase.saturating_sub(1))) else {
            builder.fault(source, "phase is not 1 to 5".to_owned());
            continue;
        };
        let rule = builder.rule(source, jumps.target(place, source), &set.engine.default_actions);
        let index = u32::try_from(rules.len()).unwrap_or(u32::MAX);
        steps.push(Step { rule: index, guard: builder.guard(&rule) });
        rules.push(rule);
    }
    builder.finish(set, options, rules, phases)
}

/// What is being built.
struct Builder<'a> {
    sources: Vec<&'a ir::Rule>,
    names: Names,
    trie: Trie,
    matchers: Matchers,
    sets: Vec<TargetSet>,
    set_index: HashMap<String, SetId>,
    combos: Vec<(SetId, NodeId)>,
    combo_index: HashMap<(SetId, NodeId), u32>,
    faults: Vec<Diagnostic>,
}

impl<'a> Builder<'a> {
    fn new(sources: Vec<&'a ir::Rule>, faults: Vec<Diagnostic>) -> Self {
        Self {
            sources,
            names: Names::new(),
            trie: Trie::default(),
            matchers: Matchers::default(),
            sets: Vec::new(),
            set_index: HashMap::new(),
            combos: Vec::new(),
            combo_index: HashMap::new(),
            faults,
        }
    }

    fn fault(&mut self, rule: &ir::Rule, message: String) {
        let (file, line) =
            rule.links.first().map_or((Arc::from(""), 0), |link| (link.at.file.clone(), link.at.line));
        self.faults.push(Diagnostic::error(file, line, format!("rule {}: {message}", rule.id)));
    }

    fn rule(&mut self, source: &ir::Rule, skip: Skip, defaults: &[Vec<Action>; 5]) -> Rule {
        let links: Vec<Link> = source.links.iter().map(|link| self.link(source, link)).collect();
        let actions = source.links.first().map(|link| link.actions.as_slice()).unwrap_or_default();
        let defaults: &[Action] =
            defaults.get(usize::from(source.phase.saturating_sub(1))).map_or(&[], Vec::as_slice);
        let (disruptive, status) = self.disruptive(actions, defaults);
        let log = actions.iter().fold(true, |log, action| match action {
            Action::Log => true,
            Action::NoLog => false,
            _ => log,
        });
        Rule { id: source.id, phase: source.phase, info: info(source), links, log, disruptive, status, skip }
    }

    /// The last disruptive action wins; `block` stands for the default one of the phase, which is to deny.
    fn disruptive(&mut self, actions: &[Action], defaults: &[Action]) -> (Disruptive, u16) {
        let is_disruptive = |action: &&Action| {
            matches!(
                action,
                Action::Allow(_)
                    | Action::Block
                    | Action::Deny
                    | Action::Drop
                    | Action::Pass
                    | Action::Redirect(_)
            )
        };
        let mut chosen = actions.iter().rfind(is_disruptive);
        let mut blocks = false;
        if chosen == Some(&Action::Block) {
            blocks = true;
            chosen = defaults.iter().rfind(is_disruptive).filter(|action| **action != Action::Block);
        }
        let status_in = |list: &[Action]| {
            list.iter().rev().find_map(|a| if let Action::Status(code) = a { Some(*code) } else { None })
        };
        let status = status_in(actions).or_else(|| if blocks { status_in(defaults) } else { None });
        let disruptive = match chosen {
            Some(Action::Allow(scope)) => Disruptive::Allow(*scope),
            Some(Action::Drop) => Disruptive::Drop,
            Some(Action::Redirect(url)) => Disruptive::Redirect(self.names.text(url)),
            Some(Action::Deny) => Disruptive::Deny,
            Some(_) => Disruptive::Pass,
            None if blocks => Disruptive::Deny,
            None => Disruptive::Pass,
        };
        let usual = if matches!(disruptive, Disruptive::Redirect(_)) { 302 } else { 403 };
        (disruptive, status.unwrap_or(usual))
    }

    fn link(&mut self, rule: &ir::Rule, source: &ir::Link) -> Link {
        let node = self.trie.intern(&source.transformations);
        let mut multi = Vec::new();
        if source.multi_match {
            multi.push(ROOT);
            multi.extend(self.trie.path(node));
        }
        let (test, negated) = match &source.operator {
            None => (Test::Always, false),
            Some(operator) => {
                let test = self.matchers.test(&operator.test, &mut self.names).unwrap_or_else(|message| {
                    self.fault_at(rule, source, message);
                    Test::Never
                });
                (test, operator.negated)
            }
        };
        let set = source.operator.as_ref().and_then(|_| self.set(rule, source));
        let text = |names: &mut Names, wanted: fn(&Action) -> Option<&ir::Macro>| {
            source.actions.iter().rev().find_map(wanted).map(|text| names.text(text))
        };
        let message = text(&mut self.names, |a| if let Action::Msg(text) = a { Some(text) } else { None });
        let data = text(&mut self.names, |a| if let Action::LogData(text) = a { Some(text) } else { None });
        Link {
            set,
            node,
            multi,
            test,
            negated,
            capture: source.actions.contains(&Action::Capture),
            effects: self.effects(rule, source),
            message,
            data,
        }
    }

    fn fault_at(&mut self, rule: &ir::Rule, link: &ir::Link, message: String) {
        let message = format!("rule {}: {message}", rule.id);
        self.faults.push(Diagnostic::error(link.at.file.clone(), link.at.line, message));
    }

    fn set(&mut self, rule: &ir::Rule, link: &ir::Link) -> Option<SetId> {
        let key = set_key(&link.targets);
        if let Some(&id) = self.set_index.get(&key) {
            return Some(id);
        }
        match TargetSet::compile(&link.targets, &mut self.names) {
            Ok(set) => {
                let id = SetId(u32::try_from(self.sets.len()).unwrap_or(u32::MAX));
                self.sets.push(set);
                self.set_index.insert(key, id);
                Some(id)
            }
            Err(error) => {
                self.fault_at(rule, link, format!("the selector does not compile: {error}"));
                None
            }
        }
    }

    fn effects(&mut self, rule: &ir::Rule, link: &ir::Link) -> Vec<Effect> {
        let mut effects = Vec::new();
        for action in &link.actions {
            match self.effect(action) {
                Ok(Some(effect)) => effects.push(effect),
                Ok(None) => {}
                Err(error) => self.fault_at(rule, link, format!("the pattern does not compile: {error}")),
            }
        }
        effects
    }

    fn effect(&mut self, action: &Action) -> Result<Option<Effect>, crate::pattern::PatternError> {
        let names = &mut self.names;
        let key = |name: &Arc<str>| name.as_bytes().to_ascii_lowercase().into_boxed_slice();
        Ok(Some(match action {
            Action::SetVar(set) => Effect::set_var(set, names),
            Action::ExpireVar { collection, key, seconds } => {
                Effect::ExpireVar(*collection, names.text(key), names.text(seconds))
            }
            Action::DeprecateVar { collection, key, amount, period_s } => Effect::DeprecateVar(
                *collection,
                names.text(key),
                i64::from(*amount),
                u64::from(*period_s) * 1000,
            ),
            Action::InitCol { collection, key } => Effect::InitCol(*collection, names.text(key)),
            Action::SetSid(key) => Effect::InitCol(Variable::Session, names.text(key)),
            Action::SetUid(key) => Effect::InitCol(Variable::User, names.text(key)),
            Action::SetRsc(key) => Effect::InitCol(Variable::Resource, names.text(key)),
            Action::SetEnv(text) => Effect::SetEnv(names.text(text)),
            Action::Ctl(ctl) => Effect::ctl(ctl, names, |selector| selected(&self.sources, selector))?,
            Action::SanitiseArg(name) => Effect::SanitiseArg(key(name)),
            Action::SanitiseRequestHeader(name) => Effect::SanitiseRequestHeader(key(name)),
            Action::SanitiseResponseHeader(name) => Effect::SanitiseResponseHeader(key(name)),
            Action::SanitiseMatched | Action::SanitiseMatchedBytes => Effect::SanitiseMatched,
            _ => return Ok(None),
        }))
    }

    fn combo(&mut self, set: SetId, node: NodeId) -> u32 {
        let next = u32::try_from(self.combos.len()).unwrap_or(u32::MAX);
        let id = *self.combo_index.entry((set, node)).or_insert(next);
        if id == next {
            self.combos.push((set, node));
        }
        id
    }

    /// The cheap test of a rule's first link, where one is sound.
    fn guard(&mut self, rule: &Rule) -> Guard {
        let Some(link) = rule.links.first() else {
            return Guard::None;
        };
        let Some((id, set)) = link.set.and_then(|id| Some((id, self.sets.get(id.0 as usize)?))) else {
            return Guard::None;
        };
        let counts = set.includes.iter().any(|spec| spec.count);
        match (&link.test, set.includes.as_slice()) {
            (Test::Pattern(pattern) | Test::PatternGlobal(pattern), _)
                if set.stable && !counts && !link.negated && link.multi.is_empty() =>
            {
                let pattern: PatternId = *pattern;
                Guard::Pattern { combo: self.combo(id, link.node), pattern }
            }
            (Test::Number(compare, text), [spec]) if set.excludes.is_empty() && link.node == ROOT => {
                match (&spec.select, text.number) {
                    (Select::Slot(slot), Some(number)) => {
                        let (slot, compare, negated) = (*slot, *compare, link.negated);
                        if spec.count {
                            Guard::SlotCount { slot, compare, number, negated }
                        } else {
                            Guard::Slot { slot, compare, number, negated }
                        }
                    }
                    _ => Guard::None,
                }
            }
            _ => Guard::None,
        }
    }

    fn finish(
        mut self,
        set: &ir::RuleSet,
        options: &CompileOptions,
        rules: Vec<Rule>,
        phases: [Vec<Step>; 5],
    ) -> Result<Program, Vec<Diagnostic>> {
        let prefilter = Prefilter::build(&self.matchers.needs, options.prefilter).map_err(|error| {
            vec![Diagnostic::error("", 0, format!("the prefilter does not compile: {error}"))]
        })?;
        let pattern_bytes: usize = self.matchers.list.iter().map(Matcher::memory_bytes).sum();
        if pattern_bytes > PATTERN_BYTES_MAX {
            let message = format!(
                "the patterns of the rule set take {} MiB compiled, {} MiB is the limit",
                pattern_bytes / MIB,
                PATTERN_BYTES_MAX / MIB
            );
            self.faults.push(Diagnostic::error("", 0, message));
        }
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        let scores = scores(&mut self.names);
        for spec in self.sets.iter_mut().flat_map(|set| set.includes.iter_mut().chain(&mut set.excludes)) {
            spec.link_slots(&self.names);
        }
        Ok(Program {
            rules,
            phases,
            sets: self.sets,
            combos: self.combos,
            trie: self.trie,
            matchers: self.matchers.list,
            prefilter,
            constants: Bytes::from(self.names.take_constants()),
            names: self.names,
            unicode_map: UnicodeMap::new(&set.engine.unicode_map),
            engine: set.engine.clone(),
            collections: Arc::clone(&options.collections),
            scores,
        })
    }
}

const MIB: usize = 1024 * 1024;

/// Where `skip` and `skipAfter` lead, as places in a phase.
struct Jumps {
    /// For each marker: how many rules of each phase stand before it.
    markers: Vec<(Arc<str>, [u32; 5])>,
    /// For each rule: how many rules of its own phase stand before it.
    own: Vec<u32>,
    lengths: [u32; 5],
}

impl Jumps {
    fn of(placed: &[Placed]) -> Self {
        let mut lengths = [0u32; 5];
        let (mut markers, mut own) = (Vec::new(), Vec::new());
        for one in placed {
            match one {
                Placed::Marker(name) => markers.push((name.clone(), lengths)),
                Placed::Rule(rule) => {
                    let length = lengths.get_mut(usize::from(rule.phase.saturating_sub(1)));
                    own.push(length.as_deref().copied().unwrap_or_default());
                    if let Some(length) = length {
                        *length += 1;
                    }
                }
            }
        }
        Self { markers, own, lengths }
    }

    /// Where the phase goes on when this rule matches. A marker that does not follow ends the phase.
    fn target(&self, place: usize, rule: &ir::Rule) -> Skip {
        let own = self.own.get(place).copied().unwrap_or_default();
        let phase = usize::from(rule.phase.saturating_sub(1));
        let end = self.lengths.get(phase).copied().unwrap_or_default();
        let actions = rule.links.first().map(|link| link.actions.as_slice()).unwrap_or_default();
        actions.iter().fold(Skip::None, |skip, action| match action {
            Action::Skip(count) => Skip::To(own.saturating_add(1).saturating_add(*count)),
            Action::SkipAfter(name) => {
                let places = self.markers.iter().filter(|(marker, _)| marker == name);
                let after = places.filter_map(|(_, at)| at.get(phase).copied()).find(|&at| at > own);
                Skip::To(after.unwrap_or(end))
            }
            _ => skip,
        })
    }
}

/// A bit for each rule that a selector means.
fn selected(
    sources: &[&ir::Rule],
    selector: &ir::RuleSelector,
) -> Result<Vec<u64>, crate::pattern::PatternError> {
    let selects = Selects::compile(selector)?;
    let mut bits = vec![0u64; sources.len().div_ceil(64)];
    for (index, _) in sources.iter().enumerate().filter(|(_, rule)| selects.selects(rule)) {
        if let Some(word) = bits.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }
    Ok(bits)
}

/// Targets that differ in nothing share a set.
fn set_key(targets: &[Target]) -> String {
    format!("{targets:?}")
}

fn info(rule: &ir::Rule) -> Arc<RuleInfo> {
    let actions = rule.links.first().map(|link| link.actions.as_slice()).unwrap_or_default();
    let mut tags: Vec<Arc<str>> = Vec::new();
    let mut severity = None;
    for action in actions {
        match action {
            Action::Tag(tag) => tags.push(plain(&tag.0).into()),
            Action::Severity(stated) => severity = Some(*stated),
            _ => {}
        }
    }
    let class = classify(&Described { id: rule.id, phase: rule.phase, tags: &tags, severity });
    let (file, line) =
        rule.links.first().map_or((Arc::from(""), 0), |link| (link.at.file.clone(), link.at.line));
    Arc::new(RuleInfo { id: rule.id, file, line, class, severity, tags })
}

/// The score variables of the Core Rule Set, 4 and 3.
fn scores(names: &mut Names) -> ScoreSlots {
    let totals = ["blocking_inbound_anomaly_score", "anomaly_score"];
    let mut parts = Vec::new();
    for level in 1..=4 {
        for name in ["inbound_anomaly_score_pl", "outbound_anomaly_score_pl", "anomaly_score_pl"] {
            parts.push(names.slot(format!("{name}{level}").as_bytes()));
        }
    }
    ScoreSlots { totals: totals.iter().map(|name| names.slot(name.as_bytes())).collect(), parts }
}
