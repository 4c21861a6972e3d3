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
        if let Some((at, network)) = widest(written, EXEMPT_V4_LEAST, EXEMPT_V6_LEAST) {
            self.say(
                &at.span,
                format!("{} {what}", addresses(&network)),
                "name the addresses that are yours; a decision of kind `allow` can end by itself",
            );
        }
    }

    /// Networks whose word about clients is believed.
    pub(super) fn forwarders(&mut self, raw: &RawApp) {
        if let Some((at, network)) = widest(&raw.trust_forwarded, FORWARDER_V4_LEAST, FORWARDER_V6_LEAST) {
            self.say(
                &at.span,
                format!("{} can claim any address: bans and limits are theirs to avoid", addresses(&network)),
                "name the networks of your load balancers, or a `preset` of `client_address`",
            );
        }
    }

    /// Networks that an app or a route is open to.
    pub(super) fn doors(&mut self, written: &[At<String>], networks: &Networks) {
        let all = || written.iter().filter_map(|at| Some((at, prefix::parse(at)?)));
        // Those of all addresses are a warning of the check's own.
        let is_told = all().any(|(_, network)| network.prefix_len() == 0);
        let v4 = all().filter(|(_, network)| network.addr().is_ipv4());
        let share: u64 = v4.map(|(_, network)| 1_u64 << (32 - network.prefix_len().min(32))).sum();
        let is_wide = |network: &Prefix| match network.addr() {
            IpAddr::V4(_) => share >= 1 << 31,
            IpAddr::V6(_) => network.prefix_len() <= GLOBAL_V6_LEN,
        };
        let wide =
            all().filter(|(_, network)| is_wide(network)).min_by_key(|(_, network)| network.prefix_len());
        if let Some((at, network)) = wide.filter(|_| !is_told) {
            self.say(
                &at.span,
                format!("`allow_networks` keeps hardly anybody out: {} may ask", addresses(&network)),
                "take it out if all may ask, or name the networks that may",
            );
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

/// Of the networks that are shorter than this and not private, the first of the shortest; those of all addresses are told elsewhere.
fn widest(written: &[At<String>], least_v4: u8, least_v6: u8) -> Option<(&At<String>, Prefix)> {
    let wide = written.iter().filter_map(|at| {
        let network = prefix::parse(at)?;
        let is_v4 = network.addr().is_ipv4();
        let (least, private) = if is_v4 { (least_v4, PRIVATE_V4_LEN) } else { (least_v6, PRIVATE_V6_LEN) };
        let is_wide = (1..least).contains(&network.prefix_len());
        (is_wide && (network.prefix_len() < private || is_public(network.addr()))).then_some((at, network))
    });
    wide.min_by_key(|(_, network)| network.prefix_len())
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

/// The shortest private networks: 10.0.0.0/8, fc00::/7.
const PRIVATE_V4_LEN: u8 = 8;
const PRIVATE_V6_LEN: u8 = 7;
/// All that is routed on the net is in 2000::/3.
const GLOBAL_V6_LEN: u8 = 3;
/// Companies have a /16 at most, and a /32 of IPv6.
const EXEMPT_V4_LEAST: u8 = 16;
const EXEMPT_V6_LEAST: u8 = 32;
/// Content delivery networks have networks of a /12, and of a /29 in IPv6.
const FORWARDER_V4_LEAST: u8 = 10;
const FORWARDER_V6_LEAST: u8 = 24;
