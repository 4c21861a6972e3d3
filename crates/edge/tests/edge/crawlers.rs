//! Clients that say that they are crawlers, and what a name server says of them.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use phalanx_decide::{Crawler, DecidePlan, StrikeRules};
use phalanx_model::{Actor, ChallengeStep, Confidence, DecisionKind, RuleClass, SecurityEvent, Signal};
use tokio::net::UdpSocket;

use crate::support::{Node, PATIENCE, Upstream};

/// What a small name server says: names of addresses, and addresses of names. Of a name that is in neither it says that there is none, and
/// where it fails, nothing of use.
#[derive(Clone, Default)]
struct Zone(Arc<ZoneState>);

#[derive(Default)]
struct ZoneState {
    names: Mutex<HashMap<String, String>>,
    addresses: Mutex<HashMap<String, Ipv4Addr>>,
    fails: Mutex<bool>,
    asked: AtomicUsize,
}

impl Zone {
    async fn serve(&self) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = self.clone();
        tokio::spawn(async move {
            let mut query = [0; 1_024];
            while let Ok((bytes, asker)) = socket.recv_from(&mut query).await {
                let _ = socket.send_to(&zone.answer(&query[..bytes]), asker).await;
            }
        });
        address
    }

    fn says(&self, ip: &str, name: &str, back: Option<&str>) {
        let reversed: Vec<&str> = ip.rsplit('.').collect();
        let arpa = format!("{}.in-addr.arpa", reversed.join("."));
        self.0.names.lock().unwrap().insert(arpa, name.to_owned());
        if let Some(back) = back {
            self.0.addresses.lock().unwrap().insert(name.to_owned(), back.parse().unwrap());
        }
    }

    /// RFC 1035 section 4.1.
    fn answer(&self, query: &[u8]) -> Vec<u8> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        let (mut at, mut labels) = (12, Vec::new());
        while query[at] != 0 {
            let length = usize::from(query[at]);
            labels.push(String::from_utf8_lossy(&query[at + 1..=at + length]).to_lowercase());
            at += length + 1;
        }
        let (name, end) = (labels.join("."), at + 5);
        let data = match query[end - 3] {
            12 => self.0.names.lock().unwrap().get(&name).map(|name| encoded(name)),
            1 => self.0.addresses.lock().unwrap().get(&name).map(|ip| ip.octets().to_vec()),
            _ => None,
        };
        let rcode = match (*self.0.fails.lock().unwrap(), &data) {
            (true, _) => 2,
            (false, None) => 3,
            (false, Some(_)) => 0,
        };
        let data = data.filter(|_| rcode == 0);
        let mut answer = query[..2].to_vec();
        answer.extend([0x81, 0x80 | rcode, 0, 1, 0, u8::from(data.is_some()), 0, 0, 0, 0]);
        answer.extend(&query[12..end]);
        if let Some(data) = data {
            answer.extend([
                0xc0,
                12,
                0,
                query[end - 3],
                0,
                1,
                0,
                0,
                0,
                60,
                0,
                u8::try_from(data.len()).unwrap(),
            ]);
            answer.extend(data);
        }
        answer
    }
}

fn encoded(name: &str) -> Vec<u8> {
    let labels =
        name.split('.').flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat());
    labels.chain([0]).collect()
}

/// A node that knows one crawler, before clients behind a trusted forwarder, all of whom it may challenge.
async fn node(zone: &Zone, challenges: bool) -> Node {
    let nameserver = zone.serve().await;
    let crawler = Crawler {
        agents: vec!["Googlebot".into()],
        domains: vec!["googlebot.test".into()],
        networks: ["198.51.100.0/24".parse().unwrap()].into_iter().collect(),
        ..Crawler::new("googlebot")
    };
    let decide = DecidePlan {
        crawlers: [crawler].into_iter().collect(),
        strikes: StrikeRules { count: 1, ..StrikeRules::default() },
        ..DecidePlan::default()
    };
    let change = |settings: &mut phalanx_edge::EdgeSettings, app: &mut phalanx_edge::AppPlan| {
        settings.nameservers = vec![nameserver];
        app.trust_forwarded = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
        app.challenges = challenges;
    };
    Node::before(Upstream::start().await, change, decide)
}

