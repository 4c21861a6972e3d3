//! Keeps the plan in force and replaces it: a policy is compiled in full before the plan is swapped, and a policy with
//! faults changes nothing. The fleet's bundle, once there is one, goes before the node's own policy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use phalanx_control::{Reloaded, RunningPolicy, TriedBundle, api};
use phalanx_edge::EdgePlan;
use phalanx_fleet::policy::Manifest;
use phalanx_fleet::{Bundle, Running};
use phalanx_inspect::Collections;
use phalanx_model::lanes::Lanes;
use phalanx_model::{Clock, LedgerEntry, LedgerKind, Prefix, Swap};
use phalanx_policy::{
    Diagnostic, Everywhere, Exclusion, Files, Mode, Policy, RateAction, RateLimit, RateScope, RuleSource,
};
use phalanx_record::RateLimitCount;

use crate::bundle_features;
use crate::bundle_plan;
use crate::plan::{Compiled, PolicySource, Written, rule_stats};
use crate::upstreams::{OwnNode, check_upstreams, describe};

/// The plan in force, and where the next one comes from.
pub(crate) struct PolicyKeeper {
    source: PolicySource,
    collections: Arc<Collections>,
    plan: Arc<Swap<EdgePlan>>,
    /// What is in force, for reports. Held while a plan is replaced, so that replacements come one by one.
    state: Mutex<State>,
    /// Listeners of the node's own management, to which no app's requests may go.
    own: OwnNode,
    lanes: Lanes,
    clock: Arc<dyn Clock>,
}

struct State {
    policy: Policy,
    /// Why the last reload or bundle was refused, if it was.
    refused: Option<String>,
    /// The bundle in force; none while it is the node's own policy.
    bundle: Option<Running>,
    /// What it was made of, where that was a file: for who asks what runs, and for a trial of the same policy with more exclusions.
    written: Option<Written>,
}

impl PolicyKeeper {
    /// Compiles the first plan: of the bundle that was in force before, else of the node's own policy.
    pub(crate) fn start(
        source: PolicySource,
        kept: Option<(Bundle, Running)>,
        own: OwnNode,
        lanes: Lanes,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let collections = Arc::default();
        let (mut refused, mut of_bundle) = (None, None);
        if let Some((bundle, running)) = kept {
            let compiled = bundle_plan::compile(&bundle, Some(&own.site), &collections);
            match compiled.and_then(|it| check_upstreams(it, &own)) {
                Ok(compiled) => of_bundle = Some((compiled, running)),
                Err(faults) => {
                    let error = summary(&faults);
                    tracing::error!(%error, "the kept policy bundle was refused; the node's own policy is in force");
                    refused = Some(error);
                }
            }
        }
        let (Compiled { plan, policy, warnings, written }, bundle) = match of_bundle {
            Some((compiled, running)) => (compiled, Some(running)),
            None => (check_upstreams(source.compile(Some(&own.site), &collections)?, &own)?, None),
        };
        report(&warnings);
        let state = Mutex::new(State { policy, refused, bundle, written });
        let plan = Arc::new(Swap::new(plan));
        Ok(Self { source, collections, plan, state, own, lanes, clock })
    }

    /// The plan as the edge reads it.
    pub(crate) fn plan(&self) -> Arc<Swap<EdgePlan>> {
        Arc::clone(&self.plan)
    }

    /// Asks for the addresses that policy exempts from decisions.
    pub(crate) fn exempt_port(self: &Arc<Self>) -> phalanx_control::ExemptPort {
        let keeper = Arc::clone(self);
        Box::new(move || keeper.exempt())
    }

    /// The addresses on which no decision is enforced.
    pub(crate) fn exempt(&self) -> Vec<Prefix> {
        let plan = self.plan.load();
        plan.decide.exempt(self.clock.now_ms()).collect()
    }

