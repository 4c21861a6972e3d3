//! One login on its way through a browser: what was asked, sealed into a cookie, until the provider sends the browser back.
//!
//! Nothing is kept here of logins that were begun, so that beginning many pushes out nobody's. What came back with a code is remembered until
//! its time is over.
//!
//! INVARIANT: a state counts once, in time, for the provider that it was made for, and in the browser that has its cookie.

use parking_lot::Mutex;
use phalanx_trust::passkey::{base64url, from_base64url};
use phalanx_trust::{Sealer, random_bytes, sha256};
use serde::{Deserialize, Serialize};

use crate::limits::{PROVIDER_LOGIN_MS, PROVIDER_LOGINS_PER_NETWORK_MAX, PROVIDER_LOGINS_SPENT_MAX};

/// A login that was begun.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Flow {
    pub(crate) provider: String,
    /// What the provider must send back.
    pub(crate) state: String,
    /// What the token must hold.
    pub(crate) nonce: String,
    /// What proves that the code is redeemed by who asked for it (RFC 7636).
    pub(crate) verifier: String,
    /// The console's origin, as the browser has it.
    pub(crate) origin: String,
    /// The session that the browser had. Its cookie does not come back with the browser.
    pub(crate) session: Option<String>,
    /// Whose fresh second factor this is to be; else it is a login.
    pub(crate) fresh_for: Option<FreshFor>,
    pub(crate) begun_at_ms: u64,
}

/// The operator who proves himself anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FreshFor {
    /// His id.
    pub(crate) operator: String,
}

/// Why what a browser came back with does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FlowFault {
    #[error("this browser did not begin this login")]
    Foreign,
    #[error("the login took longer than ten minutes")]
    Late,
    #[error("this login was finished before")]
    Spent,
    #[error("too many logins come back at once")]
    Full,
}

impl Flow {
    /// A new one, of random parts.
    pub(crate) fn begin(provider: &str, origin: String, session: Option<String>, now_ms: u64) -> Self {
        let random = || base64url(&random_bytes::<32>());
        Self {
            provider: provider.to_owned(),
            state: random(),
            nonce: random(),
            verifier: random(),
            origin,
            session,
            fresh_for: None,
            begun_at_ms: now_ms,
        }
    }

    fn ends_ms(&self) -> u64 {
        self.begun_at_ms.saturating_add(PROVIDER_LOGIN_MS)
    }

    /// What the provider compares the verifier with: S256.
    pub(crate) fn challenge(&self) -> String {
        base64url(&sha256(self.verifier.as_bytes()))
    }
}

/// A state that came back.
struct Spent {
    state: [u8; 32],
    /// Whence, hashed.
    network: [u8; 32],
    /// Until when it is remembered.
    ends_ms: u64,
}

/// Logins under way at this process.
pub(crate) struct Flows {
    sealer: Sealer,
    /// States that came back with a code.
    spent: Mutex<Vec<Spent>>,
}

impl Flows {
    pub(crate) fn new() -> Result<Self, String> {
        let sealer = Sealer::ephemeral().map_err(|error| error.to_string())?;
        Ok(Self { sealer, spent: Mutex::default() })
    }

    /// What the browser keeps of a login meanwhile. It cannot read it.
    pub(crate) fn seal(&self, flow: &Flow) -> Option<String> {
        let plain = serde_json::to_vec(flow).ok()?;
        self.sealer.seal(CONTEXT, &plain).ok().map(|sealed| base64url(&sealed))
    }

    /// The login that a browser comes back from. It is not used up by that.
    pub(crate) fn open(
        &self,
        cookie: Option<&str>,
        (provider, state): (&str, &str),
        now_ms: u64,
    ) -> Result<Flow, FlowFault> {
        let read = |cookie: &str| {
            let plain = self.sealer.open(CONTEXT, &from_base64url(cookie)?).ok()?;
            serde_json::from_slice::<Flow>(&plain).ok()
        };
        let flow = cookie.and_then(read).ok_or(FlowFault::Foreign)?;
        // Digests, so that the time of comparing tells nothing of the state.
        let same = sha256(flow.state.as_bytes()) == sha256(state.as_bytes());
        if flow.provider != provider || !same {
            return Err(FlowFault::Foreign);
        }
        if now_ms >= flow.ends_ms() {
            return Err(FlowFault::Late);
        }
        Ok(flow)
    }

