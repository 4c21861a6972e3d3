//! One-time codes by the time (RFC 6238): six digits, each for 30 s, of HMAC-SHA-1, which is what authenticator apps do.

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::random_bytes;

/// The secret that an authenticator app and the node share.
#[derive(Clone, Serialize, Deserialize)]
pub struct TotpSecret(Zeroizing<Vec<u8>>);

impl PartialEq for TotpSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TotpSecret {}

impl TotpSecret {
    /// A new one, of 160 bits (RFC 4226 section 4).
    pub fn fresh() -> Self {
        Self(Zeroizing::new(random_bytes::<20>().to_vec()))
    }

    /// The secret as people type it into an app.
    pub fn base32(&self) -> Zeroizing<String> {
        Zeroizing::new(data_encoding::BASE32_NOPAD.encode(&self.0))
    }

    /// The address that an app reads from a picture or a link. Neither name needs escaping.
    pub fn uri(&self, fleet: &str, operator: &str) -> Zeroizing<String> {
        let secret = self.base32();
        let issuer = format!("Phalanx%20{fleet}");
        Zeroizing::new(format!("otpauth://totp/{issuer}:{operator}?secret={}&issuer={issuer}", *secret))
    }

    /// The step that `code` is for: the present one or a neighbour, for clocks that differ, if it is later than `last`, so that
    /// no code counts twice (RFC 6238 section 5.2).
    pub fn step_of(&self, code: &str, now_ms: u64, last: u64) -> Option<u64> {
        let now = now_ms / STEP_MS;
        let mut found = None;
        for step in [now.saturating_sub(1), now, now.saturating_add(1)] {
            if bool::from(self.code(step).as_bytes().ct_eq(code.as_bytes())) && step > last {
                found = Some(step);
            }
        }
        found
    }

    /// The code of a step (RFC 4226 section 5.3).
    pub fn code(&self, step: u64) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let tag = tag.as_ref();
        let offset = usize::from(tag.last().copied().unwrap_or_default() & 0x0f);
        let four = tag.get(offset..).and_then(|rest| rest.first_chunk::<4>()).copied().unwrap_or_default();
        format!("{:06}", (u32::from_be_bytes(four) & 0x7fff_ffff) % 1_000_000)
    }
}

impl std::fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TotpSecret(..)")
    }
}

/// How long a code is the present one, in milliseconds.
pub const STEP_MS: u64 = 30_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_rfc_6238_appendix_b() {
        let secret = TotpSecret(Zeroizing::new(b"12345678901234567890".to_vec()));
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(secret.code(seconds / 30), code);
        }
    }

    #[test]
    fn a_code_counts_once_and_for_a_neighbouring_step_only() {
        let secret = TotpSecret::fresh();
        let now_ms = 1_800_000_000_000;
        let now = now_ms / STEP_MS;
        for (step, good) in
            [(now - 2, false), (now - 1, true), (now, true), (now + 1, true), (now + 2, false)]
        {
            assert_eq!(secret.step_of(&secret.code(step), now_ms, 0).is_some(), good, "{step}");
        }
        assert_eq!(secret.step_of(&secret.code(now), now_ms, now), None, "a replayed code");
        assert_eq!(secret.step_of("", now_ms, 0), None);
        assert_eq!(format!("{secret:?}"), "TotpSecret(..)");
    }

    #[test]
    fn an_app_reads_the_secret() {
        let secret = TotpSecret(Zeroizing::new(b"12345678901234567890".to_vec()));
        let uri = "otpauth://totp/Phalanx%20site:alice?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Phalanx%20site";
        assert_eq!(*secret.uri("site", "alice"), uri);
    }
}
