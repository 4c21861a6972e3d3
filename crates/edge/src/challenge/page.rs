//! What a client sees of a challenge: a page that works by itself, and says what to do where it cannot; or JSON.
//!
//! Everything is in the page. Its policy (Content-Security-Policy) admits this one script and this one style by their hashes and
//! nothing else, so that nothing which gets into the page by mistake runs.

use std::sync::LazyLock;

use data_encoding::BASE64;
use phalanx_decide::Hardship;
use phalanx_model::text::push_decimal;

use super::words::{self, Words};
use super::{PLACE, STATUS};
use crate::http1::encode;
use crate::language::Language;
use crate::page::escaped;

/// What is said beside the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    /// The request had an effect in mind, and did not have it.
    NotPassedOn,
    /// Whoever waits came too early.
    Early,
}

/// A task, for a person or a program.
pub(super) struct Page<'a> {
    pub(super) task: &'a str,
    pub(super) hardship: &'a Hardship,
    pub(super) to: &'a [u8],
    pub(super) note: Option<Note>,
    pub(super) id: &'a [u8],
}

/// A body, and what it is.
pub(super) struct Body {
    kind: &'static [u8],
    language: Option<&'static str>,
    pub(super) text: String,
}

impl Page<'_> {
    /// As a page in the language of the client, with a way for those without scripts if there is one.
    pub(super) fn html(&self, language: Language, by_waiting: bool) -> Body {
        let words = words::of(language);
        let to = escaped(self.to.iter().copied().map(char::from));
        let task = escaped(self.task.chars());
        let Hardship { bits, wait_s, .. } = self.hardship;
        let place = String::from_utf8_lossy(PLACE);
        let note = self.note.map(|note| note_html(note, words)).unwrap_or_default();
        let text = format!(
            "<!doctype html>\n<html lang=\"{lang}\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"robots\" content=\"noindex\">\n<title>{title}</title>\n<style>{CSS}</style>\n</head>\n<body>\n\
             <main data-task=\"{task}\" data-bits=\"{bits}\" data-to=\"{to}\" data-place=\"{place}\">\n\
             <h1>{title}</h1>\n{note}<p class=\"working\" role=\"status\"><span class=\"dot\" aria-hidden=\"true\"></span>{working}</p>\n\
             <p class=\"stopped\">{stopped}</p>\n{waiting}<p class=\"small\">{number} <code>{id}</code></p>\n</main>\n\
             <script>{JS}</script>\n</body>\n</html>\n",
            lang = words.language,
            title = words.title,
            working = words.working,
            stopped = words.stopped,
            number = words.number,
            id = String::from_utf8_lossy(self.id),
            waiting = if by_waiting {
                waiting_html(words, (&task, &to, &place), *wait_s)
            } else {
                format!("<p class=\"waiting\">{}</p>\n", words.needs_scripts)
            },
        );
        Body { kind: b"text/html; charset=utf-8", language: Some(words.language), text }
    }

    /// As a program reads it (RFC 9457). One that can work may do as a page does.
    pub(super) fn problem(&self) -> Body {
        let text = format!(
            "{{\"type\":\"urn:phalanx:challenge\",\"title\":\"Work required\",\"status\":{STATUS},\
             \"detail\":\"Open the site in a browser, or find a number for which the SHA-256 of task, a colon and the number begins with \
             so many zero bits, GET answer_at with task and answer, and send the cookie that you get.\",\
             \"error\":\"challenge\",\"request_id\":\"{id}\",\"task\":\"{task}\",\"bits\":{bits},\"answer_at\":\"{place}\"}}\n",
            id = String::from_utf8_lossy(self.id),
            task = self.task,
            bits = self.hardship.bits,
            place = String::from_utf8_lossy(PLACE),
        );
        Body { kind: b"application/problem+json", language: None, text }
    }
}

/// Appends what is said of a body.
pub(super) fn write_fields(out: &mut Vec<u8>, body: &Body) {
    encode::field(out, b"Content-Type", body.kind);
    out.extend_from_slice(b"Content-Length: ");
    push_decimal(out, body.text.len() as u64);
    out.extend_from_slice(b"\r\n");
    if let Some(language) = body.language {
        encode::field(out, b"Content-Language", language.as_bytes());
        encode::field(out, b"Content-Security-Policy", POLICY.as_bytes());
        encode::field(out, b"Referrer-Policy", b"same-origin");
    }
    encode::field(out, b"X-Content-Type-Options", b"nosniff");
    // For scripts of the app, whose requests end here when a pass does.
    encode::field(out, b"X-Phalanx-Challenge", b"required");
}

fn waiting_html(words: &Words, (task, to, place): (&str, &str, &str), wait_s: u8) -> String {
    let wait = words.wait.replace("{n}", &wait_s.to_string());
    format!(
        "<form class=\"waiting\" action=\"{place}\">\n<p>{wait}</p>\n<input type=\"hidden\" name=\"task\" value=\"{task}\">\n\
         <input type=\"hidden\" name=\"to\" value=\"{to}\">\n<p><button>{go}</button></p>\n</form>\n",
        go = words.go,
    )
}

fn note_html(note: Note, words: &Words) -> String {
    let text = match note {
        Note::NotPassedOn => words.not_passed_on,
        Note::Early => words.early,
    };
    format!("<p class=\"note\" role=\"alert\">{text}</p>\n")
}

const JS: &str = include_str!("page.js");
const CSS: &str = include_str!("page.css");

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| BASE64.encode(&phalanx_trust::sha256(text.as_bytes()));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; worker-src blob:; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'self'",
        hash(JS),
        hash(CSS)
    )
});

#[cfg(test)]
mod tests {
    use super::*;

    fn page(to: &[u8]) -> Page<'_> {
        Page {
            task: "TASK",
            hardship: &Hardship { bits: 16, wait_s: 5, is_evidence: true },
            to,
            note: Some(Note::NotPassedOn),
            id: b"01ABC",
        }
    }

    #[test]
    fn what_a_stranger_asked_for_ends_nothing_in_the_page() {
        let body = page(b"/?q=\"><script>'&").html(Language::of(b"de"), true);
        assert!(body.text.contains("data-to=\"/?q=&#34;&#62;&#60;script&#62;&#39;&#38;\""));
        assert_eq!(body.text.matches("<script").count(), 1);
        assert!(body.text.contains("<html lang=\"de\">") && body.text.contains("01ABC"));
    }

    #[test]
    fn who_has_no_scripts_waits_where_that_is_admitted() {
        let (with, without) = (
            page(b"/").html(Language::default(), true).text,
            page(b"/").html(Language::default(), false).text,
        );
        assert!(with.contains("<button>") && with.contains("5 seconds"));
        assert!(!without.contains("<button>") && !without.contains("<form"));
    }

    #[test]
    fn the_policy_admits_what_the_page_has_and_nothing_else() {
        assert!(POLICY.starts_with("default-src 'none'; script-src 'sha256-"), "{}", *POLICY);
        assert!(!POLICY.contains("unsafe") && !POLICY.contains('*'));
        for (text, end) in [(JS, "</script"), (CSS, "</style")] {
            assert!(!text.contains(end) && !text.contains("<!--"));
        }
    }

    #[test]
    fn a_program_is_told_what_to_do() {
        let body = page(b"/").problem();
        assert!(body.text.starts_with("{\"type\":") && body.text.contains("\"bits\":16,"));
    }
}