const GOOGLEBOT: &str = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";

async fn status(node: &Node, ip: &str, agent: &str) -> u16 {
    let mut client = node.connect().await;
    client
        .send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {ip}\r\nUser-Agent: {agent}\r\n\r\n"))
        .await;
    client.answer().await.head.status
}

/// Asks until the status comes.
async fn becomes(node: &Node, ip: &str, expected: u16) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while status(node, ip, GOOGLEBOT).await != expected {
        assert!(tokio::time::Instant::now() < until, "{ip} never gets {expected}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crawler_whose_name_leads_back_is_not_challenged_and_no_node_bans_it() {
    let zone = Zone::default();
    zone.says("192.0.2.1", "crawl-1.googlebot.test", Some("192.0.2.1"));
    let mut node = node(&zone, true).await;
    assert_eq!(status(&node, "192.0.2.1", GOOGLEBOT).await, 403, "nothing is known yet");
    becomes(&node, "192.0.2.1", 200).await;
    let access = node.access().await;
    assert!(access.crawler && access.challenge == Some(ChallengeStep::Spared));
    let asked = zone.0.asked.load(Ordering::SeqCst);
    for _ in 0..20 {
        assert_eq!(status(&node, "192.0.2.1", GOOGLEBOT).await, 200);
    }
    assert_eq!(zone.0.asked.load(Ordering::SeqCst), asked, "and nobody is asked again");
    assert_eq!(status(&node, "192.0.2.1", "curl/8").await, 403, "another program at its address");
    node.order(DecisionKind::Ban, Actor::ip("192.0.2.1".parse().unwrap()));
    // A connection that a ban meets before anything was said on it is cut, as anybody's.
    becomes(&node, "192.0.2.1", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn published_networks_need_no_name_server() {
    let zone = Zone::default();
    *zone.0.fails.lock().unwrap() = true;
    let node = node(&zone, true).await;
    assert_eq!(status(&node, "198.51.100.7", GOOGLEBOT).await, 200);
    assert_eq!(zone.0.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn false_claims_are_signals_and_silence_is_none() {
    let zone = Zone::default();
    zone.says("192.0.2.2", "crawl-2.googlebot.test", Some("192.0.2.99"));
    zone.says("192.0.2.3", "host.evil.test", Some("192.0.2.3"));
    let mut node = node(&zone, false).await;
    for ip in ["192.0.2.2", "192.0.2.3", "192.0.2.4"] {
        let until = tokio::time::Instant::now() + PATIENCE;
        let found = loop {
            assert_eq!(status(&node, ip, GOOGLEBOT).await, 200, "it refuses nothing");
            // Events of others may still be on their way.
            if let Some(signals) = told(&mut node, ip) {
                break signals;
            }
            assert!(tokio::time::Instant::now() < until, "{ip} is never told");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        };
        assert!(found[0].message.contains("says that it is googlebot"), "{}", found[0].message);
        assert_eq!(found[0].rule.class, RuleClass::Detection(Confidence::Medium));
    }
    *zone.0.fails.lock().unwrap() = true;
    let before = zone.0.asked.load(Ordering::SeqCst);
    while zone.0.asked.load(Ordering::SeqCst) == before {
        assert_eq!(status(&node, "192.0.2.5", GOOGLEBOT).await, 200);
    }
    assert_eq!(status(&node, "192.0.2.5", GOOGLEBOT).await, 200);
    assert!(told(&mut node, "192.0.2.5").is_none(), "no answer says nothing against it");
}

/// The signals of the next event about a client, of those that there are.
fn told(node: &mut Node, ip: &str) -> Option<Vec<Signal>> {
    while let Ok(event) = node.readers.security.try_recv() {
        match event {
            SecurityEvent::Request { access, signals, .. } if access.client.to_string() == ip => {
                return Some(signals);
            }
            _ => {}
        }
    }
    None
}
