//! The life of a policy: from a request that was refused by mistake to an exclusion in force and its history; and from a signed commit.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::*;

const SCRIPT: &str = "%3Cscript%3Ealert(1)%3C/script%3E";

pub(crate) fn node(folder: &Path, app: &App, more: &str) -> Node {
    let settings = "policy = \"policy.toml\"\n[listen]\naddress = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n[node]\nstate = \"state\"\n";
    std::fs::write(folder.join("phalanx.toml"), settings).unwrap();
    std::fs::write(folder.join("policy.toml"), policy(app, more)).unwrap();
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(folder.join("phalanx.toml"));
    Node::start(command)
}

pub(crate) fn policy(app: &App, more: &str) -> String {
    format!(
        "# Ours.\n[[apps]]\nname = \"blog\"\nupstream = \"{}\"\ntrust_forwarded = [\"127.0.0.1\"]\n{more}",
        app.url
    )
}

#[track_caller]
pub(crate) fn said(node: &Node, args: &[&str]) -> String {
    let output = node.cli(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_false_positive_becomes_an_exclusion_of_all_nodes_in_one_step_and_history_tells_of_it() {
    let (app, folder) = (App::start(), tempfile::tempdir().unwrap());
    let own = "SecRule ARGS:q \"@streq bad\" \"id:1,phase:2,deny\"\n";
    std::fs::write(folder.path().join("own.conf"), own).unwrap();
    let node = node(folder.path(), &app, "extra_rules = [\"own.conf\"]\n");
    // What runs is what was loaded, whatever the disk says meanwhile.
    let running = node.cli_json(&["policy", "show", "running"]);
    assert_eq!(running["entry"], "policy.toml", "{running}");
    std::fs::write(folder.path().join("own.conf"), "# nothing\n").unwrap();
    assert!(said(&node, &["policy", "show", "--file", "own.conf"]).contains("@streq bad"));
    let file = folder.path().join("policy.toml");
    let differs = node.cli(&["policy", "diff", "running", file.to_str().unwrap()]);
    let told = String::from_utf8(differs.stdout).unwrap();
    assert!(differs.status.code() == Some(1) && told.contains("! file own.conf: rules of it go"), "{told}");

    let good = format!("/notes/new?text={SCRIPT}");
    let refused = node.get_from("192.0.2.1", &good);
    assert_eq!(refused.status, 403);
    let id = refused.id().to_owned();
    until("it is in the history", || node.cli(&["explain", &id]).status.success());
    let args =
        ["waf", "suggest", &id, "--apply", "--owner", "ann", "--reason", "ticket 7: notes hold markup"];
    // Only what was shown is ordered.
    let other = node.cli(&[&args[..], &["--shown", &"0".repeat(64)]].concat());
    let why = String::from_utf8(other.stderr).unwrap();
    assert!(!other.status.success() && why.contains("shown otherwise"), "{why}");
    let shown = node.cli_json(&["waf", "suggest", &id])["shown"].as_str().unwrap().to_owned();
    let change = node.cli_json(&[&args[..], &["--shown", &shown]].concat());
    assert_eq!((&change["state"], &change["version"]), (&"published".into(), &1.into()), "{change}");
    assert_eq!(change["dangers"], Value::Array(Vec::new()));
    until("it passes", || node.get_from("192.0.2.2", &good).status == 200);
    assert_eq!(node.get_from("192.0.2.3", &format!("/notes/new?title={SCRIPT}")).status, 403);
    assert_eq!(node.get_from("192.0.2.4", "/?q=bad").status, 403, "rules came along as they were loaded");
    let listed = node.cli_json(&["waf", "exclusions"]);
    let one = &listed[0];
    assert_eq!(
        (&one["owner"], &one["target"], &one["state"]),
        (&"ann".into(), &"ARGS:text".into(), &"in_force".into())
    );
    assert!(one["line"].as_u64().unwrap() > 5 && one["expires_ms"].is_u64(), "{one}");
    assert!(
        said(&node, &["policy", "show", "1"]).starts_with("# Ours.\n"),
        "what people wrote stays as it is"
    );

    // Who has the node may do what is dangerous; it is told.
    std::fs::write(&file, policy(&app, "mode = \"observe\"\n")).unwrap();
    let planned = node.cli(&["policy", "plan", file.to_str().unwrap()]);
    let plan = String::from_utf8(planned.stdout).unwrap();
    assert_eq!(planned.status.code(), Some(1), "{plan}");
    for words in [
        "! app blog: its rules refuse nothing",
        "that are refused now would newly pass",
        "--expect 1 --reason",
    ] {
        assert!(plan.contains(words), "{words}: {plan}");
    }
    assert_eq!(node.cli_json(&["policy", "status"])["stable"]["version"], 1, "a plan changes nothing");
    let dangerous =
        said(&node, &["policy", "apply", file.to_str().unwrap(), "--expect", "1", "--reason", "a look"]);
    assert_eq!(node.cli(&["policy", "plan", file.to_str().unwrap()]).status.code(), Some(0));
    assert!(
        dangerous.contains("version 2") && dangerous.contains("! app blog: its rules refuse nothing"),
        "{dangerous}"
    );
    said(&node, &["policy", "rollback", "--reason", "seen enough"]);
    let history = node.cli_json(&["policy", "history"]);
    let told = |n: usize, key: &str| history[n][key].as_str().unwrap_or_default().to_owned();
    assert_eq!((told(0, "source"), told(0, "author")), ("version 1".into(), "the node's own user".into()));
    assert_eq!((told(1, "result"), told(1, "reason")), ("rolled_back".into(), "a look".into()));
    assert_eq!(told(2, "source"), format!("exclusion for request {id}"));
    assert_eq!(node.cli(&["policy", "diff", "1", "3"]).status.code(), Some(0), "the content is the same");
    let between = node.cli(&["policy", "diff", "2", "3"]);
    assert!(String::from_utf8(between.stdout).unwrap().contains("mode: observe -> block"));
    let text = said(&node, &["policy", "history"]);
    assert!(text.contains("version 2 was rolled back: an operator rolled it back: seen enough"), "{text}");
    let to = folder.path().join("to");
    said(&node, &["policy", "show", "3", "--to", to.to_str().unwrap()]);
    assert!(to.join("own.conf").exists());
    // After a restart it is all there.
    drop(node);
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(folder.path().join("phalanx.toml"));
    let node = Node::start(command);
    assert_eq!(node.cli_json(&["policy", "history"]), history);
    assert_eq!(node.cli_json(&["policy", "changes"])[1]["version"], 1);
}

pub(crate) fn git(repository: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(repository).args(["-c", "user.name=ann", "-c", "user.email=ann@example.org"]);
    command.args(["-c", "gpg.format=ssh", "-c", "init.defaultBranch=main"]).args(args);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(crate) fn key(folder: &Path, name: &str) -> String {
    let file = folder.join(name);
    let made =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&file).status().unwrap();
    assert!(made.success());
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_commit_is_applied_if_an_allowed_signer_signed_it_and_drift_is_told() {
    if absent("git") || absent("ssh-keygen") {
        return;
    }
    let (app, folder) = (App::start(), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name);
    let node = node(folder.path(), &app, "");
    let repository = path("repository");
    std::fs::create_dir_all(repository.join("fleet/rules")).unwrap();
    git(&repository, &["init", "-q"]);
    let (ann, eve) = (key(folder.path(), "ann"), key(folder.path(), "eve"));
    let public = std::fs::read_to_string(path("ann.pub")).unwrap();
    std::fs::write(path("signers"), format!("ann@example.org {public}")).unwrap();
    let commit = |key: Option<&str>, message: &str| {
        git(&repository, &["add", "-A"]);
        match key {
            Some(key) => git(
                &repository,
                &["-c", &format!("user.signingKey={key}"), "commit", "-q", "-S", "-m", message],
            ),
            None => git(&repository, &["commit", "-q", "-m", message]),
        };
        git(&repository, &["rev-parse", "HEAD"])
    };
    let write = |name: &str, text: &str| std::fs::write(repository.join(name), text).unwrap();
    write("fleet/policy.toml", &policy(&app, "extra_rules = [\"rules/own.conf\"]\n"));
    write("fleet/rules/own.conf", "SecRule ARGS:q \"@streq bad\" \"id:1,phase:2,deny\"\n");
    write("README", "not of the policy\n");
    let at = ["--git", repository.to_str().unwrap(), "--file", "fleet/policy.toml"];
    let signers = path("signers").to_str().unwrap().to_owned();
    let apply = |more: &[&str]| {
        node.cli(&[&["policy", "apply"], &at[..], &["--allowed-signers", &signers, "--json"], more].concat())
    };
    let refused = |more: &[&str], why: &str| {
        let output = apply(more);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(why), "{told}");
    };
    let unsigned = commit(None, "unsigned");
    refused(&[], "has no good signature of an allowed signer");
    write("README", "of eve\n");
    commit(Some(&eve), "another");
    refused(&[], "has no good signature of an allowed signer");
    write("README", "signed\n");
    let signed = commit(Some(&ann), "bad words are refused");
    // What lies in the work tree is not in the commit.
    write("fleet/rules/own.conf", "SecRule ARGS:q \"@streq other\" \"id:1,phase:2,deny\"\n");
    let output = apply(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let change: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(change["source"], format!("commit {signed}, says its author"), "{change}");
    until("it is in force", || node.get_from("192.0.2.1", "/?q=bad").status == 403);
    let history = node.cli_json(&["policy", "history"]);
    assert_eq!(history[0]["reason"], "bad words are refused (signed by ann@example.org)");
    assert_eq!(
        node.cli_json(&["policy", "show"])["files"].as_object().unwrap().len(),
        2,
        "what is named, and no more"
    );

    let drift = |commit: &str| node.cli(&[&["policy", "drift"], &at[..], &["--commit", commit]].concat());
    let same = drift("HEAD");
    assert_eq!(same.status.code(), Some(0), "{}", String::from_utf8_lossy(&same.stderr));
    assert!(String::from_utf8(same.stdout).unwrap().contains(&format!("made of commit {signed}")));
    let next = commit(Some(&ann), "other words");
    let differs = drift(&next);
    let told = String::from_utf8(differs.stdout).unwrap();
    assert!(differs.status.code() == Some(1) && told.contains("file rules/own.conf: changed"), "{told}");
    // What leads out of the commit is not signed.
    write("fleet/policy.toml", &policy(&app, "extra_rules = [\"../../own.conf\"]\n"));
    commit(Some(&ann), "out");
    refused(&[], "own.conf");
    std::os::unix::fs::symlink("/etc/passwd", repository.join("link")).unwrap();
    commit(Some(&ann), "a link");
    refused(&[], "a link or a module");
    refused(&["--commit", &unsigned], "has no good signature of an allowed signer");
}
