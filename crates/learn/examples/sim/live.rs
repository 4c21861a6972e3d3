//! The same people and attackers for whoever plays them against real nodes: requests go out as JSON, second by second, and how those of
//! attackers fared comes back, so that they adapt to what they meet. `tests/seeing` reads and writes this; the time is whose who reads.
//!
//! Standard output: one object about the scenario, then one array of requests for each second. Standard input: before each second a line of
//! `NUMBER:1` for each request of an attacker that was refused since, and `NUMBER:0` for each that was not; it ends with the input.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::net::Ipv4Addr;

use phalanx_learn::{Event, Outcome, Step};

use crate::attackers::Attacker;
use crate::dice::Dice;
use crate::people::People;
use crate::plans::{CAPACITY, Plan, plan};
use crate::traffic::{BEGIN_MS, Request};
use crate::world::Settings;

/// Plays a scenario from `lead_s` seconds before anybody attacks.
pub(crate) fn play(settings: &Settings, lead_s: u64) -> Result<(), String> {
    let plan = plan(&settings.scenario, settings.seed, settings.nodes, settings.attack);
    let plan = plan.ok_or_else(|| format!("there is no scenario `{}`", settings.scenario))?;
    let begin = plan.quiet_s.saturating_sub(lead_s);
    let mut stage = Stage::new(settings, plan);
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut say = |line: String| {
        let said = writeln!(output, "{line}").and_then(|()| output.flush());
        said.map_err(|error| format!("nobody reads: {error}"))
    };
    say(stage.about(begin))?;
    // What was under way before goes on; what attackers did before to prepare themselves is caught up with.
    let mut waiting = Vec::new();
    for second in 0..begin {
        waiting.extend(stage.second(second).into_iter().filter(|(own, _)| own.is_some()));
    }
    for second in begin..stage.plan.seconds {
        let mut line = String::new();
        if !matches!(input.read_line(&mut line), Ok(1..)) {
            return Ok(());
        }
        stage.hear(&line)?;
        let begin_ms = BEGIN_MS + begin * 1_000;
        let mut requests: Vec<String> = Vec::new();
        for (own, request) in waiting.drain(..).chain(stage.second(second)) {
            requests.push(stage.json(own, &request, begin_ms));
        }
        say(format!("[{}]", requests.join(",")))?;
    }
    Ok(())
}

struct Stage {
    plan: Plan,
    people: People,
    dice: Dice,
    nodes: usize,
}

impl Stage {
    fn new(settings: &Settings, plan: Plan) -> Self {
        let per_hour = 3_600 * settings.honest / 100;
        let people = People::new(settings.seed, per_hour, plan.calendar.clone());
        Self { plan, people, dice: Dice::new(settings.seed ^ 0xd1ce), nodes: settings.nodes.clamp(1, 16) }
    }

    fn about(&self, begin: u64) -> String {
        let expects: Vec<String> =
            self.plan.expects.iter().map(|detector| format!("\"{}\"", detector.name())).collect();
        let hosts = self.plan.attackers.iter().flat_map(Attacker::clients);
        let hosts: BTreeMap<Ipv4Addr, u32> =
            hosts.map(|client| (Ipv4Addr::from_bits(client.ip), client.asn)).collect();
        let hosts: Vec<String> = hosts.iter().map(|(ip, asn)| format!("\"{ip}\":{asn}")).collect();
        format!(
            "{{\"seconds\":{},\"quiet\":{},\"expects\":[{}],\"watched\":{},\"capacity\":{CAPACITY},\"hosts\":{{{}}}}}",
            self.plan.seconds - begin,
            self.plan.quiet_s - begin,
            expects.join(","),
            self.plan.is_watched,
            hosts.join(","),
        )
    }

    /// Requests of a second in their order, each with whose it is of those who are no mere people.
    fn second(&mut self, second: u64) -> Vec<(Option<usize>, Request)> {
        let mut requests = Vec::new();
        self.people.second(second, self.nodes, &mut requests);
        let mut all: Vec<_> = requests.drain(..).map(|request| (None, request)).collect();
        for (own, attacker) in self.plan.attackers.iter_mut().enumerate() {
            attacker.second(second, own, self.nodes, &mut self.dice, &mut requests);
            for mut request in requests.drain(..) {
                self.plan.calendar.befall(second, &mut request.event, &mut self.dice);
                all.push((Some(own), request));
            }
        }
        all.sort_by_key(|(_, request)| request.event.at_ms);
        all
    }

    /// How requests of attackers fared.
    fn hear(&mut self, line: &str) -> Result<(), String> {
        for word in line.split_whitespace() {
            let (own, refused) = word.split_once(':').ok_or_else(|| format!("what is `{word}`?"))?;
            let own = own.parse::<usize>().ok().and_then(|own| self.plan.attackers.get_mut(own));
            own.ok_or_else(|| format!("nobody is `{word}`"))?.sees(refused == "1");
        }
        Ok(())
    }

