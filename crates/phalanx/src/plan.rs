//! From policy source to plan: what `up` was told or what a file says, read and compiled.

use std::path::PathBuf;
use std::sync::Arc;

use phalanx_edge::EdgePlan;
use phalanx_inspect::{Collections, CompileOptions, Program, Stats};
use phalanx_policy::seclang::{self, LoadOptions};
use phalanx_policy::{Diagnostic, Files, Policy};

/// Where a node's policy comes from.
#[derive(Debug, Clone)]
pub(crate) enum PolicySource {
    /// From the command line; loading it again reads the rule files again.
    Built(Box<Policy>),
    /// A policy file.
    File(PathBuf),
}

/// A plan, the policy it was made of, and what was said on the way to it.
pub(crate) struct Compiled {
    pub(crate) plan: EdgePlan,
    pub(crate) policy: Policy,
    pub(crate) warnings: Vec<Diagnostic>,
}

impl PolicySource {
    /// Reads and compiles the policy. It is refused whole, with every fault found. `collections` is what rules remember
    /// across requests, and across reloads; `site`, which one reads it.
    pub(crate) fn compile(&self, site: Option<&str>, collections: &Arc<Collections>) -> Result<Compiled, Vec<Diagnostic>> {
        let (policy, mut warnings) = match self {
            Self::Built(policy) => (policy.as_ref().clone(), Vec::new()),
            Self::File(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path).map_err(|error| {
                    vec![Diagnostic::error(name.as_str(), 0, format!("cannot be read: {error}"))]
                })?;
                phalanx_policy::parse_policy_at(&name, &text, site)?
            }
        };
        let compiled = EdgePlan::compile(&policy, collections)?;
        warnings.extend(compiled.warnings);
        let mut plan = compiled.plan;
        plan.playbooks = crate::playbooks::read_all(Files::Disk, &policy.playbooks)?;
        Ok(Compiled { plan, policy, warnings })
    }
}

/// Figures of each app's rules in force, in the order of the plan; `None` for an app without rules.
pub(crate) fn rule_stats(plan: &EdgePlan) -> impl Iterator<Item = Option<Stats>> {
    plan.apps().iter().map(|app| {
        let program = app.program.as_ref()?;
        Some(Stats { rules: program.rules_in(app.scope.as_deref()), ..program.stats() })
    })
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
