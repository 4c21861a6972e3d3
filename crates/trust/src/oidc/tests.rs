//! Tokens of a provider, good and hostile.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaEncoding, RsaKeyPair,
};
use data_encoding::BASE64URL_NOPAD;
use serde_json::json;

use super::*;

const NOW_MS: u64 = 1_800_000_000_000;
const NOW: u64 = NOW_MS / 1_000;

/// A provider with a key of each kind.
struct Provider {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Provider {
    fn new() -> Self {
        Self {
            rsa: RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap(),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
        }
    }

    fn modulus(&self) -> Vec<u8> {
        self.rsa.public_key().modulus().big_endian_without_leading_zero().to_vec()
    }

    fn jwks(&self) -> Value {
        let text = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        let exponent = self.rsa.public_key().exponent().big_endian_without_leading_zero().to_vec();
        let (x, y) = self.ec.public_key().as_ref()[1..].split_at(32);
        json!({ "keys": [
            { "kty": "RSA", "kid": "rsa", "use": "sig", "n": text(&self.modulus()), "e": text(&exponent) },
            { "kty": "RSA", "kid": "enc", "use": "enc", "n": text(&self.modulus()), "e": text(&exponent) },
            { "kty": "EC", "crv": "P-256", "kid": "ec", "alg": "ES256", "x": text(x), "y": text(y) },
            { "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": text(self.ed.public_key().as_ref()) },
            { "kty": "oct", "kid": "shared", "k": text(b"a secret that everybody may have") },
            { "kty": "EC", "crv": "P-521", "kid": "odd", "x": "AA", "y": "AA" },
            { "what": "is this" },
        ] })
    }

    fn keys(&self) -> KeySet {
        KeySet::from_json(self.jwks().to_string().as_bytes()).unwrap()
    }

    fn token(&self, head: &Value, claims: &Value) -> String {
        let text = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", text(head), text(claims));
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(encoding, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
            signature
        };
        let signature = match head["alg"].as_str().unwrap() {
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "PS256" => rsa(&RSA_PSS_SHA256),
            "ES256" => self.ec.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed.sign(signed.as_bytes()).as_ref().to_vec(),
            // The oldest trick: the public key as a shared secret.
            "HS256" => {
                let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &self.modulus());
                aws_lc_rs::hmac::sign(&key, signed.as_bytes()).as_ref().to_vec()
            }
            _ => Vec::new(),
        };
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://id.example", "aud": "phalanx", "sub": "00u1", "nonce": "n-1",
        "iat": NOW, "exp": NOW + 300, "auth_time": NOW - 20, "groups": ["sec"],
    })
}

fn expected() -> Expected<'static> {
    Expected { issuer: "https://id.example", client: "phalanx", nonce: "n-1", now_ms: NOW_MS }
}

#[test]
fn a_token_by_each_algorithm_that_counts_is_believed() {
    let provider = Provider::new();
    for (algorithm, key) in [("RS256", "rsa"), ("PS256", "rsa"), ("ES256", "ec"), ("EdDSA", "ed")] {
        let token = provider.token(&json!({ "alg": algorithm, "kid": key }), &claims());
        let read = provider.keys().believe(&token, expected()).unwrap();
        assert_eq!((read.subject.as_str(), read.proved_at_ms), ("00u1", Some(NOW_MS - 20_000)));
        assert_eq!(read.claims["groups"], json!(["sec"]), "{algorithm}");
    }
}

#[test]
fn a_token_signed_otherwise_is_not_believed() {
    let (provider, stranger) = (Provider::new(), Provider::new());
    for (head, fault) in [
        (json!({ "alg": "none", "kid": "rsa" }), TokenFault::Algorithm),
        (json!({ "alg": "None" }), TokenFault::Algorithm),
        (json!({ "alg": "HS256", "kid": "rsa" }), TokenFault::Algorithm),
        (json!({ "alg": "HS256", "kid": "shared" }), TokenFault::Algorithm),
        (json!({ "alg": "RS512", "kid": "rsa" }), TokenFault::Algorithm),
        (json!({ "alg": "ES384", "kid": "odd" }), TokenFault::Algorithm),
        (json!({ "alg": "RS256", "kid": "new" }), TokenFault::UnknownKey),
        (json!({ "alg": "RS256", "kid": "enc" }), TokenFault::UnknownKey),
        (json!({ "alg": "RS256", "kid": "ec" }), TokenFault::UnknownKey),
        (json!({ "alg": "ES256", "kid": "rsa" }), TokenFault::UnknownKey),
        (json!({ "alg": "RS256", "kid": "rsa", "crit": ["b64"], "b64": false }), TokenFault::Form),
    ] {
        let token = provider.token(&head, &claims());
        assert_eq!(provider.keys().believe(&token, expected()), Err(fault), "{head}");
    }
    for head in [json!({ "alg": "RS256", "kid": "rsa" }), json!({ "alg": "ES256", "kid": "ec" })] {
        let token = stranger.token(&head, &claims());
        assert_eq!(provider.keys().believe(&token, expected()), Err(TokenFault::Signature), "{head}");
    }
    // What is in the head is no key, whoever says so.
    let own = stranger.jwks()["keys"][0].clone();
    let token =
        stranger.token(&json!({ "alg": "RS256", "jwk": own, "jku": "https://evil.example" }), &claims());
    assert_eq!(provider.keys().believe(&token, expected()), Err(TokenFault::Signature));
}

