//! What a policy is compared with before it is published: what all nodes run, or this node where the fleet has no policy of its own.
//!
//! Failure direction: what cannot be compared is not published by who needs a second operator for what is dangerous.

use std::collections::BTreeMap;

use http::StatusCode;
use phalanx_fleet::policy::bundle::check_names;
use phalanx_policy::diff::{Place, compare_files, lasting_exclusions};
use phalanx_policy::{Everywhere, diff_everywhere};
use phalanx_trust::sha256;

use crate::api::{Diagnostic, PolicyDiffered, PolicyDifference};
use crate::error::ApiError;
use crate::policy_words::{file_sentence, file_warning, sentence, warning};
use crate::router::Control;

/// A policy with its files.
pub(crate) struct Policed {
    /// Its version; 0 for a node's own policy file.
    pub(crate) version: u64,
    /// The hash of its bundle; empty for a node's own policy file.
    pub(crate) hash: String,
    /// The name of the policy file; none where the node's command line says it all.
    pub(crate) entry: Option<String>,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// What it says, at every site.
    pub(crate) policy: Everywhere,
}

impl Policed {
    /// What it is and no other: its version with the hash of its bundle, else of all that a node's own policy says.
    pub(crate) fn identity(&self) -> (u64, String) {
        if !self.hash.is_empty() {
            return (self.version, self.hash.clone());
        }
        let files: BTreeMap<&String, [u8; 32]> =
            self.files.iter().map(|(name, bytes)| (name, sha256(bytes))).collect();
        // Text and numbers under names: there is nothing that JSON could not say.
        let all = serde_json::to_vec(&(&self.policy, files)).unwrap_or_default();
        (self.version, sha256(&all).iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// What all nodes run that try nothing; without a policy of the fleet's what this node runs.
pub(crate) async fn stable(control: &Control) -> Result<Policed, ApiError> {
    match control.deps.fleet.policy_state().record {
        Some(record) => version(control, record.stable.version).await,
        None => Ok(running(control)),
    }
}

/// What this node runs.
pub(crate) fn running(control: &Control) -> Policed {
    let running = (control.deps.running)();
    let files = running
        .files
        .as_deref()
        .map(|files| files.iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect());
    let record = control.deps.fleet.policy_state().record;
    let bundle = running.bundle.as_ref().and_then(|short| {
        let links = record.as_ref()?.chain.iter();
        let mut links = links.filter(|link| link.hash.starts_with(short.as_str()));
        links.next().map(|link| (link.version, link.hash.clone()))
    });
    let (version, hash) = bundle.unwrap_or((0, running.bundle.unwrap_or_default()));
    let files: BTreeMap<String, Vec<u8>> = files.unwrap_or_default();
    // The node reads its policy for its own site; what is compared is what it says everywhere.
    let written = running.entry.as_deref().and_then(|entry| parse(entry, &files).ok());
    let policy = written.unwrap_or_else(|| running.policy.into());
    Policed { version, hash, entry: running.entry, files, policy }
}

/// A version that the fleet remembers.
pub(crate) async fn version(control: &Control, version: u64) -> Result<Policed, ApiError> {
    let (link, bundle) = control.deps.fleet.policy_bundle(version).await?;
    let (entry, files) = (bundle.manifest.entry, bundle.files);
    let policy = parse(&entry, &files)?;
    Ok(Policed { version: link.version, hash: link.hash, entry: Some(entry), files, policy })
}

/// The policy that a file among these says.
pub(crate) fn parse(entry: &str, files: &BTreeMap<String, Vec<u8>>) -> Result<Everywhere, ApiError> {
    // A second name of a file would be read instead of the one that is looked at here.
    check_names(files).map_err(ApiError::bad_request)?;
    let text = files.get(entry).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let text =
        text.ok_or_else(|| ApiError::bad_request(format!("there is no file {entry:?} among the files")))?;
    Everywhere::parse(entry, &text).map(|(policy, _)| policy).map_err(|faults| refused(&faults))
}

/// The answer to a policy with faults.
pub(crate) fn refused(faults: &[phalanx_policy::Diagnostic]) -> ApiError {
    let diagnostics: Vec<Diagnostic> = faults.iter().map(Diagnostic::from).collect();
    let error = ApiError::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "policy_refused",
        "the policy was refused; nothing changes",
    );
    error.with_diagnostics(diagnostics)
}

/// What changes from one policy to another.
pub(crate) fn compare(
    before: &Policed,
    entry: &str,
    files: &BTreeMap<String, Vec<u8>>,
    policy: &Everywhere,
    now_ms: u64,
) -> PolicyDiffered {
    let named = |files: &BTreeMap<String, Vec<u8>>, entry: Option<&str>| {
        let named = files.iter().filter(|(name, _)| Some(name.as_str()) != entry);
        named.map(|(name, bytes)| (name.clone(), bytes.clone())).collect::<BTreeMap<_, _>>()
    };
    let files = named(files, Some(entry));
    let mut found = diff_everywhere(&before.policy, policy, &files);
    found.dangers.extend(lasting_exclusions(&before.policy, policy, now_ms));
    let before_files = named(&before.files, before.entry.as_deref());
    let of_files = compare_files((&before.policy, &before_files), (policy, &files));
    let at = |words: String, place: Option<&Place>| PolicyDifference {
        words,
        app: place.and_then(|place| place.app.clone()),
        route: place.and_then(|place| place.route.clone()),
    };
    let changes = found.changes.iter().map(|change| at(sentence(change), Some(&change.place)));
    let dangers = found.dangers.iter().map(|danger| at(warning(danger), Some(&danger.place)));
    let changes: Vec<_> = changes.chain(of_files.iter().map(|one| at(file_sentence(one), None))).collect();
    let dangers = dangers.chain(of_files.iter().filter_map(file_warning).map(|one| at(one, None))).collect();
    PolicyDiffered { same: changes.is_empty(), changes, dangers }
}
