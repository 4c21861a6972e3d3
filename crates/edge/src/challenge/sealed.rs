//! What is signed: the task that a client is given, and the pass that it gets for its answer.
//!
//! Both are `version | what it says | signature` in base64url; app and client are part of what is signed and stand in neither.

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::BASE64URL_NOPAD;
use phalanx_model::limits::CHALLENGE_OPEN_MS;
use phalanx_trust::{PASS_TAG_BYTES, PassKeys, SignedFor, random_bytes};

/// Whom a task or a pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound<'a> {
    /// The app's name.
    pub app: &'a [u8],
    /// What the client calls itself.
    pub agent: &'a [u8],
    /// A hash of the ciphers that its TLS offers; empty without TLS of its own.
    pub ciphers: &'a [u8],
}

/// What a client is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// When it was given, in Unix milliseconds.
    pub issued_ms: u64,
    /// Zero bits that the hash of its answer begins with.
    pub bits: u8,
    /// How long whoever has no scripts waits, in seconds.
    pub wait_s: u8,
    /// Distinct for each, on all nodes; 96 bits.
    pub id: u128,
}

/// What a client gets for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// That of its task.
    pub id: u128,
    /// When it ends, in Unix milliseconds.
    pub until_ms: u64,
}

impl Task {
    /// A new one.
    pub fn new(issued_ms: u64, bits: u8, wait_s: u8) -> Self {
        let random: [u8; ID_BYTES] = random_bytes();
        Self { issued_ms, bits, wait_s, id: id_of(&random) }
    }

    /// As text, signed; `None` while there is no key.
    pub fn seal(&self, keys: &PassKeys, bound: &Bound<'_>) -> Option<String> {
        let id = self.id.to_be_bytes();
        let said = [&[VERSION][..], &self.issued_ms.to_be_bytes(), &[self.bits, self.wait_s], id.get(4..)?];
        seal(&said.concat(), (keys, SignedFor::Challenge), bound)
    }

    /// Reads one that a node with the same keys gave to the same client.
    pub fn open(text: &[u8], keys: &PassKeys, bound: &Bound<'_>) -> Option<Self> {
        let said: [u8; TASK_BYTES] = open(text, (keys, SignedFor::Challenge), bound)?;
        let (issued, rest) = said.get(1..)?.split_first_chunk::<8>()?;
        let ([bits, wait_s], id) = rest.split_first_chunk::<2>()?;
        let issued_ms = u64::from_be_bytes(*issued);
        Some(Self { issued_ms, bits: *bits, wait_s: *wait_s, id: id_of(id.try_into().ok()?) })
    }

    /// Whether it may still be answered. Another node's clock may be a little ahead.
    pub fn is_open(&self, now_ms: u64) -> bool {
        self.issued_ms <= now_ms.saturating_add(CLOCKS_APART_MS)
            && now_ms < self.issued_ms.saturating_add(CHALLENGE_OPEN_MS)
    }

    /// When whoever has no scripts has waited.
    pub fn answerable_at_ms(&self) -> u64 {
        self.issued_ms.saturating_add(u64::from(self.wait_s).saturating_mul(1_000))
    }

    /// Whether the SHA-256 of the task's text, a colon and the answer begins with enough zero bits.
    pub fn is_solved_by(&self, text: &[u8], answer: &[u8]) -> bool {
        if answer.is_empty() || answer.len() > ANSWER_BYTES_MAX {
            return false;
        }
        let mut hash = Context::new(&SHA256);
        for part in [text, b":", answer] {
            hash.update(part);
        }
        let digest = hash.finish();
        let first = digest.as_ref().first_chunk().map_or(u64::MAX, |first| u64::from_be_bytes(*first));
        first.leading_zeros() >= u32::from(self.bits)
    }
}

impl Pass {
    /// As text, signed; `None` while there is no key.
    pub fn seal(&self, keys: &PassKeys, bound: &Bound<'_>) -> Option<String> {
        let id = self.id.to_be_bytes();
        let said = [&[VERSION][..], &self.until_ms.to_be_bytes(), id.get(4..)?];
        seal(&said.concat(), (keys, SignedFor::Pass), bound)
    }

    /// Reads one that a node with the same keys gave to the same client. Whether it is over, the caller asks.
    pub fn open(text: &[u8], keys: &PassKeys, bound: &Bound<'_>) -> Option<Self> {
        let said: [u8; PASS_BYTES] = open(text, (keys, SignedFor::Pass), bound)?;
        let (until, id) = said.get(1..)?.split_first_chunk::<8>()?;
        Some(Self { until_ms: u64::from_be_bytes(*until), id: id_of(id.try_into().ok()?) })
    }
}

fn seal(said: &[u8], (keys, purpose): (&PassKeys, SignedFor), bound: &Bound<'_>) -> Option<String> {
    let tag = keys.sign(purpose, &parts(said, bound))?;
    Some(BASE64URL_NOPAD.encode(&[said, &tag].concat()))
}

