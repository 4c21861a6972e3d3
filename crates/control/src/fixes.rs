//! The most valuable things to do now: what is known of a node, ranked.
//!
//! Facts in, list out; nothing is asked here. Each thing has a weight from 1 to 100 by a table at the end of this file, so that it can be read why
//! one comes before another.

use phalanx_model::RequestId;
use phalanx_model::limits::CERTIFICATE_ENDS_SOON_MS;
use phalanx_policy::{Diagnostic, Level};
use phalanx_trust::ca::CERTIFICATE_MS;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::Certificate;

/// `GET /api/v1/fixes`: one thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fix {
    /// What kind of thing it is and what it is about: the same as long as it is there.
    pub id: String,
    /// How much it matters, from 1 to 100.
    pub weight: u8,
    /// What to do.
    pub title: String,
    /// Why. May quote policy and what other parts say.
    pub why: String,
    /// The command that does it, or shows more. Nothing in it was written by strangers.
    pub command: String,
    /// Where the console does it.
    pub page: String,
}

/// What is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) now_ms: u64,
    pub(crate) apps: Vec<AppFacts>,
    pub(crate) certificates: Vec<Certificate>,
    /// When the node's own certificates of the fleet end.
    pub(crate) membership_ends_ms: Option<u64>,
    /// What `phalanx check` would say of the policy in force.
    pub(crate) advice: Vec<Diagnostic>,
    pub(crate) suspects: Vec<Suspect>,
    pub(crate) held: u64,
    pub(crate) degraded: Vec<String>,
    /// Accounts with which somebody can get in.
    pub(crate) operators: Vec<OperatorFacts>,
    /// Versions of the nodes, each once.
    pub(crate) versions: Vec<String>,
}

/// An app, and its last day.
#[derive(Debug, Clone, Default)]
pub(crate) struct AppFacts {
    pub(crate) name: String,
    /// `block`, `observe` or `off`.
    pub(crate) mode: String,
    /// Requests that were passed on and would have been refused.
    pub(crate) observed: u64,
}

/// A rule that refuses clients who are otherwise served well.
#[derive(Debug, Clone)]
pub(crate) struct Suspect {
    pub(crate) rule: u64,
    /// Distinct clients that it refused lately, as far as was looked.
    pub(crate) clients: usize,
    /// Those of them that were served well.
    pub(crate) good: usize,
    /// The last request that it refused.
    pub(crate) request: RequestId,
}

/// An account.
#[derive(Debug, Clone)]
pub(crate) struct OperatorFacts {
    pub(crate) name: String,
    pub(crate) is_owner: bool,
    /// Passkeys, and one for a password with codes.
    pub(crate) credentials: usize,
}

/// What to do, the most valuable first, at most [`FIXES_MAX`].
pub(crate) fn rank(facts: &Facts) -> Vec<Fix> {
    let mut fixes = Vec::new();
    fixes.extend(facts.apps.iter().filter_map(of_app));
    fixes.extend(facts.certificates.iter().filter_map(|one| of_certificate(one, facts.now_ms)));
    fixes.extend(of_membership(facts));
    fixes.extend(of_advice(&facts.advice));
    fixes.extend(facts.suspects.iter().filter_map(of_suspect));
    fixes.extend(of_held(facts.held));
    fixes.extend(facts.degraded.iter().enumerate().map(of_degraded));
    fixes.extend(of_operators(&facts.operators));
    fixes.extend(of_versions(&facts.versions));
    // The sort is stable: of equals, what was looked at first.
    fixes.sort_by_key(|fix| std::cmp::Reverse(fix.weight));
    fixes.truncate(FIXES_MAX);
    fixes
}

fn fix(id: String, weight: u8, title: String, why: String, (command, page): (&str, &str)) -> Fix {
    Fix { id, weight, title, why, command: command.to_owned(), page: page.to_owned() }
}

