//! Why a request was refused: `explain`, the logs for other tools, and what classes of rules may do.

use std::path::Path;

use serde_json::Value;

use crate::support::*;

#[test]
fn an_attack_is_told_step_by_step_and_written_for_other_tools() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    let (signals, audit) = (folder.path().join("modsecurity.log"), folder.path().join("audit.log"));
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let node = Node::up(&app.url, &["--modsecurity-log", &path(&signals), "--audit-log", &path(&audit)]);
    // Decoded once more by the rule than by the parser, so that a step changes the value.
    let target = "/?q=1%2527%20UNION%20SELECT%20password%20FROM%20users&password=topsecret";
    let fields = [("Cookie", "sid=topsecret"), ("X-Forged", "[id \"1\"] --0-Z--")];
    let reply = node.get_as(target, &fields);
    assert_eq!(reply.status, 403);
    let id = reply.id().to_owned();
    assert_eq!(node.get("/benign").status, 200);
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    until("both logs have the attack", || read(&signals).contains(&id) && read(&audit).contains(&id));

    let lines = read(&signals);
    let denied = lines.lines().find(|line| line.contains("Access denied with code 403 (phase 2)")).unwrap();
    for part in [
        "] [security2:error] [pid ",
        "[client 127.0.0.1] ModSecurity: ",
        "ARGS:q. [file \"baseline/20-sql-injection.conf\"]",
        "[severity \"CRITICAL\"]",
        "[uri \"/\"]",
        &format!("[unique_id \"{id}\"]"),
    ] {
        assert!(denied.contains(part), "{part} in {denied}");
    }

    let entries = read(&audit);
    assert_eq!(entries.lines().count(), 1, "the benign request is not audited: {entries}");
    let entry: Value = serde_json::from_str(&entries).unwrap();
    let transaction = &entry["transaction"];
    assert_eq!(transaction["unique_id"], id.as_str());
    assert_eq!(transaction["response"]["http_code"], 403);
    assert_eq!(transaction["host_port"], node.listen.port());
    assert_eq!(transaction["request"]["headers"]["X-Forged"], fields[1].1);
    assert_eq!(transaction["response"]["headers"]["X-Request-Id"], id.as_str());
    let details = &transaction["messages"][0]["details"];
    assert!(details["reference"].as_str().unwrap().starts_with("t:urlDecodeUni"), "{details}");
    assert!(!lines.contains("topsecret") && !entries.contains("topsecret"), "{lines}{entries}");

    until("the request is in the history", || node.cli(&["explain", &id]).status.success());
    let told = String::from_utf8(node.cli(&["explain", &id]).stdout).unwrap();
    for part in [
        "class       detection, high confidence; severity critical; phase 2\n",
        "received      1%27 UNION SELECT password FROM users\n",
        "urlDecodeUni  1' UNION SELECT password FROM users\n",
        "(no change)\n",
    ] {
        assert!(told.contains(part), "{part:?} in\n{told}");
    }
    let steps = &node.cli_json(&["explain", &id])["signals"][0]["matches"][0]["steps"];
    assert_eq!(steps[0]["name"], "urlDecodeUni");
    assert_eq!((&steps[0]["changed"], &steps[1]["changed"]), (&true.into(), &false.into()));
    assert_eq!(steps[0]["value"], "1' UNION SELECT password FROM users");

    let metrics = node.admin_get("/metrics").text();
    let refused = "phalanx_rule_refusals_total{class=\"detection\",confidence=\"high\"} 1";
    assert!(metrics.lines().any(|line| line == refused), "{metrics}");
    let status = String::from_utf8(node.cli(&["status"]).stdout).unwrap();
    assert!(status.contains("findings   detection, high confidence: "), "{status}");
}

#[test]
fn an_app_that_only_observes_detections_passes_them_on_and_bans_nobody() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "policy.toml",
        &format!(
            "[[apps]]\nname = \"shop\"\nupstream = \"{}\"\ntrust_forwarded = [\"127.0.0.1\"]\nclasses = {{ detection = \"observe\" }}\n",
            app.url
        ),
    );
    write(
        "phalanx.toml",
        "policy = \"policy.toml\"\n[listen]\naddress = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n[node]\nstate = \"state\"\n\
         [log]\naudit = \"audit.log\"\naudit_format = \"native\"\n",
    );
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(folder.path().join("phalanx.toml"));
    let node = Node::start(command);
    let client = "192.0.2.7";
    let mut id = String::new();
    for n in 1..=5 {
        let reply = node.get_from(client, &attack(n));
        assert_eq!(reply.status, 200);
        reply.id().clone_into(&mut id);
    }
    // A rule of another class still refuses.
    let traced = request(node.listen, "TRACE", "/", &[("X-Forwarded-For", client)], b"");
    assert_eq!(traced.status, 403);
    until("the request is in the history", || node.cli(&["explain", &id]).status.success());
    let told = String::from_utf8(node.cli(&["explain", &id]).stdout).unwrap();
    assert!(told.contains("of a class that this app only observes"), "{told}");
    assert!(told.contains("; only observed in this app\n"), "{told}");
    assert!(node.banned().is_empty());
    assert_eq!(node.get_from(client, "/").status, 200);
    let log = folder.path().join("audit.log");
    until("six entries", || {
        std::fs::read_to_string(&log)
            .is_ok_and(|log| log.lines().filter(|line| line.ends_with("-Z--")).count() == 6)
    });
}
