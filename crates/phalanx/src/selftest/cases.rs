//! What a node sends itself, and what its answers mean.

use phalanx_control::api::{SelfTestCase, SelfTestOutcome};
use phalanx_edge::selftest::{OBSERVED, PASSED, UNINSPECTED};

use super::visit::Answer;

/// Something to send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Try {
    pub(super) name: &'static str,
    /// The status of its refusal; `None`: it must not be refused.
    pub(super) refused_with: Option<u16>,
    head: &'static str,
}

/// What an app's rules are expected to refuse, and what not: one of each kind, that any rule set knows.
pub(super) const OF_APP: &[Try] = &[
    attack(
        "sql_injection",
        "GET /?q=1%27%20UNION%20SELECT%20username,password%20FROM%20users--%20- HTTP/1.1",
    ),
    attack("cross_site_scripting", "GET /?q=%3Cscript%3Ealert(document.cookie)%3C%2Fscript%3E HTTP/1.1"),
    attack("path_traversal", "GET /?file=..%2F..%2F..%2F..%2Fetc%2Fpasswd HTTP/1.1"),
    attack("command_injection", "GET /?host=127.0.0.1%3Bcat%20%2Fetc%2Fpasswd HTTP/1.1"),
    Try { name: "harmless", refused_with: None, head: "GET /?q=hello HTTP/1.1" },
];

/// What is refused whatever app it is for.
pub(super) const OF_LISTENER: &[Try] = &[
    Try {
        name: "framing_fault",
        refused_with: Some(400),
        head: "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
    },
    Try { name: "no_host", refused_with: Some(400), head: "GET / HTTP/1.1" },
];

const fn attack(name: &'static str, head: &'static str) -> Try {
    Try { name, refused_with: Some(403), head }
}

impl Try {
    /// The request as it is written, for an app's host.
    pub(super) fn of_app(&self, host: &str) -> String {
        format!("{}\r\nHost: {host}\r\n{BROWSER}\r\n", self.head)
    }

    /// The same of what no app is needed for.
    pub(super) fn of_listener(&self, host: &str) -> String {
        format!("{}\r\n{BROWSER}\r\n", self.head.replace("HOST", host))
    }

    /// What an answer to it means.
    pub(super) fn judge(&self, answer: &Answer) -> Judged {
        use SelfTestOutcome::{Failed, NotProtected, Passed, Skipped};
        let says = answer.says.as_deref();
        let got = match (answer.status, says) {
            (204, Some(says @ (PASSED | OBSERVED | UNINSPECTED))) => says.to_owned(),
            (status, _) if self.refused_with == Some(status) || status == 403 => "refused".to_owned(),
            (status, _) => format!("status {status}"),
        };
        let (outcome, detail) = match (self.refused_with.is_some(), got.as_str()) {
            (true, "refused") => (Passed, "it is refused"),
            (true, PASSED) => (Failed, "it is not refused, and would have reached the application"),
            (true, OBSERVED) => (NotProtected, "it is only observed: not protected"),
            (true, UNINSPECTED) => (NotProtected, "no rules look at it: not protected"),
            (false, PASSED | OBSERVED | UNINSPECTED) => (Passed, "it passes"),
            (false, "refused") => (Failed, "it is refused, as visitors are who do no harm"),
            (_, "status 503") => (Skipped, "the node has no room for it now"),
            _ => (Failed, "this is no answer to it"),
        };
        Judged { got, outcome, detail: detail.to_owned() }
    }
}

/// What became of something that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) got: String,
    pub(super) outcome: SelfTestOutcome,
    pub(super) detail: String,
}

impl Judged {
    /// It was not answered.
    pub(super) fn unanswered(detail: String) -> Self {
        Self { got: "no answer".to_owned(), outcome: SelfTestOutcome::Failed, detail }
    }

    /// It could not be tried, and that is no fault.
    pub(super) fn skipped(detail: &str) -> Self {
        let got = "not tried".to_owned();
        Self { got, outcome: SelfTestOutcome::Skipped, detail: detail.to_owned() }
    }

    /// As it is reported.
    pub(super) fn reported(self, tried: &Try, app: &str, listener: &str) -> SelfTestCase {
        SelfTestCase {
            app: app.to_owned(),
            listener: listener.to_owned(),
            name: tried.name.to_owned(),
            expected: if tried.refused_with.is_some() { "refused" } else { "passed" }.to_owned(),
            got: self.got,
            ok: self.outcome != SelfTestOutcome::Failed,
            outcome: self.outcome,
            detail: self.detail,
        }
    }
}

/// What a browser sends, without which rules look twice.
const BROWSER: &str = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_became_of_the_request() {
        use SelfTestOutcome::{Failed, NotProtected, Passed, Skipped};
        let answer = |status, says: &str| Answer { status, says: Some(says.to_owned()), closes: false };
        let (attack, harmless, framing) = (OF_APP[0], OF_APP[4], OF_LISTENER[0]);
        for (tried, status, says, got, outcome) in [
            (attack, 403, "", "refused", Passed),
            (attack, 204, PASSED, PASSED, Failed),
            (attack, 204, OBSERVED, OBSERVED, NotProtected),
            (attack, 204, UNINSPECTED, UNINSPECTED, NotProtected),
            // An application's own answer: it got there.
            (attack, 204, "", "status 204", Failed),
            (attack, 200, PASSED, "status 200", Failed),
            (attack, 503, "", "status 503", Skipped),
            (harmless, 204, PASSED, PASSED, Passed),
            (harmless, 204, UNINSPECTED, UNINSPECTED, Passed),
            (harmless, 403, "", "refused", Failed),
            (harmless, 502, "", "status 502", Failed),
            (framing, 400, "", "refused", Passed),
            (framing, 204, PASSED, PASSED, Failed),
        ] {
            let judged = tried.judge(&answer(status, says));
            assert_eq!(
                (judged.got.as_str(), judged.outcome),
                (got, outcome),
                "{} {status} {says}",
                tried.name
            );
        }
    }

    #[test]
    fn requests_are_whole() {
        for tried in OF_APP {
            let text = tried.of_app("shop.example");
            assert!(text.contains("\r\nHost: shop.example\r\n") && text.ends_with("\r\n\r\n"), "{text}");
        }
        assert!(!OF_LISTENER[1].of_listener("shop.example").contains("Host:"));
        assert!(OF_LISTENER[0].of_listener("shop.example").contains("Host: shop.example\r\n"));
    }
}
