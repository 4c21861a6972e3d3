//! From checked policy to the plan that workers run: rules are loaded and compiled once per distinct rule set.

use std::path::PathBuf;
use std::sync::Arc;

use phalanx_decide::rate::{Pace, Quota, RateKeyPart, RateRule, RateScope};
use phalanx_decide::{DecidePlan, Mode, OnError, StrikeRules};
use phalanx_inspect::{Collections, CompileOptions, Program};
use phalanx_model::PrefixSet;
use phalanx_policy::policy;
use phalanx_policy::seclang::ir::RuleEngine;
use phalanx_policy::seclang::{LoadOptions, load_dirs_from, load_texts, read_text};
use phalanx_policy::{
    App, Diagnostic, Files, Policy, RateAction, RateKey, RuleSource, Server, Upstreams, baseline,
};

use crate::balance::group::UpstreamGroup;
use crate::plan::{AppLimits, AppPlan, EdgePlan, UpstreamPlan};

/// A compiled plan, and what was understood but looks like a mistake.
#[derive(Debug)]
pub struct Compiled {
    /// The plan.
    pub plan: EdgePlan,
    /// Warnings about policy and rules.
    pub warnings: Vec<Diagnostic>,
}

impl EdgePlan {
    /// Compiles a policy. `collections` is what rules remember across requests; a reload passes the same one on.
    ///
    /// # Errors
    /// All faults of all rule sets; no part of such a policy is used.
    pub fn compile(policy: &Policy, collections: &Arc<Collections>) -> Result<Compiled, Vec<Diagnostic>> {
        Self::compile_from(Files::Disk, policy, collections)
    }

    /// As [`EdgePlan::compile`], with the files that the policy names from somewhere else than the disk.
    ///
    /// # Errors
    /// All faults of all rule sets; no part of such a policy is used.
    pub fn compile_from(
        files: Files<'_>,
        policy: &Policy,
        collections: &Arc<Collections>,
    ) -> Result<Compiled, Vec<Diagnostic>> {
        let mut programs =
            Programs { files, collections, known: Vec::new(), warnings: Vec::new(), errors: Vec::new() };
        let mut apps = Vec::new();
        for app in &policy.apps {
            let program = programs.of(app);
            apps.push(app_plan(app, program));
        }
        if !programs.errors.is_empty() {
            return Err(programs.errors);
        }
        let decide = DecidePlan {
            allow: prefixes(&policy.allow),
            operators: prefixes(&policy.operator_networks),
            forwarders: PrefixSet::default(),
            strikes: StrikeRules {
                count: policy.strikes.count,
                window_ms: policy.strikes.window_ms,
                first_ban_ms: policy.strikes.first_ban_ms,
                max_ban_ms: policy.strikes.max_ban_ms,
            },
        };
        Ok(Compiled { plan: Self::new(policy.version, decide, apps), warnings: programs.warnings })
    }
}

fn app_plan(app: &App, program: Option<Arc<Program>>) -> AppPlan {
    AppPlan {
        hosts: app.hosts.clone(),
        mode: match app.mode {
            policy::Mode::Block | policy::Mode::Off => Mode::Block,
            policy::Mode::Observe => Mode::Observe,
        },
        on_error: match app.on_error {
            policy::OnError::Deny => OnError::Deny,
            policy::OnError::Allow => OnError::Allow,
        },
        scope: program.as_ref().and_then(|program| program.scope(&app.classes)),
        program,
        limits: AppLimits {
            body_bytes: app.limits.body_bytes_max,
            body_held_bytes: app.limits.body_held_bytes_max,
            response_held_bytes: app.limits.response_held_bytes_max,
            upstream_connect_ms: app.limits.upstream_connect_max_ms,
            upstream_head_ms: app.limits.upstream_head_max_ms,
            upstream_gap_ms: app.limits.upstream_gap_max_ms,
            upstream_total_ms: app.limits.upstream_total_max_ms.unwrap_or(u64::MAX),
        },
        rates: app.rate_limits.iter().map(|limit| rate_rule(&app.name, limit)).collect(),
        trust_forwarded: prefixes(&app.trust_forwarded),
        compression: app.compression.clone().map(Arc::new),
        upstreams: upstream_group(&app.upstreams),
        name: app.name.as_str().into(),
    }
}

fn upstream_group(upstreams: &Upstreams) -> UpstreamGroup {
    let server = |server: &Server| {
        let at = &server.upstream;
        let place = match &at.socket {
            Some(path) => UpstreamPlan::at_socket(path),
            None => UpstreamPlan::new(&at.host, at.port, &at.path_prefix),
        };
        UpstreamPlan {
            weight: server.weight,
            backup: server.backup,
            requests_max: server.requests_max.unwrap_or(u32::MAX),
            ..place
        }
    };
    let mut group = UpstreamGroup::new(upstreams.servers.iter().map(server).collect());
    group.balance = upstreams.balance.clone();
    group.health = upstreams.health.clone();
    group.retries = upstreams.retries.clone();
    group.queue = upstreams.queue;
    group
}

