//! The forms in which webhooks want to be told: our own, signed; those of chats; that of a pager. Pure.
//!
//! Sources: Slack, "Sending messages using incoming webhooks"; Microsoft, "Create incoming webhooks with Workflows for Microsoft Teams" and the schema of
//! adaptive cards 1.4; PagerDuty, "Events API v2".
//!
//! Most of a message's text was written by strangers. It is put where the receiver reads no markup: it calls nobody by name, and an address in it leads where it says.

use std::sync::Arc;

use aws_lc_rs::hmac;
use phalanx_record::escape::for_terminal;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{text, words};

/// How a webhook wants to be told.
#[derive(Clone)]
pub enum Form {
    /// The message as it is, signed under this key.
    Signed(Arc<hmac::Key>),
    /// A message in a Slack channel.
    Slack,
    /// A card in a channel of Microsoft Teams, by a workflow.
    Teams,
    /// An alert of PagerDuty for each incident, under an integration's routing key.
    PagerDuty(Arc<Zeroizing<String>>),
}

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Signed(_) => "Signed",
            Self::Slack => "Slack",
            Self::Teams => "Teams",
            Self::PagerDuty(_) => "PagerDuty",
        })
    }
}

impl Form {
    /// Its name, but for our own form, which is what a webhook is.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Signed(_) => "webhook",
            Self::Slack => "slack",
            Self::Teams => "teams",
            Self::PagerDuty(_) => "pagerduty",
        }
    }

    /// What is sent for a message, one body after the other, each with its key.
    pub(super) fn bodies(&self, key: &str, message: &Value) -> Vec<(String, Vec<u8>)> {
        let one = |body: &Value| vec![(key.to_owned(), body.to_string().into_bytes())];
        match self {
            Self::Signed(_) => one(message),
            Self::Slack => one(&slack(&words(message))),
            Self::Teams => one(&teams(&words(message))),
            Self::PagerDuty(routing_key) => pager_duty(routing_key, key, message),
        }
    }
}

/// `&`, `<` and `>` are all that Slack reads as control characters where `mrkdwn` is off: links and calls by name begin with `<`.
fn slack(text: &str) -> Value {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    json!({
        "text": shortened(&escaped, SLACK_TEXT_BYTES_MAX),
        "mrkdwn": false,
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

/// A run of text in a `RichTextBlock` is shown as it is; a `TextBlock` would read Markdown.
fn teams(text: &str) -> Value {
    let line = |line: &str| {
        let text = if line.is_empty() { " " } else { line };
        json!({ "type": "RichTextBlock", "inlines": [{ "type": "TextRun", "text": shortened(text, TEAMS_LINE_BYTES_MAX) }] })
    };
    let lines: Vec<Value> = text.lines().take(TEAMS_LINES_MAX).map(line).collect();
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": lines,
            },
        }],
    })
}

