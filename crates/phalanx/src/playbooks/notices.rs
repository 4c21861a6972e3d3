//! What receivers hear of incidents without a playbook: opened, grown worse, closed. Grouped, and no more often than is said.
//!
//! Pure but for the file in which it is kept what was told, so that a restart tells nothing twice.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use phalanx_control::playbook::told::Heard;
use serde_json::{Value, json};

use super::own::Own;
use super::settings::NotifySettings;
use crate::learning::Case;

/// What was told of which incident, and what is being told.
pub(super) struct Notices {
    path: PathBuf,
    heard: BTreeMap<u64, Heard>,
    /// When something was told last.
    last_ms: u64,
    pending: Option<Notice>,
    is_changed: bool,
}

/// One message, to some who have not heard it yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Notice {
    /// The same for the same changes.
    pub(super) key: String,
    pub(super) body: Value,
    pub(super) to: Vec<String>,
    heard: Vec<Heard>,
    attempts: u32,
}

impl Notices {
    /// With what was told before; of a file that cannot be read nothing is known, and what is open is told anew.
    pub(super) fn open(path: &Path) -> Self {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path);
        let read = file.and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
        let known: Vec<Heard> = match read {
            Ok(_) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let heard = known.into_iter().map(|one| (one.incident, one)).collect();
        Self { path: path.to_owned(), heard, last_ms: 0, pending: None, is_changed: false }
    }

    /// What is to be told now, if anything is. It is told until [`Self::told`].
    pub(super) fn due(
        &mut self,
        (settings, own): (&NotifySettings, &Own),
        cases: &[Case],
        now_ms: u64,
    ) -> Option<Notice> {
        if self.last_ms.saturating_add(settings.every_ms) > now_ms {
            return None;
        }
        if self.pending.is_none() {
            self.pending = self.notice((settings, own), cases, now_ms);
        }
        let pending = self.pending.as_mut()?;
        pending.attempts += 1;
        self.last_ms = now_ms;
        Some(pending.clone())
    }

    /// These heard it, or do not want it; the others are told again, a few times.
    pub(super) fn told(&mut self, heard: &[String]) -> io::Result<()> {
        let Some(pending) = &mut self.pending else { return Ok(()) };
        pending.to.retain(|name| !heard.contains(name));
        if !pending.to.is_empty() && pending.attempts < ATTEMPTS_MAX {
            return Ok(());
        }
        if !pending.to.is_empty() {
            tracing::warn!(to = ?pending.to, "incidents could not be told, and are not told again");
        }
        let heard = self.pending.take().map(|pending| pending.heard).unwrap_or_default();
        self.note(heard);
        self.write()
    }

    /// What another node told, that ran playbooks before.
    pub(super) fn adopt(&mut self, heard: Vec<Heard>) -> io::Result<()> {
        let is_news = |one: &Heard| self.heard.get(&one.incident).is_none_or(|known| known.at_ms < one.at_ms);
        let news: Vec<Heard> = heard.into_iter().filter(is_news).collect();
        if news.is_empty() {
            return Ok(());
        }
        self.note(news);
        self.is_changed = false;
        self.write()
    }

    /// What others are to know, if it changed, or if all is to be told.
    pub(super) fn take_news(&mut self, all: bool) -> Option<Vec<Heard>> {
        let is_changed = std::mem::take(&mut self.is_changed);
        ((all || is_changed) && !self.heard.is_empty()).then(|| self.heard.values().cloned().collect())
    }

    /// Another node goes on.
    pub(super) fn let_go(&mut self) {
        self.pending = None;
    }

