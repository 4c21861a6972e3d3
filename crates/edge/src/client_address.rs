//! Who the client of a request is: the peer, or behind trusted forwarders whom their fields name. What others claim in such fields is
//! dropped and told.
//!
//! Failure direction: a field that cannot be read exactly counts for nothing; the client is the peer then.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use phalanx_model::limits::FORWARDED_ELEMENTS_MAX;
use phalanx_model::{PrefixSet, RequestHead, RuleClass, RuleInfo, Severity, Signal};

use crate::finding;
use crate::http1::FieldKind;
use crate::http1::fields::{KnownFields, is_token_byte, same_with_underscores};
use crate::mask::text;
use crate::plan::AppPlan;

/// How an app's forwarders tell their clients' addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressSource {
    /// In which field.
    pub field: AddressField,
    /// How many forwarders there are: the address is that many places from the right. `None`: the first from the right that is no
    /// trusted forwarder's.
    pub hops: Option<u8>,
    /// Forwarders show a certificate that the listener believes, or they are none.
    pub certified: bool,
}

/// A field that names clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AddressField {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// A field with one address, by its name in lower case.
    Named(Arc<str>),
}

/// What was found of a request's client.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) client: IpAddr,
    /// The peer is a trusted forwarder.
    pub(crate) peer_trusted: bool,
    /// What was not believed.
    pub(crate) disbelief: Option<Disbelief>,
}

/// Why a field counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disbelief {
    /// It is from none of the forwarders.
    Stranger,
    /// A forwarder's, but it cannot be read.
    Unreadable,
}

impl AddressSource {
    /// Whether a field of this name, which is none of the known ones, names clients here.
    pub(crate) fn is_named(&self, name: &[u8]) -> bool {
        matches!(&self.field, AddressField::Named(known) if same_with_underscores(name, known.as_bytes()))
    }
}

/// Finds the client of a request. `certified`: the peer has shown a certificate that its listener believes.
///
/// Counted from the right, because everything left of the first untrusted address is the client's own claim.
pub(crate) fn find(
    head: &RequestHead,
    known: &KnownFields,
    (peer, certified): (IpAddr, bool),
    app: &AppPlan,
) -> Found {
    let peer = peer.to_canonical();
    let (trusted, source) = (&app.trust_forwarded, &app.client_address);
    if trusted.is_empty() {
        return Found { client: peer, peer_trusted: false, disbelief: None };
    }
    let peer_trusted = trusted.contains(peer) && (certified || !source.certified);
    let claims = known.forwarded || matches!(source.field, AddressField::Named(_));
    if !claims {
        return Found { client: peer, peer_trusted, disbelief: None };
    }
    if !peer_trusted {
        let claimed = claim(head, source).is_some();
        return Found { client: peer, peer_trusted, disbelief: claimed.then_some(Disbelief::Stranger) };
    }
    let client = client_of(head, peer, trusted, source);
    let disbelief = client.is_none().then_some(Disbelief::Unreadable);
    Found { client: client.unwrap_or(peer), peer_trusted, disbelief }
}

/// The client that a head from a trusted forwarder names; `None` if its field cannot be read.
pub fn client_of(
    head: &RequestHead,
    peer: IpAddr,
    trusted: &PrefixSet,
    source: &AddressSource,
) -> Option<IpAddr> {
    match &source.field {
        AddressField::XForwardedFor => told(peer, listed(head), trusted, source.hops),
        AddressField::Forwarded => {
            forwarded(head).and_then(|nodes| told(peer, nodes.into_iter().rev(), trusted, source.hops))
        }
        AddressField::Named(name) => named(head, name, peer),
    }
}

/// The signal of a field that was not believed.
pub(crate) fn signal(head: &RequestHead, source: &AddressSource, disbelief: Disbelief) -> Signal {
    let (name, value) = claim(head, source).unwrap_or_default();
    let (rule, message) = match disbelief {
        Disbelief::Stranger => {
            (&STRANGER, "forwarding field from a peer that is no trusted forwarder; dropped")
        }
        Disbelief::Unreadable => {
            (&UNREADABLE, "forwarding field that cannot be read; the peer is the client")
        }
    };
    finding::about_field(rule, message.to_owned(), &text(name, NAME_BYTES_MAX), value)
}

