//! Reads files, hands each directive to whom it concerns, and follows `Include`.

use std::sync::Arc;

use super::actions::ActionList;
use super::ctl;
use super::ir::{Item, RuleSelector, RuleSet};
use super::lines::{Logical, Word, logical_lines};
use super::operators::{self, Files};
use super::report::Report;
use super::rules::{Assembly, Parts};
use super::source::Source;
use super::{settings, targets, unicode};
use crate::Diagnostic;
use crate::suggest::did_you_mean;

/// Reads any number of files into one rule set.
pub(super) struct Loader<'a> {
    source: Source<'a>,
    assembly: Assembly,
    found: Vec<Diagnostic>,
    /// The files being read, outermost first.
    reading: Vec<String>,
    /// How many files were read.
    files: usize,
    /// What files and texts are called, in the order in which they were read.
    names: Vec<Arc<str>>,
}

/// One directive and where it stands.
struct Directive<'a> {
    file: &'a Arc<str>,
    line: &'a Logical,
    name: &'a str,
    arguments: &'a [Word],
}

impl<'a> Loader<'a> {
    pub(super) fn new(source: Source<'a>) -> Self {
        let mut assembly = Assembly::default();
        assembly.engine().unicode_map = unicode::us_ascii_best_fit();
        Self { source, assembly, found: Vec::new(), reading: Vec::new(), files: 0, names: Vec::new() }
    }

    /// Adds a fault that concerns no file.
    pub(super) fn fault(&mut self, fault: Diagnostic) {
        self.found.push(fault);
    }

    /// Reads a file of the source.
    pub(super) fn file(&mut self, path: &str) {
        self.files += 1;
        if self.files > FILES_READ_MAX {
            // Said once; files that include each other twice over would otherwise never end.
            if self.files == FILES_READ_MAX + 1 {
                let message = format!("more than {FILES_READ_MAX} files are included");
                self.found.push(Diagnostic::error(path, 0, message));
            }
            return;
        }
        match self.source.read_text(path) {
            Ok(text) => self.text(path, &text),
            Err((line, message)) => self.found.push(Diagnostic::error(path, line, message)),
        }
    }

