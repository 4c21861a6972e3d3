//! What of an explanation may be told at other sites.

use phalanx_model::{Actor, CheckKind, RateExcess, Reason, Strike, Verdict};
use phalanx_record::{Consequence, Explanation, RecordedRequest};

use crate::support::{access, signal};

/// Where strangers write.
const MARK: &str = "stranger";

fn record(reason: Reason) -> RecordedRequest {
    let mut access = access(1);
    access.client = "203.0.113.99".parse().unwrap();
    access.peer = "203.0.113.98".parse().unwrap();
    access.balancer = Some("203.0.113.97".parse().unwrap());
    access.check = Some(CheckKind::ForwardAuth);
    for text in [&mut access.method, &mut access.host, &mut access.target, &mut access.protocol] {
        *text = format!("{MARK}/{text}");
    }
    (access.user_agent, access.referer) = (MARK.to_owned(), MARK.to_owned());
    access.forwarded_id = Some(MARK.to_owned());
    access.verdict = Verdict { score: 5, ..Verdict::deny(reason, 403) };
    let mut written = signal(942_100, "ARGS:comment[text]", MARK);
    written.verbatim = true;
    let mut expanded = signal(942_101, &format!("ARGS:{MARK}<b>"), MARK);
    expanded.message = format!("found {MARK}");
    RecordedRequest::new(&"fra".into(), &"a".into(), access, vec![written, expanded], Vec::new())
}

#[test]
fn words_for_other_sites_name_rules_variables_and_scores_and_nothing_that_a_stranger_wrote() {
    let record = record(Reason::Rule { rule: 942_100 });
    let strike = Strike {
        request: record.id(),
        at_ms: record.access.at_ms,
        actor: Actor::ip(record.access.client),
        count: 2,
    };
    let told = Explanation::elsewhere(record, vec![Consequence::Strike { strike }]).join("\n");
    let place = "REQUEST-942-APPLICATION-ATTACK-SQLI.conf:45";
    for said in [
        format!(
            "Rule 942100 ({place}) decided: SQL Injection Attack Detected via libinjection. Anomaly score 5."
        ),
        format!(
            "Rule 942100 ({place}) \"SQL Injection Attack Detected via libinjection\" matched ARGS:comment[text] after urlDecodeUni; score +5, inbound 0 -> 5."
        ),
        format!("Rule 942101 ({place}) matched ARGS after urlDecodeUni; score +5, inbound 0 -> 5."),
        "It was decided under plan version 7 and view revision 12.".to_owned(),
    ] {
        assert!(told.lines().any(|line| line == said), "{said}\n{told}");
    }
    assert!(!told.contains(MARK) && !told.contains("203.0.113."), "{told}");
}

#[test]
fn no_reason_tells_other_sites_what_a_stranger_wrote_or_where_from() {
    let excess = RateExcess {
        limit: "login".into(),
        rate: "10/1m".into(),
        key: "ip 203.0.113.99".to_owned(),
        here: 10,
        elsewhere: 2,
        over: 1,
        retry_after_s: 6,
    };
    let table = [
        (Reason::RateLimit(Box::new(excess)), "rate limit login admits (10/1m), counted by ip."),
        (Reason::Failure { stage: format!("cannot parse {MARK}") }, "A stage failed"),
        (Reason::Upstream { error: format!("no app for {MARK}") }, "The upstream failed"),
        (Reason::Limit { limit: "head_bytes".to_owned() }, "It passed the limit head_bytes."),
        (Reason::Network, "keeps the client's network out"),
    ];
    for (reason, said) in table {
        let told = Explanation::elsewhere(record(reason), Vec::new()).join("\n");
        assert!(told.contains(said), "{said}\n{told}");
        assert!(!told.contains(MARK) && !told.contains("203.0.113."), "{told}");
    }
}