    fn notice(
        &self,
        (settings, own): (&NotifySettings, &Own),
        cases: &[Case],
        now_ms: u64,
    ) -> Option<Notice> {
        let (mut changes, mut heard, mut more) = (Vec::new(), Vec::new(), 0);
        let mut key = String::from("notify");
        // The oldest first.
        for case in cases.iter().rev() {
            let Some((change, now)) = self.change(settings, case, now_ms) else { continue };
            if changes.len() >= CHANGES_MAX {
                more += 1;
                continue;
            }
            if let Some(change) = change {
                key.push_str(&format!("/{}.{change}.{}", case.id, now.gravity));
                changes.push(shown(case, change, &self.absorbed(case), own));
            }
            // What is closed is closed under all its ids.
            let absorbed = case.absorbed.iter().filter(|id| case.is_closed && self.heard.contains_key(&id.0));
            heard.extend(absorbed.map(|id| Heard { incident: id.0, ..now.clone() }));
            heard.push(now);
        }
        if changes.is_empty() {
            return None;
        }
        // Of many changes it would be longer than a header field may be.
        if key.len() > KEY_BYTES_MAX {
            let hash = phalanx_trust::sha256(key.as_bytes());
            key = format!("notify/{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        }
        let body = json!({
            "kind": "incidents",
            "key": key,
            "text": text(&changes, more),
            "changes": changes,
            "more": more,
            "node": own.node,
            "at_ms": now_ms,
        });
        Some(Notice { key, body, to: settings.to.clone(), heard, attempts: 0 })
    }

    /// What happened to an incident since it was told of; the change is none where nobody wants to hear of it.
    fn change(
        &self,
        settings: &NotifySettings,
        case: &Case,
        now_ms: u64,
    ) -> Option<(Option<&'static str>, Heard)> {
        let gravity = case.facts.gravity as u8;
        let ids = case.absorbed.iter().chain([&case.id]);
        let known: Vec<&Heard> = ids.filter_map(|id| self.heard.get(&id.0)).collect();
        let before = known.iter().map(|one| one.gravity).max();
        // As long as something is open under any of its ids, an alert may be.
        let was_closed = known.iter().all(|one| one.is_closed);
        let now = Heard {
            incident: case.id.0,
            gravity: gravity.max(before.unwrap_or(0)),
            is_closed: case.is_closed,
            at_ms: now_ms,
        };
        match before {
            // One that began and ended unheard is no news.
            None if case.facts.gravity < settings.from || case.is_closed => None,
            None => Some((settings.opened.then_some("opened"), now)),
            Some(_) if case.is_closed && !was_closed => Some((settings.closed.then_some("closed"), now)),
            Some(before) if gravity > before && !case.is_closed => {
                Some((settings.worse.then_some("worse"), now))
            }
            Some(_) => None,
        }
    }

    /// What was told of under other ids, and goes on as this incident. An alert that was raised for it ends with this one: then all count, as
    /// another node may have told of them, and what was told is not remembered for ever.
    fn absorbed(&self, case: &Case) -> Vec<String> {
        let told = case.absorbed.iter().filter(|id| case.is_closed || self.heard.contains_key(&id.0));
        told.map(ToString::to_string).collect()
    }

    fn note(&mut self, heard: Vec<Heard>) {
        self.is_changed = true;
        self.heard.extend(heard.into_iter().map(|one| (one.incident, one)));
        while self.heard.len() > HEARD_MAX {
            let oldest = self.heard.values().min_by_key(|one| one.at_ms).map(|one| one.incident);
            let Some(oldest) = oldest else { return };
            self.heard.remove(&oldest);
        }
    }

    fn write(&self) -> io::Result<()> {
        let known: Vec<&Heard> = self.heard.values().collect();
        let beside = self.path.with_extension("new");
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(&serde_json::to_vec(&known)?)?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)
    }
}

fn shown(case: &Case, change: &str, absorbed: &[String], own: &Own) -> Value {
    let facts = &case.facts;
    let id = case.id.to_string();
    let mut shown = json!({
        "change": change,
        "incident": id,
        "absorbed": absorbed,
        "severity": facts.gravity.name(),
        "title": facts.title,
        "summary": facts.summary,
        "show": own.show(&id),
        "detectors": facts.detectors,
        "nodes": facts.nodes,
        "opened_at_ms": case.opened_ms,
        "changed_at_ms": facts.last_ms,
    });
    own.link(&mut shown, &id);
    shown
}

/// A line for each: what it is and whom it comes from, then what a stranger may have written, then what to do. The last is not cut off where the
/// line is, because what strangers write is cut before.
fn text(changes: &[Value], more: usize) -> String {
    let word = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let line = |one: &Value| {
        let (change, severity) = (word(one, "change"), word(one, "severity"));
        let head = format!("{} ({severity}, {change})", word(one, "title"));
        if changes.len() > WHOLE_MAX {
            return format!("{head}: `{}`", word(one, "show"));
        }
        let summary: String = word(one, "summary").chars().take(SUMMARY_CHARS_MAX).collect();
        let link = one["url"].as_str().map(|url| format!(", {url}")).unwrap_or_default();
        format!("{head}: {summary}. See `{}`{link}", word(one, "show"))
    };
    let lines: Vec<String> = changes.iter().map(line).collect();
    match more {
        0 => lines.join("\n"),
        more => format!("{}\nand {more} more", lines.join("\n")),
    }
}

/// Changes in one message; the others come in the next.
const CHANGES_MAX: usize = 50;
/// So many changes are told with what happened and a link; of more there is what each is and how to see it.
const WHOLE_MAX: usize = 8;
/// A card of Microsoft Teams takes lines of 400 bytes.
const SUMMARY_CHARS_MAX: usize = 120;
/// How often a receiver that is not there is told the same.
const ATTEMPTS_MAX: u32 = 5;
/// Incidents of which it is remembered what was told, 100 bytes each in what nodes tell each other.
const HEARD_MAX: usize = 400;
const KEY_BYTES_MAX: usize = 200;
const FILE_BYTES_MAX: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_control::playbook::Facts;
    use phalanx_learn::IncidentId;
    use phalanx_policy::playbook::{ConfidenceWord, GravityWord};

