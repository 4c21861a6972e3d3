//! `phalanx selftest`: what became of the node's attacks on itself.

use std::process::ExitCode;

use clap::Args;
use phalanx_control::api::{SelfTest, SelfTestCase, SelfTestOutcome};
use phalanx_model::{Clock, SystemClock};

use super::print;
use crate::client::{AdminArgs, Client};

/// Arguments of `selftest`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SelfTestArgs {
    /// Attack the node now, and show what comes of it
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Shows the last run; exit code 1 when something in it failed.
pub(crate) fn run(args: &SelfTestArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.admin)?;
    let answer = match args.now {
        true => client.post_patiently("selftest", &serde_json::Value::Null)?,
        false => client.get("selftest")?,
    };
    let test: SelfTest = serde_json::from_value(answer.clone())?;
    match args.admin.json {
        true => print::json(&answer)?,
        false => print::text(&words(&test, SystemClock.now_ms()))?,
    }
    Ok(match test.last.is_some_and(|last| !last.ok) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

fn words(test: &SelfTest, now_ms: u64) -> String {
    let often = match test.every_ms {
        Some(ms) => format!("every {}", print::duration(ms)),
        None => "switched off in the settings; `--now` runs it once".to_owned(),
    };
    let Some(last) = &test.last else { return format!("the node has not attacked itself yet ({often})\n") };
    let count = |outcome| last.cases.iter().filter(|case| case.outcome == outcome).count();
    let unprotected = match count(SelfTestOutcome::NotProtected) {
        0 => String::new(),
        some => format!(", {some} attacks on what is not protected"),
    };
    let mut out = format!(
        "{} of {} as they should be{unprotected}; {}, took {} ms ({often})\n",
        count(SelfTestOutcome::Passed),
        last.cases.len(),
        print::left(last.at_ms, now_ms),
        last.took_ms,
    );
    if let Some(since_ms) = test.failing_since_ms {
        out.push_str(&format!("FAILING; it began {}\n", print::left(since_ms, now_ms)));
    }
    out.push('\n');
    let rows: Vec<Vec<String>> = last.cases.iter().map(row).collect();
    out.push_str(&print::table(&["LISTENER", "APP", "SENT", "CAME TO", ""], &rows));
    out
}

fn row(case: &SelfTestCase) -> Vec<String> {
    let app = if case.app.is_empty() { "-" } else { &case.app };
    let note = match case.outcome {
        SelfTestOutcome::Passed => String::new(),
        SelfTestOutcome::Failed => format!("FAILED: {}", case.detail),
        SelfTestOutcome::NotProtected | SelfTestOutcome::Skipped => case.detail.clone(),
    };
    vec![case.listener.clone(), app.to_owned(), case.name.clone(), case.got.clone(), note]
}

#[cfg(test)]
mod tests {
    use phalanx_control::api::{SelfTestRun, SelfTestState};

    use super::*;

    #[test]
    fn failures_stand_out_and_texts_are_escaped() {
        let case = |app: &str, name: &str, got: &str, outcome, detail: &str| SelfTestCase {
            app: app.into(),
            listener: "0.0.0.0:8080".into(),
            name: name.into(),
            expected: "refused".into(),
            got: got.into(),
            ok: outcome != SelfTestOutcome::Failed,
            outcome,
            detail: detail.into(),
        };
        let cases = vec![
            case("", "framing_fault", "refused", SelfTestOutcome::Passed, "it is refused"),
            case("shop", "sql_injection", "passed", SelfTestOutcome::Failed, "it is not refused\u{1b}[2J"),
            case(
                "blog",
                "sql_injection",
                "observed",
                SelfTestOutcome::NotProtected,
                "it is only observed: not protected",
            ),
        ];
        let last = SelfTestRun { at_ms: 1_000, took_ms: 12, ok: false, cases };
        let test = SelfTest {
            state: SelfTestState::Failing,
            every_ms: Some(60_000),
            last: Some(last),
            failing_since_ms: Some(1_000),
        };
        insta::assert_snapshot!(words(&test, 61_000));
        assert!(words(&SelfTest::default(), 0).contains("not attacked itself yet"));
    }
}