/// The first field that claims something in a forwarder's name.
fn claim<'a>(head: &'a RequestHead, source: &AddressSource) -> Option<(&'a [u8], &'a [u8])> {
    head.headers().find(|(name, _)| {
        let forwards = matches!(
            FieldKind::of(name),
            FieldKind::XForwardedFor
                | FieldKind::XForwardedProto
                | FieldKind::XForwardedHost
                | FieldKind::OtherForwarded
        );
        forwards || source.is_named(name)
    })
}

/// Whom one element of a field names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Ip(IpAddr),
    /// Somebody whom the forwarder does not tell (RFC 7239 section 6: `unknown`, or an identifier of its own).
    Hidden,
    Unreadable,
}

/// The address that nodes tell, from the right; `None` if it cannot be read.
fn told(
    peer: IpAddr,
    mut nodes: impl Iterator<Item = Node>,
    trusted: &PrefixSet,
    hops: Option<u8>,
) -> Option<IpAddr> {
    if let Some(hops) = hops {
        return match nodes.nth(usize::from(hops).saturating_sub(1))? {
            Node::Ip(ip) => Some(ip),
            Node::Hidden => Some(peer),
            Node::Unreadable => None,
        };
    }
    let mut client = peer;
    for node in nodes.take(FORWARDED_ELEMENTS_MAX) {
        match node {
            Node::Ip(ip) => client = ip,
            Node::Hidden => break,
            Node::Unreadable => return None,
        }
        if !trusted.contains(client) {
            break;
        }
    }
    Some(client)
}

/// The elements of all `X-Forwarded-For` fields together, from the right.
fn listed(head: &RequestHead) -> impl Iterator<Item = Node> {
    let fields = head.fields.iter().rev().map(|field| (head.bytes(field.name), head.bytes(field.value)));
    let values = fields.filter(|(name, _)| name.eq_ignore_ascii_case(b"x-forwarded-for"));
    let elements = values.flat_map(|(_, value)| value.rsplit(|&b| b == b',')).map(<[u8]>::trim_ascii);
    // A list's empty elements mean nothing (RFC 9110 section 5.6.1).
    elements.filter(|element| !element.is_empty()).map(|element| node(element, false))
}

/// The one address of a field of this name.
fn named(head: &RequestHead, name: &str, peer: IpAddr) -> Option<IpAddr> {
    let mut values = head.headers().filter(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()));
    let Some((_, value)) = values.next() else { return Some(peer) };
    match (node(value, false), values.next()) {
        (Node::Ip(ip), None) => Some(ip),
        (Node::Hidden, None) => Some(peer),
        _ => None,
    }
}

/// The elements of all `Forwarded` fields together, from the left; `None` if any of them breaks the grammar.
fn forwarded(head: &RequestHead) -> Option<Vec<Node>> {
    let mut nodes = Vec::new();
    for (name, value) in head.headers() {
        if name.eq_ignore_ascii_case(b"forwarded") {
            forwarded_elements(value, &mut nodes)?;
        }
    }
    (nodes.len() <= FORWARDED_ELEMENTS_MAX).then_some(nodes)
}

/// `forwarded-element *( "," forwarded-element )`, each of pairs with `;` between (RFC 7239 section 4).
fn forwarded_elements(value: &[u8], nodes: &mut Vec<Node>) -> Option<()> {
    let mut rest = value;
    // What an element says in `for`, and whether it says anything at all.
    let (mut element, mut says) = (None, false);
    loop {
        rest = rest.trim_ascii_start();
        if !matches!(rest.first(), None | Some(b';' | b',')) {
            let (name, value, after) = pair(rest)?;
            rest = after.trim_ascii_start();
            says = true;
            if name.eq_ignore_ascii_case(b"for") && element.replace(node(&value, true)).is_some() {
                return None;
            }
        }
        match rest.split_first() {
            Some((b';', after)) => rest = after,
            Some((b',', after)) => {
                rest = after;
                if std::mem::take(&mut says) {
                    nodes.push(element.take().unwrap_or(Node::Hidden));
                }
            }
            Some(_) => return None,
            None => {
                if says {
                    nodes.push(element.unwrap_or(Node::Hidden));
                }
                return Some(());
            }
        }
        if nodes.len() > FORWARDED_ELEMENTS_MAX {
            return None;
        }
    }
}

