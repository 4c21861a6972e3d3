//! `phalanx explain ID`: why a request was refused; words first, then the facts, then what each rule saw.
//!
//! Much of the text was written by strangers. It is escaped before it is laid out, so that no value can draw outside its
//! place.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Args;
use phalanx_control::inquiry::RedactedRequest;
use phalanx_model::{AccessEvent, Action, Reason, Recall, RequestId, RuleMatch, Signal};
use phalanx_record::escape::for_terminal;
use phalanx_record::{Explanation, rfc3339};

use super::print;
use crate::client::{AdminArgs, Client, is_refused};

/// Arguments of `explain`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExplainArgs {
    /// The request's id, as the blocked visitor saw it
    #[arg(value_name = "REQUEST_ID", value_parser = request_id)]
    id: RequestId,
    #[command(flatten)]
    admin: AdminArgs,
}

/// An id as visitors send it: with blanks around it, in a sentence, or in the address of a page.
fn request_id(text: &str) -> Result<RequestId, String> {
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let found = words.find_map(|word| word.parse().ok());
    found.ok_or_else(|| {
        "no id of a request is in it: one has 26 letters and digits, as on the block page".to_owned()
    })
}

/// Tells why a request was refused.
pub(crate) fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.admin)?;
    let answer = match client.get(&format!("events/{}", args.id)) {
        Err(error) if is_refused(&error, "elsewhere") => return elsewhere(&client, args, error),
        answer => answer?,
    };
    if args.admin.json {
        print::json(&answer)?;
    } else {
        let mut explanation: Explanation = serde_json::from_value(answer)?;
        if let Reason::Decision { decision } = &explanation.access.verdict.reason {
            let recalls: Vec<Recall> = serde_json::from_value(client.get("recalls")?)?;
            let ended = recalls.iter().find(|recall| recall.ends(decision));
            explanation.summary.extend(ended.map(print::recall));
        }
        for step in &mut explanation.next {
            step.command.push_str(&args.admin.flags());
        }
        // What goes into a pipe is searched and cut by line: there it stays whole.
        let columns = if std::io::stdout().is_terminal() { TERMINAL_COLUMNS } else { usize::MAX };
        print::text(&words(&explanation, columns))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Another node served it: that one is asked, and tells what may leave it. Where it cannot be asked, what it was asked for stands.
fn elsewhere(client: &Client, args: &ExplainArgs, told: anyhow::Error) -> anyhow::Result<ExitCode> {
    let Ok(answer) = client.get(&format!("fleet/events/{}", args.id)) else { return Err(told) };
    if args.admin.json {
        print::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let request: RedactedRequest = serde_json::from_value(answer)?;
    let mut page = Page { out: format!("request {}\n\n", request.id), columns: usize::MAX };
    let node = format!("{}/{}", request.site, request.node);
    let told = match &request.copied_by {
        None => format!("{node} served it and tells what may leave it; ask there for the rest"),
        Some(copier) => format!(
            "{node} served it and does not answer; {copier} has a copy and tells what may leave the site"
        ),
    };
    page.entry("  ", &told);
    page.out.push_str("\nfacts\n");
    let rules: Vec<String> = request.rule_ids.iter().map(u64::to_string).collect();
    for (name, value) in [
        ("time", rfc3339(request.at_ms)),
        ("app", request.app.to_string()),
        ("client", format!("of {}", request.network)),
        ("request", format!("{} {}", request.method, request.path)),
        ("outcome", format!("{:?}, {}", request.action, request.status).to_lowercase()),
        ("why", request.reason.clone()),
        ("rules", rules.join(", ")),
        ("score", request.score.to_string()),
        ("led to", request.led_to.join(", ")),
    ] {
        page.fact(name, &value);
    }
    if !request.rule_ids.is_empty() && request.action != Action::Allow {
        page.out.push_str("\nnext\n");
        page.entry("  ", "propose the narrowest exclusion that lets it pass:");
        page.value("    ", &format!("phalanx waf suggest {}{}", request.id, args.admin.flags()));
    }
    print::text(&page.out)?;
    Ok(ExitCode::SUCCESS)
}

fn words(explanation: &Explanation, columns: usize) -> String {
    let mut page = Page { out: format!("request {}\n\n", explanation.id), columns };
    for line in &explanation.summary {
        page.entry("  ", line);
    }
    let access = &explanation.access;
    let facts = [
        ("node", format!("{}/{}", explanation.site, explanation.node)),
        ("plan", format!("version {}", explanation.plan_version)),
        ("view", format!("revision {}", access.view_revision)),
        (
            "app",
            match &access.route {
                Some(route) => format!("{}, route {route}", access.app),
                None => access.app.to_string(),
            },
        ),
        ("peer", access.peer.to_string()),
        ("protocol", access.protocol.clone()),
        ("user agent", access.user_agent.clone()),
        ("referer", access.referer.clone()),
        ("bytes", format!("{} in, {} out", access.request_bytes, access.response_bytes)),
        ("upstream", access.upstream.as_deref().unwrap_or_default().to_owned()),
        ("time", times(access)),
        ("forwarder's", access.forwarded_id.as_ref().map(|id| format!("id {id}")).unwrap_or_default()),
        ("score", access.verdict.score.to_string()),
    ];
    page.out.push_str("\nfacts\n");
    for (name, value) in &facts {
        page.fact(name, value);
    }
    for signal in &explanation.signals {
        finding(&mut page, signal);
    }
    if !explanation.next.is_empty() {
        page.out.push_str("\nnext\n");
    }
    for step in &explanation.next {
        page.entry("  ", &format!("{}:", step.what));
        page.value("    ", &step.command);
    }
    page.out
}

/// How long it took, and the parts of that which took any time.
fn times(access: &AccessEvent) -> String {
    let phases = access.phases;
    let parts = [
        ("head", phases.head_us),
        ("inspection", phases.inspect_us),
        ("queue", phases.queue_us),
        ("connecting", phases.connect_us),
        ("upstream", phases.upstream_us),
    ];
    let parts = parts.into_iter().filter(|(_, us)| *us > 0).map(|(part, us)| format!("{part} {us} us"));
    let parts = parts.collect::<Vec<_>>().join(", ");
    let of_which = if parts.is_empty() { "" } else { ", of which " };
    format!("{} us{of_which}{parts}", access.duration_us)
}

fn finding(page: &mut Page, signal: &Signal) {
    let rule = &signal.rule;
    page.out.push_str(&format!("\nrule {} at {}:{}\n", rule.id, for_terminal(&rule.file), rule.line));
    page.fact("message", &signal.message);
    page.fact("data", &signal.data);
    let severity =
        rule.severity.map(|severity| format!("; severity {severity:?}").to_lowercase()).unwrap_or_default();
    let observed = if signal.observed { "; only observed in this app" } else { "" };
    page.fact("class", &format!("{}{severity}; phase {}{observed}", rule.class, signal.phase));
    page.fact("score", &score(signal));
    for one in &signal.matches {
        page.fact("variable", &one.variable);
        value(page, one);
    }
    page.fact("tags", &rule.tags.join(", "));
}

/// What the match did to the inbound score; nothing where there are no scores.
fn score(signal: &Signal) -> String {
    match signal.inbound {
        Some(inbound) if signal.score == 0 && inbound.after != 0 => format!("0; inbound {}", inbound.after),
        Some(inbound) if inbound.after != 0 || signal.score != 0 => {
            let to =
                if inbound.before == inbound.after && signal.score != 0 { ", of the response" } else { "" };
            format!("{:+}{to}; inbound {} -> {}", signal.score, inbound.before, inbound.after)
        }
        None if signal.score != 0 => format!("{:+}", signal.score),
        _ => String::new(),
    }
}

/// The value as received, after each step, and what matched of it.
fn value(page: &mut Page, one: &RuleMatch) {
    let widest = one.steps.iter().map(|step| step.name.chars().count()).max().unwrap_or_default();
    let width = widest.max("received".len());
    let mut line = |name: &str, value: &str| {
        page.value(&format!("    {name:<width$}  "), value);
    };
    if let Some(received) = &one.value {
        line("received", received);
    }
    for step in &one.steps {
        match (&step.value, step.changed) {
            (Some(value), _) => line(&step.name, value),
            (None, false) => line(&step.name, "(no change)"),
            (None, true) => line(&step.name, "(changed; not kept, the record has too many values)"),
        }
    }
    if one.steps.is_empty() && !one.transformations.is_empty() {
        line("after", &one.transformations.join(", "));
    }
    if !one.fragment.is_empty() {
        line("matched", &one.fragment);
    }
}

/// Text in columns: what does not fit goes on below its beginning.
struct Page {
    out: String,
    columns: usize,
}

impl Page {
    /// A named fact, unless it is empty.
    fn fact(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.entry(&format!("  {name:<11} "), value);
        }
    }

    /// Words, broken at spaces.
    fn entry(&mut self, label: &str, words: &str) {
        self.lay(label, words, true);
    }

    /// A value, broken anywhere: a space at its edge must not get lost.
    fn value(&mut self, label: &str, value: &str) {
        self.lay(label, value, false);
    }

    fn lay(&mut self, label: &str, text: &str, at_spaces: bool) {
        let shown = for_terminal(text);
        let indent = label.chars().count();
        let room = self.columns.saturating_sub(indent).max(COLUMNS_MIN);
        for (number, line) in broken(&shown, room, at_spaces).into_iter().enumerate() {
            let start = if number == 0 { label.to_owned() } else { " ".repeat(indent) };
            self.out.push_str(&start);
            self.out.push_str(line);
            self.out.push('\n');
        }
    }
}

/// The text in lines of at most `room` columns.
fn broken(text: &str, room: usize, at_spaces: bool) -> Vec<&str> {
    let (mut lines, mut start, mut used) = (Vec::new(), 0, 0);
    let mut space = None;
    for (at, c) in text.char_indices() {
        let width = columns_of(c);
        if used + width > room && at > start {
            let end = space.filter(|_| at_spaces).unwrap_or(at);
            lines.push(text.get(start..end).unwrap_or_default());
            start = if space == Some(end) && at_spaces { end + 1 } else { end };
            used = text.get(start..at).unwrap_or_default().chars().map(columns_of).sum();
            space = None;
        }
        if c == ' ' && at > start {
            space = Some(at);
        }
        used += width;
    }
    lines.push(text.get(start..).unwrap_or_default());
    lines
}

/// Columns that a terminal gives a character. East Asian characters and pictures take two; a wrong guess costs a ragged
/// edge and nothing else.
fn columns_of(c: char) -> usize {
    match c {
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// Width of a page on a terminal: wide enough for paths and values, narrow enough for half a screen.
const TERMINAL_COLUMNS: usize = 100;
/// Room that is left to a value, however long its label is.
const COLUMNS_MIN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn explanation() -> Explanation {
        serde_json::from_str(include_str!("../../testdata/explain.json")).unwrap()
    }

    #[test]
    fn an_id_is_found_in_what_a_visitor_sends() {
        let id = "01M8E459NF0QJ5YB4T1CHW2KXQ";
        for text in [
            id,
            " 01m8e459nf0qj5yb4t1chw2kxq\n",
            "https://shop.example/?id=01M8E459NF0QJ5YB4T1CHW2KXQ&x",
            "Request 01M8E459NF0QJ5YB4T1CHW2KXQ.",
        ] {
            assert_eq!(request_id(text).unwrap().to_string(), id, "{text}");
        }
        for text in ["", "01M8E459NF0QJ5YB4T1CHW2KX", &"A".repeat(5_000)] {
            assert!(request_id(text).unwrap_err().starts_with("no id of a request"), "{text}");
        }
    }

    #[test]
    fn an_explanation_reads_well() {
        assert_eq!(words(&explanation(), TERMINAL_COLUMNS), include_str!("../../testdata/explain.txt"));
    }

    #[test]
    fn a_record_of_an_older_version_is_explained() {
        let old = serde_json::from_str(include_str!("../../testdata/explain-0.1.json")).unwrap();
        let told = words(&old, usize::MAX);
        assert!(told.contains("    after     urlDecodeUni, lowercase\n"), "{told}");
        assert!(told.contains("    matched   union select\n"), "{told}");
    }

    #[test]
    fn no_value_draws_outside_its_place() {
        let mut hostile = explanation();
        let text = "a\r\nrule 1 at forged\x1b[2J\u{9b}1A\u{202e}b\0";
        hostile.access.user_agent = text.into();
        let mut signal = (*hostile.signals.first().unwrap()).clone();
        signal.message = text.into();
        for one in &mut signal.matches {
            one.variable = text.into();
            one.fragment = text.into();
            one.value = Some(text.into());
            one.steps.iter_mut().for_each(|step| step.value = Some(text.into()));
        }
        hostile.signals = vec![signal];
        let told = words(&hostile, TERMINAL_COLUMNS);
        assert!(!told.chars().any(|c| c != '\n' && phalanx_record::escape::is_hidden(c)), "{told:?}");
        assert!(!told.lines().any(|line| line.starts_with("rule 1 at forged")), "{told}");
    }

    #[test]
    fn long_values_go_on_below_their_beginning() {
        assert_eq!(broken("aaaa bbbb cc", 10, true), ["aaaa bbbb", "cc"]);
        assert_eq!(broken("aaaa bbbb cc", 10, false), ["aaaa bbbb ", "cc"]);
        assert_eq!(broken("日本語日本語", 6, false), ["日本語", "日本語"]);
        assert_eq!(broken("abcdefgh", 3, true), ["abc", "def", "gh"]);
        assert_eq!(broken("", 3, true), [""]);
    }
}
