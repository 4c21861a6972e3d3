//! The product's own rules load, and each says what the rest of the product needs to know of it.

use std::collections::BTreeSet;

use phalanx_policy::baseline;
use phalanx_policy::seclang::ir::{Action, Item, MacroPart};
use phalanx_policy::seclang::{LoadOptions, load_texts};

#[test]
fn the_pack_loads_without_a_warning() {
    let loaded = load_texts(baseline(), &LoadOptions::default())
        .map_err(|faults| faults.iter().map(|fault| format!("{fault}\n")).collect::<String>());
    let loaded = loaded.unwrap();
    assert_eq!(loaded.warnings, []);
}

#[test]
fn every_rule_has_an_id_of_its_range_a_class_and_a_message() {
    let loaded = load_texts(baseline(), &LoadOptions::default()).unwrap();
    for item in &loaded.rules.items {
        let Item::Rule(rule) = item else { continue };
        assert!((8_500_000..8_520_000).contains(&rule.id), "{}", rule.id);
        let actions = &rule.links[0].actions;
        let mut tags = BTreeSet::new();
        for action in actions {
            if let Action::Tag(tag) = action {
                tags.insert(match tag.0.as_slice() {
                    [MacroPart::Text(text)] => text.to_string(),
                    _ => panic!("rule {} has a tag with a macro", rule.id),
                });
            }
        }
        let classes = tags.iter().filter(|tag| tag.starts_with("phalanx/class/")).count();
        assert_eq!(classes, 1, "rule {}", rule.id);
        let confidences: Vec<&String> =
            tags.iter().filter(|tag| tag.starts_with("phalanx/confidence/")).collect();
        let detects = tags.contains("phalanx/class/detection");
        assert_eq!(confidences.len(), usize::from(detects), "rule {}", rule.id);
        let refuses = actions.contains(&Action::Deny);
        if refuses || detects {
            assert!(actions.iter().any(|action| matches!(action, Action::Msg(_))), "rule {}", rule.id);
            assert!(actions.iter().any(|action| matches!(action, Action::Severity(_))), "rule {}", rule.id);
        }
        if detects {
            let low = confidences[0].ends_with("/low");
            assert_eq!(
                refuses, !low,
                "rule {}: what is only suspicious is recorded, the rest refused",
                rule.id
            );
        }
    }
}