/// `token "=" ( token / quoted-string )`, and what follows.
fn pair(text: &[u8]) -> Option<(&[u8], Vec<u8>, &[u8])> {
    let equals = text.iter().position(|&b| !is_token_byte(b))?;
    let (name, rest) = text.split_at_checked(equals)?;
    let rest = rest.strip_prefix(b"=").filter(|_| !name.is_empty())?;
    let Some(mut quoted) = rest.strip_prefix(b"\"") else {
        // Ports and IPv6 addresses would have to be quoted; many do not, and they mean nothing else.
        let end = rest.iter().position(|&b| !is_token_byte(b) && !b"[]:".contains(&b)).unwrap_or(rest.len());
        let (value, after) = rest.split_at_checked(end)?;
        return (!value.is_empty()).then(|| (name, value.to_vec(), after));
    };
    let mut value = Vec::new();
    loop {
        let (&byte, after) = quoted.split_first()?;
        quoted = after;
        match byte {
            b'"' => return Some((name, value, quoted)),
            b'\\' => {
                let (&escaped, after) = quoted.split_first()?;
                quoted = after;
                value.push(escaped);
            }
            _ => value.push(byte),
        }
    }
}

/// An address, in brackets or not, with a port or not. In `Forwarded` an IPv6 address stands in brackets.
fn node(element: &[u8], bracketed: bool) -> Node {
    let Ok(text) = std::str::from_utf8(element) else { return Node::Unreadable };
    let obfuscated = |text: &str| {
        text.strip_prefix('_').is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        })
    };
    let (bare, port) = match text.rsplit_once(':') {
        Some((bare, port)) if bare.ends_with(']') || !bare.contains(':') => (bare, Some(port)),
        _ => (text, None),
    };
    let port_reads = port.is_none_or(|port| {
        let digits = port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
        obfuscated(port) || digits && port.parse::<u16>().is_ok()
    });
    if !port_reads {
        return Node::Unreadable;
    }
    if bare.eq_ignore_ascii_case("unknown") || obfuscated(bare) {
        return Node::Hidden;
    }
    let ip = match bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6),
        None => bare.parse::<IpAddr>().ok().filter(|ip| !bracketed || ip.is_ipv4()),
    };
    ip.map_or(Node::Unreadable, |ip| Node::Ip(ip.to_canonical()))
}

fn rule(tag: &str) -> Arc<RuleInfo> {
    finding::rule(RuleClass::Protocol, Severity::Notice, tag)
}