#[test]
fn a_changed_or_broken_token_is_not_believed() {
    let provider = Provider::new();
    let token = provider.token(&json!({ "alg": "ES256", "kid": "ec" }), &claims());
    let other = provider.token(&json!({ "alg": "ES256", "kid": "ec" }), &json!({ "sub": "root" }));
    let (parts, others): (Vec<&str>, Vec<&str>) = (token.split('.').collect(), other.split('.').collect());
    for (broken, fault) in [
        (format!("{}.{}.{}", parts[0], others[1], parts[2]), TokenFault::Signature),
        (format!("{}.{}.", parts[0], parts[1]), TokenFault::Signature),
        (format!("{}.{}", parts[0], parts[1]), TokenFault::Algorithm),
        (String::new(), TokenFault::Form),
        ("a.b.c.d.e".to_owned(), TokenFault::Form),
        ("\u{0}.\u{ff}.x".to_owned(), TokenFault::Form),
        ("x".repeat(TOKEN_BYTES_MAX + 1), TokenFault::Size),
    ] {
        assert_eq!(provider.keys().believe(&broken, expected()), Err(fault), "{broken:.60}");
    }
}

#[test]
fn what_a_token_must_say_is_checked() {
    let provider = Provider::new();
    let late = 11 * 60;
    for (name, value, fault) in [
        ("iss", json!("https://evil.example"), Some(TokenFault::Issuer)),
        ("iss", json!("https://id.example/"), Some(TokenFault::Issuer)),
        ("aud", json!("other"), Some(TokenFault::Audience)),
        ("aud", json!(["phalanx"]), None),
        ("aud", json!(["phalanx", "other"]), Some(TokenFault::Audience)),
        ("aud", json!([]), Some(TokenFault::Audience)),
        ("aud", Value::Null, Some(TokenFault::Audience)),
        ("azp", json!("phalanx"), None),
        ("azp", json!("other"), Some(TokenFault::Audience)),
        ("azp", json!(7), Some(TokenFault::Audience)),
        ("nonce", json!("n-2"), Some(TokenFault::Nonce)),
        ("nonce", json!(""), Some(TokenFault::Nonce)),
        ("nonce", Value::Null, Some(TokenFault::Nonce)),
        ("exp", json!(NOW - 61), Some(TokenFault::Expired)),
        ("exp", json!(NOW - 59), None),
        ("exp", json!("soon"), Some(TokenFault::Form)),
        ("exp", Value::Null, Some(TokenFault::Form)),
        ("exp", json!(u64::MAX), Some(TokenFault::Form)),
        ("iat", json!(NOW + 61), Some(TokenFault::Early)),
        ("iat", json!(NOW + 59), None),
        ("iat", json!(NOW - late - 1), Some(TokenFault::Expired)),
        ("iat", Value::Null, Some(TokenFault::Form)),
        ("nbf", json!(NOW + 61), Some(TokenFault::Early)),
        ("nbf", json!(NOW + 30), None),
        ("nbf", json!("x"), Some(TokenFault::Form)),
        ("sub", json!(""), Some(TokenFault::Subject)),
        ("sub", json!(12), Some(TokenFault::Subject)),
        ("sub", json!("x".repeat(256)), Some(TokenFault::Subject)),
        ("auth_time", json!("now"), Some(TokenFault::Form)),
        ("auth_time", Value::Null, None),
        ("auth_time", json!(NOW + 59), None),
        ("auth_time", json!(NOW + 61), Some(TokenFault::Early)),
    ] {
        let mut said = claims();
        said[name] = value.clone();
        let token = provider.token(&json!({ "alg": "ES256", "kid": "ec" }), &said);
        let read = provider.keys().believe(&token, expected());
        assert_eq!(read.err(), fault, "{name}: {value}");
    }
    // Of several it must be said for whom.
    let mut said = claims();
    (said["aud"], said["azp"]) = (json!(["phalanx", "other"]), json!("phalanx"));
    let token = provider.token(&json!({ "alg": "ES256", "kid": "ec" }), &said);
    assert!(provider.keys().believe(&token, expected()).is_ok());
}

#[test]
fn a_token_without_a_keys_name_needs_that_there_is_no_choice() {
    let provider = Provider::new();
    let token = provider.token(&json!({ "alg": "RS256" }), &claims());
    assert!(provider.keys().believe(&token, expected()).is_ok());
    let mut two = provider.jwks();
    let other = Provider::new().jwks()["keys"][0].clone();
    two["keys"].as_array_mut().unwrap().push(other);
    let two = KeySet::from_json(two.to_string().as_bytes()).unwrap();
    assert_eq!(two.believe(&token, expected()), Err(TokenFault::UnknownKey));
}

#[test]
fn sets_without_a_key_that_can_be_used_are_refused() {
    for (set, fault) in [
        ("", TokenFault::Keys),
        ("[]", TokenFault::Keys),
        ("{\"keys\":{}}", TokenFault::Keys),
        ("{\"keys\":[]}", TokenFault::NoKeys),
        (
            "{\"keys\":[null,7,\"x\",{\"kty\":\"oct\",\"k\":\"AA\"},{\"kty\":\"RSA\",\"n\":\"?\",\"e\":\"AQAB\"}]}",
            TokenFault::NoKeys,
        ),
        (
            "{\"keys\":[{\"kty\":\"RSA\",\"alg\":\"RSA-OAEP\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}",
            TokenFault::NoKeys,
        ),
    ] {
        assert_eq!(KeySet::from_json(set.as_bytes()).err(), Some(fault), "{set}");
    }
    let many = json!({ "keys": vec![Provider::new().jwks()["keys"][0].clone(); KEYS_MAX + 1] });
    assert_eq!(KeySet::from_json(many.to_string().as_bytes()).err(), Some(TokenFault::Keys));
    assert_eq!(KeySet::from_json(&vec![b' '; KEYS_BYTES_MAX + 1]).err(), Some(TokenFault::Size));
}
