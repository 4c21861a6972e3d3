//! Who is told: chats, a pager and people by mail take a message in their own form; and what a report says of a time.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::*;

/// A mail server and a web server, Python's own, and what they were told.
struct Receivers {
    child: Child,
    mail: u64,
    web: u64,
    told: Arc<Mutex<Vec<Value>>>,
}

impl Receivers {
    fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/blackbox/peers/receivers.py");
        let mut child = Command::new("python3")
            .args(["-W", "ignore"])
            .arg(script)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ports: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let told = Arc::<Mutex<Vec<Value>>>::default();
        let heard = Arc::clone(&told);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                heard.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, mail: ports["mail"].as_u64().unwrap(), web: ports["web"].as_u64().unwrap(), told }
    }

    /// The next one, once it is there.
    fn next(&self) -> Value {
        let mut next = None;
        until("it is told", || {
            let mut told = self.told.lock().unwrap();
            next = (!told.is_empty()).then(|| told.remove(0));
            next.is_some()
        });
        next.unwrap()
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn secret(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn write(folder: &Path, app: &App, more: &str) {
    let policy = format!("[[apps]]\nname = \"shop\"\nupstream = \"{}\"\n", app.url);
    std::fs::write(folder.join("policy.toml"), policy).unwrap();
    let settings = format!(
        "policy = \"policy.toml\"\n[listen]\nadmin = \"127.0.0.1:0\"\naddress = [\"127.0.0.1:0\"]\n[node]\nstate = \"state\"\n\
         [selftest]\nenabled = false\n{more}"
    );
    std::fs::write(folder.join("phalanx.toml"), settings).unwrap();
}

fn run(folder: &Path) -> Node {
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(folder.join("phalanx.toml"));
    Node::start(command)
}

#[test]
fn each_receiver_is_told_in_its_own_form_and_says_whether_it_took_it() {
    let (app, receivers) = (App::start(), Receivers::start());
    let folder = tempfile::tempdir().unwrap();
    let (mail, web) = (receivers.mail, receivers.web);
    secret(folder.path(), "slack.url", &format!("http://127.0.0.1:{web}/T0/B0/s3cret\n"));
    secret(folder.path(), "pager.key", "R0UT1NGKEY\n");
    let more = format!(
        "[webhooks.chat]\nform = \"slack\"\nurl_file = \"slack.url\"\nallow_private = true\n\
         [webhooks.cards]\nform = \"teams\"\nurl = \"http://127.0.0.1:{web}/cards\"\nallow_private = true\n\
         [webhooks.pager]\nform = \"pagerduty\"\nurl = \"http://127.0.0.1:{web}/v2/enqueue\"\nsecret_file = \"pager.key\"\nallow_private = true\n\
         [mail.ops]\nserver = \"127.0.0.1:{mail}\"\ntls = \"none\"\nfrom = \"Phalanx <phalanx@example.org>\"\nto = [\"ann@example.org\"]\n\
         [mail.gone]\nserver = \"127.0.0.1:{mail}\"\ntls = \"none\"\nfrom = \"phalanx@example.org\"\nto = [\"nobody@example.org\"]\n"
    );
    write(folder.path(), &app, &more);
    let node = run(folder.path());
    let list = node.cli_json(&["receiver", "list"]);
    let kinds: Vec<_> = list.as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["teams", "slack", "mail", "mail", "pagerduty"]);
    let test = |name: &str| node.cli(&["receiver", "test", name]);

    assert!(test("chat").status.success());
    let chat = receivers.next();
    assert_eq!((&chat["path"], &chat["signed"]), (&"/T0/B0/s3cret".into(), &false.into()));
    assert!(chat["body"]["text"].as_str().unwrap().contains("A test by an operator"), "{chat}");
    assert!(test("cards").status.success());
    assert_eq!(receivers.next()["body"]["attachments"][0]["content"]["type"], "AdaptiveCard");
    assert!(test("pager").status.success());
    let page = receivers.next();
    assert_eq!(page["body"]["routing_key"], "R0UT1NGKEY");
    assert_eq!(page["body"]["event_action"], "trigger");
    assert_eq!(page["body"]["payload"]["severity"], "info");
    // It ends itself: nobody is to put a test away.
    let end = receivers.next();
    assert_eq!(end["body"]["event_action"], "resolve");
    assert_eq!(end["body"]["dedup_key"], page["body"]["dedup_key"]);
    assert!(test("ops").status.success());
    let letter = receivers.next();
    assert_eq!(letter["to"], serde_json::json!(["ann@example.org"]));
    let text = letter["mail"].as_str().unwrap();
    for part in
        ["Auto-Submitted: auto-generated", "Subject: [Phalanx] A test", "From: Phalanx <phalanx@example.org>"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    let refused = test("gone");
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stdout).contains("550"),
        "{refused:?}"
    );
    let unknown = test("nobody");
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no receiver `nobody`"), "{unknown:?}");
    // What leads to a receiver is told nowhere.
    let seen = node.cli(&["receiver", "list", "--json"]).stdout;
    assert!(!String::from_utf8_lossy(&seen).contains("s3cret"));
}

