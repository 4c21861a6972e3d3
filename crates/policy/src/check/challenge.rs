//! Challenges and throttles.

use phalanx_model::limits::CHALLENGE_BITS_MAX;

use super::Check;
use crate::challenge::{Challenge, Throttle};
use crate::rate_limit::Rate;
use crate::raw::challenge::{RawChallenge, RawThrottle};

impl Check<'_> {
    pub(super) fn challenge(&mut self, raw: &RawChallenge) -> Challenge {
        let default = Challenge::default();
        Challenge {
            bits: self.within("bits", raw.bits.as_ref(), BITS_MIN..=CHALLENGE_BITS_MAX, default.bits),
            pass_ms: self.duration(raw.pass.as_ref(), default.pass_ms, &(60_000..=24 * 60 * 60_000)),
            without_scripts: raw.without_scripts.unwrap_or(default.without_scripts),
        }
    }

    pub(super) fn throttle(&mut self, raw: &RawThrottle) -> Throttle {
        let default = Throttle::default();
        let rate = match &raw.rate {
            None => default.rate,
            Some(rate) => Rate::parse(rate).unwrap_or_else(|message| {
                self.error(&rate.span, message);
                default.rate
            }),
        };
        let burst = if raw.rate.is_some() { rate.default_burst() } else { default.burst };
        Throttle { rate, burst: self.within("burst", raw.burst.as_ref(), 1..=rate.count, burst) }
    }
}

/// Less is no work.
const BITS_MIN: u8 = 8;

#[cfg(test)]
mod tests {
    use crate::{ChallengeUse, Rate, parse_policy};

    fn policy(text: &str) -> Result<crate::Policy, String> {
        let app = "[[apps]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1\"\n";
        let parsed = parse_policy("policy.toml", &format!("{text}\n{app}{}", ""));
        parsed.map(|(policy, _)| policy).map_err(|faults| faults[0].to_string())
    }

    #[test]
    fn what_is_not_said_is_as_ever() {
        let policy = policy("").unwrap();
        assert_eq!((policy.challenge, policy.throttle), Default::default());
        assert_eq!(policy.apps[0].challenge, ChallengeUse::Ordered);
    }

    #[test]
    fn what_is_said_counts_and_is_checked() {
        let said =
            "[challenge]\nbits = 18\npass = \"2h\"\nwithout_scripts = false\n[throttle]\nrate = \"10/s\"\n";
        let said = policy(said).unwrap();
        assert_eq!((said.challenge.bits, said.challenge.pass_ms), (18, 7_200_000));
        assert!(!said.challenge.without_scripts);
        assert_eq!((said.throttle.rate, said.throttle.burst), (Rate { count: 10, period_ms: 1_000 }, 5));
        for (text, expected) in [
            ("[challenge]\nbits = 21", "policy.toml:2: `bits` goes from 8 to 20, not 21"),
            ("[challenge]\npass = \"1s\"", "policy.toml:2: `1s` is not between 60000 ms and 86400000 ms"),
            ("[throttle]\nrate = \"0/s\"", "policy.toml:2: `0/s` admits nothing"),
            ("[throttle]\nburst = 61", "policy.toml:2: `burst` goes from 1 to 60, not 61"),
        ] {
            let fault = policy(text).unwrap_err();
            assert!(fault.contains(expected), "{fault}");
        }
    }

    #[test]
    fn a_route_says_otherwise_than_its_app() {
        let text = "[[apps]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1\"\nchallenge = \"always\"\n\
             [[apps.routes]]\npath = \"/api\"\nchallenge = \"ordered\"\n[[apps.routes]]\npath = \"/x\"\nrequest_headers = { set = { A = \"b\" } }\n";
        let (policy, _) = parse_policy("policy.toml", text).unwrap();
        let app = &policy.apps[0];
        assert_eq!(app.challenge, ChallengeUse::Always);
        assert_eq!(app.routes[0].own.as_ref().unwrap().challenge, ChallengeUse::Ordered);
        assert!(app.routes[1].own.is_none());
    }
}
