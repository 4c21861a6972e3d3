//! The playbooks that a policy uses, read: those that come with the product, and files beside the policy.

use std::sync::Arc;

use phalanx_control::playbook::read;
use phalanx_policy::playbook::{Playbook, shipped};
use phalanx_policy::seclang::read_text;
use phalanx_policy::{Diagnostic, Files, PlaybooksUsed};

/// Reads them all.
///
/// # Errors
/// Every fault found; then none is to be used.
pub(crate) fn read_all(
    files: Files<'_>,
    used: &PlaybooksUsed,
) -> Result<Arc<[Arc<Playbook>]>, Vec<Diagnostic>> {
    let (mut playbooks, mut faults): (Vec<Arc<Playbook>>, Vec<Diagnostic>) = (Vec::new(), Vec::new());
    let mut add = |name: &str, text: Result<String, (u32, String)>| {
        let text = text.map_err(|(line, message)| vec![Diagnostic::error(name, line, message)]);
        match text.and_then(|text| read(name, &text)) {
            Ok(playbook) if playbooks.iter().any(|known| known.name == playbook.name) => {
                let fault = format!("there is another playbook `{}`", playbook.name);
                let fault = Diagnostic::error(name, 0, fault);
                faults.push(fault.with_help("give it a name of its own: what was done is kept under it"));
            }
            Ok(playbook) => playbooks.push(Arc::new(playbook)),
            Err(found) => faults.extend(found),
        }
    };
    for (name, text) in shipped().iter().filter(|(name, _)| used.shipped.iter().any(|used| used == name)) {
        add(&format!("packs/playbooks/{name}.toml"), Ok((*text).to_owned()));
    }
    for file in &used.files {
        let name = file.display().to_string();
        add(&name, read_text(files, &name));
    }
    if faults.is_empty() { Ok(playbooks.into()) } else { Err(faults) }
}

/// Webhooks that playbooks tell and that a node does not have.
pub(crate) fn untold<'a>(
    playbooks: &'a [Arc<Playbook>],
    has: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    use phalanx_policy::playbook::StepAction::{Notify, Ticket};
    playbooks
        .iter()
        .flat_map(|playbook| playbook.steps.iter().map(|step| (playbook.name.as_str(), step)))
        .filter_map(move |(name, step)| match &step.action {
            Notify { to, .. } | Ticket { to, .. } if !has(to) => Some((name, to.as_str())),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_policy::FileSet;

    #[test]
    fn shipped_playbooks_and_files_are_read_and_faults_are_told_with_their_file() {
        let own = "name = \"own\"\n[trigger]\nmanual = true\n[[steps]]\nid = \"a\"\ndo = \"notify\"\nto = \"oncall\"\ntext = \"x\"\n";
        let set = FileSet::new([
            ("own.toml".to_owned(), own.into()),
            ("twice.toml".to_owned(), own.replace("own", "flood").into()),
            ("bad.toml".to_owned(), own.replace("notify", "notfy").into()),
        ]);
        let read = |shipped: &[&str], files: &[&str]| {
            let used = PlaybooksUsed {
                shipped: shipped.iter().map(|name| (*name).to_owned()).collect(),
                files: files.iter().map(Into::into).collect(),
            };
            read_all(Files::Set(&set), &used)
        };
        let all: Vec<&str> = shipped().iter().map(|(name, _)| *name).collect();
        assert_eq!(read(&all, &["own.toml"]).unwrap().len(), all.len() + 1);
        let untold: Vec<String> =
            untold(&read(&[], &["own.toml"]).unwrap(), |_| false).map(|(_, to)| to.to_owned()).collect();
        assert_eq!(untold, ["oncall"]);
        for (files, expected) in [
            ("twice.toml", "error: twice.toml: there is another playbook `flood`"),
            ("bad.toml", "error: bad.toml:6: unknown value `notfy`"),
            ("none.toml", "error: none.toml: "),
        ] {
            let faults = read(&["flood"], &[files]).unwrap_err();
            assert!(faults.iter().any(|fault| fault.to_string().starts_with(expected)), "{faults:?}");
        }
    }
}
