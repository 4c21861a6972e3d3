//! What a bouncer asks for: the parameters of CrowdSec's local API.

use std::net::IpAddr;

use phalanx_model::net::{canonical, canonical_prefix};
use phalanx_model::{ActorKey, DecisionKind, Prefix};

use super::wire::{ORIGIN, target, type_of};

/// The parameters of a question. Unknown ones are ignored, as there: bouncers of later versions have more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Everything, and not only what is new.
    pub(crate) startup: bool,
    place: Option<Place>,
    /// Lists are empty when everything is asked for; without scopes that is all addresses. Their words are in lower case.
    scopes: Vec<String>,
    types: Vec<String>,
    origins: Vec<String>,
    value: Option<String>,
    scenarios: Vec<String>,
    scenarios_not: Vec<String>,
}

/// Decisions about some addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Whose range holds all of these.
    Around(Prefix),
    /// Whose range lies within these.
    Within(Prefix),
}

impl Filter {
    /// Reads the parameters; an error is a sentence about the faulty one.
    pub(crate) fn read(parameters: &[(String, String)]) -> Result<Self, String> {
        let mut filter = Self::default();
        let (mut range, mut contains) = (None, true);
        for (name, value) in parameters {
            match name.as_str() {
                "startup" => filter.startup = value == "true",
                "ip" => {
                    let ip = value.parse::<IpAddr>().map_err(|_| format!("`{value}` is no address"))?;
                    range = Some(Prefix::from(canonical(ip)));
                }
                "range" => {
                    let read = value.parse::<Prefix>().map_err(|_| format!("`{value}` is no range"))?;
                    range = Some(canonical_prefix(read));
                }
                "contains" => {
                    contains =
                        value.parse().map_err(|_| format!("`contains` is true or false, not `{value}`"))?;
                }
                "scope" | "scopes" => filter.scopes = words(value),
                "type" => filter.types = words(value),
                "origins" => filter.origins = words(value),
                "value" => filter.value = Some(value.clone()),
                "scenarios_containing" => filter.scenarios = words(value),
                "scenarios_not_containing" => filter.scenarios_not = words(value),
                _ => {}
            }
        }
        filter.place = range.map(|range| if contains { Place::Around(range) } else { Place::Within(range) });
        Ok(filter)
    }

    /// The one address that is asked about, if it is one: then the answer is what a node would do with it.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self.place {
            Some(Place::Around(range)) if range.prefix_len() == range.max_prefix_len() => Some(range.addr()),
            _ => None,
        }
    }

    /// Whether a decision of this kind about this key is asked for, whatever its scenario.
    pub(crate) fn admits(&self, kind: DecisionKind, key: ActorKey) -> bool {
        let Some(kind) = type_of(kind) else { return false };
        let at_place = match (self.place, key) {
            (None, _) => true,
            (Some(Place::Around(asked)), ActorKey::Range(range)) => range.contains(&asked),
            (Some(Place::Within(asked)), ActorKey::Range(range)) => asked.contains(&range),
            (Some(_), _) => false,
        };
        if !at_place || !among(&self.types, kind) || !among(&self.origins, ORIGIN) {
            return false;
        }
        // Whoever names no scopes may know no others than addresses.
        let is_range = matches!(key, ActorKey::Range(_));
        if self.scopes.is_empty() && (self.value.is_none() || !is_range) {
            return is_range;
        }
        let Some((scope, value)) = target(key) else { return false };
        among(&self.scopes, &scope.to_ascii_lowercase())
            && self.value.as_ref().is_none_or(|asked| *asked == value)
    }

    /// Whether decisions of this scenario are asked for. Of what has ended it is not known any more.
    pub(crate) fn admits_scenario(&self, scenario: &str) -> bool {
        if self.scenarios.is_empty() && self.scenarios_not.is_empty() {
            return true;
        }
        let scenario = scenario.to_lowercase();
        let holds = |word: &String| scenario.contains(word.as_str());
        (self.scenarios.is_empty() || self.scenarios.iter().any(holds))
            && !self.scenarios_not.iter().any(holds)
    }
}