/// One alert for each incident, which ends when the incident is closed; one for any other message.
fn pager_duty(routing_key: &str, key: &str, message: &Value) -> Vec<(String, Vec<u8>)> {
    let source = message["node"].as_str().unwrap_or("phalanx");
    let event = |action: &str, dedup: &str, summary: &str, severity: &str, details: &Value| {
        let mut body = json!({
            "routing_key": routing_key,
            "event_action": action,
            "dedup_key": dedup,
            "client": "Phalanx",
            "payload": {
                "summary": shortened(&for_terminal(summary), PAGER_SUMMARY_BYTES_MAX),
                "source": source,
                "severity": severity,
                "custom_details": details,
            },
        });
        if let (Some(url), Some(fields)) = (details["url"].as_str(), body.as_object_mut()) {
            fields.insert("client_url".into(), url.into());
            fields.insert("links".into(), json!([{ "href": url, "text": "The incident in the console" }]));
        }
        (dedup.to_owned(), body.to_string().into_bytes())
    };
    let Some(changes) = message["changes"].as_array() else {
        let dedup = shortened(key, PAGER_KEY_BYTES_MAX);
        let text = &text(message);
        // A test calls nobody out of bed, and leaves nothing open.
        if message["kind"] == "test" {
            let test = |action| event(action, &dedup, text, "info", &Value::Null);
            return vec![test("trigger"), test("resolve")];
        }
        return vec![event("trigger", &dedup, text, "error", message)];
    };
    // Alerts of incidents that went on as another one end with it.
    let of_absorbed = |change: &Value| -> Vec<String> {
        let absorbed = change["absorbed"].as_array().filter(|_| change["change"] == "closed");
        absorbed.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let told = &|change: &Value, incident: &str| {
        let action = if change["change"] == "closed" { "resolve" } else { "trigger" };
        let severity = match change["severity"].as_str() {
            Some("critical") => "critical",
            Some("high") => "error",
            Some("medium") => "warning",
            _ => "info",
        };
        let part = |name: &str| change[name].as_str().filter(|part| !part.is_empty());
        let (title, summary) = (part("title").unwrap_or(incident), part("summary").unwrap_or("an incident"));
        event(action, &format!("phalanx/{incident}"), &format!("{title}: {summary}"), severity, change)
    };
    let events = changes.iter().flat_map(|change| {
        let own = change["incident"].as_str().unwrap_or(key).to_owned();
        [own].into_iter().chain(of_absorbed(change)).map(move |incident| told(change, &incident))
    });
    events.collect()
}

/// A text of at most so many bytes, cut at a character.
fn shortened(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max.saturating_sub(3));
    format!("{}...", text.get(..end).unwrap_or_default())
}