fn rate_rule(app: &str, limit: &phalanx_policy::RateLimit) -> RateRule {
    let phalanx_policy::Rate { count, period_ms } = limit.rate;
    let key = limit.key.iter().map(|part| match part {
        RateKey::Ip => RateKeyPart::Ip,
        RateKey::Header(name) => RateKeyPart::Header(name.as_str().into()),
        RateKey::Cookie(name) => RateKeyPart::Cookie(name.as_str().into()),
        RateKey::Method => RateKeyPart::Method,
        RateKey::Path => RateKeyPart::Path,
    });
    let mut rule = RateRule::new(app, &limit.name, Pace::new(count, period_ms, limit.burst))
        .about(limit.paths.iter().map(String::as_str), limit.methods.iter().map(String::as_str))
        .by(key);
    rule.rate = format!("{}, {} at once", limit.rate, limit.burst).into();
    rule.observes = limit.action == RateAction::Observe;
    rule.quota = limit.headers.then(|| Quota {
        requests: count,
        window_s: u32::try_from(period_ms.div_ceil(1000)).unwrap_or(u32::MAX),
    });
    rule.scope = match limit.scope {
        phalanx_policy::RateScope::Node => RateScope::Node,
        phalanx_policy::RateScope::Fleet => RateScope::Fleet { share_percent: limit.share_percent },
    };
    rule
}

/// What makes two apps' programs the same.
#[derive(PartialEq, Eq)]
struct ProgramKey {
    rules: RuleSource,
    extra_rules: Vec<PathBuf>,
    paranoia: u8,
    observe: bool,
}

struct Programs<'a> {
    files: Files<'a>,
    collections: &'a Arc<Collections>,
    known: Vec<(ProgramKey, Arc<Program>)>,
    warnings: Vec<Diagnostic>,
    errors: Vec<Diagnostic>,
}

impl Programs<'_> {
    /// The program of an app; `None` where it has none, or where its rules are faulty.
    fn of(&mut self, app: &App) -> Option<Arc<Program>> {
        if app.mode == policy::Mode::Off {
            return None;
        }
        let key = ProgramKey {
            rules: app.rules.clone(),
            extra_rules: app.extra_rules.clone(),
            paranoia: app.paranoia,
            observe: app.mode == policy::Mode::Observe,
        };
        if let Some((_, program)) = self.known.iter().find(|(known, _)| *known == key) {
            return Some(Arc::clone(program));
        }
        match self.build(&key) {
            Ok(program) => {
                self.known.push((key, Arc::clone(&program)));
                Some(program)
            }
            Err(errors) => {
                self.errors.extend(errors);
                None
            }
        }
    }

    fn build(&mut self, key: &ProgramKey) -> Result<Arc<Program>, Vec<Diagnostic>> {
        let rule_engine = if key.observe { RuleEngine::DetectionOnly } else { RuleEngine::On };
        // Observing goes on after the first rule that would refuse, so that its record is whole.
        let options = LoadOptions {
            paranoia: Some(key.paranoia),
            rule_engine: Some(rule_engine),
            ..LoadOptions::default()
        };
        let mut loaded = match &key.rules {
            RuleSource::Baseline => {
                let extra = read_files(self.files, &key.extra_rules)?;
                let extra = extra.iter().map(|(name, text)| (name.as_str(), text.as_str()));
                let texts: Vec<(&str, &str)> = baseline().iter().copied().chain(extra).collect();
                load_texts(&texts, &options)?
            }
            RuleSource::Dirs(dirs) => {
                let all: Vec<PathBuf> = dirs.iter().chain(&key.extra_rules).cloned().collect();
                load_dirs_from(self.files, &all, &options)?
            }
        };
        self.warnings.append(&mut loaded.warnings);
        let options =
            CompileOptions { collections: Arc::clone(self.collections), ..CompileOptions::default() };
        Program::compile(&loaded.rules, &options).map(Arc::new)
    }
}

/// Names and texts of an app's own rule files.
fn read_files(files: Files<'_>, paths: &[PathBuf]) -> Result<Vec<(String, String)>, Vec<Diagnostic>> {
    let (mut texts, mut errors) = (Vec::new(), Vec::new());
    for path in paths {
        let name = path.display().to_string();
        match read_text(files, &name) {
            Ok(text) => texts.push((name, text)),
            Err((line, message)) => errors.push(Diagnostic::error(name.as_str(), line, message)),
        }
    }
    if errors.is_empty() { Ok(texts) } else { Err(errors) }
}

fn prefixes(list: &[phalanx_model::Prefix]) -> PrefixSet {
    list.iter().copied().collect()
}
