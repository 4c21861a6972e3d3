//! Whether the policy in force excludes already what a suggestion would: who opens an old request is told so, and nothing is written twice.
//!
//! An exclusion by tag says nothing of single rules, so it counts for none: then the suggestion is made as if it were not there.

use phalanx_policy::Exclusion;

use crate::suggest::{Narrow, Suggestion};

/// The first of the exclusions that stand for all that is suggested; none where something of it is new.
///
/// `now_s`: the time, in Unix seconds; what has ended stands for nothing.
pub(crate) fn standing<'a>(
    exclusions: &'a [Exclusion],
    suggestion: &Suggestion,
    now_s: i64,
) -> Option<&'a Exclusion> {
    // Refused although they are there: something else is to be found.
    if !suggestion.passes {
        return None;
    }
    let in_force = |one: &&Exclusion| one.until.is_none_or(|until| until.at_s > now_s);
    let holds_for = |one: &Exclusion, narrow: &Narrow| {
        one.holds_for(narrow.target.as_deref(), narrow.path.as_deref(), &narrow.methods)
    };
    let of = |rule: u64, narrow: &Narrow| {
        exclusions.iter().filter(in_force).find(|one| one.rules.contains(&rule) && holds_for(one, narrow))
    };
    let mut first = None;
    for narrow in &suggestion.exclusions {
        for rule in &narrow.rules {
            let standing = of(*rule, narrow)?;
            first = first.or(Some(standing));
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use phalanx_policy::handling::Expiry;

    use super::*;
    use crate::suggest::LetsPass;

    /// Rules, target, path, methods, end.
    type Written = (&'static [u64], Option<&'static str>, Option<&'static str>, &'static [&'static str], i64);

    const NOW_S: i64 = 1_000;

    fn exclusion((rules, target, path, methods, at_s): Written, line: u32) -> Exclusion {
        Exclusion {
            rules: rules.to_vec(),
            tags: Vec::new(),
            target: target.map(str::to_owned),
            path: path.map(str::to_owned),
            methods: methods.iter().map(|&one| one.to_owned()).collect(),
            owner: "ann".to_owned(),
            reason: "a ticket".to_owned(),
            until: (at_s > 0).then_some(Expiry { at_s, line }),
            line,
        }
    }

    fn suggestion(passes: bool) -> Suggestion {
        let narrow = Narrow {
            rules: vec![7, 8],
            target: Some("ARGS:note".to_owned()),
            path: Some("/shop/review".to_owned()),
            methods: vec!["POST".to_owned()],
        };
        Suggestion {
            id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            app: Arc::from("shop"),
            exclusions: vec![narrow],
            toml: String::new(),
            passes,
            warnings: Vec::new(),
            lets_pass: LetsPass::default(),
            recording: None,
            shown: String::new(),
        }
    }

    #[test]
    fn what_stands_is_told_by_its_line_and_what_is_narrower_or_over_is_not() {
        let same: Written = (&[7, 8], Some("ARGS:note"), Some("/shop/review"), &["POST"], 2_000);
        let table: [(&[Written], Option<u32>); 12] = [
            (&[same], Some(1)),
            (&[(&[7, 8], None, None, &[], 0)], Some(1)),
            (&[(&[7, 8], Some("ARGS"), Some("/shop/"), &["GET", "POST"], 0)], Some(1)),
            // Each rule by one of its own.
            (&[(&[7], None, None, &[], 0), (&[8], Some("ARGS:note"), None, &[], 0)], Some(1)),
            (&[(&[1], None, None, &[], 0), same], Some(2)),
            (&[(&[7], None, None, &[], 0)], None),
            (&[(&[7, 8], Some("ARGS:not"), None, &[], 0)], None),
            (&[(&[7, 8], Some("ARGS:note:more"), None, &[], 0)], None),
            (&[(&[7, 8], None, Some("/shop/rev"), &[], 0)], None),
            (&[(&[7, 8], None, Some("/shop/review/1"), &[], 0)], None),
            (&[(&[7, 8], None, None, &["GET"], 0)], None),
            (&[(&[7, 8], None, None, &[], NOW_S)], None),
        ];
        for (written, line) in table {
            let exclusions: Vec<Exclusion> =
                written.iter().zip(1..).map(|(&one, line)| exclusion(one, line)).collect();
            let found = standing(&exclusions, &suggestion(true), NOW_S).map(|one| one.line);
            assert_eq!(found, line, "{written:?}");
            assert!(standing(&exclusions, &suggestion(false), NOW_S).is_none(), "{written:?}");
        }
    }
}
