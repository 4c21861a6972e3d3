//! `phalanx fleet snapshot|restore`: what the fleet holds, in one file.
//!
//! The node signs it; it is sealed here, under a key in a file of its own, so that whoever finds the snapshot alone learns nothing of
//! whom the fleet refuses, and the key never travels.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use phalanx_control::api::{Restored, RestoredCount};
use phalanx_model::{Clock, SystemClock};
use phalanx_record::escape::for_terminal;
use phalanx_trust::Sealer;
use serde_json::json;

use super::print;
use crate::client::{AdminArgs, Client};

/// Arguments of `fleet snapshot`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SnapshotArgs {
    /// Where to write it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// File with the key that it is sealed with; made if it is not there [default: FILE.key]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `fleet restore`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RestoreArgs {
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// File with the key that it is sealed with [default: FILE.key]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Say what it would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn save(args: &SnapshotArgs) -> anyhow::Result<()> {
    let key = key_file(&args.file, args.key.as_ref());
    let bytes = Client::new(&args.admin)?.get_bytes("fleet/snapshot")?;
    let sealed = Sealer::load_or_create(&key)?.seal(CONTEXT, &bytes)?;
    write(&args.file, &sealed).with_context(|| format!("cannot write {}", args.file.display()))?;
    if args.admin.json {
        return print::json(&json!({ "file": args.file, "key": key, "bytes": sealed.len() }));
    }
    print::text(&format!(
        "wrote      {} ({} bytes)\nsealed     with {}: keep it elsewhere; without it the snapshot cannot be read\n",
        args.file.display(),
        sealed.len(),
        key.display()
    ))
}

pub(super) fn restore(args: &RestoreArgs) -> anyhow::Result<()> {
    let (file, key) = (args.file.display(), key_file(&args.file, args.key.as_ref()));
    if !key.exists() {
        bail!("{} is not there; name the file with the snapshot's key with --key", key.display());
    }
    let sealed = std::fs::read(&args.file).with_context(|| format!("cannot read {file}"))?;
    let Ok(bytes) = Sealer::load_or_create(&key)?.open(CONTEXT, &sealed) else {
        bail!("{file} is damaged, is no snapshot, or was sealed with another key than {}", key.display());
    };
    let query = print::query(&[("dry_run", args.dry_run.then(|| String::from("true")))]);
    let answer = Client::new(&args.admin)?.post_bytes(&format!("fleet/restore{query}"), bytes.into())?;
    if args.admin.json {
        return print::json(&answer);
    }
    print::text(&words(&serde_json::from_value(answer)?, SystemClock.now_ms()))
}

fn words(restored: &Restored, now_ms: u64) -> String {
    let row = |what: &str, count: &RestoredCount| {
        let counts = [count.restored, count.known, count.expired, count.ended, count.refused];
        [vec![what.to_owned()], counts.map(|count| count.to_string()).to_vec()].concat()
    };
    let rows = [
        row("decisions", &restored.decisions),
        row("withdrawals", &restored.withdrawals),
        row("blocklists", &restored.lists),
        row("revocations", &restored.revocations),
    ];
    let first = if restored.dry_run { "WOULD RESTORE" } else { "RESTORED" };
    format!(
        "snapshot   {} old, by {}, {} members, policy version {}\n\n{}",
        print::duration(now_ms.saturating_sub(restored.made_at_ms)),
        for_terminal(&restored.made_by),
        restored.members,
        restored.policy_version,
        print::table(&["", first, "KNOWN", "EXPIRED", "ENDED SINCE", "REFUSED"], &rows)
    )
}

fn key_file(file: &Path, named: Option<&PathBuf>) -> PathBuf {
    named.cloned().unwrap_or_else(|| {
        let mut name = file.as_os_str().to_owned();
        name.push(".key");
        name.into()
    })
}

/// Writes a file whole or not at all, for its owner alone.
fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let _ = std::fs::remove_file(&part);
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    std::fs::rename(&part, file)?;
    match file.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

const CONTEXT: &str = "phalanx fleet snapshot";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_restore_would_do_reads_well() {
        let none = RestoredCount { restored: 0, known: 0, expired: 0, ended: 0, refused: 0 };
        let restored = Restored {
            dry_run: true,
            made_at_ms: 1_000,
            made_by: "operator at fra/a".into(),
            policy_version: 3,
            members: 2,
            decisions: RestoredCount { restored: 12, known: 1, expired: 2, ended: 3, refused: 0 },
            withdrawals: none,
            lists: none,
            revocations: none,
        };
        let text = words(&restored, 61_000);
        assert!(
            text.starts_with("snapshot   1 min 0 s old, by operator at fra/a, 2 members, policy version 3\n"),
            "{text}"
        );
        assert!(text.contains("decisions    12             1      2        3            0"), "{text}");
    }
}