#[test]
fn mistakes_about_receivers_are_told_with_line_and_help() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    secret(folder.path(), "some.secret", "0123456789abcdef0123\n");
    for (more, parts) in [
        ("[webhooks.x]\nform = \"slack\"\n", ["has no `url`", "url_file"]),
        ("[webhooks.x]\nurl = \"https://h.example/\"\n", ["has no `secret_file`", "openssl rand"]),
        (
            "[webhooks.x]\nform = \"teams\"\nurl = \"https://h.example/\"\nsecret_file = \"some.secret\"\n",
            ["this form is not signed", "the address is the secret"],
        ),
        (
            "[mail.x]\nserver = \"smtp.example\"\nfrom = \"a@b.example\"\nto = [\"c@d.example\"]\n",
            ["no server with a port", "smtp.example.org:587"],
        ),
        (
            "[mail.x]\nserver = \"smtp.example:25\"\ntls = \"none\"\nfrom = \"a@b.example\"\nto = [\"c@d.example\"]\n",
            ["could be read on its way", "localhost"],
        ),
        (
            "[mail.x]\nserver = \"smtp.example:587\"\nuser = \"a\"\nfrom = \"a@b.example\"\nto = [\"c@d.example\"]\n",
            ["no password", "password_file"],
        ),
        (
            "[mail.x]\nserver = \"smtp.example:587\"\nfrom = \"nobody\"\nto = [\"c@d.example\"]\n",
            ["`nobody` is no address of mail", "phalanx.toml:"],
        ),
    ] {
        write(folder.path(), &app, more);
        let output = phalanx(&["check", "-c"]).arg(folder.path().join("phalanx.toml")).output().unwrap();
        let told =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!output.status.success());
        parts.iter().for_each(|part| assert!(told.contains(part), "{part} in {told}"));
    }
}

#[test]
fn a_report_says_what_traffic_says_and_stands_alone() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &app, "");
    let node = run(folder.path());
    for _ in 0..5 {
        assert_eq!(node.get("/").status, 200);
    }
    for _ in 0..3 {
        assert_eq!(node.get("/?q=%3Cscript%3Ealert(1)%3C/script%3E").status, 403);
    }
    let report = || node.cli_json(&["report", "--last", "1h"]);
    until("all is counted", || report()["totals"]["requests"] == 8);
    let (report, traffic) = (report(), node.cli_json(&["traffic", "--last", "1h"]));
    assert_eq!(report["totals"], traffic["totals"]);
    assert_eq!(report["totals"]["refused"], 3);
    let sum = |of: &str| -> u64 {
        report["over_time"].as_array().unwrap().iter().map(|step| step[of].as_u64().unwrap()).sum()
    };
    assert_eq!((sum("requests"), sum("refused")), (8, 3));
    let page = folder.path().join("report.html");
    let told = node.cli(&["report", "--last", "1h", "--format", "html", "--to", page.to_str().unwrap()]);
    assert!(told.status.success(), "{told:?}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        page.contains("default-src 'none'") && !page.contains("<script") && page.contains("<svg"),
        "{page}"
    );
    let csv = String::from_utf8(node.cli(&["report", "--last", "1h", "--format", "csv"]).stdout).unwrap();
    assert!(csv.contains("\"total\",\"refused\",\"3\""), "{csv}");
    let text = String::from_utf8(node.cli(&["report", "--last", "1h"]).stdout).unwrap();
    assert!(text.contains("refused by class"), "{text}");
    // What refused has a number, and words of the policy in all forms.
    let refusing = report["parts"].as_array().unwrap().iter().find(|part| part["by"] == "rule").unwrap();
    let rule = refusing["rows"][0]["key"].as_str().unwrap();
    let words = report["rules"][rule].as_str().unwrap();
    for form in [&text, &csv, &page] {
        assert!(form.contains(rule) && form.contains(words), "{rule} {words} in {form}");
    }
}

/// A state folder in which a report was sent long ago, as if the node had been down since.
fn sent_long_ago(folder: &Path, name: &str) {
    let state = folder.join("state");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mark = serde_json::json!([{
        "name": name, "due_ms": 1, "told": ["boss"], "at_ms": 1, "attempts": 1, "is_over": true, "is_given_up": false, "fault": null,
    }]);
    std::fs::write(state.join("reports.json"), mark.to_string()).unwrap();
}

