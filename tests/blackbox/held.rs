//! What would refuse too many clients served well waits for an operator: two real nodes, a real nats-server.

use std::io::Write as _;

use crate::support::*;

fn client(n: u32) -> String {
    format!("203.0.113.{n}")
}

/// A node, and one that has served twelve clients well.
fn pair(nats: &str, app: &str) -> [Node; 2] {
    let member = |site| ["--trust-forwarded", "127.0.0.1/32", "--fleet", nats, "--site", site, "--node", "a"];
    let nodes = ["syd", "fra"].map(|site| Node::up(app, &member(site)));
    for node in &nodes {
        until("all members are seen", || {
            node.cli_json(&["status"])["fleet"]["members"].as_array().is_some_and(|m| m.len() == 2)
        });
    }
    for n in 0..12 {
        assert_eq!(nodes[1].get_from(&client(n), "/").status, 200);
    }
    until("they are measured by", || nodes[1].cli_json(&["decision", "list", "--held"])["measured_by"] == 12);
    nodes
}

fn held(node: &Node) -> Vec<serde_json::Value> {
    node.cli_json(&["decision", "list", "--held"])["held"].as_array().unwrap().clone()
}

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[test]
fn bans_of_many_good_clients_are_held_elsewhere_until_an_operator_says_what_is_to_be() {
    let Some(nats) = Nats::start() else { return };
    let app = App::start();
    let [syd, fra] = pair(&nats.url(), &app.url);
    for n in 0..12 {
        for payload in 0..3 {
            assert_eq!(syd.get_from(&client(n), &attack(payload)).status, 403);
        }
    }
    until("three are held", || held(&fra).len() == 3);
    assert_eq!((syd.banned().len(), fra.banned().len(), held(&syd).len()), (12, 9, 0));
    let listed = said(&fra.cli(&["decision", "list"]));
    assert!(
        listed.contains("held: would refuse ")
            && listed.contains(" of 12 clients served well in the last ten minutes"),
        "{listed}"
    );
    let status = said(&fra.cli(&["status"]));
    assert!(
        status.contains("3 HELD for an operator") && status.contains("held: 3 decisions of syd/a"),
        "{status}"
    );
    let ids: Vec<(String, String)> = held(&fra)
        .iter()
        .map(|one| (one["id"].as_str().unwrap().into(), one["actor"]["value"].as_str().unwrap().into()))
        .collect();
    assert_eq!(fra.get_from(&ids[0].1, "/").status, 200);

    let approved = fra.cli(&["decision", "approve", &ids[0].0]);
    assert!(
        approved.status.success() && said(&approved).contains("is in force on all nodes"),
        "{}",
        said(&approved)
    );
    assert_eq!(fra.get_from(&ids[0].1, "/").status, 403);

    // Rejected on a node that enforces it.
    let rejected = syd.cli(&["decision", "reject", &ids[1].0, "--reason", "our partner"]);
    assert!(rejected.status.success(), "{}", said(&rejected));
    until("it is gone everywhere", || held(&fra).len() == 1 && syd.get_from(&ids[1].1, "/").status == 200);
    assert!(!fra.cli(&["decision", "reject", &ids[1].0]).status.success());
}

#[test]
fn a_list_of_good_clients_is_held_and_an_order_about_them_is_asked_for_twice() {
    let Some(nats) = Nats::start() else { return };
    let app = App::start();
    let [_syd, fra] = pair(&nats.url(), &app.url);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "203.0.113.0/24\n198.51.100.7").unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let imported = fra.cli(&["blocklist", "import", "scanners", &path]);
    let told = said(&imported);
    assert!(
        imported.status.success()
            && told.contains("HELD on this node: it would refuse 12 of 12 clients served well"),
        "{told}"
    );
    assert_eq!((fra.get_from(&client(1), "/").status, fra.get_from("198.51.100.7", "/").status), (200, 200));
    let id = held(&fra)[0]["id"].as_str().unwrap().to_owned();
    let rejected = fra.cli(&["decision", "reject", &id]);
    assert!(rejected.status.success(), "{}", said(&rejected));
    assert_eq!((held(&fra).len(), fra.cli_json(&["blocklist", "list"]).as_array().unwrap().len()), (0, 0));

    let order = ["decision", "add", "--prefix", "203.0.113.0/24", "--for", "1h", "--reason", "flood"];
    let refused = fra.cli(&order);
    assert_eq!((refused.status.code(), refused.stdout.is_empty()), (Some(1), true));
    assert!(said(&refused).contains("would refuse 12 of 12 clients served well in the last ten minutes here; if that is meant, order it with --force"), "{}", said(&refused));
    assert_eq!(fra.get_from(&client(1), "/").status, 200);
    let forced = fra.cli(&[order.as_slice(), &["--force"]].concat());
    assert!(
        forced.status.success() && said(&forced).contains("note: it refuses 12 of 12 clients"),
        "{}",
        said(&forced)
    );
    assert_eq!(fra.get_from(&client(1), "/").status, 403);
}