fn of_app(app: &AppFacts) -> Option<Fix> {
    let name = &app.name;
    match app.mode.as_str() {
        "off" => Some(fix(
            format!("app-off:{name}"),
            APP_OFF,
            format!("Protect app {name}"),
            String::from("its rules are off: attacks are passed on and nobody is told"),
            ("phalanx status", "#/policy"),
        )),
        "observe" if app.observed > 0 => Some(fix(
            format!("app-observes:{name}"),
            APP_LETS_PASS,
            format!("Have app {name} refuse attacks"),
            format!(
                "it only observes, and {} requests of the last day were passed on that would have been refused; look at them, then write \
                 mode = \"block\"",
                app.observed
            ),
            ("phalanx events --action observe", "#/policy"),
        )),
        "observe" => Some(fix(
            format!("app-observes:{name}"),
            APP_OBSERVES,
            format!("Decide whether app {name} goes on observing"),
            String::from(
                "it refuses nothing, and nothing of the last day would have been refused: mode = \"block\" would have harmed nobody",
            ),
            ("phalanx traffic --last 24h", "#/policy"),
        )),
        _ => None,
    }
}

fn of_certificate(certificate: &Certificate, now_ms: u64) -> Option<Fix> {
    let names = certificate.names.join(", ");
    let left = certificate.expires_at_ms.checked_sub(now_ms);
    let (weight, why) = match left {
        None => (EXPIRED, String::from("it has expired: visitors are warned off")),
        Some(ms) if ms < CERTIFICATE_ENDS_SOON_MS => (ENDS_SOON, format!("it ends in {} days", ms / DAY_MS)),
        Some(_) => return None,
    };
    let title = format!("Renew the certificate of {names}");
    let why = format!("{why}; it is {}", certificate.file);
    Some(fix(format!("certificate:{}", certificate.file), weight, title, why, ("phalanx status", "#/")))
}

fn of_membership(facts: &Facts) -> Option<Fix> {
    let ends_ms = facts.membership_ends_ms?;
    // They are good for a day and renewed at half of that: an end so near means that this has failed for hours.
    let left = ends_ms.saturating_sub(facts.now_ms);
    (left < CERTIFICATE_MS / 4).then(|| {
        fix(
            String::from("membership"),
            EXPIRED,
            String::from("Let this node renew its certificates of the fleet"),
            format!(
                "they end in {} hours, and should have been renewed before: the authority is not reached",
                left / HOUR_MS
            ),
            ("phalanx fleet status", "#/"),
        )
    })
}

/// One for each piece of advice, at most [`ADVICE_MAX`]: the rest comes when these are gone.
fn of_advice(advice: &[Diagnostic]) -> Vec<Fix> {
    let mut sorted: Vec<&Diagnostic> = advice.iter().collect();
    sorted.sort_by_key(|one| one.level != Level::Error);
    let one = |one: &Diagnostic| {
        let weight = if one.level == Level::Error { ADVICE_ERROR } else { ADVICE };
        let help = one.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        fix(
            format!("advice:{}:{}:{}", one.file, one.line, one.message),
            weight,
            format!("Look at line {} of {}", one.line, one.file),
            format!("{}{help}", one.message),
            ("phalanx check -c phalanx.toml", "#/policy"),
        )
    };
    sorted.into_iter().take(ADVICE_MAX).map(one).collect()
}

fn of_suspect(suspect: &Suspect) -> Option<Fix> {
    let Suspect { rule, clients, good, request } = suspect;
    (*good >= SUSPECT_CLIENTS_LEAST && good * 100 >= clients * SUSPECT_PERCENT_LEAST).then(|| {
        fix(
            format!("false-positive:{rule}"),
            FALSE_POSITIVES,
            format!("See whether rule {rule} refuses the wrong people"),
            format!("of the last {clients} clients that it refused, {good} are served well otherwise"),
            (&*format!("phalanx waf suggest {request}"), &*format!("#/requests/{request}")),
        )
    })
}

fn of_held(held: u64) -> Option<Fix> {
    (held > 0).then(|| {
        fix(
            String::from("held"),
            HELD,
            format!("Decide about {held} held order{}", if held == 1 { "" } else { "s" }),
            String::from("they would refuse too many clients that are served well, and do nothing until somebody says so"),
            ("phalanx decision list --held", "#/"),
        )
    })
}

