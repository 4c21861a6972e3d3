//! From policy to plan: reads the rules that the apps name, compiles each rule set once, puts the plan together.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use phalanx_decide::{DecidePlan, StrikeRules};
use phalanx_edge::{AppLimits, AppPlan, EdgePlan, UpstreamPlan};
use phalanx_inspect::{CompileOptions, Program};
use phalanx_policy::seclang::{self, LoadOptions};
use phalanx_policy::{App, Diagnostic, Mode, OnError, Policy, RuleSource};

/// Where a node's policy comes from.
#[derive(Debug, Clone)]
pub(crate) enum PolicySource {
    /// From the command line; loading it again reads the rule files again.
    Built(Box<Policy>),
    /// A policy file.
    File(PathBuf),
}

/// A plan, and what was said on the way to it.
pub(crate) struct Compiled {
    pub(crate) plan: EdgePlan,
    pub(crate) policy: Policy,
    /// Rules of each app, in the order of the plan.
    pub(crate) rule_counts: Vec<usize>,
    pub(crate) warnings: Vec<Diagnostic>,
}

impl PolicySource {
    /// Reads and compiles the policy. It is refused whole, with every fault found.
    pub(crate) fn compile(&self) -> Result<Compiled, Vec<Diagnostic>> {
        let (policy, mut warnings) = match self {
            Self::Built(policy) => (policy.as_ref().clone(), Vec::new()),
            Self::File(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path).map_err(|error| {
                    vec![Diagnostic::error(name.as_str(), 0, format!("cannot be read: {error}"))]
                })?;
                phalanx_policy::parse_policy(&name, &text)?
            }
        };
        let mut compiler = Compiler::default();
        let (mut apps, mut rule_counts, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        for app in &policy.apps {
            match compiler.app(app) {
                Ok((app, rules)) => {
                    apps.push(app);
                    rule_counts.push(rules);
                }
                Err(found) => faults.extend(found),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        warnings.append(&mut compiler.warnings);
        let plan = EdgePlan::new(policy.version, decide_plan(&policy), apps);
        Ok(Compiled { plan, policy, rule_counts, warnings })
    }
}

/// Compiles each distinct rule set once; apps share the program.
#[derive(Default)]
struct Compiler {
    programs: HashMap<(RuleSource, Vec<PathBuf>, u8), (Arc<Program>, usize)>,
    warnings: Vec<Diagnostic>,
}

impl Compiler {
    fn app(&mut self, app: &App) -> Result<(AppPlan, usize), Vec<Diagnostic>> {
        let upstream = UpstreamPlan::new(&app.upstream.host, app.upstream.port, &app.upstream.path_prefix);
        let (program, rules) = match app.mode {
            Mode::Off => (None, 0),
            Mode::Block | Mode::Observe => {
                let (program, rules) = self.program(app)?;
                (Some(program), rules)
            }
        };
        let plan = AppPlan {
            hosts: app.hosts.clone(),
            mode: match app.mode {
                Mode::Observe => phalanx_decide::Mode::Observe,
                Mode::Block | Mode::Off => phalanx_decide::Mode::Block,
            },
            on_error: match app.on_error {
                OnError::Deny => phalanx_decide::OnError::Deny,
                OnError::Allow => phalanx_decide::OnError::Allow,
            },
            program,
            limits: AppLimits {
                body_bytes: app.limits.body_bytes_max,
                body_held_bytes: app.limits.body_held_bytes_max,
                response_held_bytes: app.limits.response_held_bytes_max,
                upstream_connect_ms: app.limits.upstream_connect_max_ms,
                upstream_head_ms: app.limits.upstream_head_max_ms,
            },
            trust_forwarded: app.trust_forwarded.iter().copied().collect(),
            ..AppPlan::forwarding(&app.name, upstream)
        };
        Ok((plan, rules))
    }

    fn program(&mut self, app: &App) -> Result<(Arc<Program>, usize), Vec<Diagnostic>> {
        let key = (app.rules.clone(), app.extra_rules.clone(), app.paranoia);
        if let Some((program, rules)) = self.programs.get(&key) {
            return Ok((Arc::clone(program), *rules));
        }
        let loaded = load(app)?;
        let rules = loaded.rules.items.iter().filter(|i| matches!(i, seclang::ir::Item::Rule(_))).count();
        let program = Arc::new(Program::compile(&loaded.rules, &CompileOptions::default())?);
        self.warnings.extend(loaded.warnings);
        self.programs.insert(key, (Arc::clone(&program), rules));
        Ok((program, rules))
    }
}

/// The rules that protect an app for which nothing else is said.
pub(crate) fn default_protection(paranoia: Option<u8>) -> anyhow::Result<Arc<Program>> {
    let options = LoadOptions { paranoia, ..LoadOptions::default() };
    let compile = || {
        let loaded = seclang::load_texts(phalanx_policy::baseline(), &options)?;
        Program::compile(&loaded.rules, &CompileOptions::default())
    };
    compile().map(Arc::new).map_err(|faults: Vec<Diagnostic>| {
        anyhow::anyhow!(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

/// Reads the rule files of an app.
fn load(app: &App) -> Result<seclang::Loaded, Vec<Diagnostic>> {
    let options = LoadOptions { paranoia: Some(app.paranoia), ..LoadOptions::default() };
    match &app.rules {
        RuleSource::Dirs(dirs) => {
            let all: Vec<PathBuf> = dirs.iter().chain(&app.extra_rules).cloned().collect();
            seclang::load_dirs(&all, &options)
        }
        RuleSource::Baseline => {
            let extra = read_all(&app.extra_rules)?;
            let own = phalanx_policy::baseline().iter().copied();
            let texts: Vec<(&str, &str)> =
                own.chain(extra.iter().map(|(n, t)| (n.as_str(), t.as_str()))).collect();
            seclang::load_texts(&texts, &options)
        }
    }
}

fn read_all(files: &[PathBuf]) -> Result<Vec<(String, String)>, Vec<Diagnostic>> {
    let (mut texts, mut faults) = (Vec::new(), Vec::new());
    for file in files {
        let name = file.display().to_string();
        match std::fs::read_to_string(file) {
            Ok(text) => texts.push((name, text)),
            Err(error) => faults.push(Diagnostic::error(name, 0, format!("cannot be read: {error}"))),
        }
    }
    if faults.is_empty() { Ok(texts) } else { Err(faults) }
}

fn decide_plan(policy: &Policy) -> DecidePlan {
    DecidePlan {
        allow: policy.allow.iter().copied().collect(),
        operators: policy.operator_networks.iter().copied().collect(),
        // The edge adds the trusted forwarders of the apps.
        forwarders: std::iter::empty().collect(),
        strikes: StrikeRules {
            count: policy.strikes.count,
            window_ms: policy.strikes.window_ms,
            first_ban_ms: policy.strikes.first_ban_ms,
            max_ban_ms: policy.strikes.max_ban_ms,
        },
    }
}
