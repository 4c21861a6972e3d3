//! How long a fleet takes to learn: from the moment the third attack is sent to one node until the other nodes refuse
//! its client. The whole path: strike, decision, share, enforce. `cargo bench -p phalanx --bench spread [-- ACTORS]`;
//! with `PHALANX_BIN` another binary than the one just built is measured.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    reason = "a measurement ends at its first surprise"
)]

#[path = "../blackbox/support.rs"]
#[expect(dead_code, reason = "shared with the black-box suite")]
mod support;

use std::time::{Duration, Instant};

use support::{App, Nats, Node, attack, until};

fn main() {
    let actors = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(200usize);
    let Some(nats) = Nats::start() else { return };
    let app = App::start();
    let url = nats.url();
    let nodes: Vec<Node> = ["syd", "fra", "iad"].iter().map(|site| up(&app, &url, site)).collect();
    for node in &nodes {
        until("all members are seen", || {
            node.cli_json(&["status"])["fleet"]["members"].as_array().is_some_and(|m| m.len() == 3)
        });
    }
    let mut times: [Vec<Duration>; 3] = Default::default();
    for n in 0..actors {
        let client = format!("198.18.{}.{}", n / 200, n % 200 + 1);
        for payload in 0..2 {
            assert_eq!(nodes[0].get_from(&client, &attack(payload)).status, 403);
        }
        assert_eq!(nodes[1].get_from(&client, "/").status, 200);
        let start = Instant::now();
        std::thread::scope(|scope| {
            let watch = |node: usize| {
                let (node, client) = (&nodes[node], &client);
                scope.spawn(move || {
                    while node.get_from(client, "/").status != 403 {
                        assert!(start.elapsed() < Duration::from_secs(10), "{client} was never refused");
                    }
                    start.elapsed()
                })
            };
            let others = [watch(1), watch(2)];
            assert_eq!(nodes[0].get_from(&client, &attack(2)).status, 403);
            let own = watch(0).join().unwrap();
            let [fra, iad] = others.map(|watcher| watcher.join().unwrap());
            for (times, time) in times.iter_mut().zip([own, fra, iad]) {
                times.push(time);
            }
        });
    }
    println!("third attack on syd until refused, {actors} actors, in milliseconds");
    println!("{:<6}{:>8}{:>8}{:>8}", "node", "p50", "p99", "max");
    for (name, times) in ["syd", "fra", "iad"].iter().zip(&mut times) {
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        println!("{name:<6}{:>8.2}{:>8.2}{:>8.2}", at(0.5), at(0.99), at(1.0));
    }
}

fn up(app: &App, nats: &str, site: &str) -> Node {
    Node::up(&app.url, &["--trust-forwarded", "127.0.0.1/32", "--fleet", nats, "--site", site, "--node", "a"])
}