    /// The names of what was read.
    pub(super) fn take_names(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.names)
    }

    /// Reads a text under a name.
    pub(super) fn text(&mut self, name: &str, text: &str) {
        let file: Arc<str> = name.into();
        self.names.push(Arc::clone(&file));
        self.reading.push(name.to_owned());
        let lines = logical_lines(text, &mut Report::new(&file, 1, &mut self.found));
        for line in &lines {
            let words = line.words(&mut Report::new(&file, line.line, &mut self.found));
            if let Some((name, arguments)) = words.as_deref().and_then(<[Word]>::split_first) {
                self.directive(&Directive { file: &file, line, name: &name.text, arguments });
            }
        }
        let last = lines.last().map_or(1, |line| line.line);
        self.assembly.close_chain(&mut Report::new(&file, last, &mut self.found));
        self.reading.pop();
    }

    /// The rule set and the warnings, or all faults if there is an error among them.
    pub(super) fn finish(mut self) -> Result<(RuleSet, Vec<Diagnostic>), Vec<Diagnostic>> {
        let set = self.assembly.finish(&mut self.found);
        if self.found.iter().any(|fault| fault.level == crate::Level::Error) {
            return Err(self.found);
        }
        Ok((set, self.found))
    }

    fn directive(&mut self, directive: &Directive<'_>) {
        let lower = directive.name.to_ascii_lowercase();
        match lower.as_str() {
            "secrule" => self.rule(directive),
            "secaction" => self.action(directive),
            "include" => self.include(directive, false),
            "includeoptional" => self.include(directive, true),
            _ => {
                let mut report = Report::new(directive.file, directive.line.line, &mut self.found);
                self.assembly.close_chain(&mut report);
                other(&lower, directive, self.source, &mut self.assembly, &mut report);
            }
        }
    }

    fn rule(&mut self, directive: &Directive<'_>) {
        let mut report = Report::new(directive.file, directive.line.line, &mut self.found);
        let (variables, operator, actions) = match directive.arguments {
            [variables, operator] => (variables, operator, None),
            [variables, operator, actions] => (variables, operator, Some(actions)),
            arguments => {
                report.error_help(
                    format!(
                        "SecRule takes variables, an operator and actions, not {} words",
                        arguments.len()
                    ),
                    Some("put each of them in double quotes".into()),
                );
                return;
            }
        };
        let targets = targets::parse_list(&variables.text, &mut report);
        report.set_line(directive.line.line_in(operator, 0));
        let files = Files { source: self.source, from: directive.file };
        let operator = operators::parse(&operator.text, files, &mut report);
        report.set_line(directive.line.line);
        let list =
            actions.map(|word| ActionList::parse(directive.line, word, &mut report)).unwrap_or_default();
        let source = directive.line.one_line().into();
        self.assembly.add_rule(Parts { targets, operator, list, source }, &mut report);
    }

    fn action(&mut self, directive: &Directive<'_>) {
        let mut report = Report::new(directive.file, directive.line.line, &mut self.found);
        let [actions] = directive.arguments else {
            report.error(format!(
                "SecAction takes one list of actions, not {} words",
                directive.arguments.len()
            ));
            return;
        };
        let list = ActionList::parse(directive.line, actions, &mut report);
        let source = directive.line.one_line().into();
        self.assembly.add_rule(Parts { targets: Vec::new(), operator: None, list, source }, &mut report);
    }

    fn include(&mut self, directive: &Directive<'_>, optional: bool) {
        let mut report = Report::new(directive.file, directive.line.line, &mut self.found);
        self.assembly.close_chain(&mut report);
        let [pattern] = directive.arguments else {
            report.error(format!("{} takes one file name or pattern", directive.name));
            return;
        };
        let paths = match self.source.glob(&self.source.resolve(directive.file, &pattern.text)) {
            Ok(paths) => paths,
            Err(message) => return report.error(message),
        };
        if paths.is_empty() && !optional {
            return report.error_help(
                format!("{} finds no file for `{}`", directive.name, pattern.text),
                Some("IncludeOptional accepts that nothing is there".into()),
            );
        }
        for path in paths {
            let mut report = Report::new(directive.file, directive.line.line, &mut self.found);
            if self.reading.contains(&path) {
                report.error(format!("`{path}` includes itself"));
            } else if self.reading.len() >= INCLUDE_DEPTH_MAX {
                report.error(format!("files include each other more than {INCLUDE_DEPTH_MAX} deep"));
            } else {
                self.file(&path);
            }
        }
    }
}

/// Every directive that is neither a rule nor an inclusion.
fn other(
    lower: &str,
    directive: &Directive<'_>,
    source: Source<'_>,
    assembly: &mut Assembly,
    report: &mut Report<'_>,
) {
    let values: Vec<&str> = directive.arguments.iter().map(|word| word.text.as_str()).collect();
    match (lower, values.as_slice()) {
        ("secmarker", [name]) => assembly.add_item(Item::Marker((*name).into()), report),
        ("secdefaultaction", [_]) => {
            if let [word] = directive.arguments {
                let list = ActionList::parse(directive.line, word, report);
                assembly.set_defaults(list, report);
            }
        }
        ("secruleremovebyid", [_, ..]) => {
            if let Some(selector) = ctl::ids(&values.join(" "), report) {
                assembly.add_item(Item::Remove(selector, report.at()), report);
            }
        }
        ("secruleremovebytag", [pattern]) => {
            assembly.add_item(Item::Remove(RuleSelector::Tag((*pattern).to_owned()), report.at()), report);
        }
        ("secruleremovebymsg", [pattern]) => {
            assembly
                .add_item(Item::Remove(RuleSelector::Message((*pattern).to_owned()), report.at()), report);
        }
        ("secruleupdatetargetbyid", [ids, what]) => {
            if let Some(selector) = ctl::ids(ids, report) {
                update_targets(selector, what, assembly, report);
            }
        }
        ("secruleupdatetargetbytag", [pattern, what]) => {
            update_targets(RuleSelector::Tag((*pattern).to_owned()), what, assembly, report);
        }
        ("secruleupdatetargetbymsg", [pattern, what]) => {
            update_targets(RuleSelector::Message((*pattern).to_owned()), what, assembly, report);
        }
        ("secruleupdatetargetbyid" | "secruleupdatetargetbytag" | "secruleupdatetargetbymsg", [_, _, _]) => {
            report.error_help(
                format!("{} cannot replace a variable", directive.name),
                Some("take it away with `!NAME` and add the other in one list".into()),
            );
        }
        ("secruleupdateactionbyid", [ids, _]) => update_actions(ids, directive, assembly, report),
        ("secunicodemapfile", [file, code_page]) => {
            unicode_map(file, code_page, directive, source, assembly, report)
        }
        _ if COUNTED.iter().any(|(known, _)| known.eq_ignore_ascii_case(lower)) => {
            let form = COUNTED
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(lower))
                .map_or("", |(_, form)| form);
            report.error(format!("{} takes {form}, not {} words", directive.name, values.len()));
        }
        _ if settings::apply(lower, &values, assembly.engine(), report) => {}
        _ => unknown(directive.name, report),
    }
}

