//! What a stranger sends to join or to be believed: certificates, certificate requests, tokens, announcements, records.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use phalanx_trust::{
    Admission, Announcement, JoinToken, OpeningKey, SignedRecord, TicketKeys, TrustBundle, certificate, seal_to,
};

/// A root that signed nothing of what comes.
static ROOT: LazyLock<TrustBundle> = LazyLock::new(|| {
    let root = include_bytes!("../seeds/membership/root").to_vec();
    TrustBundle::new("shops", &[root]).expect("the seed is a root")
});

/// A key that nothing was sealed to.
static OPENS: LazyLock<OpeningKey> = LazyLock::new(|| OpeningKey::generate().expect("there is entropy"));

fuzz_target!(|data: &[u8]| {
    if let Some(certified) = certificate::describe(data) {
        let text = certified.id.to_string();
        assert_eq!(phalanx_trust::SpiffeId::parse(&text), Some(certified.id));
    }
    let _ = certificate::requested_key(data);
    let chain: Vec<Vec<u8>> = data.chunks(data.len().div_ceil(2).max(1)).map(<[u8]>::to_vec).collect();
    assert!(ROOT.verify(&chain, 1_800_000_000_000).is_err());
    let admission = Admission::Certified(&ROOT, 1_800_000_000_000);
    assert!(Announcement::open(data, "shops", "phx.node.fra.a", admission).is_err());
    let _ = SignedRecord::from_bytes(data);
    assert!(OPENS.open("here", data).is_none());
    let _ = seal_to(data, "here", b"secret");
    if let Some(keys) = TicketKeys::from_bytes(data) {
        assert_eq!(keys.to_bytes().as_slice(), data);
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(token) = JoinToken::parse(text)
    {
        let again = token.to_text().expect("a token that was read can be written");
        assert_eq!(JoinToken::parse(&again), Ok(token));
    }
});