    /// Uses a login up that came back from a network.
    pub(crate) fn spend(&self, flow: &Flow, network: &str, now_ms: u64) -> Result<(), FlowFault> {
        let (state, network) = (sha256(flow.state.as_bytes()), sha256(network.as_bytes()));
        let mut spent = self.spent.lock();
        spent.retain(|known| now_ms < known.ends_ms);
        if spent.iter().any(|known| known.state == state) {
            return Err(FlowFault::Spent);
        }
        let of_network = spent.iter().filter(|known| known.network == network).count();
        if spent.len() >= PROVIDER_LOGINS_SPENT_MAX || of_network >= PROVIDER_LOGINS_PER_NETWORK_MAX {
            return Err(FlowFault::Full);
        }
        spent.push(Spent { state, network, ends_ms: flow.ends_ms() });
        Ok(())
    }
}

const CONTEXT: &str = "login by a provider 1";

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(flows: &Flows) -> (Flow, String) {
        let flow = Flow::begin("corp", "https://console.example".into(), None, 1_000);
        let cookie = flows.seal(&flow).unwrap();
        (flow, cookie)
    }

    #[test]
    fn a_login_comes_back_once_and_in_time() {
        let flows = Flows::new().unwrap();
        let (flow, cookie) = begun(&flows);
        let open = |now_ms| flows.open(Some(&cookie), ("corp", &flow.state), now_ms);
        assert_eq!(open(1_000 + PROVIDER_LOGIN_MS).err(), Some(FlowFault::Late));
        assert!(open(2_000).is_ok_and(|back| back == flow));
        assert_eq!(flows.spend(&flow, "a", 2_000), Ok(()));
        assert_eq!(flows.spend(&flow, "b", 3_000), Err(FlowFault::Spent));
    }

    #[test]
    fn a_login_comes_back_in_the_browser_and_from_the_provider_that_it_was_begun_with() {
        let flows = Flows::new().unwrap();
        let ((flow, cookie), (other, _)) = (begun(&flows), begun(&flows));
        let elsewhere = Flows::new().unwrap().seal(&flow).unwrap();
        for (cookie, provider, state) in [
            (None, "corp", flow.state.as_str()),
            (Some(""), "corp", &flow.state),
            (Some("AAAA"), "corp", &flow.state),
            (Some(elsewhere.as_str()), "corp", &flow.state),
            (Some(cookie.as_str()), "corp", &other.state),
            (Some(&cookie), "corp", ""),
            (Some(&cookie), "evil", &flow.state),
        ] {
            let back = flows.open(cookie, (provider, state), 2_000);
            assert_eq!(back.err(), Some(FlowFault::Foreign), "{provider} {state}");
        }
    }

    #[test]
    fn logins_that_come_back_are_bounded() {
        let flows = Flows::new().unwrap();
        for n in 0..PROVIDER_LOGINS_SPENT_MAX {
            if n == PROVIDER_LOGINS_PER_NETWORK_MAX {
                assert_eq!(flows.spend(&begun(&flows).0, "0", 2_000), Err(FlowFault::Full), "of one network");
            }
            let network = (n / PROVIDER_LOGINS_PER_NETWORK_MAX).to_string();
            flows.spend(&begun(&flows).0, &network, 2_000).unwrap();
        }
        let late = Flow { begun_at_ms: 5_000, ..begun(&flows).0 };
        assert_eq!(flows.spend(&late, "another", 6_000), Err(FlowFault::Full));
        assert_eq!(
            flows.spend(&late, "another", 1_000 + PROVIDER_LOGIN_MS),
            Ok(()),
            "what was remembered is over"
        );
    }

    #[test]
    fn the_challenge_is_the_verifiers_hash() {
        // RFC 7636, appendix B.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned();
        let flow = Flow { verifier, ..Flow::begin("corp", String::new(), None, 0) };
        assert_eq!(flow.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