fn update_targets(selector: RuleSelector, what: &str, assembly: &mut Assembly, report: &mut Report<'_>) {
    let targets = targets::parse_list(what, report);
    if !targets.is_empty() {
        assembly.add_item(Item::UpdateTargets(selector, targets, report.at()), report);
    }
}

fn update_actions(ids: &str, directive: &Directive<'_>, assembly: &mut Assembly, report: &mut Report<'_>) {
    let (Some(selector), Some(word)) = (ctl::ids(ids, report), directive.arguments.get(1)) else {
        return;
    };
    let list = ActionList::parse(directive.line, word, report);
    if list.id.is_some() || list.phase.is_some() || list.chain {
        report.error("SecRuleUpdateActionById cannot change `id`, `phase` or `chain`");
    }
    if !list.transformations.is_empty() || list.multi_match {
        report.error_help(
            "SecRuleUpdateActionById cannot change transformations here",
            Some("remove the rule and write your own".into()),
        );
    }
    assembly.add_item(Item::UpdateActions(selector, list.actions, report.at()), report);
}

fn unicode_map(
    file: &str,
    code_page: &str,
    directive: &Directive<'_>,
    source: Source<'_>,
    assembly: &mut Assembly,
    report: &mut Report<'_>,
) {
    let Ok(code_page) = code_page.parse() else {
        return report.error(format!("`{code_page}` is no code page number"));
    };
    match source.read(&source.resolve(directive.file, file)) {
        Ok(bytes) => {
            if let Some(map) = unicode::parse_mapping(&String::from_utf8_lossy(&bytes), code_page, report) {
                assembly.engine().unicode_map = map;
            }
        }
        Err(message) => report.error(message),
    }
}

fn unknown(name: &str, report: &mut Report<'_>) {
    if name.starts_with('<') {
        return report.error_help(
            format!("`{name}` opens a section of a web server's configuration"),
            Some("take out the section's first and last line; rule files hold Sec directives only".into()),
        );
    }
    let names = settings::names().chain(COUNTED.iter().map(|(name, _)| *name)).chain(OTHERS.iter().copied());
    report.error_help(format!("unknown directive `{name}`"), did_you_mean(name, names));
}

/// Directives with a fixed form, and the form in words.
pub(super) const COUNTED: &[(&str, &str)] = &[
    ("SecMarker", "one name"),
    ("SecDefaultAction", "one list of actions"),
    ("SecRuleRemoveById", "rule ids or ranges"),
    ("SecRuleRemoveByMsg", "one pattern"),
    ("SecRuleRemoveByTag", "one pattern"),
    ("SecRuleUpdateActionById", "an id and a list of actions"),
    ("SecRuleUpdateTargetById", "ids and a list of variables"),
    ("SecRuleUpdateTargetByMsg", "a pattern and a list of variables"),
    ("SecRuleUpdateTargetByTag", "a pattern and a list of variables"),
    ("SecUnicodeMapFile", "a file and a code page"),
];

pub(super) const OTHERS: &[&str] = &["SecRule", "SecAction", "Include", "IncludeOptional"];

/// Files that one rule set reads, each as often as it is included: the Core Rule Set has about 60.
const FILES_READ_MAX: usize = 4_096;
/// Rule sets nest two or three deep; more is a mistake.
const INCLUDE_DEPTH_MAX: usize = 16;
