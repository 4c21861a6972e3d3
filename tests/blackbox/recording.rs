//! Requests kept for replay: what another policy would change, before it does; and nothing secret on the disk.

use std::path::Path;

use phalanx_trust::Sealer;
use serde_json::Value;

use crate::support::*;

const RULE: &str = "SecRule ARGS:q \"@streq evil\" \"id:1,phase:2,deny\"\n";
const WIDER: &str = "SecRule ARGS:q \"@streq blue\" \"id:2,phase:2,deny\"\n";

/// A policy file in a folder of its own, with these rules.
fn policy(folder: &Path, name: &str, app: &App, rules: &str) -> String {
    let folder = folder.join(name);
    std::fs::create_dir_all(folder.join("rules")).unwrap();
    std::fs::write(folder.join("rules/own.conf"), rules).unwrap();
    let text = format!(
        "[[apps]]\nname = \"shop\"\nupstream = \"{}\"\nrules = [\"rules\"]\ntrust_forwarded = [\"127.0.0.1\"]\n",
        app.url
    );
    let file = folder.join("policy.toml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

fn run(folder: &Path, more: &str) -> Node {
    let settings = format!(
        "policy = \"now/policy.toml\"\n[listen]\naddress = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n\
         [node]\nstate = \"state\"\n{more}"
    );
    std::fs::write(folder.join("phalanx.toml"), settings).unwrap();
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(folder.join("phalanx.toml"));
    Node::start(command)
}

/// A replay of all that was sent, and its exit code.
fn replay(node: &Node, policy: &str, sent: u64) -> (Value, i32) {
    let mut answer = (Value::Null, 0);
    until("all requests are recorded", || {
        let output = node.cli(&["policy", "replay", "--policy", policy, "--json"]);
        let replayed: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let all = replayed["requests"] == sent;
        answer = (replayed, output.status.code().unwrap());
        all
    });
    answer
}

fn ids(group: &Value) -> Vec<String> {
    let examples = group["examples"].as_array().unwrap();
    examples.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_replay_lists_exactly_what_another_policy_would_change() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    policy(folder.path(), "now", &app, RULE);
    let wider = policy(folder.path(), "wider", &app, &format!("{RULE}{WIDER}"));
    let open = policy(folder.path(), "open", &app, "SecRule ARGS:q \"@streq none\" \"id:1,phase:2,deny\"\n");
    let node = run(folder.path(), "");
    let ask = |client: &str, path: &str, status| {
        let reply = node.get_from(client, path);
        assert_eq!(reply.status, status, "{path}");
        reply.id().to_owned()
    };
    let mut blue: Vec<String> =
        (1..=4).map(|n| ask(&format!("192.0.2.{n}"), "/search?q=blue", 200)).collect();
    (1..=3).for_each(|n| _ = ask(&format!("192.0.2.{n}"), "/about?page=2", 200));
    let mut evil: Vec<String> =
        (7..=8).map(|n| ask(&format!("192.0.2.{n}"), "/search?q=evil", 403)).collect();
    blue.sort();
    evil.sort();

    let (replayed, code) = replay(&node, &wider, 9);
    assert_eq!((&replayed["newly_refused"], &replayed["newly_passed"], code), (&4.into(), &0.into(), 1));
    let groups = replayed["groups"].as_array().unwrap();
    assert_eq!((groups.len(), &groups[0]["why"], &groups[0]["app"]), (1, &"rule 2".into(), &"shop".into()));
    assert_eq!((&groups[0]["clients"], ids(&groups[0])), (&4.into(), blue));
    assert_eq!(groups[0]["examples"][0]["request"], "GET /search?q=blue");

    let (replayed, code) = replay(&node, &open, 9);
    assert_eq!((&replayed["newly_refused"], &replayed["newly_passed"], code), (&0.into(), &2.into(), 0));
    assert_eq!((&replayed["groups"][0]["change"], ids(&replayed["groups"][0])), (&"passed".into(), evil));

    // What is in force changes nothing, and a restart keeps what was recorded.
    node.stop();
    let node = run(folder.path(), "");
    let settings = folder.path().join("phalanx.toml");
    let output = node.cli(&["policy", "replay", "-c", settings.to_str().unwrap()]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && told.contains("replayed   9 of 9 requests"), "{told}");
    assert!(told.contains("0 that pass now would newly be refused"), "{told}");
}

#[test]
fn limits_that_count_by_a_secret_are_replayed_as_they_would_have_counted() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    policy(folder.path(), "now", &app, RULE);
    let node = run(folder.path(), "");
    for key in ["key-of-alice", "key-of-bobby"] {
        for _ in 0..3 {
            assert_eq!(node.get_as("/orders", &[("X-Api-Key", key)]).status, 200);
        }
    }
    for (burst, refused) in [(3, 0), (2, 2)] {
        let limited = policy(folder.path(), "limited", &app, RULE);
        let limit = format!(
            "[[apps.rate_limits]]\nname = \"keys\"\nkey = \"header:X-Api-Key\"\nrate = \"{burst}/d\"\nburst = {burst}\n"
        );
        let text = std::fs::read_to_string(&limited).unwrap() + &limit;
        std::fs::write(&limited, text).unwrap();
        let (replayed, _) = replay(&node, &limited, 6);
        assert_eq!(replayed["newly_refused"], refused, "{burst} at once: {replayed}");
    }
}

#[test]
fn secrets_are_on_no_disk_also_when_what_is_sealed_is_opened() {
    const MARKER: &str = "Hunter2Marker";
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("now")).unwrap();
    let text = format!("[[apps]]\nname = \"shop\"\nupstream = \"{}\"\n", app.url);
    std::fs::write(folder.path().join("now/policy.toml"), &text).unwrap();
    let node = run(folder.path(), "");
    let bearer = format!("Bearer {MARKER}");
    let cookie = format!("theme=dark; sid={MARKER}");
    let referer = format!("http://shop.test/reset?token={MARKER}");
    let fields = [("Authorization", &*bearer), ("Cookie", &*cookie), ("Referer", &*referer)];
    assert_eq!(node.get_as(&format!("/a?page=1&access_token={MARKER}"), &fields).status, 200);
    for target in [
        "/a?next=%2Freset%3Ftoken%3D",
        "/a?x=1&next=%252Freset%253Ftoken%253D",
        "/reset%3Ftoken%3D",
        "/a?contrase%C3%B1a=",
        "/account/reset/5f0c1a",
    ] {
        assert_eq!(node.get(&format!("{target}{MARKER}&page=1")).status, 200, "{target}");
    }
    let json = format!(
        "{{\"user\":\"ann\",\"login\":{{\"p\\u0061ssword\":\"{MARKER}\",\"tokens\":[\"{MARKER}\"]}},\"page\":2}}"
    );
    let parts = format!(
        "--b\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\nann\r\n--b\r\nContent-Disposition: form-data; \
         name=\"password\"\r\n\r\n{MARKER}\r\n--b--\r\n"
    );
    for (kind, body) in [
        ("application/x-www-form-urlencoded", format!("user=ann&password={MARKER}%21&page=2")),
        ("application/json", json),
        ("multipart/form-data; boundary=b", parts),
        ("application/xml", format!("<l><user>ann</user><password>{MARKER}</password></l>")),
        ("application/x-own", format!("user ann {MARKER}")),
    ] {
        let reply = request(node.listen, "POST", "/login", &[("Content-Type", kind)], body.as_bytes());
        assert_eq!(reply.status, 200, "{kind}");
    }
    let same = folder.path().join("now/policy.toml");
    let (replayed, _) = replay(&node, same.to_str().unwrap(), 11);
    assert_eq!(replayed["lacks_body"], 1, "{replayed}");
    let state = node.state.clone();
    node.stop();

    let holds = |bytes: &[u8]| bytes.windows(MARKER.len()).any(|window| window == MARKER.as_bytes());
    let mut files = 0;
    let mut folders = vec![state.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() => {
                    files += 1;
                    assert!(!holds(&std::fs::read(entry.path()).unwrap()), "{}", entry.path().display());
                }
                _ => {}
            }
        }
    }
    assert!(files > 3);
    let sealer = Sealer::load_or_create(&state.join("sealing.key")).unwrap();
    let (mut requests, mut with_user) = (0, 0);
    let damaged =
        phalanx_record::recording::read_folder(&state.join("record/requests"), &sealer, 0, |batch| {
            for request in &batch.requests {
                assert!(!holds(&request.head) && !holds(&request.body), "{request:?}");
                assert!(!holds(&serde_json::to_vec(&request.facts).unwrap()));
                requests += 1;
                with_user += usize::from(request.body.windows(3).any(|window| window == b"ann"));
            }
            true
        });
    assert_eq!((damaged.unwrap(), requests, with_user), (0, 11, 4));
}

#[test]
fn a_node_that_records_nothing_says_so() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    let file = policy(folder.path(), "now", &app, RULE);
    let node = run(folder.path(), "[recording]\nenabled = false\n");
    assert_eq!(node.get("/").status, 200);
    let output = node.cli(&["policy", "replay", "--policy", &file]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && told.contains("this node records no requests"), "{told}");
    let wider = policy(folder.path(), "wider", &app, WIDER);
    let plan = String::from_utf8(node.cli(&["policy", "plan", &wider]).stdout).unwrap();
    assert!(plan.contains("no request is replayed: ") && plan.contains("file rules/own.conf"), "{plan}");
    assert!(!node.state.join("record/requests").exists());
}
