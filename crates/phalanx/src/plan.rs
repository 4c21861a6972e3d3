//! From policy source to plan: what `up` was told or what a file says, read and compiled.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use phalanx_edge::EdgePlan;
use phalanx_inspect::{Collections, CompileOptions, Program, Stats};
use phalanx_policy::seclang::{self, LoadOptions};
use phalanx_policy::toml_text::utf8;
use phalanx_policy::{Collector, Diagnostic, FileSet, Files, Policy};

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
    /// What it was made of, where that was a file.
    pub(crate) written: Option<Written>,
}

/// A policy as it is written: what the file and all that it names said when it was compiled.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    /// The policy file's name among the files.
    pub(crate) entry: String,
    pub(crate) files: Arc<FileSet>,
}

impl PolicySource {
    /// Reads and compiles the policy. It is refused whole, with every fault found. `collections` is what rules remember
    /// across requests, and across reloads; `site`, which one reads it.
    pub(crate) fn compile(
        &self,
        site: Option<&str>,
        collections: &Arc<Collections>,
    ) -> Result<Compiled, Vec<Diagnostic>> {
        match self {
            Self::Built(policy) => compile(policy.as_ref().clone(), Files::Disk, Vec::new(), collections),
            Self::File(path) => compile_file(path, site, collections).map_err(|faults| located(faults, path)),
        }
    }
}

fn compile(
    policy: Policy,
    files: Files<'_>,
    mut warnings: Vec<Diagnostic>,
    collections: &Arc<Collections>,
) -> Result<Compiled, Vec<Diagnostic>> {
    let compiled = EdgePlan::compile_from(files, &policy, collections)?;
    warnings.extend(compiled.warnings);
    let mut plan = compiled.plan;
    plan.playbooks = crate::playbooks::read_all(files, &policy.playbooks)?;
    Ok(Compiled { plan, policy, warnings, written: None })
}

/// What the files say is kept, for they may say something else by the time that somebody asks what runs.
fn compile_file(
    path: &Path,
    site: Option<&str>,
    collections: &Arc<Collections>,
) -> Result<Compiled, Vec<Diagnostic>> {
    let entry = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let unread = |error| Diagnostic::error(entry.as_str(), 0, format!("cannot be read: {error}"));
    let bytes = std::fs::read(path).map_err(unread);
    let text = bytes.and_then(|bytes| utf8(&entry, bytes)).map_err(|fault| vec![fault])?;
    let collector = Collector::new(folder(path));
    let (policy, warnings) = phalanx_policy::parse_policy_at(&entry, &text, site)?;
    let mut compiled = compile(policy, Files::Collected(&collector), warnings, collections)?;
    compiled.warnings = located(compiled.warnings, path);
    let read = collector.into_set();
    let read = read.iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec()));
    let files = Arc::new(FileSet::new(read.chain([(entry.clone(), text.into_bytes())])));
    compiled.written = Some(Written { entry, files });
    Ok(compiled)
}

fn folder(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).to_path_buf()
}

/// Faults with their files as they are found from here, rather than from the policy file.
fn located(mut faults: Vec<Diagnostic>, policy: &Path) -> Vec<Diagnostic> {
    let own = policy.file_name().unwrap_or_default();
    let text = std::fs::read_to_string(policy).unwrap_or_default();
    for fault in &mut faults {
        let found = folder(policy).join(&*fault.file);
        // One that is not there stands where the policy names it.
        let names = |line: &str| {
            ['"', '\''].iter().any(|quote| line.contains(&format!("{quote}{}{quote}", fault.file)))
        };
        if fault.line == 0
            && !found.exists()
            && let Some(place) = text.lines().position(names)
        {
            fault.message = format!("there is no file or folder `{}`", fault.file);
            fault.help = Some("look how it is written; paths are relative to the policy file".to_owned());
            fault.line = u32::try_from(place + 1).unwrap_or_default();
            fault.file = policy.display().to_string().into();
            continue;
        }
        // One that cannot be read is told of as a whole.
        let is_gone = fault.line == 0 && found.extension().is_some();
        if *fault.file == *own.to_string_lossy() || found.is_file() || is_gone {
            fault.file = found.display().to_string().into();
        }
    }
    faults
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
