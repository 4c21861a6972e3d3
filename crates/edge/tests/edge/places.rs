//! Databases of addresses, and what they are for: orders about systems and countries.

use std::net::IpAddr;
use std::sync::Arc;

use phalanx_edge::places::{Known, Place, Places, PlacesError};
use phalanx_model::{Actor, Prefix};

use crate::support::{Client, Node};

/// A database of IPv4 networks in an IPv6 tree, as most are, written by the format's specification.
fn database(networks: &[(&str, Vec<(&str, Value<'_>)>)]) -> Vec<u8> {
    let mut nodes: Vec<[Option<usize>; 2]> = vec![[None; 2]];
    let (mut data, mut leaves) = (Vec::new(), Vec::new());
    for (network, record) in networks {
        let network: Prefix = network.parse().unwrap();
        let IpAddr::V4(address) = network.addr() else { panic!("IPv4 only") };
        let (bits, length) = (u128::from(address.to_bits()), usize::from(network.prefix_len()) + 96);
        let mut node = 0;
        for depth in 0..length {
            let side = usize::from(bits >> (127 - depth) & 1 == 1);
            if depth + 1 == length {
                leaves.push((node, side, data.len()));
            } else {
                let next = nodes[node][side].unwrap_or_else(|| {
                    nodes.push([None; 2]);
                    nodes.len() - 1
                });
                nodes[node][side] = Some(next);
                node = next;
            }
        }
        put(&mut data, &Value::Map(record.clone()));
    }
    let mut file = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        for (side, next) in node.iter().enumerate() {
            let leaf = leaves.iter().find(|(at, of, _)| (*at, *of) == (number, side));
            let value = match (next, leaf) {
                (_, Some((_, _, offset))) => nodes.len() + 16 + offset,
                (Some(next), None) => *next,
                (None, None) => nodes.len(),
            };
            file.extend(&u32::try_from(value).unwrap().to_be_bytes()[1..]);
        }
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    put(
        &mut file,
        &Value::Map(vec![
            ("binary_format_major_version", Value::Short(2)),
            ("binary_format_minor_version", Value::Short(0)),
            ("build_epoch", Value::Epoch),
            ("database_type", Value::Text("test")),
            ("description", Value::Map(vec![])),
            ("ip_version", Value::Short(6)),
            ("languages", Value::Texts),
            ("node_count", Value::Number(u32::try_from(nodes.len()).unwrap())),
            ("record_size", Value::Short(24)),
        ]),
    );
    file
}

#[derive(Clone)]
enum Value<'a> {
    Number(u32),
    Short(u8),
    /// 1, in 64 bits.
    Epoch,
    Text(&'a str),
    /// An empty list.
    Texts,
    Map(Vec<(&'a str, Value<'a>)>),
}

fn put(out: &mut Vec<u8>, value: &Value<'_>) {
    let length = |len: usize| u8::try_from(len).unwrap();
    match value {
        Value::Number(number) => {
            out.push(6 << 5 | 4);
            out.extend(number.to_be_bytes());
        }
        Value::Short(number) => out.extend([5 << 5 | 1, *number]),
        Value::Epoch => out.extend([1, 2, 1]),
        Value::Text(text) => {
            assert!(text.len() < 29);
            out.push(2 << 5 | length(text.len()));
            out.extend(text.bytes());
        }
        Value::Texts => out.extend([0, 4]),
        Value::Map(fields) => {
            out.push(7 << 5 | length(fields.len()));
            for (name, value) in fields {
                put(out, &Value::Text(name));
                put(out, value);
            }
        }
    }
}

fn place(asn: Option<u32>, country: Option<&str>) -> Place {
    Place { asn, country: country.map(|letters| letters.parse().unwrap()) }
}

#[test]
fn the_forms_of_common_databases_are_understood() {
    let nested = |code| vec![("country", Value::Map(vec![("iso_code", Value::Text(code))]))];
    let countries = database(&[
        ("192.0.2.0/24", vec![("country_code", Value::Text("NL"))]),
        ("198.51.100.0/25", nested("DE")),
        ("203.0.113.0/24", vec![("country_code", Value::Text("Utopia"))]),
    ]);
    let asns = database(&[
        ("192.0.2.0/25", vec![("autonomous_system_number", Value::Number(64_500))]),
        ("198.51.100.0/24", vec![("asn", Value::Text("AS64501")), ("country", Value::Text("Germany"))]),
    ]);
    let mut places = Places::default();
    assert_eq!(places.of([192, 0, 2, 1].into()), Place::default());
    assert_eq!(places.add(countries), Ok(Known { asns: false, countries: true }));
    assert_eq!(places.add(asns), Ok(Known { asns: true, countries: false }));
    for (ip, expected) in [
        ("192.0.2.1", place(Some(64_500), Some("NL"))),
        ("::ffff:192.0.2.200", place(None, Some("NL"))),
        ("198.51.100.7", place(Some(64_501), Some("DE"))),
        ("198.51.100.200", place(Some(64_501), None)),
        ("203.0.113.1", place(None, None)),
        ("10.0.0.1", place(None, None)),
        ("2001:db8::1", place(None, None)),
    ] {
        let ip: IpAddr = ip.parse().unwrap();
        assert_eq!(places.of(ip.to_canonical()), expected, "{ip}");
    }
}

#[test]
fn what_is_no_such_database_is_refused() {
    let mut places = Places::default();
    assert!(matches!(places.add(b"GIF89a".to_vec()), Err(PlacesError::Format(_))));
    assert!(matches!(places.add(Vec::new()), Err(PlacesError::Format(_))));
    let cities = database(&[("192.0.2.0/24", vec![("city", Value::Text("Delft"))])]);
    assert_eq!(places.add(cities), Err(PlacesError::Useless));
    assert_eq!(places.knows(), Known::default());
}

proptest::proptest! {
    #[test]
    fn a_damaged_database_never_panics(flips in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), 1u8..), 1..6)) {
        let mut file = database(&[
            ("192.0.2.0/24", vec![("country_code", Value::Text("NL"))]),
            ("198.51.100.0/24", vec![("asn", Value::Text("AS64501"))]),
        ]);
        for (at, with) in flips {
            let at = at.index(file.len());
            file[at] ^= with;
        }
        let mut places = Places::default();
        let _ = places.add(file);
        for last in [1u8, 200] {
            let _ = (places.of([192, 0, 2, last].into()), places.of([198, 51, 100, last].into()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_about_systems_and_countries_reach_those_whom_a_database_places_there() {
    let node =
        Node::start(|_, app| app.trust_forwarded = ["127.0.0.0/8".parse().unwrap()].into_iter().collect())
            .await;
    node.ban_actor(Actor::Country("NL".parse().unwrap()));
    node.ban_actor(Actor::Asn(64_501));
    let status = async |client: &mut Client, forwarded: &str| {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {forwarded}\r\n\r\n")).await;
        client.answer().await.head.status
    };
    let mut client = node.connect().await;
    assert_eq!(status(&mut client, "192.0.2.1").await, 200, "nobody knows where it is");
    let mut places = Places::default();
    let record = |country, asn| {
        vec![("country_code", Value::Text(country)), ("autonomous_system_number", Value::Number(asn))]
    };
    let networks = [
        ("192.0.2.0/24", record("NL", 64_500)),
        ("198.51.100.0/24", record("DE", 64_501)),
        ("203.0.113.0/24", record("DE", 64_500)),
    ];
    places.add(database(&networks)).unwrap();
    node.places.store(Arc::new(places));
    for (address, expected) in [
        ("203.0.113.1", 200),
        ("10.0.0.1", 200),
        ("192.0.2.1", 403),
        ("198.51.100.1", 403),
        ("203.0.113.1", 200),
    ] {
        let mut client = node.connect().await;
        assert_eq!(status(&mut client, address).await, expected, "{address}");
    }
    // On one connection, one client after the other: each is where it is.
    let mut client = node.connect().await;
    assert_eq!(status(&mut client, "203.0.113.1").await, 200);
    assert_eq!(status(&mut client, "198.51.100.1").await, 403);
}