#[test]
fn a_report_that_was_missed_is_sent_late_once_and_one_that_is_asked_for_at_once() {
    let (app, receivers) = (App::start(), Receivers::start());
    let folder = tempfile::tempdir().unwrap();
    let (mail, web) = (receivers.mail, receivers.web);
    secret(folder.path(), "hook.secret", "0123456789abcdef0123\n");
    let more = format!(
        "[mail.boss]\nserver = \"127.0.0.1:{mail}\"\ntls = \"none\"\nfrom = \"Phalanx <phalanx@example.org>\"\nto = [\"boss@example.org\"]\n\
         [mail.gone]\nserver = \"127.0.0.1:{mail}\"\ntls = \"none\"\nfrom = \"phalanx@example.org\"\nto = [\"nobody@example.org\"]\n\
         [webhooks.hook]\nurl = \"http://127.0.0.1:{web}/reports\"\nsecret_file = \"hook.secret\"\nallow_private = true\n\
         [reports.daily]\nto = [\"boss\", \"hook\"]\nhour = 0\nattach = [\"csv\", \"json\"]\napp = \"shop\"\n\
         [reports.weekly]\nto = [\"gone\"]\nevery = \"week\"\nweekday = \"friday\"\ntime_zone = \"CET-1CEST,M3.5.0,M10.5.0/3\"\n"
    );
    write(folder.path(), &app, &more);
    sent_long_ago(folder.path(), "daily");
    let node = run(folder.path());

    let letter = receivers.next();
    let text = letter["mail"].as_str().unwrap();
    for part in [
        "Subject: [Phalanx] Report daily: app shop, ",
        "multipart/alternative",
        "text/html",
        "filename=\"phalanx-daily-",
        "application/json",
        "text/csv",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let told = receivers.next();
    assert_eq!((&told["path"], &told["signed"]), (&"/reports".into(), &true.into()));
    let body = &told["body"];
    assert_eq!((&body["kind"], &body["report"]["app"]), (&"report".into(), &"shop".into()));
    let day = |at: &str| body["report"][at].as_u64().unwrap();
    assert_eq!((day("to_ms") - day("from_ms"), day("to_ms") % 86_400_000), (86_400_000, 0));
    until("it is written down", || {
        node.cli_json(&["report", "schedule", "list"])[0]["last"]["state"] == "sent"
    });
    let list = node.cli(&["report", "schedule", "list"]);
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.contains("each friday at 07:00 CET/CEST") && list.contains("none yet"), "{list}");
    drop(node);

    // The next process knows, and sends only what it is asked for.
    let node = run(folder.path());
    let sent = node.cli(&["report", "schedule", "send", "daily"]);
    assert!(sent.status.success(), "{sent:?}");
    let asked = receivers.next();
    assert!(asked["mail"].as_str().unwrap().contains("Report daily"), "{asked}");
    assert!(receivers.next()["body"]["key"].as_str().unwrap().starts_with("report/daily/test/"));
    let refused = node.cli(&["report", "schedule", "send", "weekly"]);
    let told = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(!refused.status.success() && told.contains("gone: ") && told.contains("550"), "{refused:?}");
    assert!(
        receivers.next()["mail"].as_str().unwrap().contains("Report weekly"),
        "it was shown, and refused"
    );
    let unknown = node.cli(&["report", "schedule", "send", "nobody"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no report `nobody`"), "{unknown:?}");
    let more = receivers.told.lock().unwrap().clone();
    assert!(more.is_empty(), "nothing is sent twice: {more:?}");
}

#[test]
fn mistakes_about_reports_are_told_with_line_and_help() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    for (more, parts) in [
        ("[reports.x]\nto = [\"nobody\"]\n", ["no receiver `nobody`", "[mail.nobody]"]),
        ("[reports.x]\nto = []\nhour = 25\n", ["from 0 to 23", "midnight is 0"]),
    ] {
        write(folder.path(), &app, more);
        let mut check = phalanx(&["check", "-c"]);
        let checked = check.arg(folder.path().join("phalanx.toml")).output().unwrap();
        let told =
            String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
        assert!(!checked.status.success() && told.contains("phalanx.toml:"), "{told}");
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
    }
    let mail = "[mail.ops]\nserver = \"localhost:25\"\ntls = \"none\"\nfrom = \"a@b.example\"\nto = [\"c@d.example\"]\n";
    write(folder.path(), &app, &format!("{mail}[reports.x]\nto = [\"ops\"]\napp = \"shopp\"\n"));
    let checked = phalanx(&["check", "-c"]).arg(folder.path().join("phalanx.toml")).output().unwrap();
    let told =
        String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    assert!(
        !checked.status.success() && told.contains("the app `shopp`, which the policy does not have"),
        "{told}"
    );
}
