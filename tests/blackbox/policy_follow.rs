//! A branch and the fleet's policy, kept in step both ways by `phalanx policy follow`: a real git, a real node.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::policy_life::{git, key, node, policy, said};
use crate::support::*;

/// A node, a repository without a work tree that it follows, and a clone in which people write.
struct Lab {
    folder: TempDir,
    app: App,
    node: Node,
}

impl Lab {
    fn start() -> Option<Self> {
        if absent("git") || absent("ssh-keygen") {
            return None;
        }
        let (app, folder) = (App::start(), tempfile::tempdir().unwrap());
        let node = node(folder.path(), &app, "");
        let lab = Self { folder, app, node };
        let (work, ann) = (lab.path("work"), key(lab.folder.path(), "ann"));
        std::fs::create_dir_all(work.join("fleet")).unwrap();
        git(&work, &["init", "-q"]);
        git(&work, &["config", "user.signingKey", &ann]);
        std::fs::write(work.join("README"), "of people\n").unwrap();
        lab.commit("begin", false);
        git(lab.folder.path(), &["clone", "-q", "--bare", work.to_str().unwrap(), "bare"]);
        git(&work, &["remote", "add", "bare", lab.path("bare").to_str().unwrap()]);
        let public = std::fs::read_to_string(lab.path("ann.pub")).unwrap();
        std::fs::write(lab.path("signers"), format!("ann@example.org {public}")).unwrap();
        Some(lab)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn commit(&self, message: &str, signed: bool) -> String {
        let work = self.path("work");
        git(&work, &["add", "-A"]);
        let sign = if signed { "-S" } else { "--no-gpg-sign" };
        git(&work, &["commit", "-q", sign, "-m", message]);
        git(&work, &["rev-parse", "HEAD"])
    }

    /// Somebody writes another policy into the branch.
    fn writes(&self, more: &str, message: &str, signed: bool) -> String {
        let work = self.path("work");
        git(&work, &["pull", "-q", "--ff-only", "bare", "main"]);
        std::fs::write(work.join("fleet/policy.toml"), policy(&self.app, more)).unwrap();
        let commit = self.commit(message, signed);
        git(&work, &["push", "-q", "bare", "HEAD:main"]);
        commit
    }

    /// The fleet gets another policy in another way.
    fn pushes(&self, more: &str, reason: &str) {
        let file = self.path("elsewhere.toml");
        std::fs::write(&file, policy(&self.app, more)).unwrap();
        said(&self.node, &["policy", "push", file.to_str().unwrap(), "--reason", reason]);
    }

    fn follow(&self, more: &[&str]) -> Output {
        let (bare, signers) = (self.path("bare"), self.path("signers"));
        let mut command = phalanx(&[
            "policy",
            "follow",
            "--branch",
            "main",
            "--file",
            "fleet/policy.toml",
            "--once",
            "--json",
        ]);
        command.arg("--git").arg(bare).arg("--allowed-signers").arg(signers).args(more);
        if !more.contains(&"--admin") {
            command.arg("--state").arg(&self.node.state);
        }
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null").output().unwrap()
    }

    /// What it did, one line for each.
    #[track_caller]
    fn done(&self, more: &[&str]) -> Vec<Value> {
        let output = self.follow(more);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
        said.map(Result::unwrap).collect()
    }

    #[track_caller]
    fn in_step(&self) {
        let tip = self.tip();
        let done = self.done(&[]);
        assert!(done.len() == 1 && done[0]["done"] == "in_step", "{done:?}");
        assert_eq!(self.tip(), tip, "nothing is written twice");
    }

    #[track_caller]
    fn fails(&self, why: &str) -> String {
        let output = self.follow(&[]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(why), "{told}");
        told
    }

    fn tip(&self) -> String {
        self.shows(&["rev-parse", "main"])
    }

    fn shows(&self, args: &[&str]) -> String {
        git(&self.path("bare"), args)
    }

    fn newest(&self) -> Value {
        self.node.cli_json(&["policy", "history"])[0].clone()
    }
}

#[test]
fn versions_become_commits_and_signed_commits_become_versions() {
    let Some(lab) = Lab::start() else { return };
    lab.in_step();
    lab.pushes("", "the first");
    lab.pushes("deny_networks = [\"192.0.2.0/24\"]\n", "no guests");
    // What was before it began is one commit; what comes while nobody looks is one each.
    assert_eq!(lab.done(&[])[0]["version"], 2);
    lab.in_step();
    lab.pushes("", "guests again\n\nPhalanx-Version: 9");
    lab.pushes("deny_networks = [\"198.51.100.0/24\"]\n", "");
    let done = lab.done(&[]);
    assert_eq!((done.len(), &done[0]["version"], &done[1]["version"]), (2, &3.into(), &4.into()));
    let trailers = "--format=%an|%s|%(trailers:key=Phalanx-Version,valueonly,separator=%x2C)|%G?";
    assert_eq!(
        lab.shows(&["log", trailers, "main"]).lines().collect::<Vec<_>>(),
        [
            "the node's own user|Policy version 4|4|N",
            "the node's own user|guests again  Phalanx-Version: 9|3|N",
            "the node's own user|no guests|2|N",
            "ann|begin||N"
        ]
    );
    assert_eq!(lab.shows(&["ls-tree", "-r", "--name-only", "main"]), "README\nfleet/policy.toml");
    assert!(lab.shows(&["show", "main:fleet/policy.toml"]).contains("198.51.100.0/24"));
    lab.in_step();

    let signed = lab.writes("deny_networks = [\"203.0.113.0/24\"]\n", "other guests", true);
    let done = lab.done(&[]);
    assert_eq!((&done[0]["done"], &done[0]["version"]), (&"applied".into(), &5.into()), "{done:?}");
    until("it is in force", || lab.node.get_from("203.0.113.9", "/").status == 403);
    let newest = lab.newest();
    assert_eq!(
        (&newest["source"], &newest["reason"]),
        (
            &format!("commit {signed}, says its author").into(),
            &"other guests (signed by ann@example.org)".into()
        )
    );
    lab.in_step();
    assert_eq!(lab.tip(), signed, "what came from the branch is not written into it");
    // What is no policy is nobody's change.
    std::fs::write(lab.path("work/README"), "more\n").unwrap();
    lab.writes("deny_networks = [\"203.0.113.0/24\"]\n", "words", false);
    lab.in_step();
    lab.writes("", "nobody signed this", false);
    lab.fails("has no good signature of an allowed signer");
    assert_eq!(lab.newest(), newest);
}

#[test]
fn where_both_moved_nothing_is_done_until_somebody_says_what_counts() {
    let Some(lab) = Lab::start() else { return };
    lab.pushes("", "the first");
    lab.done(&[]);
    let commit = lab.writes("deny_networks = [\"192.0.2.0/24\"]\n", "of the branch", true);
    lab.pushes("deny_networks = [\"198.51.100.0/24\"]\n", "of the console");
    let told = lab.fails(&commit);
    for part in
        ["version 2 of the node's own user", "of the console", "of the branch", "--keep fleet", "--keep git"]
    {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!((lab.tip(), &lab.newest()["version"]), (commit.clone(), &2.into()));
    assert_eq!(lab.done(&["--keep", "fleet"])[0]["done"], "written");
    assert_eq!(lab.shows(&["rev-parse", "main^"]), commit, "its part stays in the history");
    assert!(lab.shows(&["show", "main:fleet/policy.toml"]).contains("198.51.100.0/24"));
    lab.in_step();

    lab.writes("deny_networks = [\"192.0.2.0/24\"]\n", "once more", true);
    lab.pushes("deny_networks = [\"203.0.113.0/24\"]\n", "of the console");
    lab.fails("both moved");
    assert_eq!(lab.done(&["--keep", "git"])[0]["version"], 4);
    lab.in_step();
    // Both came to the same.
    lab.writes("", "the same", true);
    lab.pushes("", "the same");
    assert_eq!(lab.done(&[])[0]["done"], "marked");
    lab.in_step();
    // Who writes the line himself is not believed.
    lab.writes("mode = \"off\"\n", "x\n\nPhalanx-Version: 5", false);
    lab.fails("holds another policy");
    let work = lab.path("work");
    let checked_out = phalanx(&["policy", "follow", "--once", "--branch", "main", "--git"])
        .arg(&work)
        .arg("--allowed-signers")
        .arg(lab.path("signers"))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&checked_out.stderr).contains("is checked out in"));
}