fn of_degraded((number, text): (usize, &String)) -> Fix {
    let title = String::from("Mend what is degraded");
    fix(format!("degraded:{number}"), DEGRADED, title, text.clone(), ("phalanx status", "#/"))
}

fn of_operators(operators: &[OperatorFacts]) -> Option<Fix> {
    let safe = |one: &OperatorFacts| one.is_owner && one.credentials > 1;
    if operators.is_empty() {
        return Some(fix(
            String::from("no-operators"),
            NO_OPERATORS,
            String::from("Give people accounts of their own"),
            String::from(
                "whoever has the admin token or the node's socket is an owner, and the audit cannot tell who it was",
            ),
            ("phalanx operator add NAME --role owner", "#/operators"),
        ));
    }
    let owners = operators.iter().filter(|one| one.is_owner).count();
    // Two owners can each give the other new credentials.
    (owners < 2 && !operators.iter().any(safe)).then(|| {
        let owner = operators.iter().find(|one| one.is_owner).map_or("nobody", |one| one.name.as_str());
        fix(
            String::from("one-credential"),
            ONE_CREDENTIAL,
            String::from("Add a second passkey, or a second owner"),
            format!("the only owner who gets in is {owner}, with one credential: when it is lost, only the node's own socket helps"),
            ("phalanx operator list", "#/operators"),
        )
    })
}

fn of_versions(versions: &[String]) -> Option<Fix> {
    (versions.len() > 1).then(|| {
        fix(
            String::from("versions"),
            VERSIONS,
            String::from("Bring all nodes to one version"),
            format!(
                "they run {}; a fleet of two versions works, and what is new waits for the last node",
                versions.join(", ")
            ),
            ("phalanx fleet status", "#/"),
        )
    })
}

const FIXES_MAX: usize = 10;
const ADVICE_MAX: usize = 4;
/// Fewer clients say nothing of a rule.
const SUSPECT_CLIENTS_LEAST: usize = 3;
/// An attacker may have looked around first, and then he is served well too.
const SUSPECT_PERCENT_LEAST: usize = 30;
const HOUR_MS: u64 = 60 * 60_000;
const DAY_MS: u64 = 24 * HOUR_MS;

