//! What it costs a request to be remembered as served well, and what it costs to walk all who were. `cargo bench -p phalanx-decide`.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use phalanx_decide::GoodTraffic;
use phalanx_model::limits::GOOD_ACTORS_MAX;

fn main() {
    let good = GoodTraffic::default();
    let clients: Vec<IpAddr> =
        (0..1_000_000u32).map(|n| Ipv4Addr::from_bits(n.wrapping_mul(2_654_435_761)).into()).collect();
    let notes = |name: &str, clients: &[IpAddr], now_ms: u64| {
        let started = Instant::now();
        for ip in clients {
            good.note(black_box(*ip), 7, now_ms);
        }
        println!("{name}: {} ns", started.elapsed().as_nanos() / clients.len() as u128);
    };
    let known: Vec<IpAddr> = clients.iter().take(1_000).cycle().take(1_000_000).copied().collect();
    notes("a client that is known, of a thousand", &known, 1_000);
    let full: Vec<IpAddr> = clients.iter().take(GOOD_ACTORS_MAX).copied().collect();
    notes("a new client, the table empty", &full, 1_001);
    notes("a client that is known, of 65,536", &full, 1_002);
    notes("a new client that takes another's place", &clients, 1_003);
    let started = Instant::now();
    let all = good.clients(1_004);
    println!("walk and sort {} clients: {} us", all.len(), started.elapsed().as_micros());
}
