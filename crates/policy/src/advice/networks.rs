//! Networks that are wider than whoever wrote them can have meant.

use std::net::IpAddr;

use phalanx_model::Prefix;

use super::Advice;
use crate::networks::Networks;
use crate::prefix;
use crate::raw::RawApp;
use crate::toml_text::At;

impl Advice<'_> {
    /// Networks that something is not done to. All addresses together are a warning of the check's own.
    pub(super) fn exempt(&mut self, written: &[At<String>], what: &str) {
        for (at, network) in wide(written, EXEMPT_V4_LEAST, EXEMPT_V6_LEAST) {
            self.say(
                &at.span,
                format!("{} {what}", addresses(&network)),
                "name the addresses that are yours; a decision of kind `allow` can end by itself",
            );
        }
    }

    /// Networks whose word about clients is believed.
    pub(super) fn forwarders(&mut self, raw: &RawApp) {
        for (at, network) in wide(&raw.trust_forwarded, FORWARDER_V4_LEAST, FORWARDER_V6_LEAST) {
            self.say(
                &at.span,
                format!("{} can claim any address: bans and limits are theirs to avoid", addresses(&network)),
                "name the networks of your load balancers, or a `preset` of `client_address`",
            );
        }
    }

    /// Networks that an app or a route is open to.
    pub(super) fn doors(&mut self, written: &[At<String>], networks: &Networks) {
        for at in written {
            if let Some(network) = prefix::parse(at).filter(|network| network.prefix_len() == 1) {
                self.say(
                    &at.span,
                    format!("`allow_networks` keeps hardly anybody out: {} may ask", addresses(&network)),
                    "take it out if all may ask, or name the networks that may",
                );
            }
        }
        let is_denied = |allowed: &Prefix| networks.deny.iter().any(|denied| denied.contains(allowed));
        if let Some(first) = written.first()
            && networks.allow.iter().all(is_denied)
        {
            self.say(
                &first.span,
                "nobody may ask: `deny_networks` holds all of `allow_networks`",
                "take out the one or the other",
            );
        }
    }
}

/// Public networks shorter than this, but for those of all addresses.
fn wide(written: &[At<String>], least_v4: u8, least_v6: u8) -> impl Iterator<Item = (&At<String>, Prefix)> {
    written.iter().filter_map(move |at| {
        let network = prefix::parse(at)?;
        let least = if network.addr().is_ipv4() { least_v4 } else { least_v6 };
        let is_wide = (1..least).contains(&network.prefix_len());
        (is_wide && is_public(network.addr())).then_some((at, network))
    })
}

fn addresses(network: &Prefix) -> String {
    match network.max_prefix_len() - network.prefix_len() {
        bits @ 0..64 => format!("{} addresses ({network})", 1_u64 << bits),
        _ => format!("all addresses of {network}"),
    }
}

/// Whether an address can be a stranger's: it is of no private network and not of this machine.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let is_shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || is_shared)
        }
        IpAddr::V6(ip) => {
            !(ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified())
        }
    }
}

/// Companies have a /16 at most, and a /32 of IPv6.
const EXEMPT_V4_LEAST: u8 = 16;
const EXEMPT_V6_LEAST: u8 = 32;
/// Content delivery networks have networks of a /12, and of a /29 in IPv6.
const FORWARDER_V4_LEAST: u8 = 10;
const FORWARDER_V6_LEAST: u8 = 24;
