//! A site that is cut off from the authority goes on joining nodes at its delegate, and all is there once the link is back.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::relay::Relay;
use crate::serve::{Serve, free, has_nats, init};
use crate::support::*;

const FORWARD: [&str; 2] = ["--trust-forwarded", "127.0.0.1/32"];

fn invited(at: &Node, words: &[&str]) -> String {
    at.cli_json(&[&["fleet", "invite"], words].concat())["token"].as_str().unwrap().to_owned()
}

fn told(node: &Node, words: &[&str]) -> String {
    let output = node.cli(words);
    assert!(!output.status.success(), "{words:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn done(node: &Node, words: &[&str]) -> String {
    let output = node.cli(words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn ban(node: &Node, client: &str) {
    for n in 0..3 {
        assert_eq!(node.get_from(client, &attack(n)).status, 403);
    }
    until("the node itself bans", || node.get_from(client, "/").status == 403);
}

fn banned(node: &Node, client: &str) {
    until(&format!("{client} is refused"), || node.get_from(client, "/").status == 403);
}

fn delegation(status: &Value) -> bool {
    status["delegate"]["expires_at_ms"].is_u64()
}

#[test]
fn a_site_that_is_cut_off_joins_nodes_at_its_delegate_and_they_count_everywhere_afterwards() {
    if !has_nats() {
        return;
    }
    let [home, far, state_b, state_c, state_d, state_e] = [(); 6].map(|()| tempfile::tempdir().unwrap());
    init(home.path());
    let (listen, leaf, far_listen, enroll) = (free(), free(), free(), free());
    let fra = Serve::start(home.path(), &["--site", "fra", "--listen", &listen, "--leaf-listen", &leaf]);
    fra.says("serving", "no other site");
    let app = App::start();
    let url = format!("tls://{listen}");
    let authority = || {
        let words = ["--site", "fra", "--node", "a", "--fleet", &url, "--enroll", &enroll];
        Node::up_in(home.path(), &app.url, &[&words[..], &FORWARD].concat())
    };
    let a = authority();
    until("the authority's node is linked", || a.cli_json(&["status"])["fleet"]["connected"] == true);
    let between = Relay::start(&leaf, Duration::ZERO);
    let hub = between.url().replace("nats://", "tls://");
    let serve_far = |token: Option<&str>| {
        let mut words = vec!["--site", "syd", "--listen", &far_listen, "--hub", &hub];
        words.extend(token.iter().flat_map(|token| ["--join", token]));
        Serve::start(far.path(), &words)
    };
    let syd = serve_far(Some(&invited(&a, &["--server", "--site", "syd"])));
    syd.says("serving", "hears fra");

    let up = |state: &std::path::Path, site: &str, node: &str, token: &str, more: &[&str]| {
        let words = ["--site", site, "--node", node, "--join", token];
        Node::up_in(state, &app.url, &[&words[..], &FORWARD, more].concat())
    };
    let control = invited(&a, &["--site", "syd", "--control"]);
    let b = up(state_b.path(), "syd", "b", &control, &["--enroll", "127.0.0.1:0"]);
    let c = up(state_c.path(), "syd", "c", &invited(&a, &["--site", "syd"]), &[]);
    let e = up(state_e.path(), "fra", "e", &invited(&a, &["--site", "fra"]), &[]);

    // Nobody is a delegate by itself, and an edge node is none at all.
    assert!(
        told(&b, &["fleet", "invite", "--site", "syd"]).contains("delegation has ended, or has not begun")
    );
    assert!(told(&a, &["fleet", "delegate", "syd/c"]).contains("control role"));
    assert!(told(&c, &["fleet", "delegate", "syd/b"]).contains("does not hold the fleet's authority"));
    assert!(done(&a, &["fleet", "delegate", "syd/b"]).contains("syd/b"));
    until("the delegate has what it asked for", || delegation(&b.cli_json(&["fleet", "status"])));
    assert!(done(&b, &["fleet", "status"]).contains("delegation of site syd: ends in 6 d 23 h"));
    until("and the authority shows it", || {
        a.cli_json(&["fleet", "status"])["delegations"][0]["expires_at_ms"].is_u64()
    });
    // At its start the site's server asks at once; otherwise it does within a minute.
    drop(syd);
    let syd = serve_far(None);
    syd.says("serving", "hears fra");
    let members = |node: &Node| node.cli_json(&["fleet", "status"])["members"].as_array().map(Vec::len);
    until("all know each other", || [&a, &b, &c, &e].iter().all(|node| members(node) == Some(4)));

    // The cut, and the authority with it.
    a.kill();
    between.cut();
    for (words, why) in
        [(["--site", "fra"].as_slice(), "its own site"), (&["--site", "syd", "--control"], "edge nodes")]
    {
        let error = told(&b, &[&["fleet", "invite"], words].concat());
        assert!(error.contains(why), "{error}");
    }
    let d = up(state_d.path(), "syd", "d", &invited(&b, &["--site", "syd"]), &[]);
    ban(&c, "192.0.2.7");
    banned(&d, "192.0.2.7");
    ban(&d, "192.0.2.8");
    banned(&c, "192.0.2.8");
    banned(&b, "192.0.2.8");
    assert_eq!(e.get_from("192.0.2.8", "/").status, 200, "the other side does not know yet");
    let allow = ["decision", "add", "--ip", "192.0.2.9", "--for", "1h", "--reason", "test"];
    assert!(told(&d, &allow).contains("control role"), "it is an edge node");
    let status = b.cli_json(&["fleet", "status"]);
    assert_eq!(status["delegate"]["untold"], 1, "{status}");
    // It comes back without a token, and without the authority.
    d.stop();
    let words = ["--site", "syd", "--node", "d"];
    let d = Node::up_in(state_d.path(), &app.url, &[&words[..], &FORWARD].concat());
    banned(&d, "192.0.2.7");

    between.heal();
    let healed = Instant::now();
    for client in ["192.0.2.7", "192.0.2.8"] {
        banned(&e, client);
    }
    let took = healed.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    eprintln!("what the newcomer decided is in force in the other site {took:?} after the cut");
    ban(&d, "192.0.2.10");
    banned(&e, "192.0.2.10");

    // The authority comes back, learns whom its delegate admitted, and ends the delegation.
    let a = authority();
    let enrolled = |node: &str| {
        let status = a.cli_json(&["fleet", "status"]);
        status["nodes"].as_array().is_some_and(|all| all.iter().any(|one| one["node"] == node))
    };
    until("the authority knows the newcomer", || enrolled("d"));
    until("nothing is left to tell", || b.cli_json(&["fleet", "status"])["delegate"]["untold"] == 0);
    let ends = |node: &Node| node.cli_json(&["status"])["fleet"]["certificate_expires_at_ms"].as_u64();
    let before = ends(&d);
    assert!(done(&a, &["fleet", "delegate", "syd/b", "--end"]).contains("no delegate"));
    until("the newcomer renews at the authority at once", || ends(&d) > before);
    ban(&d, "192.0.2.11");
    banned(&e, "192.0.2.11");
}
