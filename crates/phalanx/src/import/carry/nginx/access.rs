//! `allow` and `deny`: the first that fits decides. Ours are two lists, of which the one that denies goes first.

use super::super::Notes;
use super::super::site::Access;
use super::Scope;
use super::lex::Directive;

/// Who may ask in a scope: what the innermost block with a word about it says.
pub(super) fn of(scope: &Scope<'_>, notes: &mut Notes) -> Access {
    let is_said = |one: &&Directive| matches!(one.name.as_str(), "allow" | "deny");
    let level = scope.levels.iter().rev().find(|level| level.iter().any(|one| is_said(&one)));
    let all: Vec<&Directive> = level.iter().flat_map(|level| level.iter()).filter(is_said).collect();
    match lists(&all) {
        Some(access) => access,
        None => {
            let help = "write `allow_networks` and `deny_networks`, of which the second goes first, or a rule with @ipMatch into `extra_rules`";
            for one in all {
                notes.add(&one.place, format!("`{}` is not carried", one.words()), help);
            }
            Access::default()
        }
    }
}

fn lists(all: &[&Directive]) -> Option<Access> {
    let end = all.iter().position(|one| one.arg(0) == "all");
    let ends_open = end.and_then(|at| all.get(at)).is_none_or(|one| one.name == "allow");
    let said = all.get(..end.unwrap_or(all.len()))?;
    let network = |one: &&&Directive| {
        let (ip, length) = one.arg(0).split_once('/').unwrap_or((one.arg(0), "0"));
        ip.parse::<std::net::IpAddr>().is_ok() && length.parse::<u8>().is_ok()
    };
    if !said.iter().all(|one| network(&one)) {
        return None;
    }
    let of =
        |name: &str| said.iter().filter(|one| one.name == name).map(|one| one.arg(0).to_owned()).collect();
    let (allow, deny): (Vec<String>, Vec<String>) = (of("allow"), of("deny"));
    let first_allow = said.iter().position(|one| one.name == "allow").unwrap_or(said.len());
    let last_deny = said.iter().rposition(|one| one.name == "deny").map_or(0, |at| at + 1);
    match (ends_open, allow.is_empty()) {
        (true, true) => Some(Access { allow, deny }),
        // What is allowed after all that is denied is allowed anyway.
        (true, false) => (last_deny <= first_allow).then(|| Access { allow: Vec::new(), deny }),
        (false, true) => Some(nobody()),
        (false, false) if last_deny <= first_allow => Some(Access { allow, deny }),
        // What is denied after all that is allowed is denied anyway.
        (false, false) => {
            let last_allow = said.iter().rposition(|one| one.name == "allow").unwrap_or_default();
            let first_deny = said.iter().position(|one| one.name == "deny").unwrap_or(said.len());
            (last_allow < first_deny).then(|| Access { allow, deny: Vec::new() })
        }
    }
}

/// What `deny all` says.
pub(super) fn nobody() -> Access {
    Access { allow: Vec::new(), deny: vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()] }
}
