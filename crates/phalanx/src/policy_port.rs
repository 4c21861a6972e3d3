//! Keeps the plan in force and replaces it: a policy is compiled in full before the plan is swapped, and a policy with
//! faults changes nothing.

use std::sync::{Arc, Mutex, PoisonError};

use phalanx_control::{Reloaded, api};
use phalanx_edge::EdgePlan;
use phalanx_inspect::Collections;
use phalanx_model::lanes::Lanes;
use phalanx_model::{Clock, LedgerEntry, LedgerKind, Prefix, Swap};
use phalanx_policy::{Diagnostic, Mode, Policy, RateAction, RateLimit, RateScope, RuleSource};
use phalanx_record::RateLimitCount;

use crate::plan::{Compiled, PolicySource, rule_stats};

/// The plan in force, and where the next one comes from.
pub(crate) struct PolicyKeeper {
    source: PolicySource,
    collections: Arc<Collections>,
    plan: Arc<Swap<EdgePlan>>,
    /// What is in force, for reports. Held while a plan is replaced, so that replacements come one by one.
    state: Mutex<State>,
    lanes: Lanes,
    clock: Arc<dyn Clock>,
}

struct State {
    policy: Policy,
    /// Why the last reload was refused, if it was.
    refused: Option<String>,
}

impl PolicyKeeper {
    /// Compiles the first plan.
    pub(crate) fn start(
        source: PolicySource,
        lanes: Lanes,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let collections = Arc::default();
        let Compiled { plan, policy, warnings } = source.compile(&collections)?;
        report(&warnings);
        let state = Mutex::new(State { policy, refused: None });
        Ok(Self { source, collections, plan: Arc::new(Swap::new(plan)), state, lanes, clock })
    }

    /// The plan as the edge reads it.
    pub(crate) fn plan(&self) -> Arc<Swap<EdgePlan>> {
        Arc::clone(&self.plan)
    }

    /// The addresses on which no decision is enforced.
    pub(crate) fn exempt(&self) -> Vec<Prefix> {
        let plan = self.plan.load();
        let lists = [&plan.decide.allow, &plan.decide.operators, &plan.decide.forwarders];
        lists.into_iter().flat_map(|list| list.iter().copied()).collect()
    }

    /// Loads the policy again. The change is in the ledger before it takes effect.
    pub(crate) fn reload(&self) -> Result<Reloaded, Vec<Diagnostic>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let from = self.plan.load().version;
        let mut compiled = self.source.compile(&self.collections).inspect_err(|faults| {
            let error = faults.first().map(ToString::to_string).unwrap_or_default();
            let more = faults.len().saturating_sub(1);
            let error = if more == 0 { error } else { format!("{error} (and {more} more)") };
            tracing::error!(%error, "the policy was refused; the plan in force stays");
            state.refused = Some(error.clone());
            let _ = self.record(LedgerKind::PolicyRefused { error });
        })?;
        let to = compiled.plan.version;
        let apps = compiled.policy.apps.len();
        let rules: usize = rule_stats(&compiled.plan).flatten().map(|stats| stats.rules).sum();
        let summary = format!("{apps} apps, {rules} rules");
        self.record(LedgerKind::PolicyChanged { from, to, summary })?;
        compiled.plan.keep_rate_counts(&self.plan.load());
        self.plan.store(Arc::new(compiled.plan));
        tracing::info!(from, to, apps, rules, "the policy is in force");
        report(&compiled.warnings);
        *state = State { policy: compiled.policy, refused: None };
        Ok(Reloaded { from, to })
    }

    /// What is in force, for reports.
    pub(crate) fn describe(&self) -> api::Plan {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = self.plan.load();
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let mut counts = crate::rates::counts(&plan).into_iter();
        let apps = state.policy.apps.iter().zip(rule_stats(&plan)).map(|(app, stats)| api::App {
            rate_limits: app.rate_limits.iter().zip(counts.by_ref()).map(rate_limit).collect(),
            name: app.name.clone(),
            upstream: app.upstream.to_string(),
            mode: match app.mode {
                Mode::Block => "block",
                Mode::Observe => "observe",
                Mode::Off => "off",
            }
            .to_owned(),
            rules: rules_name(&app.rules),
            paranoia: app.paranoia,
            rule_count: stats.map_or(0, |stats| number(stats.rules)),
            backtracking_patterns: stats.map_or(0, |stats| number(stats.fallback_patterns)),
        });
        api::Plan { version: state.policy.version, apps: apps.collect() }
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
