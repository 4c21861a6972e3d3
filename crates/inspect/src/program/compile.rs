//! From the checked rule set to the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hashbrown::HashMap;
use phalanx_model::limits::PATTERN_BYTES_MAX;
use phalanx_model::{Edition, RuleInfo};
use phalanx_policy::Diagnostic;
use phalanx_policy::seclang::ir::{self, Action, Target, Variable};

use super::classify::{Described, classify};
use super::effects::Effect;
use super::fold::Folding;
use super::matchers::{Matcher, Matchers, PatternId, Test};
use super::scope::finds;
use super::targets::{Lifetime, Pick, PickId, Select, SetId, Spec, TargetSet};
use super::text::{Names, Slot};
use super::trie::{NodeId, ROOT, Trie};
use super::updates::{Placed, Selects, apply, plain};
use super::{CompileOptions, Disruptive, Guard, Link, Phase, Program, Rule, ScoreSlots, Skip, Step, ViewId};
use crate::pattern::{Flags, Pattern};
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
    picks: Vec<Pick>,
    pick_index: HashMap<String, PickId>,
    views: Vec<(PickId, NodeId)>,
    view_index: HashMap<(PickId, NodeId), ViewId>,
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
            picks: Vec::new(),
            pick_index: HashMap::new(),
            views: Vec::new(),
            view_index: HashMap::new(),
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
        let audit = actions.iter().fold(true, |audit, action| match action {
            Action::Log | Action::AuditLog => true,
            Action::NoLog | Action::NoAuditLog => false,
            _ => audit,
        });
        let (id, phase, info) = (source.id, source.phase, info(source, audit));
        let mut rule = Rule { id, phase, info, links, log, audit, finds: false, disruptive, status, skip };
        rule.finds = finds(&rule, &self.sets, &self.picks);
        rule
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
        let views = match test {
            Test::Pattern(_) | Test::PatternGlobal(_) if !negated => self.views(set, node, &multi),
            _ => Vec::new(),
        };
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
            views,
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
        match self.compile_set(&link.targets) {
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

    fn compile_set(&mut self, targets: &[Target]) -> Result<TargetSet, crate::pattern::PatternError> {
        let taken: Vec<&Target> = targets.iter().filter(|target| target.exclude).collect();
        let excludes: Vec<Spec> =
            taken.iter().map(|target| Spec::excluded(target, &mut self.names)).collect::<Result<_, _>>()?;
        let mut picks = Vec::new();
        for target in targets.iter().filter(|target| !target.exclude) {
            let relevant: Vec<_> =
                taken.iter().filter(|one| super::targets::covers(one.variable, target.variable)).collect();
            let key = format!("{target:?} {relevant:?}");
            let id = match self.pick_index.get(&key) {
                Some(&id) => id,
                None => {
                    let id = PickId(u32::try_from(self.picks.len()).unwrap_or(u32::MAX));
                    self.picks.push(Pick::compile(target, &excludes, &mut self.names)?);
                    self.pick_index.insert(key, id);
                    id
                }
            };
            picks.push(id);
        }
        let lifetimes = picks.iter().filter_map(|id| self.picks.get(id.0 as usize)).map(|pick| pick.lifetime);
        let stable = !lifetimes.into_iter().any(|lifetime| lifetime == Lifetime::Rule);
        Ok(TargetSet { picks, stable })
    }

    /// The views that a pattern is put to, if its targets are stable.
    fn views(&mut self, set: Option<SetId>, node: NodeId, multi: &[NodeId]) -> Vec<ViewId> {
        let Some(set) = set.and_then(|id| self.sets.get(id.0 as usize)).filter(|set| set.stable) else {
            return Vec::new();
        };
        let picks = set.picks.clone();
        let nodes = if multi.is_empty() { std::slice::from_ref(&node) } else { multi };
        let mut views = Vec::with_capacity(picks.len() * nodes.len());
        for pick in picks {
            for &node in nodes {
                // What can match does not depend on case.
                let node = self.trie.without_case(node);
                let next = ViewId(u32::try_from(self.views.len()).unwrap_or(u32::MAX));
                let id = *self.view_index.entry((pick, node)).or_insert(next);
                if id == next {
                    self.views.push((pick, node));
                }
                views.push(id);
            }
        }
        views
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

    /// The cheap test of a rule's first link, where one is sound.
    fn guard(&self, rule: &Rule) -> Guard {
        let Some(link) = rule.links.first() else {
            return Guard::None;
        };
        match &link.test {
            Test::Pattern(pattern) | Test::PatternGlobal(pattern) if !link.views.is_empty() => {
                Guard::Pattern(*pattern)
            }
            Test::Number(compare, text) if link.node == ROOT => {
                let set = link.set.and_then(|id| self.sets.get(id.0 as usize));
                let Some(&[pick]) = set.map(|set| set.picks.as_slice()) else {
                    return Guard::None;
                };
                let pick = self.picks.get(pick.0 as usize).filter(|pick| pick.excludes.is_empty());
                match (pick.map(|pick| (&pick.spec.select, pick.spec.count)), text.number) {
                    (Some((Select::Slot(slot), count)), Some(number)) => {
                        let (slot, compare, negated) = (*slot, *compare, link.negated);
                        if count {
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
        mut rules: Vec<Rule>,
        mut phases: [Vec<Step>; 5],
    ) -> Result<Program, Vec<Diagnostic>> {
        let audit_statuses = audit_statuses(set, &mut self.faults);
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
        for spec in self.picks.iter_mut().flat_map(|pick| pick.excludes.iter_mut().chain([&mut pick.spec])) {
            spec.link_slots(&self.names);
        }
        let constants = self.names.take_constants();
        let folding = Folding {
            rules: &mut rules,
            sets: &self.sets,
            picks: &self.picks,
            names: &self.names,
            constants: &constants,
        };
        let assignments = if options.prefilter { folding.fold(&mut phases) } else { Vec::new() };
        let few_patterns = few_patterns(&rules, self.views.len());
        let often_viewed = often_viewed(&self.views, self.picks.len());
        let mut alone: Vec<PatternId> = few_patterns.iter().flatten().copied().collect();
        alone.sort_unstable_by_key(|pattern| pattern.0);
        alone.dedup();
        let prefilter = Prefilter::build(&self.matchers.needs, &alone, options.prefilter);
        let pick_of = |view: ViewId| self.views.get(view.0 as usize).map(|(pick, _)| *pick);
        let phases = phases.map(|steps| Phase::new(steps, &rules, pick_of));
        Ok(Program {
            number: PROGRAMS.fetch_add(1, Ordering::Relaxed),
            rules,
            phases,
            sets: self.sets,
            picks: self.picks,
            few_patterns,
            often_viewed,
            views: self.views,
            trie: self.trie,
            matchers: self.matchers.list,
            prefilter,
            assignments,
            constants: Bytes::from(constants),
            names: self.names,
            unicode_map: UnicodeMap::new(&set.engine.unicode_map),
            engine: set.engine.clone(),
            collections: Arc::clone(&options.collections),
            scores,
            audit_statuses,
            components: set.engine.component_signatures.as_slice().into(),
        })
    }
}

/// Programs made so far.
static PROGRAMS: AtomicU64 = AtomicU64::new(0);

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

/// The patterns that are put to each view, if they are few.
fn few_patterns(rules: &[Rule], views: usize) -> Vec<Vec<PatternId>> {
    let mut all = vec![Vec::new(); views];
    for link in rules.iter().flat_map(|rule| &rule.links) {
        let (Test::Pattern(pattern) | Test::PatternGlobal(pattern)) = &link.test else { continue };
        for view in &link.views {
            if let Some(patterns) = all.get_mut(view.0 as usize)
                && !patterns.contains(pattern)
            {
                patterns.push(*pattern);
            }
        }
    }
    all.iter_mut().filter(|patterns| patterns.len() > FEW_PATTERNS).for_each(Vec::clear);
    all
}

/// So many, at most eight, are asked one by one rather than looked for among all: that takes a pass over the value.
const FEW_PATTERNS: usize = 8;

fn often_viewed(views: &[(PickId, NodeId)], picks: usize) -> Vec<bool> {
    let mut counts = vec![0; picks];
    for (pick, _) in views {
        counts.get_mut(pick.0 as usize).into_iter().for_each(|count| *count += 1);
    }
    counts.into_iter().map(|count| count >= OFTEN_VIEWED).collect()
}

/// Views of one pick from which on one pass over its values serves them all.
const OFTEN_VIEWED: usize = 4;

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

fn info(rule: &ir::Rule, audit: bool) -> Arc<RuleInfo> {
    let actions = rule.links.first().map(|link| link.actions.as_slice()).unwrap_or_default();
    let mut tags: Vec<Arc<str>> = Vec::new();
    let mut severity = None;
    let mut edition = Edition::default();
    for action in actions {
        match action {
            Action::Tag(tag) => tags.push(plain(&tag.0).into()),
            Action::Severity(stated) => severity = Some(*stated),
            Action::Meta("ver", text) => edition.ver = Arc::clone(text),
            Action::Meta("rev", text) => edition.rev = Arc::clone(text),
            Action::Meta("maturity", text) => edition.maturity = Arc::clone(text),
            Action::Meta("accuracy", text) => edition.accuracy = Arc::clone(text),
            _ => {}
        }
    }
    let class = classify(&Described { id: rule.id, phase: rule.phase, tags: &tags, severity });
    let (file, line) =
        rule.links.first().map_or((Arc::from(""), 0), |link| (link.at.file.clone(), link.at.line));
    let links: Vec<&str> = rule.links.iter().map(|link| &*link.source).collect();
    let source = links.join("\n").into();
    Arc::new(RuleInfo { id: rule.id, file, line, class, severity, tags, edition, unaudited: !audit, source })
}

/// `SecAuditLogRelevantStatus`, tried on every status once, so that no request pays for it.
fn audit_statuses(set: &ir::RuleSet, faults: &mut Vec<Diagnostic>) -> Vec<u64> {
    let mut bits = vec![0u64; STATUSES / 64];
    let Some((regex, at)) = &set.engine.audit_relevant_status else {
        return bits;
    };
    match Pattern::compile(regex, Flags::MODSECURITY) {
        Ok(pattern) => {
            for status in 100..STATUSES {
                if pattern.is_match(status.to_string().as_bytes()).unwrap_or(false)
                    && let Some(word) = bits.get_mut(status / 64)
                {
                    *word |= 1 << (status % 64);
                }
            }
        }
        Err(error) => {
            let message = format!("SecAuditLogRelevantStatus: the pattern does not compile: {error}");
            faults.push(Diagnostic::error(at.file.clone(), at.line, message));
        }
    }
    bits
}

/// Statuses have three digits.
const STATUSES: usize = 1_024;

/// The score variables of the Core Rule Set, 4 and 3.
fn scores(names: &mut Names) -> ScoreSlots {
    let totals = ["blocking_inbound_anomaly_score", "anomaly_score"];
    let mut of_each_level = |bases: &[&str]| -> Vec<Slot> {
        let levels = bases.iter().flat_map(|name| (1..=4).map(move |level| format!("{name}{level}")));
        levels.map(|name| names.slot(name.as_bytes())).collect()
    };
    let inbound = of_each_level(&["inbound_anomaly_score_pl", "anomaly_score_pl"]);
    let outbound = of_each_level(&["outbound_anomaly_score_pl"]);
    ScoreSlots { totals: totals.iter().map(|name| names.slot(name.as_bytes())).collect(), inbound, outbound }
}