/// Slack cuts what is longer than 40,000 characters, and asks for 4,000.
const SLACK_TEXT_BYTES_MAX: usize = 4_000;
/// A workflow takes 28 KB.
const TEAMS_LINES_MAX: usize = 50;
const TEAMS_LINE_BYTES_MAX: usize = 400;
const PAGER_SUMMARY_BYTES_MAX: usize = 1_024;
const PAGER_KEY_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Value {
        json!({
            "kind": "incidents", "key": "notify/A.opened.2", "node": "fra/a",
            "text": "A opened (high): <!channel> [x](https://evil.example) & more\nB closed (low): over",
            "changes": [
                { "change": "opened", "incident": "A", "severity": "high", "summary": "a scan" },
                { "change": "closed", "incident": "B", "severity": "low", "summary": "over" },
            ],
        })
    }

    fn bodies(form: &Form) -> Vec<(String, Value)> {
        let read = |(key, body): (String, Vec<u8>)| (key, serde_json::from_slice(&body).unwrap());
        form.bodies("notify/A.opened.2", &message()).into_iter().map(read).collect()
    }

    #[test]
    fn chats_are_told_without_markup_of_strangers() {
        let (_, slack) = bodies(&Form::Slack).remove(0);
        assert_eq!(slack["mrkdwn"], false);
        assert_eq!(
            slack["text"],
            "A opened (high): &lt;!channel&gt; [x](https://evil.example) &amp; more\nB closed (low): over"
        );
        let (_, teams) = bodies(&Form::Teams).remove(0);
        let card = &teams["attachments"][0]["content"]["body"];
        assert_eq!(card.as_array().unwrap().len(), 2);
        assert!(card.as_array().unwrap().iter().all(|line| line["type"] == "RichTextBlock"), "{card}");
    }

    #[test]
    fn a_pager_gets_one_alert_for_each_incident_and_its_end() {
        let form = Form::PagerDuty(Arc::new(Zeroizing::new("R0UT1NG".to_owned())));
        let told = bodies(&form);
        let told: Vec<_> = told
            .iter()
            .map(|(key, body)| {
                assert_eq!(
                    (&body["routing_key"], &body["dedup_key"]),
                    (&"R0UT1NG".into(), &key.as_str().into())
                );
                (
                    key.as_str(),
                    body["event_action"].as_str().unwrap(),
                    body["payload"]["severity"].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(told, [("phalanx/A", "trigger", "error"), ("phalanx/B", "resolve", "info")]);
        assert!(!format!("{form:?}").contains("R0UT"), "{form:?}");
    }

    #[test]
    fn no_form_for_people_hides_or_reorders_what_it_shows() {
        let hidden = "a\u{202e}b\u{200b}c\u{1b}[2J\u{2028}d\r\ne";
        let message = json!({ "text": hidden });
        let changes = json!({ "changes": [{ "change": "opened", "incident": "A", "title": hidden, "summary": hidden }] });
        let pager = Form::PagerDuty(Arc::new(Zeroizing::new("R0UT1NG".to_owned())));
        for (form, message) in
            [(Form::Slack, &message), (Form::Teams, &message), (pager.clone(), &message), (pager, &changes)]
        {
            let (_, body) = form.bodies("k", message).remove(0);
            let body: Value = serde_json::from_slice(&body).unwrap();
            let shown = match &body["payload"]["summary"] {
                Value::Null => body.to_string(),
                summary => summary.to_string(),
            };
            for escaped in ["\u{202e}", "\u{200b}", "\u{2028}", "\\u001b", "\\r"] {
                assert!(!shown.contains(escaped), "{form:?}: {shown}");
            }
            assert!(shown.contains("u{202e}"), "{form:?}: {shown}");
        }
    }

    #[test]
    fn a_pager_is_told_who_and_what_with_a_link_to_the_incident() {
        let form = Form::PagerDuty(Arc::new(Zeroizing::new("R0UT1NG".to_owned())));
        let url = "https://console.example.net/#/incidents/A";
        let change = json!({
            "change": "opened", "incident": "A", "severity": "high", "summary": "a scan",
            "title": "Scanning on shop from 192.0.2.7", "show": "phalanx incident show A", "url": url,
        });
        let told = form.bodies("k", &json!({ "changes": [change] }));
        let body: Value = serde_json::from_slice(&told[0].1).unwrap();
        assert_eq!(body["payload"]["summary"], "Scanning on shop from 192.0.2.7: a scan");
        assert_eq!(body["payload"]["custom_details"]["show"], "phalanx incident show A");
        assert_eq!((&body["client_url"], &body["links"][0]["href"]), (&url.into(), &url.into()));
    }

    #[test]
    fn a_test_of_a_pager_ends_itself_and_is_no_more_than_information() {
        let form = Form::PagerDuty(Arc::new(Zeroizing::new("R0UT1NG".to_owned())));
        let told = form.bodies("test/1", &json!({ "kind": "test", "text": "A test", "node": "fra/a" }));
        let told: Vec<Value> = told.iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect();
        for (body, action) in told.iter().zip(["trigger", "resolve"]) {
            assert_eq!((&body["event_action"], &body["dedup_key"]), (&action.into(), &"test/1".into()));
            assert_eq!(body["payload"]["severity"], "info");
        }
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn chats_and_letters_end_with_how_to_go_on() {
        let message = json!({ "kind": "notify", "text": "look", "show": "phalanx incident show A", "url": "https://c" });
        let told = Form::Slack.bodies("k", &message);
        let body: Value = serde_json::from_slice(&told[0].1).unwrap();
        assert_eq!(body["text"], "look\nphalanx incident show A\nhttps://c");
    }

    #[test]
    fn the_end_of_an_incident_ends_the_alerts_of_what_it_absorbed() {
        let form = Form::PagerDuty(Arc::new(Zeroizing::new("R0UT1NG".to_owned())));
        for (change, expected) in [
            ("worse", vec![("phalanx/B", "trigger")]),
            ("closed", vec![("phalanx/B", "resolve"), ("phalanx/A", "resolve")]),
        ] {
            let message = json!({ "changes": [
                { "change": change, "incident": "B", "absorbed": ["A"], "severity": "high", "summary": "s" },
            ] });
            let told = form.bodies("k", &message);
            let told: Vec<(&str, Value)> = told
                .iter()
                .map(|(key, body)| (key.as_str(), serde_json::from_slice(body).unwrap()))
                .collect();
            let told: Vec<(&str, &str)> =
                told.iter().map(|(key, body)| (*key, body["event_action"].as_str().unwrap())).collect();
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn long_texts_are_cut_at_characters() {
        for bytes in 0..40 {
            let text = "\u{e4}".repeat(bytes);
            let short = shortened(&text, 21);
            assert!(short.len() <= 21 && (short == text || short.ends_with("...")), "{short}");
        }
    }
}
