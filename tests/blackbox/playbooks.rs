//! `phalanx playbook`: the playbooks that are shipped are sound, go out as CACAO and come back.

use std::path::Path;

use crate::support::*;

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packs/playbooks").join(name);
    path.display().to_string()
}

fn said(args: &[&str]) -> (bool, String, String) {
    let output = phalanx(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn playbooks_are_checked_and_carried_to_cacao_and_back() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["stuffing", "scraping", "flood", "exploit-attempt", "leaked-session", "critical-cve"] {
        let file = shipped(&format!("{name}.toml"));
        let (is_well, told, faults) = said(&["playbook", "check", &file]);
        assert!(is_well && told.starts_with(&format!("{name} version 1: ")), "{told}{faults}");
        let (is_well, document, faults) = said(&["playbook", "export", &file]);
        assert!(is_well && document.contains("\"spec_version\": \"cacao-2.0\""), "{document}{faults}");
        let json = folder.path().join("playbook.json");
        std::fs::write(&json, document).unwrap();
        let (is_well, text, faults) = said(&["playbook", "import", json.to_str().unwrap()]);
        assert!(is_well && faults.is_empty(), "{faults}");
        let back = folder.path().join("back.toml");
        std::fs::write(&back, text).unwrap();
        assert_eq!(said(&["playbook", "check", back.to_str().unwrap()]).1, told);
    }
}

#[test]
fn what_is_wrong_with_a_playbook_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.toml");
    let text = "name = \"p\"\n[trigger]\ndetectors = [\"scaning\"]\n[[steps]]\nid = \"a\"\ndo = \"wait\"\nfor = \"5s\"\n";
    std::fs::write(&file, text).unwrap();
    let (is_well, _, faults) = said(&["playbook", "check", file.to_str().unwrap()]);
    let expected = "p.toml:3: there is no detector `scaning`\n  help: did you mean `scanning`?";
    assert!(!is_well && faults.contains(expected), "{faults}");
    let foreign = folder.path().join("f.json");
    std::fs::write(&foreign, "{\"type\":\"playbook\",\"spec_version\":\"1.0\"}").unwrap();
    let (is_well, told, faults) = said(&["playbook", "import", foreign.to_str().unwrap()]);
    assert!(!is_well && told.is_empty() && faults.contains("it is no playbook of cacao-2.0"), "{faults}");
}