    /// Loads the policy again. The change is in the ledger before it takes effect.
    pub(crate) fn reload(&self) -> Result<Reloaded, Vec<Diagnostic>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bundle) = &state.bundle {
            let message = format!("the fleet's policy bundle, version {}, is in force", bundle.version);
            let fault = Diagnostic::error("policy", 0, message);
            return Err(vec![fault.with_help("change it for all nodes with `phalanx policy push FILE`")]);
        }
        let compiled = self.source.compile(Some(&self.own.site), &self.collections);
        let compiled = compiled.and_then(|compiled| check_upstreams(compiled, &self.own));
        let compiled = compiled.inspect_err(|faults| self.refuse(&mut state, faults))?;
        self.swap(&mut state, compiled, None, || ())
    }

    /// Compiles a bundle and puts it into force, unless it has faults or refuses everything. Returns the plan before. `keep` keeps it for
    /// the next start: before it is in force, for no start may go back behind what ran.
    pub(crate) fn adopt(
        &self,
        bundle: &Bundle,
        running: Running,
        keep: impl FnOnce(),
    ) -> Result<Arc<EdgePlan>, Vec<Diagnostic>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.plan.load_full();
        let compiled = self.try_bundle(bundle);
        let compiled = compiled.inspect_err(|faults| self.refuse(&mut state, faults))?;
        self.swap(&mut state, compiled, Some(running), keep)?;
        Ok(before)
    }

    /// Compiles a bundle and tries it on requests that harm nobody; nothing is put into force.
    pub(crate) fn try_bundle(&self, bundle: &Bundle) -> Result<Compiled, Vec<Diagnostic>> {
        // A bug in a compiler must not end the node that it guards.
        let compile = || bundle_plan::compile(bundle, Some(&self.own.site), &self.collections);
        let compiled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(compile));
        let compiled =
            compiled.unwrap_or_else(|_| Err(vec![Diagnostic::error("policy", 0, "compiling it failed")]))?;
        let compiled = check_upstreams(compiled, &self.own)?;
        match bundle_plan::refuses_everything(&compiled.plan, &self.plan.load()) {
            None => Ok(compiled),
            Some(app) => {
                let message = format!("the rules of app `{app}` refuse every request, harmless ones too");
                let fault = Diagnostic::error(bundle.manifest.entry.as_str(), 0, message);
                Err(vec![fault.with_help("look for a rule without a condition")])
            }
        }
    }

    /// Tries a policy file and what it names as a bundle; nothing is put into force.
    pub(crate) fn try_files(
        &self,
        files: BTreeMap<String, Vec<u8>>,
        entry: String,
    ) -> Result<TriedBundle, Vec<Diagnostic>> {
        let text =
            files.get(&entry).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
        let (everywhere, _) = Everywhere::parse(&entry, &text)?;
        let compiled = self.compile_files(files, entry)?;
        let mut requires: Vec<String> =
            everywhere.distinct().iter().flat_map(|(_, policy)| bundle_features::features(policy)).collect();
        requires.sort();
        requires.dedup();
        Ok(TriedBundle { version: compiled.policy.version, requires, warnings: compiled.warnings })
    }

    /// Compiles a policy file and what it names as a bundle; nothing is put into force.
    pub(crate) fn compile_files(
        &self,
        files: BTreeMap<String, Vec<u8>>,
        entry: String,
    ) -> Result<Compiled, Vec<Diagnostic>> {
        let written = files.get(&entry).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let (everywhere, _) = Everywhere::parse(&entry, written.as_deref().unwrap_or_default())?;
        let version = everywhere.elsewhere.version;
        let manifest = Manifest {
            schema: 1,
            fleet: String::new(),
            version,
            previous: None,
            oldest: String::new(),
            requires: Vec::new(),
            entry,
            made_at_ms: 0,
        };
        let bundle = Bundle { manifest, files };
        let compiled = self.try_bundle(&bundle)?;
        let others =
            everywhere.distinct().into_iter().filter(|(_, policy)| *policy != everywhere.at(&self.own.site));
        for (site, _) in others {
            bundle_plan::compile(&bundle, site, &Arc::default())?;
        }
        Ok(compiled)
    }

    /// Compiles the policy in force for one of its apps, with more exclusions. Nothing is put into force.
    pub(crate) fn compile_excluding(
        &self,
        app: &str,
        exclusions: Vec<Exclusion>,
    ) -> Result<EdgePlan, Vec<Diagnostic>> {
        let (mut policy, written) = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.policy.clone(), state.written.clone())
        };
        policy.apps.retain(|one| one.name == app);
        let Some(app) = policy.apps.first_mut() else {
            let fault = format!("the policy in force has no app `{app}`");
            return Err(vec![Diagnostic::error("policy", 0, fault)]);
        };
        app.exclusions.extend(exclusions);
        let files = written.as_ref().map_or(Files::Disk, |written| Files::Set(&written.files));
        Ok(EdgePlan::compile_from(files, &policy, &self.collections)?.plan)
    }

    /// Says why a bundle is not in force that could not even be compiled.
    pub(crate) fn refuse_bundle(&self, error: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.refuse(&mut state, &[Diagnostic::error("bundle", 0, error)]);
    }

    /// The policy in force, as it is written.
    pub(crate) fn running(&self) -> RunningPolicy {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (entry, files) = state.written.clone().map(|written| (written.entry, written.files)).unzip();
        let bundle = state.bundle.as_ref().map(|bundle| bundle.hash.clone());
        RunningPolicy { bundle, entry, files, policy: state.policy.clone() }
    }

    /// The bundle in force.
    pub(crate) fn bundle(&self) -> Option<Running> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).bundle.clone()
    }

    /// Says that a bundle came by another record than before.
    pub(crate) fn renew(&self, running: Running) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).bundle = Some(running);
    }

    fn refuse(&self, state: &mut State, faults: &[Diagnostic]) {
        let error = summary(faults);
        tracing::error!(%error, "the policy was refused; the plan in force stays");
        state.refused = Some(error.clone());
        let _ = self.record(LedgerKind::PolicyRefused { error });
    }

    fn swap(
        &self,
        state: &mut State,
        mut compiled: Compiled,
        bundle: Option<Running>,
        keep: impl FnOnce(),
    ) -> Result<Reloaded, Vec<Diagnostic>> {
        let from = self.plan.load().version;
        let to = compiled.plan.version;
        let apps = compiled.policy.apps.len();
        let rules: usize = rule_stats(&compiled.plan).flatten().map(|stats| stats.rules).sum();
        let summary = format!("{apps} apps, {rules} rules");
        self.record(LedgerKind::PolicyChanged { from, to, summary })?;
        keep();
        compiled.plan.keep_rate_counts(&self.plan.load());
        compiled.plan.keep_upstreams(&self.plan.load());
        compiled.plan.keep_slots(&self.plan.load());
        self.plan.store(Arc::new(compiled.plan));
        tracing::info!(from, to, apps, rules, "the policy is in force");
        report(&compiled.warnings);
        *state = State { policy: compiled.policy, refused: None, bundle, written: compiled.written };
        Ok(Reloaded { from, to })
    }

    /// What is in force, for reports.
    pub(crate) fn describe(&self) -> api::Plan {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = self.plan.load();
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let mut counts = crate::rates::counts(&plan).into_iter();
        let mut reports = plan.apps().iter().map(|app| app.upstreams.report());
        let apps = state.policy.apps.iter().zip(rule_stats(&plan)).map(|(app, stats)| {
            let described = api::App {
                rate_limits: app.rate_limits.iter().zip(counts.by_ref()).map(rate_limit).collect(),
                name: app.name.clone(),
                upstream: app.upstreams.to_string(),
                mode: match app.mode {
                    Mode::Block => "block",
                    Mode::Observe => "observe",
                    Mode::Off => "off",
                }
                .to_owned(),
                rules: rules_name(&app.rules),
                paranoia: app.paranoia,
                raise_paranoia: app.raise_paranoia,
                rule_count: stats.map_or(0, |stats| number(stats.rules)),
                backtracking_patterns: stats.map_or(0, |stats| number(stats.fallback_patterns)),
                ..api::App::default()
            };
            describe(reports.next().unwrap_or_default(), described)
        });
        let bundle = state.bundle.as_ref().map(|bundle| bundle.hash.clone());
        api::Plan { version: state.policy.version, bundle, apps: apps.collect() }
    }

    /// What an operator should know.
    pub(crate) fn degraded(&self) -> Vec<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.refused.iter().map(|error| format!("the last policy was refused: {error}")).collect()
    }

    fn record(&self, kind: LedgerKind) -> Result<(), Vec<Diagnostic>> {
        let entry = LedgerEntry { at_ms: self.clock.now_ms(), kind };
        self.lanes.ledger(entry).map_err(|full| vec![Diagnostic::error("policy", 0, full.to_string())])
    }
}