static STRANGER: LazyLock<Arc<RuleInfo>> = LazyLock::new(|| rule("phalanx/forwarded/stranger"));
static UNREADABLE: LazyLock<Arc<RuleInfo>> = LazyLock::new(|| rule("phalanx/forwarded/unreadable"));
const NAME_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http1::parse_head;
    use crate::plan::UpstreamPlan;

    fn app(source: AddressSource) -> AppPlan {
        let trusted = ["192.0.2.0/24".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
        AppPlan {
            trust_forwarded: trusted.into_iter().collect(),
            client_address: source,
            ..AppPlan::forwarding("shop", UpstreamPlan::new("127.0.0.1", 1, ""))
        }
    }

    fn found(fields: &str, peer: &str, source: AddressSource) -> Found {
        let head = parse_head(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()).unwrap();
        find(&head, &KnownFields::of(&head), (peer.parse().unwrap(), false), &app(source))
    }

    #[track_caller]
    fn check(fields: &str, peer: &str, expected: &str) {
        check_by(AddressSource::default(), fields, peer, expected, None);
    }

    #[track_caller]
    fn check_by(source: AddressSource, fields: &str, peer: &str, expected: &str, why: Option<Disbelief>) {
        let found = found(fields, peer, source);
        assert_eq!(found.client, expected.parse::<IpAddr>().unwrap(), "{fields:?}");
        assert_eq!(found.disbelief, why, "{fields:?}");
    }

    fn by(field: AddressField, hops: Option<u8>) -> AddressSource {
        AddressSource { field, hops, certified: false }
    }

    #[test]
    fn the_client_is_the_first_untrusted_address_from_the_right() {
        check("X-Forwarded-For: 203.0.113.9\r\n", "192.0.2.1", "203.0.113.9");
        check("X-Forwarded-For: 1.1.1.1, 203.0.113.9, 10.0.0.1\r\n", "192.0.2.1", "203.0.113.9");
        check("X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 203.0.113.9\r\n", "192.0.2.1", "203.0.113.9");
        check("X-Forwarded-For: 203.0.113.9:4711\r\n", "::ffff:192.0.2.1", "203.0.113.9");
        check("X-Forwarded-For: [2001:db8::9]:4711\r\n", "192.0.2.1", "2001:db8::9");
        check("X-Forwarded-For: 2001:db8::9\r\n", "192.0.2.1", "2001:db8::9");
        check("X-Forwarded-For: 10.0.0.5, 10.0.0.6\r\n", "192.0.2.1", "10.0.0.5");
        check("X-Forwarded-For: 203.0.113.9, , 10.0.0.6,\r\n", "192.0.2.1", "203.0.113.9");
        check("X-Forwarded-For: 203.0.113.9, unknown, 10.0.0.6\r\n", "192.0.2.1", "10.0.0.6");
        check("X_Forwarded_For: 203.0.113.9\r\n", "192.0.2.1", "192.0.2.1");
        check("Forwarded: for=203.0.113.9\r\n", "192.0.2.1", "192.0.2.1");
        check("", "192.0.2.1", "192.0.2.1");
    }

    #[test]
    fn what_a_stranger_claims_is_not_believed_and_told() {
        let why = Some(Disbelief::Stranger);
        for field in [
            "X-Forwarded-For: 1.1.1.1",
            "x_real_ip: 1.1.1.1",
            "Forwarded: for=1.1.1.1",
            "X-Forwarded-Proto: https",
        ] {
            let line = format!("{field}\r\n");
            check_by(AddressSource::default(), &line, "198.51.100.1", "198.51.100.1", why);
        }
        let named = by(AddressField::Named("my-client".into()), None);
        check_by(named.clone(), "my_client: 1.1.1.1\r\n", "198.51.100.1", "198.51.100.1", why);
        check_by(named, "Accept: */*\r\n", "198.51.100.1", "198.51.100.1", None);
        // Who shows no certificate where one is asked for is no forwarder.
        let certified = AddressSource { certified: true, ..AddressSource::default() };
        check_by(certified, "X-Forwarded-For: 1.1.1.1\r\n", "192.0.2.1", "192.0.2.1", why);
    }

    #[test]
    fn what_cannot_be_read_counts_for_nothing() {
        let why = Some(Disbelief::Unreadable);
        let by_list = |value: &str| {
            let fields = format!("X-Forwarded-For: {value}\r\n");
            check_by(AddressSource::default(), &fields, "192.0.2.1", "192.0.2.1", why);
        };
        by_list("nonsense, 10.0.0.6");
        by_list("203.0.113.9:99999");
        by_list("203.0.113.9 10.0.0.6");
        by_list("fe80::1%eth0");
        by_list("256.1.1.1");
        by_list("[203.0.113.9]");
        by_list("[2001:db8::9");
        by_list("_");
        by_list("\"203.0.113.9\"");
        // Left of the client it may be anything: it is the client's own.
        check("X-Forwarded-For: nonsense, 203.0.113.9\r\n", "192.0.2.1", "203.0.113.9");
    }

    #[test]
    fn a_fixed_number_of_hops_is_counted_from_the_right() {
        let hops = |hops, fields, expected, why| {
            let source = by(AddressField::XForwardedFor, Some(hops));
            check_by(source, fields, "192.0.2.1", expected, why);
        };
        let fields = "X-Forwarded-For: 1.1.1.1, 203.0.113.9\r\nX-Forwarded-For: 34.1.2.3\r\n";
        hops(1, fields, "34.1.2.3", None);
        hops(2, fields, "203.0.113.9", None);
        hops(4, fields, "192.0.2.1", Some(Disbelief::Unreadable));
        hops(2, "", "192.0.2.1", None);
    }

    #[test]
    fn forwarded_is_read_as_its_grammar_says() {
        let check = |value: &str, expected: &str, why| {
            let fields = format!("Forwarded: {value}\r\n");
            check_by(by(AddressField::Forwarded, None), &fields, "192.0.2.1", expected, why);
        };
        check("for=203.0.113.9", "203.0.113.9", None);
        check("For=\"203.0.113.9:4711\";proto=https;by=10.0.0.1", "203.0.113.9", None);
        check("for=\"[2001:db8::9]:4711\"", "2001:db8::9", None);
        check("for=\"[2001:db8::9]:_port\"", "2001:db8::9", None);
        check("for=1.1.1.1, for=203.0.113.9;host=\"a,b;c\", for=10.0.0.7", "203.0.113.9", None);
        check("for=1.1.1.1\r\nForwarded: for=203.0.113.9", "203.0.113.9", None);
        check("proto=https ; for=203.0.113.9;", "203.0.113.9", None);
        check("for=\"203.0.113\\.9\"", "203.0.113.9", None);
        check("for=203.0.113.9, , for=10.0.0.8", "203.0.113.9", None);
        check("for=1.1.1.1, for=unknown, for=10.0.0.8", "10.0.0.8", None);
        check("for=_hidden, for=10.0.0.8", "10.0.0.8", None);
        check("proto=https", "192.0.2.1", None);
        for broken in [
            "for",
            "for=",
            "=203.0.113.9",
            "for=\"203.0.113.9",
            "for=203.0.113.9 for=1.1.1.1",
            "for=203.0.113.9;for=1.1.1.1",
            "for=2001:db8::9",
            "for=\"203.0.113.9\"x",
            "for=203.0.113.9/24",
            "for=\"\"",
            "f or=1.1.1.1",
        ] {
            check(broken, "192.0.2.1", Some(Disbelief::Unreadable));
        }
        let many = vec!["for=10.0.0.1"; FORWARDED_ELEMENTS_MAX + 1].join(",");
        check(&many, "192.0.2.1", Some(Disbelief::Unreadable));
    }

    #[test]
    fn a_named_field_holds_one_address() {
        let check = |fields: &str, expected: &str, why| {
            let source = by(AddressField::Named("cf-connecting-ip".into()), None);
            check_by(source, fields, "192.0.2.1", expected, why);
        };
        check("CF-Connecting-IP: 203.0.113.9\r\nX-Forwarded-For: 1.1.1.1\r\n", "203.0.113.9", None);
        check("CF-Connecting-IP: 2001:db8::9\r\n", "2001:db8::9", None);
        check("X-Forwarded-For: 1.1.1.1\r\n", "192.0.2.1", None);
        let why = Some(Disbelief::Unreadable);
        check("CF-Connecting-IP: 203.0.113.9, 1.1.1.1\r\n", "192.0.2.1", why);
        check("CF-Connecting-IP: 203.0.113.9\r\nCF-Connecting-IP: 203.0.113.9\r\n", "192.0.2.1", why);
    }

    proptest! {
        #[test]
        fn any_field_gives_an_address(value in "[ -~]{0,60}", hops in proptest::option::of(1u8..4)) {
            for field in [AddressField::XForwardedFor, AddressField::Forwarded, AddressField::Named("a".into())] {
                let fields = format!("X-Forwarded-For: {value}\r\nForwarded: {value}\r\nA: {value}\r\n");
                let _ = found(&fields, "192.0.2.1", by(field, hops));
            }
        }
    }
}
