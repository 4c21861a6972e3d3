//! What a stage expects, held against what was seen; the same for both ways of running it.

use std::fmt::Write as _;

use phalanx_inspect::pattern::{Flags, Pattern};
use phalanx_model::Signal;
use phalanx_record::modsecurity::{LogContext, modsecurity_line};

use super::suite::Output;

/// What became of one request.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// Status of the reply.
    pub(crate) status: u16,
    /// The reply, as far as `response_contains` looks at it.
    pub(crate) reply: Vec<u8>,
    /// Ids of the rules that matched and log.
    pub(crate) rules: Vec<u64>,
    /// The findings in ModSecurity's format, a line each.
    pub(crate) log: String,
    /// Why the request could not be judged, if it could not.
    pub(crate) failure: Option<String>,
}

/// Compares; the error says what was not as expected.
pub(crate) fn judge(output: &Output, seen: &Observed) -> Result<(), String> {
    if let Some(failure) = &seen.failure {
        return Err(format!("the engine failed: {failure}"));
    }
    if let Some(expected) = output.status
        && expected != seen.status
    {
        return Err(format!("status {}, not {expected}", seen.status));
    }
    let replied = |text: &String| memchr::memmem::find(&seen.reply, text.as_bytes()).is_some();
    if output.response_contains.as_ref().is_some_and(|text| !replied(text)) {
        return Err("the reply lacks response_contains".to_owned());
    }
    let contains = |text: &String| seen.log.contains(text.as_str());
    if output.log_contains.as_ref().is_some_and(|text| !contains(text)) {
        return Err("the log lacks log_contains".to_owned());
    }
    if output.no_log_contains.as_ref().is_some_and(contains) {
        return Err("the log has no_log_contains".to_owned());
    }
    judge_rules(output, seen)
}

fn judge_rules(output: &Output, seen: &Observed) -> Result<(), String> {
    let Some(expected) = &output.log else {
        return Ok(());
    };
    let matched = |id: &u64| seen.rules.contains(id);
    if let Some(id) = expected.expect_ids.iter().find(|id| !matched(id)) {
        return Err(format!("{id} did not match"));
    }
    if let Some(id) = expected.no_expect_ids.iter().find(|id| matched(id)) {
        return Err(format!("{id} matched"));
    }
    if output.isolated == Some(true)
        && let Some(id) = other_detection(&expected.expect_ids, &seen.rules)
    {
        return Err(format!("{id} matched too"));
    }
    if let Some(regex) = &expected.match_regex
        && !found(regex, &seen.log)?
    {
        return Err(format!("the log lacks {regex}"));
    }
    if let Some(regex) = &expected.no_match_regex
        && found(regex, &seen.log)?
    {
        return Err(format!("the log has {regex}"));
    }
    Ok(())
}

/// The findings as ModSecurity would log them.
pub(crate) fn log_text(signals: &[Signal], host: &str, uri: &str, unique_id: &str, client: &str) -> String {
    let context = LogContext { host, uri, unique_id, client, denied: None };
    signals.iter().fold(String::new(), |mut log, signal| {
        let _ = writeln!(log, "{}", modsecurity_line(signal, &context));
        log
    })
}

/// A rule beyond the expected ones, those that keep score or watch the test aside.
fn other_detection(expected: &[u64], matched: &[u64]) -> Option<u64> {
    let bookkeeping = |id: u64| matches!(id / 1000, 949 | 959 | 980 | 8599);
    matched.iter().copied().find(|id| !expected.contains(id) && !bookkeeping(*id))
}

fn found(regex: &str, log: &str) -> Result<bool, String> {
    let pattern = Pattern::compile(regex, Flags::MODSECURITY).map_err(|error| error.to_string())?;
    pattern.is_match(log.as_bytes()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(output: &str, expected: Result<(), &str>) {
        let output: Output = serde_saphyr::from_str(output).unwrap();
        let seen = Observed {
            status: 200,
            reply: b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec(),
            rules: vec![942_100, 949_110, 8_599_001],
            log: "[id \"942100\"] found within ARGS:q\n".to_owned(),
            failure: None,
        };
        assert_eq!(judge(&output, &seen), expected.map_err(str::to_owned));
    }

    #[test]
    fn everything_that_a_stage_expects_is_checked() {
        check("status: 200", Ok(()));
        check("status: 403", Err("status 200, not 403"));
        check("response_contains: hello", Ok(()));
        check("response_contains: bye", Err("the reply lacks response_contains"));
        check("log_contains: ARGS:q", Ok(()));
        check("no_log_contains: ARGS:q", Err("the log has no_log_contains"));
        check("log: {expect_ids: [942100]}", Ok(()));
        check("log: {expect_ids: [941100]}", Err("941100 did not match"));
        check("log: {no_expect_ids: [942100]}", Err("942100 matched"));
        check("log: {match_regex: 'within ARGS:.'}", Ok(()));
        check("log: {no_match_regex: 'within ARGS:.'}", Err("the log has within ARGS:."));
    }

    #[test]
    fn rules_that_keep_score_do_not_spoil_an_isolated_test() {
        check("{isolated: true, log: {expect_ids: [942100]}}", Ok(()));
        check("{isolated: true, log: {expect_ids: [949110]}}", Err("942100 matched too"));
    }
}