fn words(list: &str) -> Vec<String> {
    list.split(',').map(|word| word.trim().to_lowercase()).filter(|word| !word.is_empty()).collect()
}

fn among(list: &[String], word: &str) -> bool {
    list.is_empty() || list.iter().any(|known| known == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(query: &str) -> Result<Filter, String> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), value.to_owned())
        });
        Filter::read(&pairs.collect::<Vec<_>>())
    }

    #[test]
    fn parameters_narrow_what_is_answered() {
        let ban = DecisionKind::Ban;
        for (query, kind, range, expected) in [
            ("", ban, "192.0.2.1/32", true),
            ("", DecisionKind::Allow, "192.0.2.1/32", false),
            ("scopes=ip,range", ban, "192.0.2.1/32", true),
            ("scopes=Ip", ban, "192.0.2.0/24", false),
            ("scopes=country", ban, "192.0.2.1/32", false),
            ("scope=Range&value=192.0.2.0/24", ban, "192.0.2.0/24", true),
            ("scope=Range&value=192.0.3.0/24", ban, "192.0.2.0/24", false),
            ("type=ban", ban, "192.0.2.1/32", true),
            ("type=captcha", ban, "192.0.2.1/32", false),
            ("type=captcha", DecisionKind::Challenge, "192.0.2.1/32", true),
            ("origins=phalanx", ban, "192.0.2.1/32", true),
            ("origins=cscli,CAPI", ban, "192.0.2.1/32", false),
            ("ip=192.0.2.1", ban, "192.0.2.1/32", true),
            ("ip=::ffff:192.0.2.1", ban, "192.0.2.0/24", true),
            ("ip=192.0.3.1", ban, "192.0.2.0/24", false),
            ("range=192.0.2.0/25", ban, "192.0.2.0/24", true),
            ("range=192.0.2.0/25", ban, "192.0.2.1/32", false),
            ("range=192.0.2.0/25&contains=false", ban, "192.0.2.1/32", true),
            ("range=192.0.2.0/25&contains=false", ban, "192.0.2.0/24", false),
            ("dedup=true&some=thing", ban, "192.0.2.1/32", true),
        ] {
            assert_eq!(
                filter(query).unwrap().admits(kind, ActorKey::Range(range.parse().unwrap())),
                expected,
                "{query} {range}"
            );
        }
        for (query, asked) in [
            ("", (false, false)),
            ("scopes=ip,range", (false, false)),
            ("scopes=ip,range,country", (false, true)),
            ("scopes=AS,Country", (true, true)),
            ("scopes=AS&value=64500", (true, false)),
            ("value=64500", (false, false)),
            ("scopes=AS&ip=192.0.2.1", (false, false)),
        ] {
            let filter = filter(query).unwrap();
            let got = [ActorKey::Asn(64_500), ActorKey::Country("NL".parse().unwrap())]
                .map(|key| filter.admits(ban, key));
            assert_eq!((got[0], got[1]), asked, "{query}");
        }
        for query in ["ip=bogus", "ip=192.0.2.0/24", "range=1.2.3", "contains=maybe"] {
            assert!(filter(query).is_err(), "{query}");
        }
    }

    #[test]
    fn scenarios_are_chosen_by_parts_of_them() {
        for (query, expected) in [
            ("", true),
            ("scenarios_containing=SQL,xss", true),
            ("scenarios_containing=ssh", false),
            ("scenarios_not_containing=ssh", true),
            ("scenarios_not_containing=sql", false),
            ("scenarios_containing=sql&scenarios_not_containing=injection", false),
        ] {
            assert_eq!(filter(query).unwrap().admits_scenario("SQL injection"), expected, "{query}");
        }
    }

    #[test]
    fn a_question_about_one_address_is_told_from_one_about_a_range() {
        assert_eq!(filter("ip=192.0.2.1").unwrap().address(), "192.0.2.1".parse().ok());
        assert_eq!(filter("range=192.0.2.0/24").unwrap().address(), None);
        assert_eq!(filter("ip=192.0.2.1&contains=false").unwrap().address(), None);
        assert!(filter("startup=true").unwrap().startup && !filter("startup=1").unwrap().startup);
    }
}