// What visitors feel now, then what lets attacks pass, then what is about to fail, then what only makes work.
const EXPIRED: u8 = 95;
const APP_OFF: u8 = 90;
const FALSE_POSITIVES: u8 = 85;
const APP_LETS_PASS: u8 = 80;
const HELD: u8 = 75;
const DEGRADED: u8 = 70;
const ENDS_SOON: u8 = 65;
const ADVICE_ERROR: u8 = 60;
const ONE_CREDENTIAL: u8 = 50;
const ADVICE: u8 = 40;
const NO_OPERATORS: u8 = 35;
const APP_OBSERVES: u8 = 30;
const VERSIONS: u8 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn app(mode: &str, observed: u64) -> Facts {
        let app = AppFacts { name: "shop".into(), mode: mode.into(), observed };
        Facts { apps: vec![app], ..good() }
    }

    /// A node with which nothing is to be done.
    fn good() -> Facts {
        Facts {
            now_ms: 100 * DAY_MS,
            operators: vec![operator("ann", true, 2)],
            versions: vec!["0.1.0".into()],
            apps: vec![AppFacts { name: "shop".into(), mode: "block".into(), observed: 4 }],
            ..Facts::default()
        }
    }

    fn operator(name: &str, is_owner: bool, credentials: usize) -> OperatorFacts {
        OperatorFacts { name: name.into(), is_owner, credentials }
    }

    fn certificate(days: i64) -> Facts {
        let expires_at_ms = (100 + days).unsigned_abs() * DAY_MS - 1;
        let one = Certificate { file: "shop.pem".into(), names: vec!["shop.example".into()], expires_at_ms };
        Facts { certificates: vec![one], ..good() }
    }

    fn suspect(clients: usize, good_ones: usize) -> Facts {
        let request = RequestId::from_parts(1, 1, 1);
        Facts { suspects: vec![Suspect { rule: 942_100, clients, good: good_ones, request }], ..good() }
    }

    #[test]
    fn each_fact_leads_to_what_it_is_worth() {
        let table = [
            ("all is well", good(), None),
            ("protection is off", app("off", 0), Some(("app-off:shop", APP_OFF))),
            ("attacks are passed", app("observe", 3), Some(("app-observes:shop", APP_LETS_PASS))),
            ("it observes, and nothing comes", app("observe", 0), Some(("app-observes:shop", APP_OBSERVES))),
            ("a certificate is good", certificate(30), None),
            ("a certificate ends soon", certificate(3), Some(("certificate:shop.pem", ENDS_SOON))),
            ("a certificate has expired", certificate(-1), Some(("certificate:shop.pem", EXPIRED))),
            (
                "the fleet's authority is not reached",
                Facts { membership_ends_ms: Some(100 * DAY_MS + 5 * HOUR_MS), ..good() },
                Some(("membership", EXPIRED)),
            ),
            ("membership was just renewed", Facts { membership_ends_ms: Some(101 * DAY_MS), ..good() }, None),
            (
                "membership is about to be renewed",
                Facts { membership_ends_ms: Some(100 * DAY_MS + 12 * HOUR_MS), ..good() },
                None,
            ),
            ("a rule refuses good clients", suspect(6, 3), Some(("false-positive:942100", FALSE_POSITIVES))),
            ("a rule refuses many, few of them good", suspect(50, 3), None),
            ("a rule refuses two good clients", suspect(2, 2), None),
            ("orders are held", Facts { held: 2, ..good() }, Some(("held", HELD))),
            (
                "a disk is full",
                Facts { degraded: vec!["full".into()], ..good() },
                Some(("degraded:0", DEGRADED)),
            ),
            (
                "nobody has an account",
                Facts { operators: vec![], ..good() },
                Some(("no-operators", NO_OPERATORS)),
            ),
            (
                "one owner, one passkey",
                Facts { operators: vec![operator("ann", true, 1), operator("bob", false, 3)], ..good() },
                Some(("one-credential", ONE_CREDENTIAL)),
            ),
            (
                "two owners",
                Facts { operators: vec![operator("ann", true, 1), operator("bob", true, 1)], ..good() },
                None,
            ),
            (
                "two versions",
                Facts { versions: vec!["1".into(), "2".into()], ..good() },
                Some(("versions", VERSIONS)),
            ),
        ];
        for (what, facts, expected) in table {
            let fixes = rank(&facts);
            let found: Vec<_> = fixes.iter().map(|fix| (fix.id.as_str(), fix.weight)).collect();
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{what}");
            assert!(
                fixes.iter().all(|fix| fix.page.starts_with("#/") && fix.command.starts_with("phalanx "))
            );
        }
    }

    #[test]
    fn the_most_valuable_come_first_and_no_more_than_ten() {
        let warning =
            |line| Diagnostic::warning("policy.toml", line, "trusts everybody").with_help("name networks");
        let facts = Facts {
            held: 1,
            degraded: (0..12).map(|n| format!("part {n}")).collect(),
            advice: (1..9).map(warning).chain([Diagnostic::error("policy.toml", 9, "has expired")]).collect(),
            ..app("off", 0)
        };
        let fixes = rank(&facts);
        assert_eq!(fixes.len(), FIXES_MAX);
        assert_eq!((fixes[0].id.as_str(), fixes[1].id.as_str()), ("app-off:shop", "held"));
        assert!(fixes.is_sorted_by_key(|fix| std::cmp::Reverse(fix.weight)));
        let advice = rank(&Facts { degraded: Vec::new(), ..facts });
        let advice: Vec<_> = advice.iter().filter(|fix| fix.id.starts_with("advice:")).collect();
        assert_eq!(advice.len(), ADVICE_MAX);
        assert_eq!(
            (advice[0].title.as_str(), advice[1].why.as_str()),
            ("Look at line 9 of policy.toml", "trusts everybody; name networks")
        );
    }
}
