//! Session tickets that count under one rule for clients' certificates only: a session that began under another, or under none, begins
//! anew.
//!
//! What a ticket of a rule seals begins with a mark and the rule's digest. What TLS seals by itself begins with neither byte of the mark.

use std::sync::Arc;

use rustls::server::ProducesTickets;

use crate::client_certificate::RuleId;

/// A listener's tickets, for connections under one rule; `None`: under none.
#[derive(Debug)]
pub(super) struct RuledTickets {
    pub(super) tickets: Arc<dyn ProducesTickets>,
    pub(super) rule: Option<RuleId>,
}

impl ProducesTickets for RuledTickets {
    fn enabled(&self) -> bool {
        self.tickets.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.tickets.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        match &self.rule {
            None => self.tickets.encrypt(plain),
            Some(rule) => self.tickets.encrypt(&[MARK, &rule.0, plain].concat()),
        }
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let plain = self.tickets.decrypt(ticket)?;
        match &self.rule {
            None => (!plain.starts_with(MARK)).then_some(plain),
            Some(rule) => plain.strip_prefix(MARK)?.strip_prefix(&rule.0).map(<[u8]>::to_vec),
        }
    }
}

/// rustls begins with a flag, 0 or 1. A node that does not know of rules reads this as a session of a version that there is not.
const MARK: &[u8] = &[0xff; 16];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls::crypto::aws_lc_rs::Ticketer;

    use super::*;

    proptest! {
        #[test]
        fn a_ticket_counts_under_its_own_rule_alone(mut plain: Vec<u8>, digests: [[u8; 32]; 2]) {
            plain.insert(0, 1);
            let tickets = Ticketer::new().unwrap();
            let [one, other] = digests.map(RuleId);
            let under = |rule| RuledTickets { tickets: Arc::clone(&tickets), rule };
            for made in [None, Some(one)] {
                let ticket = under(made).encrypt(&plain).unwrap();
                for opened in [None, Some(one), Some(other)] {
                    let expected = (made == opened).then(|| plain.clone());
                    prop_assert_eq!(under(opened).decrypt(&ticket), expected);
                }
            }
        }
    }
}