    fn json(&self, own: Option<usize>, request: &Request, begin_ms: u64) -> String {
        let Request { event, node, attacker } = request;
        let campaign = own.and_then(|own| self.plan.attackers.get(own)).map_or(0, |own| own.campaign);
        let hex = |of: Option<u64>| of.map_or_else(|| "null".to_owned(), |of| format!("\"{of:016x}\""));
        let of_place = |of: phalanx_learn::Place| format!("[{},{}]", of.latitude, of.longitude);
        let number = |of: Option<u64>| of.map_or_else(|| "null".to_owned(), |of| of.to_string());
        let (step, outcome) = step(event.step);
        [
            format!("{{\"at_ms\":{},\"node\":{node}", event.at_ms.saturating_sub(begin_ms)),
            format!("\"attacker\":{},\"campaign\":{campaign}", number(attacker.map(|own| own as u64))),
            format!("\"ip\":\"{}\",\"asn\":{}", event.ip, number(event.asn.map(u64::from))),
            format!("\"software\":{},\"session\":{}", hex(event.software), hex(event.session)),
            format!("\"account\":{},\"secret\":{}", hex(event.account), number(event.secret.map(u64::from))),
            format!("\"place\":{}", event.place.map_or_else(|| "null".to_owned(), of_place)),
            format!("\"step\":\"{step}\",\"outcome\":\"{outcome}\""),
            format!("\"method\":\"{}\"", format!("{:?}", event.method).to_uppercase()),
            format!("\"path\":\"{}\",\"status\":{}", path(event), event.status),
            format!("\"bytes\":{},\"ms\":{}", event.response_bytes, event.latency_us / 1_000),
            format!("\"attack\":{},\"exempt\":{}}}", event.attack.is_some(), event.exempt),
        ]
        .join(",")
    }
}

fn step(step: Step) -> (&'static str, &'static str) {
    let outcome = |outcome| match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "failed",
        _ => "unknown",
    };
    match step {
        Step::Login(of) => ("login", outcome(of)),
        Step::Payment(of) => ("payment", outcome(of)),
        Step::Lookup => ("lookup", ""),
        Step::Asset => ("asset", ""),
        _ => ("page", ""),
    }
}

/// Where the shop has what a request is for.
fn path(event: &Event) -> String {
    let (target, object) = (event.target, event.object.unwrap_or(0));
    match event.route {
        2 => format!("/products/{object}"),
        3 => format!("/orders/{object}"),
        4 => "/login".into(),
        5 => "/password/forgot".into(),
        6 => "/checkout/pay".into(),
        7 => format!("/assets/a{target:x}.css"),
        8 => "/hooks/paid".into(),
        9 => format!("/old/p{target:x}"),
        10 => format!("/weak/w{target:x}"),
        11 => format!("/search/s{target:x}"),
        _ => "/".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(scenario: &str) -> Stage {
        let settings = crate::tests::settings(scenario, 1);
        let plan = plan(scenario, 1, 3, 100).unwrap();
        Stage::new(&settings, plan)
    }

    #[test]
    fn each_request_is_one_object_with_whose_it_is() {
        let mut stage = stage("campaign");
        let begin = stage.plan.quiet_s;
        let requests: Vec<_> = (0..begin + 130).flat_map(|second| stage.second(second)).collect();
        let attacks = requests.iter().filter(|(own, _)| own.is_some()).count();
        // Sixty missing pages a minute for two minutes, and some attempts to log in.
        assert!((125..=127).contains(&attacks), "{attacks}");
        for (own, request) in &requests {
            let text = stage.json(*own, request, 0);
            assert!(text.starts_with("{\"at_ms\":") && text.ends_with('}'), "{text}");
            assert_eq!(text.matches('"').count() % 2, 0, "{text}");
            assert_eq!(text.contains("\"attacker\":null"), own.is_none(), "{text}");
        }
    }

    #[test]
    fn who_is_refused_goes_on_from_the_next_address() {
        let mut stage = stage("scan");
        let begin = stage.plan.quiet_s;
        let address = |stage: &mut Stage, second| {
            let requests = stage.second(second);
            requests.iter().find(|(own, _)| own.is_some()).map(|(_, request)| request.event.ip)
        };
        let first = address(&mut stage, begin);
        stage.hear("0:0 0:0\n").unwrap();
        assert_eq!(address(&mut stage, begin + 1), first);
        stage.hear("0:1\n").unwrap();
        assert_ne!(address(&mut stage, begin + 2), first);
        for nonsense in ["0", "x:1", "7:1"] {
            assert!(stage.hear(nonsense).is_err(), "{nonsense}");
        }
    }
}
