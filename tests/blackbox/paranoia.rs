//! Stricter rules that are ready, and in force while an operator orders it.

use std::fs;

use serde_json::Value;

use crate::support::*;

/// A rule that its level alone tells from those that always hold.
const STRICT: &str = "SecRule TX:DETECTION_PARANOIA_LEVEL \"@ge 3\" \"id:1000,phase:2,deny,status:403,log,msg:'a word that may be meant well',chain\"\n  \
                      SecRule ARGS \"@contains tacit\" \"t:none\"\n";

#[test]
fn an_app_is_inspected_by_its_raised_level_while_that_is_ordered() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    let settings = "policy = \"policy.toml\"\n[listen]\naddress = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n[node]\nstate = \"state\"\n";
    fs::write(folder.path().join("phalanx.toml"), settings).unwrap();
    let policy = format!(
        "[[apps]]\nname = \"shop\"\nupstream = \"{}\"\ntrust_forwarded = [\"127.0.0.1\"]\nextra_rules = [\"own.conf\"]\nraise_paranoia = 3\n",
        app.url
    );
    fs::write(folder.path().join("policy.toml"), policy).unwrap();
    fs::write(folder.path().join("own.conf"), STRICT).unwrap();
    let config = folder.path().join("phalanx.toml");
    let checked = phalanx(&["check", "-c"]).arg(&config).output().unwrap();
    let shown = String::from_utf8(checked.stdout).unwrap();
    assert!(shown.contains("block, to paranoia 3 by order"), "{shown}");
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(&config);
    let node = Node::start(command);
    let ask = || node.get_from("192.0.2.1", "/?q=tacit");
    assert_eq!(ask().status, 200);

    let order = |place: &str| {
        let words = ["decision", "add", "--kind", "raise-paranoia", "--place", place, "--for", "10m"];
        node.cli(&[&words[..], &["--reason", "attacks from everywhere"]].concat())
    };
    let wrong = order("shop/login");
    let told = String::from_utf8(wrong.stderr).unwrap();
    assert!(
        !wrong.status.success() && told.contains("give the app of \"shop/login\" without a route"),
        "{told}"
    );
    let idle = String::from_utf8(order("blog").stdout).unwrap();
    assert!(idle.contains("note: policy gives no app `blog` a `raise_paranoia` here"), "{idle}");
    let added = order("shop");
    let told = String::from_utf8(added.stdout).unwrap();
    assert!(
        added.status.success() && told.contains("raise-paranoia of rules of app") && !told.contains("note"),
        "{told}"
    );

    let refused = ask();
    assert_eq!(refused.status, 403);
    let explained = String::from_utf8(node.cli(&["explain", refused.id()]).stdout).unwrap();
    assert!(explained.contains("The paranoia of app shop was raised to 3 until "), "{explained}");
    assert_eq!(node.get_from("192.0.2.1", "/?q=other").status, 200, "it refuses nobody by itself");

    let listed = String::from_utf8(node.cli(&["decision", "list"]).stdout).unwrap();
    assert!(listed.contains("raise-paranoia") && listed.contains("rules of app shop, to 3"), "{listed}");
    let all: Value = serde_json::from_slice(&node.cli(&["decision", "list", "--json"]).stdout).unwrap();
    for one in all.as_array().unwrap() {
        let id = one["id"].as_str().unwrap();
        assert!(node.cli(&["decision", "delete", id, "--reason", "over"]).status.success());
    }
    assert_eq!(ask().status, 200, "the order has ended");
}