/// The first fault, and how many more there are.
pub(crate) fn summary(faults: &[Diagnostic]) -> String {
    let error = faults.first().map(ToString::to_string).unwrap_or_default();
    match faults.len().saturating_sub(1) {
        0 => error,
        more => format!("{error} (and {more} more)"),
    }
}

fn report(warnings: &[Diagnostic]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

fn rate_limit((limit, count): (&RateLimit, RateLimitCount)) -> api::RateLimit {
    let key: Vec<String> = limit.key.iter().map(ToString::to_string).collect();
    api::RateLimit {
        name: limit.name.clone(),
        key: if key.is_empty() { "global".to_owned() } else { key.join(", ") },
        rate: format!("{}, {} at once", limit.rate, limit.burst),
        fleet: limit.scope == RateScope::Fleet,
        observes: limit.action == RateAction::Observe,
        admitted: count.admitted,
        refused: count.refused,
        observed: count.observed,
    }
}

/// Names a rule source in reports.
fn rules_name(rules: &RuleSource) -> String {
    match rules {
        RuleSource::Baseline => "baseline".to_owned(),
        RuleSource::Dirs(dirs) => dirs.iter().map(|d| d.display().to_string()).collect::<Vec<_>>().join(", "),
    }
}
/// What rules say, by the plan in force; those that it does not have are left out.
pub(crate) fn rule_words_port(keeper: &Arc<PolicyKeeper>) -> phalanx_control::RuleWordsPort {
    let plan = Arc::clone(&keeper.plan);
    Box::new(move |rules| {
        let plan = plan.load();
        rules.iter().filter_map(|rule| Some((*rule, plan.rule_message(*rule)?))).collect()
    })
}