fn open<const N: usize>(
    text: &[u8],
    (keys, purpose): (&PassKeys, SignedFor),
    bound: &Bound<'_>,
) -> Option<[u8; N]> {
    // Only what can be one is decoded.
    if text.len() != BASE64URL_NOPAD.encode_len(N + PASS_TAG_BYTES) {
        return None;
    }
    let bytes = BASE64URL_NOPAD.decode(text).ok()?;
    let (said, tag) = bytes.split_first_chunk::<N>()?;
    let counts = said.first() == Some(&VERSION) && keys.verify(purpose, &parts(said, bound), tag);
    counts.then_some(*said)
}

fn parts<'a>(said: &'a [u8], bound: &Bound<'a>) -> [&'a [u8]; 4] {
    [said, bound.app, bound.agent, bound.ciphers]
}

fn id_of(bytes: &[u8; ID_BYTES]) -> u128 {
    bytes.iter().fold(0, |id, &byte| (id << 8) | u128::from(byte))
}

const VERSION: u8 = 1;
const ID_BYTES: usize = 12;
const TASK_BYTES: usize = 1 + 8 + 2 + ID_BYTES;
const PASS_BYTES: usize = 1 + 8 + ID_BYTES;
/// Digits of the largest number that a page would try.
const ANSWER_BYTES_MAX: usize = 20;
/// How far clocks of nodes that serve may be apart.
const CLOCKS_APART_MS: u64 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_800_000_000_000;
    const BOUND: Bound<'_> = Bound { app: b"shop", agent: b"Mozilla/5.0", ciphers: b"8daaf6152771" };

    fn solve(task: &Task, text: &str) -> String {
        (0u64..).map(|n| n.to_string()).find(|n| task.is_solved_by(text.as_bytes(), n.as_bytes())).unwrap()
    }

    #[test]
    fn what_one_node_gave_another_with_its_keys_takes_from_the_same_client_alone() {
        let keys = PassKeys::of_secret(&[7; 32]);
        let (task, pass) = (Task::new(NOW, 8, 5), Pass { id: 7, until_ms: NOW });
        let texts = (task.seal(&keys, &BOUND).unwrap(), pass.seal(&keys, &BOUND).unwrap());
        let open = |text: &str, keys: &PassKeys, bound: &Bound<'_>| {
            (Task::open(text.as_bytes(), keys, bound), Pass::open(text.as_bytes(), keys, bound))
        };
        assert_eq!(open(&texts.0, &PassKeys::of_secret(&[7; 32]), &BOUND), (Some(task), None));
        assert_eq!(open(&texts.1, &PassKeys::of_secret(&[7; 32]), &BOUND), (None, Some(pass)));
        for (keys, bound) in [
            (PassKeys::of_secret(&[8; 32]), BOUND),
            (keys.clone(), Bound { app: b"forum", ..BOUND }),
            (keys.clone(), Bound { agent: b"Mozilla/5.1", ..BOUND }),
            (keys.clone(), Bound { ciphers: b"", ..BOUND }),
        ] {
            for text in [&texts.0, &texts.1] {
                assert_eq!(open(text, &keys, &bound), (None, None));
            }
        }
    }

    #[test]
    fn an_answer_is_as_hard_as_the_task_says() {
        let keys = PassKeys::random();
        let task = Task::new(NOW, 10, 5);
        let text = task.seal(&keys, &BOUND).unwrap();
        let answer = solve(&task, &text);
        assert!(!Task { bits: 64, ..task.clone() }.is_solved_by(text.as_bytes(), answer.as_bytes()));
        assert!(!task.is_solved_by(b"another", b"") && !task.is_solved_by(text.as_bytes(), &[b'0'; 21]));
        let tries = 4_096 * 4;
        let good =
            (0..tries).filter(|n| task.is_solved_by(text.as_bytes(), n.to_string().as_bytes())).count();
        assert!((1..64).contains(&good), "one in 1,024: {good} of {tries}");
    }

    #[test]
    fn a_task_is_open_for_a_while() {
        let task = Task::new(NOW, 8, 5);
        assert!(task.is_open(NOW) && task.is_open(NOW + CHALLENGE_OPEN_MS - 1) && task.is_open(NOW - 5_000));
        assert!(!task.is_open(NOW + CHALLENGE_OPEN_MS) && !task.is_open(NOW - 5_001));
        assert_eq!(task.answerable_at_ms(), NOW + 5_000);
    }

    proptest! {
        #[test]
        fn what_is_altered_anywhere_is_none(at: usize, flip in 1u8..) {
            let keys = PassKeys::of_secret(&[7; 32]);
            for text in [
                Task::new(NOW, 8, 5).seal(&keys, &BOUND).unwrap(),
                Pass { id: 7, until_ms: NOW }.seal(&keys, &BOUND).unwrap(),
            ] {
                let mut text = text.into_bytes();
                let at = at % text.len();
                text[at] ^= flip;
                prop_assert_eq!(Task::open(&text, &keys, &BOUND), None);
                prop_assert_eq!(Pass::open(&text, &keys, &BOUND), None);
            }
        }

        #[test]
        fn any_bytes_are_neither(text: Vec<u8>) {
            let keys = PassKeys::of_secret(&[7; 32]);
            prop_assert_eq!(Task::open(&text, &keys, &BOUND), None);
            prop_assert_eq!(Pass::open(&text, &keys, &BOUND), None);
        }
    }
}