    fn settings() -> NotifySettings {
        let (opened, worse, closed) = (true, true, true);
        NotifySettings {
            to: vec!["oncall".into()],
            from: GravityWord::High,
            opened,
            worse,
            closed,
            every_ms: 30_000,
        }
    }

    fn case(id: u64, gravity: GravityWord, is_closed: bool) -> Case {
        Case {
            id: IncidentId(id),
            absorbed: Vec::new(),
            facts: Facts {
                detectors: vec!["scanning".into()],
                gravity,
                confidence: ConfidenceWord::High,
                title: "Scanning on shop from 192.0.2.7".into(),
                summary: "looks".into(),
                nodes: vec!["fra/a".into()],
                last_ms: 1,
            },
            opened_ms: 1,
            is_closed,
            is_undone: false,
            suspects: Vec::new(),
            raisable: Vec::new(),
            evidence: None,
        }
    }

    fn own() -> Own {
        Own { node: "fra/a".into(), console: Some("https://console.example.net".into()) }
    }

    fn changes(notices: &mut Notices, cases: &[Case], now_ms: u64) -> Vec<String> {
        let notice = notices.due((&settings(), &own()), cases, now_ms);
        let told = notice.iter().flat_map(|notice| notice.body["changes"].as_array().unwrap().clone());
        let told = told
            .map(|one| format!("{} {}", one["incident"].as_str().unwrap(), one["change"].as_str().unwrap()));
        let told = told.collect();
        notices.told(&["oncall".into()]).unwrap();
        told
    }

