//! `[playbooks]`: which are in use. What they say is for whoever knows the detectors.

use std::collections::BTreeSet;

use super::Check;
use crate::playbook::{PLAYBOOKS_MAX, shipped};
use crate::policy::PlaybooksUsed;
use crate::raw::RawPlaybooks;
use crate::suggest::did_you_mean;

impl Check<'_> {
    pub(super) fn playbooks(&mut self, raw: &RawPlaybooks) -> PlaybooksUsed {
        let names = || shipped().iter().map(|(name, _)| *name);
        let mut seen = BTreeSet::new();
        for written in raw.shipped.iter().chain(&raw.files) {
            if !seen.insert(written.as_str()) {
                let fault =
                    self.text.error_at(&written.span, format!("`{}` stands here twice", written.value));
                self.found.push(fault.with_help("a playbook runs once for an incident: take one out"));
            }
        }
        for written in &raw.shipped {
            if !names().any(|name| name == written.value) {
                let fault = format!("no playbook `{}` comes with the product", written.value);
                let help = did_you_mean(&written.value, names()).unwrap_or_else(|| {
                    let names: Vec<&str> = names().collect();
                    format!("there are {}; a file of your own belongs into `files`", names.join(", "))
                });
                self.found.push(self.text.error_at(&written.span, fault).with_help(help));
            }
        }
        if let Some(one_more) = raw.shipped.iter().chain(&raw.files).nth(PLAYBOOKS_MAX) {
            let fault = format!("there are more than {PLAYBOOKS_MAX} playbooks");
            self.found.push(self.text.error_at(&one_more.span, fault));
        }
        PlaybooksUsed {
            shipped: raw.shipped.iter().map(|written| written.value.clone()).collect(),
            files: raw.files.iter().map(|written| self.folder.join(&written.value)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::parse_policy;

    fn read(playbooks: &str) -> Result<crate::policy::PlaybooksUsed, Vec<String>> {
        let app = "[[apps]]\nname = \"shop\"\nupstream = \"http://127.0.0.1:1\"\n";
        match parse_policy("conf/policy.toml", &format!("[playbooks]\n{playbooks}\n{app}")) {
            Ok((policy, _)) => Ok(policy.playbooks),
            Err(faults) => Err(faults.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn playbooks_are_named_or_lie_beside_the_policy() {
        let used = read("shipped = [\"stuffing\"]\nfiles = [\"own/a.toml\"]").unwrap();
        assert_eq!(used.shipped, ["stuffing"]);
        assert_eq!(used.files, [std::path::Path::new("conf/own/a.toml")]);
    }

    #[test]
    fn mistakes_are_told_with_their_line_and_help() {
        for (written, expected) in [
            (
                "shipped = [\"stufing\"]",
                "error: conf/policy.toml:2: no playbook `stufing` comes with the product\n  help: did you mean `stuffing`?",
            ),
            (
                "files = [\"a\", \"a\"]",
                "error: conf/policy.toml:2: `a` stands here twice\n  help: a playbook runs once for an incident: take one out",
            ),
            ("inline = []", "error: conf/policy.toml:2: unknown key `inline`"),
        ] {
            let faults = read(written).unwrap_err();
            assert!(faults.iter().any(|fault| fault.starts_with(expected)), "{written}: {faults:?}");
        }
    }
}
