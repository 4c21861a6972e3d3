//! SecLang, the rule language of ModSecurity, as the Core Rule Set and its users write it.
//!
//! Flow: files (`source`, `layout`) -> lines and words (`lines`) -> directives (`loader`) -> typed pieces (`targets`,
//! `operators`, `actions`, `ctl`, `macros`, `settings`) -> a checked set (`rules`) -> [`ir::RuleSet`].
//!
//! INVARIANT: nothing is dropped silently. A name that the engine does not know is an error with file and line; a
//! directive that is understood but pointless here is a warning that says why.

pub mod ir;

mod report;
mod source;

mod lines;
mod names;
mod unicode;

mod macros;
mod targets;

mod ctl;
mod operators;

mod actions;
mod settings;

mod rules;

mod layout;
mod loader;

mod dormant;

mod reference;

use std::cell::RefCell;
use std::path::PathBuf;

use crate::{Diagnostic, FileSet, Files, baseline::baseline};
use loader::Loader;
pub(crate) use source::FileRead;
use source::Source;

/// A rule set that may be compiled.
#[derive(Debug)]
pub struct Loaded {
    /// The rules.
    pub rules: ir::RuleSet,
    /// The files and texts that were read, in order.
    pub files: Vec<std::sync::Arc<str>>,
    /// What was understood but has no effect, or looks like a mistake.
    pub warnings: Vec<Diagnostic>,
}

/// What is loaded beside the files themselves.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The Core Rule Set's paranoia level, 1 to 4; set after `crs-setup.conf`, so that it wins.
    pub paranoia: Option<u8>,
    /// What `SecRuleEngine` says in the end, whatever the files say.
    pub rule_engine: Option<ir::RuleEngine>,
    /// Named texts, loaded after `crs-setup.conf` and before the rules.
    pub extra_before: Vec<(String, String)>,
}

/// Loads rule folders in the layout of the Core Rule Set: `crs-setup.conf` (else `crs-setup.conf.example`),
/// `plugins/*-config.conf`, `plugins/*-before.conf`, `rules/*.conf` in name order, `plugins/*-after.conf`; where Debian's
/// `owasp-crs.load` stands in place of a set-up file, what that includes. A folder without that layout is loaded as `*.conf`
/// in name order, and a file as it is. Set-up files come first, and so do single files named like them, `*-config.conf` or
/// `*-before.conf`. The base settings precede everything.
///
/// # Errors
/// All faults found, when one of them is an error.
pub fn load_dirs(dirs: &[PathBuf], options: &LoadOptions) -> Result<Loaded, Vec<Diagnostic>> {
    load_dirs_from(Files::Disk, dirs, options)
}

/// As [`load_dirs`], with the files from somewhere else than the disk.
///
/// # Errors
/// All faults found, when one of them is an error.
pub fn load_dirs_from(
    files: Files<'_>,
    dirs: &[PathBuf],
    options: &LoadOptions,
) -> Result<Loaded, Vec<Diagnostic>> {
    let source = Source::from(files);
    let mut loader = start(source);
    let layout = layout::find(source, dirs, &mut |fault| loader.fault(fault));
    for path in &layout.setup {
        loader.file(path);
    }
    between(&mut loader, options);
    for path in &layout.rules {
        loader.file(path);
    }
    finish(loader, options)
}

/// Loads the product's own rules, and files of an app's own beside them: what these include, and data that they refer to, is read from where
/// they are. One that ends in `.data`, `.txt` or `.json` is no rule file. The order is that of [`load_texts`].
///
/// # Errors
/// All faults found, when one of them is an error.
pub fn load_baseline(
    files: Files<'_>,
    own: &[PathBuf],
    options: &LoadOptions,
) -> Result<Loaded, Vec<Diagnostic>> {
    let source = Source::from(files);
    let mut loader = start(source);
    let names: Vec<String> = own.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let (first, last): (Vec<_>, Vec<_>) = names.iter().partition(|name| layout::comes_first(name));
    for name in first {
        loader.file(name);
    }
    between(&mut loader, options);
    for (name, text) in baseline() {
        loader.text(name, text);
    }
    for name in last {
        if !is_data(name) {
            loader.file(name);
        } else if let Err((line, message)) = source.read_text(name) {
            loader.fault(Diagnostic::error(name.as_str(), line, message));
        }
    }
    finish(loader, options)
}

