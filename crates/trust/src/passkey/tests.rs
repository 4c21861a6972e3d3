//! Passkeys against an authenticator of our own, on both curves.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use proptest::prelude::*;

use super::*;

const ORIGIN: &str = "http://localhost:8900";
const AT: Ceremony<'static> = Ceremony { origin: ORIGIN, purpose: "log in", now_ms: 1_000 };

enum Authenticator {
    Es256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Authenticator {
    fn both() -> [Self; 2] {
        let ecdsa = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        [Self::Es256(ecdsa), Self::Ed25519(Ed25519KeyPair::generate().unwrap())]
    }

    fn attested(&self, flags: u8) -> Vec<u8> {
        let mut data = data(flags, 0);
        data.extend_from_slice(&[0; 16]);
        data.extend_from_slice(&[0, 3, b'k', b'e', b'y']);
        match self {
            Self::Es256(key) => {
                let (x, y) = key.public_key().as_ref().split_at(1).1.split_at(32);
                data.extend_from_slice(&[ES256_X, x, ES256_Y, y].concat());
            }
            Self::Ed25519(key) => {
                data.extend_from_slice(&[ED25519_X, key.public_key().as_ref()].concat());
            }
        }
        data
    }

    fn sign(&self, data: &[u8], client: &[u8]) -> Vec<u8> {
        let message = [data, &sha256(client)].concat();
        match self {
            Self::Es256(key) => key.sign(&SystemRandom::new(), &message).unwrap().as_ref().to_vec(),
            Self::Ed25519(key) => key.sign(&message).as_ref().to_vec(),
        }
    }
}

fn data(flags: u8, signed: u32) -> Vec<u8> {
    [&sha256(b"localhost")[..], &[flags], &signed.to_be_bytes()].concat()
}

fn client(kind: &str, challenge: &str, origin: &str) -> Vec<u8> {
    serde_json::json!({ "type": kind, "challenge": challenge, "origin": origin, "crossOrigin": false })
        .to_string()
        .into_bytes()
}

#[test]
fn a_key_that_was_made_signs_in_once_for_each_challenge() {
    for authenticator in Authenticator::both() {
        let challenges = PasskeyChallenges::default();
        let said = client("webauthn.create", &challenges.issue("log in", 0), ORIGIN);
        let made = challenges.made(AT, &authenticator.attested(0x45), &said).unwrap();
        assert_eq!((made.id.as_slice(), made.signed), (&b"key"[..], 0));
        let said = client("webauthn.get", &challenges.issue("log in", 0), ORIGIN);
        let data = data(0x05, 7);
        let signature = authenticator.sign(&data, &said);
        let answer = (&data[..], &said[..], &signature[..]);
        assert_eq!(challenges.signed(AT, &made.public, 6, answer), Ok(7));
        assert_eq!(challenges.signed(AT, &made.public, 6, answer), Err(PasskeyFault::Challenge));
    }
}

#[test]
fn what_is_for_another_page_purpose_time_or_of_another_key_does_not_count() {
    let challenges = PasskeyChallenges::default();
    let [mine, other] = Authenticator::both();
    let said = client("webauthn.create", &challenges.issue("log in", 0), ORIGIN);
    let public = challenges.made(AT, &mine.attested(0x45), &said).unwrap().public;
    let good = challenges.issue("log in", 0);
    let prove = challenges.issue("prove", 0);
    let foreign = PasskeyChallenges::default().issue("log in", 0);
    for (kind, challenge, origin, flags, signed, now_ms, fault) in [
        ("webauthn.create", &good, ORIGIN, 0x05, 7, 1, PasskeyFault::ClientData),
        ("webauthn.get", &good, "http://localhost:8901", 0x05, 7, 1, PasskeyFault::ClientData),
        ("webauthn.get", &good, "https://localhost:8900", 0x05, 7, 1, PasskeyFault::ClientData),
        ("webauthn.get", &prove, ORIGIN, 0x05, 7, 1, PasskeyFault::Challenge),
        ("webauthn.get", &foreign, ORIGIN, 0x05, 7, 1, PasskeyFault::Challenge),
        ("webauthn.get", &good, ORIGIN, 0x05, 7, CHALLENGE_MS, PasskeyFault::Challenge),
        ("webauthn.get", &good, ORIGIN, 0x01, 7, 1, PasskeyFault::Unverified),
        ("webauthn.get", &good, ORIGIN, 0x04, 7, 1, PasskeyFault::Unverified),
        ("webauthn.get", &good, ORIGIN, 0x05, 6, 1, PasskeyFault::Signature),
    ] {
        let said = client(kind, challenge, origin);
        let data = data(flags, signed);
        let signature = mine.sign(&data, &said);
        let at = Ceremony { now_ms, ..AT };
        let result = challenges.signed(at, &public, 6, (&data, &said, &signature));
        assert_eq!(result, Err(fault), "{kind} {origin} {flags} {signed} {now_ms}");
    }
    let said = client("webauthn.get", &good, ORIGIN);
    let elsewhere = [&sha256(b"evil.example")[..], &[5], &7u32.to_be_bytes()].concat();
    let signature = mine.sign(&elsewhere, &said);
    let result = challenges.signed(AT, &public, 6, (&elsewhere, &said, &signature));
    assert_eq!(result, Err(PasskeyFault::Authenticator));
    let ours = data(5, 7);
    let signature = other.sign(&ours, &said);
    let result = challenges.signed(AT, &public, 6, (&ours, &said, &signature));
    assert_eq!(result, Err(PasskeyFault::Signature));
}

#[test]
fn a_key_of_another_kind_is_not_taken() {
    let challenges = PasskeyChallenges::default();
    let said = client("webauthn.create", &challenges.issue("log in", 0), ORIGIN);
    let [mine, _] = Authenticator::both();
    let mut rsa = mine.attested(0x45);
    let at = rsa.len() - 77 + 4;
    rsa[at] = 0x39;
    assert_eq!(challenges.made(AT, &rsa, &said), Err(PasskeyFault::Algorithm));
    assert_eq!(challenges.made(AT, &mine.attested(0x05), &said), Err(PasskeyFault::Authenticator));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_a_panic(authenticator: Vec<u8>, said: Vec<u8>, cose: Vec<u8>) {
        let challenges = PasskeyChallenges::default();
        prop_assert!(challenges.made(AT, &authenticator, &said).is_err());
        let said = client("webauthn.create", &challenges.issue("log in", 0), ORIGIN);
        prop_assert!(challenges.made(AT, &authenticator, &said).is_err());
        let hostile = [data(0x45, 0), cose].concat();
        prop_assert!(challenges.made(AT, &hostile, &said).is_err());
    }
}
