//! A disk that is really full: a small tmpfs. Mounting one needs root; elsewhere the test says that it was skipped.
//! (Failing writes of each file are also injected in the unit tests, which need no root.)

use std::path::Path;
use std::process::Command;

use crate::support::*;
use phalanx_model::lanes::LedgerFull;
use phalanx_model::{LedgerEntry, LedgerKind};
use phalanx_record::{Part, ledger};

#[test]
fn a_full_disk_is_reported_and_mended_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().join("record");
    std::fs::create_dir(&mount).unwrap();
    let Some(_mounted) = Mounted::tmpfs(&mount, "size=48m") else {
        println!("skipped: mounting a tmpfs needs root");
        return;
    };
    let mut settings = settings(dir.path());
    // The access log must not take the room that the others wait for.
    (settings.access_log_bytes_max, settings.access_log_files_max) = (1024 * 1024, 1);
    let (recorder, lanes) = start(settings);
    let status = recorder.status();
    lanes.security(refused(1));
    lanes.ledger(entry()).unwrap();
    wait(&status, "all three are written", |r| {
        written(r, Part::History) == 1 && written(r, Part::Ledger) == 1 && written(r, Part::AccessLog) == 1
    });

    let ballast = mount.join("ballast");
    fill(&ballast);
    // Files may have room left in their last page: events go on until each part has noticed.
    let mut n = 2;
    let parts = [Part::AccessLog, Part::History, Part::Ledger];
    while parts.iter().any(|part| !failing(&status.report(), *part)) {
        lanes.security(refused(n));
        lanes.access(Box::new(access(n)));
        let _ = lanes.ledger(entry());
        n += 1;
        std::thread::yield_now();
        assert!(n < 5_000_000, "{:?}", status.report());
    }
    let report = status.report();
    assert_eq!(report.degraded().len(), 3, "{report:?}");
    // The ledger is not drained: its lane fills, then actions are refused.
    let refused_action = (0..10_000).map(|_| lanes.ledger(entry())).find(Result::is_err);
    assert_eq!(refused_action, Some(Err(LedgerFull)));

    std::fs::remove_file(&ballast).unwrap();
    wait(&status, "everything works again", |r| r.degraded().is_empty());
    lanes.security(refused(n));
    recorder.stop();
    let verified = ledger::verify(&mount.join("ledger")).unwrap();
    assert!(verified.entries > 1_024, "entries that waited are written: {}", verified.entries);
    let log = std::fs::read_to_string(mount.join("access.log")).unwrap();
    assert!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

fn entry() -> LedgerEntry {
    LedgerEntry { at_ms: NOW, kind: LedgerKind::OperatorAction { action: "test".into(), by: None } }
}

struct Mounted(std::path::PathBuf);

impl Mounted {
    fn tmpfs(at: &Path, options: &str) -> Option<Self> {
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).output().ok()?;
        status.status.success().then(|| Self(at.to_path_buf()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
