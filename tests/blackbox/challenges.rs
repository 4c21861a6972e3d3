//! Orders milder than a ban, over real nodes: a challenge answered at one node counts at the others, and after a restart.

use std::path::Path;

use tokio_rustls::rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;

use crate::enrol::Fleet;
use crate::support::*;

const CLIENT: &str = "192.0.2.7";

/// Orders something about the client, and waits until each of the nodes does it.
fn order(nodes: &[&Node], kind: &str) {
    let said = ["decision", "add", "--ip", CLIENT, "--kind", kind, "--for", "1h", "--reason", "a test"];
    let ordered = nodes[0].cli(&said);
    assert!(ordered.status.success(), "{}", String::from_utf8_lossy(&ordered.stderr));
    for node in nodes {
        until("the order is in force", || node.get_from(CLIENT, "/").status != 200);
    }
}

/// Answers a challenge of one node at another, as its page would; the cookie that comes back, if one does.
fn answer(given_by: &Node, answered_at: &Node) -> Option<String> {
    let page = given_by.get_from(CLIENT, "/wanted").text();
    let said = |name: &str| {
        let (_, rest) = page.split_once(&format!("data-{name}=\"")).unwrap_or_else(|| panic!("{page}"));
        rest.split_once('"').unwrap().0.to_owned()
    };
    let (task, bits) = (said("task"), said("bits").parse::<u32>().unwrap());
    let sha256 = TLS13_AES_128_GCM_SHA256.tls13().unwrap().common.hash_provider;
    let solves = |number: &u64| {
        let hash = sha256.hash(format!("{task}:{number}").as_bytes());
        let first = hash.as_ref()[..4].iter().fold(0u32, |sum, byte| (sum << 8) | u32::from(*byte));
        first.leading_zeros() >= bits
    };
    let number = (0u64..).find(solves).unwrap();
    let path = format!("/.phalanx/challenge?task={task}&answer={number}&to={}", said("to"));
    let back = answered_at.get_from(CLIENT, &path);
    assert_eq!((back.status, back.fields["location"].as_str()), (303, "/wanted"));
    Some(back.fields.get("set-cookie")?.split(';').next().unwrap().to_owned())
}

fn status(node: &Node, cookie: &str) -> u16 {
    node.get_as("/wanted", &[("X-Forwarded-For", CLIENT), ("Cookie", cookie)]).status
}

#[test]
fn a_challenge_is_answered_explained_and_counted_and_a_ban_wins() {
    let app = App::start();
    let state = tempfile::tempdir().unwrap();
    let words = ["--trust-forwarded", "127.0.0.1/32"];
    let node = Node::up_in(state.path(), &app.url, &words);
    order(&[&node], "challenge");
    let given = node.get_from(CLIENT, "/wanted");
    assert_eq!((given.status, app.count()), (403, 0), "nothing reaches the app");
    let explained = || String::from_utf8_lossy(&node.cli(&["explain", given.id()]).stdout).into_owned();
    until("it is explained", || explained().contains("was challenged"));
    assert!(explained().contains("standing challenge"), "{}", explained());
    let cookie = answer(&node, &node).unwrap();
    assert_eq!(status(&node, &cookie), 200);
    let metrics = || node.admin_get("/metrics").text();
    until("it is counted", || metrics().contains("challenges_total{app=\"app\",step=\"passed\"} 1"));
    assert!(metrics().contains("challenges_total{app=\"app\",step=\"solved\"} 1"), "{}", metrics());

    node.stop();
    let node = Node::up_in(state.path(), &app.url, &words);
    assert_eq!((status(&node, "a=b"), status(&node, &cookie)), (403, 200), "also after a restart");
    let said = ["decision", "add", "--ip", CLIENT, "--for", "1h", "--reason", "a test"];
    assert!(node.cli(&said).status.success());
    until("a ban wins", || status(&node, &cookie) == 403);
}

#[test]
fn a_throttle_slows_its_actor_as_policy_says() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    let throttle = "[throttle]\nrate = \"3/h\"\nburst = 3\n";
    std::fs::write(folder.path().join("policy.toml"), format!("{throttle}{}", policy(&app))).unwrap();
    let node = started(folder.path(), SETTINGS);
    let said = ["decision", "add", "--ip", CLIENT, "--kind", "throttle", "--for", "1h", "--reason", "a test"];
    assert!(node.cli(&said).status.success());
    until("it is slowed", || node.get_from(CLIENT, "/").status == 429);
    let slowed = node.get_from(CLIENT, "/");
    assert_eq!((slowed.status, slowed.fields["retry-after"].parse::<u32>().unwrap() > 1_000), (429, true));
    assert_eq!(node.get_from("192.0.2.8", "/").status, 200);
}

fn policy(app: &App) -> String {
    format!("[[apps]]\nname = \"a\"\nupstream = \"{}\"\ntrust_forwarded = [\"127.0.0.1/32\"]\n", app.url)
}

/// Ends in the table `node`.
const SETTINGS: &str = "policy = \"policy.toml\"\n[listen]\naddress = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n[node]\nstate = \"state\"\n";

fn started(folder: &Path, settings: &str) -> Node {
    let file = folder.join("phalanx.toml");
    std::fs::write(&file, settings).unwrap();
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(file).current_dir(folder);
    Node::start(command)
}

#[test]
fn nodes_with_the_fleets_secret_take_what_another_gave_in_every_site() {
    let Some(nats) = Nats::start() else { return };
    let (app, folder) = (App::start(), tempfile::tempdir().unwrap());
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "a secret of the fleet, of some length").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let node = |site: &str| {
        let own = folder.path().join(site);
        std::fs::create_dir(&own).unwrap();
        std::fs::write(own.join("policy.toml"), policy(&app)).unwrap();
        let fleet = format!(
            "{}site = \"{site}\"\n[fleet]\nurl = \"{}\"\nsecret_file = \"../secret\"\n",
            SETTINGS,
            nats.url()
        );
        started(&own, &fleet)
    };
    let nodes = [node("fra"), node("syd")];
    order(&[&nodes[0], &nodes[1]], "challenge");
    let cookie = answer(&nodes[0], &nodes[1]).unwrap();
    assert_eq!((status(&nodes[0], &cookie), status(&nodes[1], &cookie)), (200, 200));
}

#[test]
fn enrolled_nodes_take_what_another_gave_in_every_site() {
    let Some(fleet) = Fleet::start_with(&[]) else { return };
    let state = tempfile::tempdir().unwrap();
    let edge = fleet.joins(state.path(), "syd", "e", &[]);
    order(&[&fleet.a, &edge], "challenge");
    let cookie = answer(&fleet.a, &edge).unwrap();
    assert_eq!((status(&fleet.a, &cookie), status(&edge, &cookie)), (200, 200));
}