/// The files that are read when these folders and files are loaded, in order. What is wrong with them is not told.
pub(crate) fn files_read(set: &FileSet, dirs: &[PathBuf]) -> Vec<FileRead> {
    let read = RefCell::default();
    let source = Source::Noted(set, &read);
    let mut loader = start(source);
    let layout = layout::find(source, dirs, &mut |_| {});
    for path in layout.setup.iter().chain(&layout.rules) {
        loader.file(path);
    }
    drop(loader);
    read.into_inner()
}

/// The text of a file, as rule files are read.
///
/// # Errors
/// Why it cannot be had, and on which line.
pub fn read_text(files: Files<'_>, path: &str) -> Result<String, (u32, String)> {
    Source::from(files).read_text(path)
}

/// The content of a file that a policy names.
///
/// # Errors
/// Why it cannot be had.
pub fn read_file(files: Files<'_>, path: &str) -> Result<Vec<u8>, String> {
    Source::from(files).read(path)
}

/// Loads named texts, in order. A text whose name ends in `.data`, `.txt` or `.json` is not loaded itself but may be
/// referred to (`@pmFromFile`, `@validateSchema`). What `options` adds comes behind texts named `crs-setup...`,
/// `...-config.conf` or `...-before.conf`, and before all others.
///
/// # Errors
/// All faults found, when one of them is an error.
pub fn load_texts(files: &[(&str, &str)], options: &LoadOptions) -> Result<Loaded, Vec<Diagnostic>> {
    let mut loader = start(Source::Texts(files));
    let is_setup = |name: &str| layout::comes_first(name);
    for (name, text) in files.iter().filter(|(name, _)| is_setup(name)) {
        loader.text(name, text);
    }
    between(&mut loader, options);
    for (name, text) in files.iter().filter(|(name, _)| !is_setup(name) && !is_data(name)) {
        loader.text(name, text);
    }
    finish(loader, options)
}

/// The settings and rules that precede every rule set, as SecLang text with their reasons.
pub fn base_settings() -> &'static str {
    BASE
}

/// The language as Markdown tables: what is supported, and what is not, with the reason.
pub fn reference() -> String {
    reference::markdown()
}

/// Whether a text is one that rules refer to.
fn is_data(name: &str) -> bool {
    [".data", ".txt", ".json"].iter().any(|ending| name.ends_with(ending))
}

fn start(source: Source<'_>) -> Loader<'_> {
    let mut loader = Loader::new(source);
    loader.text("base.conf (built in)", BASE);
    loader
}

fn between(loader: &mut Loader<'_>, options: &LoadOptions) {
    for (name, text) in &options.extra_before {
        loader.text(name, text);
    }
    match options.paranoia {
        None => {}
        Some(level @ 1..=4) => loader.text("paranoia level (built in)", &paranoia_text(level)),
        Some(level) => {
            loader.fault(Diagnostic::error(
                "paranoia level",
                0,
                format!("{level} is no paranoia level; they go from 1 to 4"),
            ));
        }
    }
}

fn finish(mut loader: Loader<'_>, options: &LoadOptions) -> Result<Loaded, Vec<Diagnostic>> {
    let files = loader.take_names();
    let (mut rules, mut warnings) = loader.finish()?;
    warnings.retain(|warning| !dormant::is_dormant(warning, &rules));
    if let Some(rule_engine) = options.rule_engine {
        rules.engine.rule_engine = rule_engine;
    }
    Ok(Loaded { rules, files, warnings })
}

/// Sets the level under the names of version 4 and of version 3 of the Core Rule Set.
fn paranoia_text(level: u8) -> String {
    let names =
        ["blocking_paranoia_level", "detection_paranoia_level", "paranoia_level", "executing_paranoia_level"];
    let sets: Vec<String> = names.iter().map(|name| format!("setvar:tx.{name}={level}")).collect();
    format!("SecAction \"id:8500100,phase:1,pass,nolog,t:none,{}\"\n", sets.join(","))
}

const BASE: &str = include_str!("base.conf");
