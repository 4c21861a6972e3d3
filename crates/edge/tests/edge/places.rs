//! Databases of addresses, and what they are for: orders about systems and countries.

use std::net::IpAddr;
use std::sync::Arc;

use phalanx_edge::places::{Known, Place, Places, PlacesError, Spot};
use phalanx_model::Actor;

use crate::mmdb::{Value, database};
use crate::support::{Client, Node};

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
    assert_eq!(places.add(countries), Ok(Known { countries: true, ..Known::default() }));
    assert_eq!(places.add(asns), Ok(Known { asns: true, ..Known::default() }));
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

#[test]
fn spots_are_of_databases_of_cities_where_they_are_sure() {
    let at = |latitude, longitude| {
        vec![("latitude", Value::Double(latitude)), ("longitude", Value::Double(longitude))]
    };
    let near = |km, mut fields: Vec<(&'static str, Value<'static>)>| {
        fields.push(("accuracy_radius", Value::Short(km)));
        vec![("location", Value::Map(fields))]
    };
    let mut places = Places::default();
    let of_maxmind = database(&[
        ("192.0.2.0/25", near(20, at(48.86, 2.35))),
        ("192.0.2.128/25", near(250, at(46.0, 2.0))),
        ("198.51.100.0/25", vec![("location", Value::Map(at(-33.9, 151.2)))]),
        ("198.51.100.128/25", vec![("location", Value::Map(at(0.0, 0.0)))]),
        ("203.0.113.0/25", vec![("location", Value::Map(at(91.0, 2.0)))]),
        ("203.0.113.128/25", vec![("location", Value::Map(at(f64::NAN, 2.0)))]),
    ]);
    assert_eq!(places.add(of_maxmind), Ok(Known { spots: true, ..Known::default() }));
    assert_eq!(places.add(database(&[("10.0.0.0/8", at(35.7, 139.7))])).map(|knows| knows.spots), Ok(true));
    for (ip, expected) in [
        ("192.0.2.1", Some((49, 2))),
        ("192.0.2.200", None),
        ("198.51.100.1", Some((-34, 151))),
        ("198.51.100.200", None),
        ("203.0.113.1", None),
        ("203.0.113.200", None),
        ("10.1.2.3", Some((36, 140))),
        ("172.16.0.1", None),
    ] {
        let expected = expected.map(|(latitude, longitude)| Spot { latitude, longitude });
        assert_eq!(places.spot_of(ip.parse().unwrap()), expected, "{ip}");
        assert_eq!(places.of(ip.parse().unwrap()), Place::default());
    }
}
