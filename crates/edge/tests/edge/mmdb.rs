//! Databases of addresses in MaxMind's format, for tests.

use std::net::IpAddr;

use phalanx_model::Prefix;

/// A database of IPv4 networks in an IPv6 tree, as most are, written by the format's specification.
pub(crate) fn database(networks: &[(&str, Vec<(&str, Value<'_>)>)]) -> Vec<u8> {
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
pub(crate) enum Value<'a> {
    Number(u32),
    Short(u8),
    /// 1, in 64 bits.
    Epoch,
    Text(&'a str),
    Double(f64),
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
        Value::Double(number) => {
            out.push(3 << 5 | 8);
            out.extend(number.to_be_bytes());
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