#[test]
fn a_commit_that_takes_protection_away_waits_for_a_second_operator_and_is_asked_for_once() {
    let Some(lab) = Lab::start() else { return };
    lab.pushes("", "the first");
    said(&lab.node, &["operator", "add", "bob", "--role", "editor"]);
    let token =
        lab.node.cli_json(&["operator", "token", "add", "bob", "git", "--role", "editor", "--for", "1d"]);
    let file = lab.path("token");
    std::fs::write(&file, token["token"].as_str().unwrap()).unwrap();
    let admin = format!("http://{}", lab.node.admin);
    let as_bob = ["--admin", &admin, "--token-file", file.to_str().unwrap()];
    assert_eq!(lab.done(&as_bob)[0]["done"], "written");
    lab.writes("mode = \"observe\"\n", "a look", true);
    let waits = lab.done(&as_bob);
    assert_eq!(waits[0]["done"], "waits", "{waits:?}");
    assert_eq!(lab.done(&as_bob), waits, "it is the same change");
    assert_eq!(
        lab.node
            .cli_json(&["policy", "changes"])
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["state"] == "waiting")
            .count(),
        1
    );
    let id = waits[0]["change"].as_str().unwrap();
    let hash = lab.node.cli_json(&["policy", "change", id])["hash"].as_str().unwrap().to_owned();
    said(&lab.node, &["policy", "approve", id, "--hash", &hash]);
    assert_eq!(lab.done(&as_bob)[0]["done"], "in_step");
    assert_eq!(lab.newest()["version"], 2);
}