    #[test]
    fn incidents_are_told_once_each_way_grouped_and_not_too_often() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notices.json");
        let mut notices = Notices::open(&path);
        let (one, two) = (IncidentId(1).to_string(), IncidentId(2).to_string());
        use GravityWord::{Critical, High, Low};
        assert_eq!(changes(&mut notices, &[case(1, Low, false)], 100_000), [""; 0]);
        assert_eq!(changes(&mut notices, &[case(1, High, false)], 101_000), [format!("{one} opened")]);
        // What comes within half a minute is told together.
        let both = [case(2, High, false), case(1, Critical, false)];
        assert_eq!(changes(&mut notices, &both, 102_000), [""; 0]);
        assert_eq!(changes(&mut notices, &both, 131_000), [format!("{one} worse"), format!("{two} opened")]);
        assert_eq!(changes(&mut notices, &both, 200_000), [""; 0]);
        // A process that comes after knows.
        let mut notices = Notices::open(&path);
        assert_eq!(changes(&mut notices, &both, 300_000), [""; 0]);
        let closed = [case(2, High, true), case(1, Critical, true), case(3, High, true)];
        assert_eq!(
            changes(&mut notices, &closed, 301_000),
            [format!("{one} closed"), format!("{two} closed")]
        );
        assert_eq!(changes(&mut notices, &closed, 400_000), [""; 0]);
    }

    #[test]
    fn a_message_begins_with_what_it_is_and_ends_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let mut notices = Notices::open(&folder.path().join("notices.json"));
        let mut long = case(1, GravityWord::High, false);
        long.facts.summary = "x".repeat(1_000);
        let notice = notices.due((&settings(), &own()), &[long], 100_000).unwrap();
        let text = notice.body["text"].as_str().unwrap();
        assert!(text.starts_with("Scanning on shop from 192.0.2.7 (high, opened): xxx"), "{text}");
        let (show, url) = (
            format!("phalanx incident show {}", IncidentId(1)),
            notice.body["changes"][0]["url"].as_str().unwrap(),
        );
        assert_eq!(url, format!("https://console.example.net/#/incidents/{}", IncidentId(1)));
        assert!(text.ends_with(&format!("x. See `{show}`, {url}")) && text.len() < 400, "{text}");
        // Many are told in a line each, with how to see them.
        notices.told(&["oncall".into()]).unwrap();
        let many: Vec<Case> = (2..60).map(|id| case(id, GravityWord::High, false)).collect();
        let nameless = Own { console: None, ..own() };
        let notice = notices.due((&settings(), &nameless), &many, 200_000).unwrap();
        let text = notice.body["text"].as_str().unwrap();
        assert_eq!((text.lines().count(), text.matches("phalanx incident show").count()), (51, 50), "{text}");
        assert!(notice.body["changes"][0].get("url").is_none());
    }

    #[test]
    fn an_incident_that_absorbed_others_ends_what_was_told_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut notices = Notices::open(&folder.path().join("notices.json"));
        use GravityWord::{Critical, High};
        let (one, two) = (IncidentId(1).to_string(), IncidentId(2).to_string());
        let both = [case(2, High, false), case(1, High, false)];
        assert_eq!(changes(&mut notices, &both, 100_000), [format!("{one} opened"), format!("{two} opened")]);
        let merged = |gravity, is_closed| Case {
            absorbed: vec![IncidentId(1), IncidentId(9)],
            ..case(2, gravity, is_closed)
        };
        assert_eq!(changes(&mut notices, &[merged(Critical, false)], 200_000), [format!("{two} worse")]);
        let notice = notices.due((&settings(), &own()), &[merged(Critical, true)], 300_000).unwrap();
        let told = &notice.body["changes"][0];
        assert_eq!(
            (&told["change"], &told["absorbed"]),
            (&"closed".into(), &serde_json::json!([one, IncidentId(9).to_string()]))
        );
        notices.told(&["oncall".into()]).unwrap();
        assert!(notices.due((&settings(), &own()), &[merged(Critical, true)], 400_000).is_none());
    }

    #[test]
    fn one_that_was_closed_and_goes_on_in_another_is_closed_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut notices = Notices::open(&folder.path().join("notices.json"));
        use GravityWord::High;
        let (one, two) = (IncidentId(1).to_string(), IncidentId(2).to_string());
        assert_eq!(changes(&mut notices, &[case(1, High, false)], 100_000), [format!("{one} opened")]);
        let rest = [case(2, High, false), case(1, High, true)];
        assert_eq!(changes(&mut notices, &rest, 200_000), [format!("{one} closed"), format!("{two} opened")]);
        let merged = Case { absorbed: vec![IncidentId(1)], ..case(2, High, true) };
        assert_eq!(changes(&mut notices, &[merged], 300_000), [format!("{two} closed")]);
    }

    #[test]
    fn what_goes_on_in_one_that_was_closed_before_is_closed_with_it_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut notices = Notices::open(&folder.path().join("notices.json"));
        use GravityWord::High;
        let (one, two) = (IncidentId(1).to_string(), IncidentId(2).to_string());
        assert_eq!(changes(&mut notices, &[case(2, High, false)], 100_000), [format!("{two} opened")]);
        let both = [case(2, High, true), case(1, High, false)];
        assert_eq!(changes(&mut notices, &both, 200_000), [format!("{one} opened"), format!("{two} closed")]);
        let merged = [Case { absorbed: vec![IncidentId(1)], ..case(2, High, true) }];
        assert_eq!(changes(&mut notices, &merged, 300_000), [format!("{two} closed")]);
        assert_eq!(changes(&mut notices, &merged, 400_000), [""; 0], "its alert has ended");
    }

    #[test]
    fn who_does_not_answer_is_told_again_the_same_and_not_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let mut notices = Notices::open(&folder.path().join("notices.json"));
        let cases = [case(1, GravityWord::High, false)];
        let mut keys = Vec::new();
        for round in 0..10 {
            let now_ms = 100_000 + round * 30_000;
            keys.extend(notices.due((&settings(), &own()), &cases, now_ms).map(|notice| notice.key));
            notices.told(&[]).unwrap();
        }
        keys.dedup();
        assert_eq!(keys, [format!("notify/{}.opened.2", IncidentId(1))]);
        assert!(notices.due((&settings(), &own()), &cases, 900_000).is_none());
    }
}
