//! What a policy says of all apps, and which changes of it are harmless.

use super::Findings;
use super::app::is_faster;
use super::networks::wider;
use crate::detection::{Detection, DetectionMode, DetectionThreshold};
use crate::exemption::Exemption;
use crate::policy::{PlaybooksUsed, Strikes};
use crate::{Challenge, Policy, Throttle};
use phalanx_model::Prefix;

/// What of it takes protection away.
pub(super) fn compare(old: &Policy, new: &Policy) -> Findings {
    let Policy {
        version: _,
        // They are compared one by one.
        apps: _,
        allow,
        operator_networks,
        // They are compared one by one.
        exemptions: _,
        strikes: of_strikes,
        challenge: of_challenge,
        throttle: of_throttle,
        detection: of_detection,
        playbooks: of_playbooks,
        cdn_networks,
        crawlers,
    } = new;
    let mut found = Findings::default();
    if let Some(network) = wider(&old.allow, allow) {
        found.say("allow", format!("{network} is never refused for what it asks"));
    }
    if let Some(network) = wider(&old.operator_networks, operator_networks) {
        found.say("operator_networks", format!("{network} is never banned"));
    }
    strikes(&old.strikes, of_strikes, &mut found);
    challenge(&old.challenge, of_challenge, &mut found);
    throttle(&old.throttle, of_throttle, &mut found);
    detection(&old.detection, of_detection, &mut found);
    playbooks(&old.playbooks, of_playbooks, &mut found);
    let other = *cdn_networks != old.cdn_networks;
    found.say_if(other, "cdn_networks", "other networks may claim any client address");
    let other = *crawlers != old.crawlers;
    found.say_if(other, "crawlers", "others may be taken for crawlers, who are not challenged");
    found
}

/// Whether it spares somebody whom nothing spared before for as long.
pub(super) fn exemption(old: &Policy, new: &Exemption) -> Option<(&'static str, String)> {
    let spared = |until_s: i64| -> Vec<Prefix> {
        let lasting = old.exemptions.iter().filter(|old| old.ends_at_s() >= until_s);
        old.allow.iter().chain(lasting.flat_map(|old| &old.networks)).copied().collect()
    };
    if let Some(network) = wider(&spared(i64::MIN), &new.networks) {
        let end = if new.until.is_none() { ", for ever" } else { "" };
        return Some(("", format!("{network} is never refused for what it asks{end}")));
    }
    wider(&spared(new.ends_at_s()), &new.networks)?;
    let why = if new.until.is_none() { "the exemption never ends" } else { "the exemption ends later" };
    Some(("until.at_s", why.to_owned()))
}

fn strikes(old: &Strikes, new: &Strikes, found: &mut Findings) {
    let Strikes { count, window_ms, first_ban_ms, max_ban_ms } = new;
    found.say_if(*count > old.count, "strikes.count", "it takes more attacks to be banned");
    let shorter = *window_ms < old.window_ms;
    found.say_if(shorter, "strikes.window_ms", "attacks count for a shorter time");
    found.say_if(*first_ban_ms < old.first_ban_ms, "strikes.first_ban_ms", "bans are shorter");
    found.say_if(*max_ban_ms < old.max_ban_ms, "strikes.max_ban_ms", "bans are shorter");
}

fn challenge(old: &Challenge, new: &Challenge, found: &mut Findings) {
    let Challenge { bits, pass_ms, without_scripts } = new;
    found.say_if(*bits < old.bits, "challenge.bits", "challenges are easier");
    let longer = *pass_ms > old.pass_ms;
    found.say_if(longer, "challenge.pass_ms", "who has passed a challenge passes for longer");
    let wait = *without_scripts && !old.without_scripts;
    found.say_if(wait, "challenge.without_scripts", "clients without scripts may wait instead");
}

fn throttle(old: &Throttle, new: &Throttle, found: &mut Findings) {
    let Throttle { rate, burst } = new;
    let more = "whoever is throttled may ask more often";
    found.say_if(is_faster(old.rate, *rate), "throttle.rate", more);
    found.say_if(*burst > old.burst, "throttle.burst", more);
}

fn detection(old: &Detection, new: &Detection, found: &mut Findings) {
    let Detection {
        mode,
        stuffing,
        stuffing_failed_percent,
        spraying,
        enumeration,
        walk,
        scanning,
        scraping,
        carding,
        exploiting,
        flood_requests,
        peer_percent,
    } = new;
    let less = rank(*mode) < rank(old.mode);
    found.say_if(less, "detection.mode", "attacks that show over many requests are not answered any more");
    for (setting, was, is) in [
        ("detection.stuffing", &old.stuffing, stuffing),
        ("detection.spraying", &old.spraying, spraying),
        ("detection.enumeration", &old.enumeration, enumeration),
        ("detection.walk", &old.walk, walk),
        ("detection.scanning", &old.scanning, scanning),
        ("detection.scraping", &old.scraping, scraping),
        ("detection.carding", &old.carding, carding),
        ("detection.exploiting", &old.exploiting, exploiting),
    ] {
        found.say_if(takes_more(was, is), setting, CHANGES);
    }
    let flood = is_other(old.flood_requests, *flood_requests);
    found.say_if(flood, "detection.flood_requests", CHANGES);
    let failed = *stuffing_failed_percent != old.stuffing_failed_percent;
    found.say_if(failed, "detection.stuffing_failed_percent", CHANGES);
    found.say_if(*peer_percent != old.peer_percent, "detection.peer_percent", CHANGES);
}

fn takes_more(old: &DetectionThreshold, new: &DetectionThreshold) -> bool {
    let DetectionThreshold { window_ms, events, different } = new;
    *window_ms != old.window_ms || is_other(old.events, *events) || is_other(old.different, *different)
}

/// Whether a count changes in another way than to a smaller one. What is not written is the detector's own, which is not known here.
fn is_other(old: Option<u64>, new: Option<u64>) -> bool {
    old != new && !matches!((old, new), (Some(old), Some(new)) if new < old)
}

fn playbooks(old: &PlaybooksUsed, new: &PlaybooksUsed, found: &mut Findings) {
    // One of the product's that comes orders against suspects, tells and asks. Any other may take all the places for runs.
    let PlaybooksUsed { shipped, files } = new;
    if let Some(comes) = files.iter().find(|one| !old.files.contains(one)) {
        let why = format!("the playbook {} may keep others from being run", comes.display());
        found.say("playbooks.files", why);
    }
    if let Some(gone) = old.shipped.iter().find(|one| !shipped.contains(one)) {
        found.say("playbooks.shipped", format!("the playbook {gone} is not run"));
    }
    if let Some(gone) = old.files.iter().find(|one| !files.contains(one)) {
        found.say("playbooks.files", format!("the playbook {} is not run", gone.display()));
    }
}

fn rank(mode: DetectionMode) -> u8 {
    match mode {
        DetectionMode::Off => 0,
        DetectionMode::Observe => 1,
        DetectionMode::Act => 2,
    }
}

const CHANGES: &str = "what it takes to be an attack changes";