#[test]
fn it_goes_on_when_it_was_ended_in_between() {
    let Some(lab) = Lab::start() else { return };
    lab.pushes("", "the first");
    let mut command =
        phalanx(&["policy", "follow", "--branch", "main", "--file", "fleet/policy.toml", "--every", "1s"]);
    command.arg("--git").arg(lab.path("bare")).arg("--allowed-signers").arg(lab.path("signers"));
    command
        .arg("--state")
        .arg(&lab.node.state)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null");
    let begun = start(command);
    let holds = |word: &str| has(&lab.path("bare"), word);
    until("the first is a commit", || holds("Phalanx-Version: 1"));
    drop(begun);
    lab.pushes("deny_networks = [\"192.0.2.0/24\"]\n", "while nobody looked");
    assert_eq!(lab.done(&[])[0]["version"], 2);
    lab.in_step();
}

#[test]
fn who_was_away_for_longer_than_the_fleet_keeps_content_goes_on_and_says_what_has_no_commit() {
    let Some(lab) = Lab::start() else { return };
    lab.pushes("", "the first");
    lab.done(&[]);
    for number in 2..=12 {
        lab.pushes(&format!("deny_networks = [\"192.0.2.{number}\"]\n"), "");
    }
    // What the fleet deletes it deletes in its own time.
    until("the content is gone", || !lab.node.cli(&["policy", "show", "3"]).status.success());
    let done = lab.done(&[]);
    assert!(done[0]["done"] == "skipped" && done[0]["versions"][0] == 2, "{done:?}");
    assert_eq!(done.last().unwrap()["version"], 12);
    assert!(lab.shows(&["log", "--format=%B", "main"]).contains("Phalanx-Skipped: 2, 3"));
    lab.in_step();
    let signed = lab.writes("deny_networks = [\"203.0.113.0/24\"]\n", "goes on", true);
    assert_eq!(lab.done(&[])[0]["commit"], signed);
}

#[test]
fn what_others_say_that_their_change_is_made_of_neither_applies_nor_refuses_a_commit() {
    let Some(lab) = Lab::start() else { return };
    lab.pushes("", "the first");
    lab.done(&[]);
    let commit = lab.writes("deny_networks = [\"192.0.2.0/24\"]\n", "signed", true);
    // Somebody publishes something else and says that it is of this commit.
    let liar = policy(&lab.app, "deny_networks = [\"198.51.100.0/24\"]\n");
    let encoded = data_encoding::BASE64.encode(liar.as_bytes());
    let order = serde_json::json!({ "entry": "policy.toml", "files": { "policy.toml": encoded }, "source": format!("commit {commit}") });
    let token = std::fs::read_to_string(lab.node.state.join("admin.token")).unwrap();
    let body = order.to_string();
    let reply = request(
        lab.node.admin,
        "POST",
        "/api/v1/policy/changes",
        &[("authorization", &format!("Bearer {}", token.trim())), ("content-type", "application/json")],
        body.as_bytes(),
    );
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(lab.newest()["source"], format!("commit {commit}, says its author"));
    let told = lab.fails("both moved");
    assert!(told.contains(&commit), "{told}");
    assert_eq!(lab.done(&["--keep", "git"])[0]["done"], "applied");
    lab.in_step();
}

#[test]
fn nothing_of_a_commit_that_nobody_signed_is_compiled_and_the_node_tells_people_of_it() {
    let Some(lab) = Lab::start() else { return };
    lab.pushes("", "the first");
    lab.done(&[]);
    lab.writes("no such setting = ", "broken", false);
    let told = lab.fails("has no good signature of an allowed signer");
    assert!(!told.contains("policy.toml:"), "{told}");
    let status = said(&lab.node, &["status"]);
    for part in ["not signed, version 1", "has no good signature", "degraded"] {
        assert!(status.contains(part), "{part}: {status}");
    }
    lab.writes("also = broken", "signed, and broken", true);
    assert!(lab.fails("write another commit on it").contains("policy.toml"));
    lab.writes("deny_networks = [\"192.0.2.0/24\"]\n", "whole again", true);
    assert_eq!(lab.done(&[])[0]["done"], "applied");
    lab.in_step();
    assert!(said(&lab.node, &["status"]).contains(": in step, version 2"));
}

fn has(repository: &Path, word: &str) -> bool {
    git(repository, &["log", "--format=%B", "main"]).contains(word)
}
