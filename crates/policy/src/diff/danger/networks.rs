//! Lists of networks, by the addresses that are in them.

use phalanx_model::Prefix;

/// A network of the second list that the first does not hold.
pub(super) fn wider(old: &[Prefix], new: &[Prefix]) -> Option<Prefix> {
    new.iter().find(|network| !is_covered(**network, old)).copied()
}

/// Whether networks hold all addresses of one, be it in pieces.
fn is_covered(network: Prefix, by: &[Prefix]) -> bool {
    if by.iter().any(|one| one.contains(&network)) {
        return true;
    }
    // Halves are looked at only where there are pieces of them: that bounds the work.
    let pieces: Vec<Prefix> = by.iter().filter(|one| network.contains(*one)).copied().collect();
    let halves = network.subnets(network.prefix_len().saturating_add(1));
    !pieces.is_empty() && halves.is_ok_and(|mut halves| halves.all(|half| is_covered(half, &pieces)))
}
