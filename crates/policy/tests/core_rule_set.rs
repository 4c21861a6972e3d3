//! The Core Rule Set, as it is published, loads with nothing lost.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use phalanx_policy::seclang::ir::{Item, MacroPart, Rule, RuleSet, Test};
use phalanx_policy::seclang::{LoadOptions, Loaded, load_dirs};

/// A path within the third-party data, or `None` where there is none.
fn shared(path: &str) -> Option<PathBuf> {
    match std::env::var_os("PHALANX_SHARED") {
        Some(root) => Some(PathBuf::from(root).join(path)),
        None if std::env::var_os("CI").is_some_and(|ci| ci == "true") => panic!("CI needs PHALANX_SHARED"),
        None => {
            eprintln!("skipped: PHALANX_SHARED is not set, {path} is not tested");
            None
        }
    }
}

fn load(dirs: &[PathBuf], options: &LoadOptions) -> Loaded {
    load_dirs(dirs, options).unwrap_or_else(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        panic!("{} faults:\n{}", lines.len(), lines.join("\n"))
    })
}

fn rules(set: &RuleSet) -> impl Iterator<Item = &Rule> {
    set.items.iter().filter_map(|item| match item {
        Item::Rule(rule) if !rule.links[0].at.file.contains("built in") => Some(rule),
        _ => None,
    })
}

/// Counts of rules, links, operators and the like: a change here is a change of what the parser sees.
fn census(set: &RuleSet) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut count = |name: String| *counts.entry(name).or_default() += 1;
    for rule in rules(set) {
        count("rules".into());
        count(format!("phase {}", rule.phase));
        for link in &rule.links {
            count("links".into());
            for target in &link.targets {
                count(format!("variable {}", target.variable.name()));
            }
            for transformation in &link.transformations {
                count(format!("t:{}", transformation.name()));
            }
            if let Some(operator) = &link.operator {
                let debug = format!("{:?}", operator.test);
                let name = debug.split(['(', ' ']).next().unwrap().to_owned();
                count(format!("operator {name}"));
                if matches!(&operator.test, Test::Rx(p) if p.0.iter().any(|p| matches!(p, MacroPart::Variable(..))))
                {
                    count("patterns with macros".into());
                }
            }
        }
    }
    counts.iter().map(|(name, count)| format!("{name}: {count}\n")).collect()
}

#[test]
fn the_whole_core_rule_set_loads() {
    let Some(dir) = shared("conformance/crs") else { return };
    let loaded = load(&[dir], &LoadOptions { paranoia: Some(2), ..LoadOptions::default() });
    let census = census(&loaded.rules);
    println!("{census}");
    for warning in &loaded.warnings {
        println!("{warning}");
    }
    // SecRule and SecAction lines that are no comment, counted independently.
    let directives = loaded_directives(&shared("conformance/crs").unwrap());
    let links: usize = rules(&loaded.rules).map(|rule| rule.links.len()).sum();
    assert_eq!(links, directives);
    assert!(loaded.warnings.is_empty());
}

fn loaded_directives(dir: &std::path::Path) -> usize {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dir.join("rules")).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "conf"));
    paths.push(dir.join("crs-setup.conf.example"));
    let texts = paths.into_iter().map(|path| std::fs::read_to_string(path).unwrap());
    texts
        .map(|text| {
            let lines = text.lines().map(str::trim_start);
            lines.filter(|line| line.starts_with("SecRule ") || line.starts_with("SecAction ")).count()
        })
        .sum()
}

#[test]
fn the_core_rule_set_of_debian_loads() {
    let dirs = ["/etc/modsecurity/crs", "/usr/share/modsecurity-crs"].map(PathBuf::from);
    if !dirs.iter().all(|dir| dir.is_dir()) {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI needs modsecurity-crs");
        eprintln!("skipped: the package modsecurity-crs is not installed");
        return;
    }
    // The package's own list names its set-up file; naming that folder too changes nothing.
    let [_, rules_folder] = &dirs;
    let loaded = load(std::slice::from_ref(rules_folder), &LoadOptions::default());
    let both = load(&dirs, &LoadOptions::default());
    assert_eq!(census(&loaded.rules), census(&both.rules));
    println!("{}", census(&loaded.rules));
    for warning in &loaded.warnings {
        println!("{warning}");
    }
    assert!(rules(&loaded.rules).count() > 500);
    // The set-up leaves off what looks elsewhere.
    assert!(loaded.warnings.is_empty());
}
