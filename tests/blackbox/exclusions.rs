//! Exclusions of the policy: narrow, in somebody's name, and over when their day is over.

use std::path::Path;

use phalanx_model::{Clock, SystemClock};

use crate::support::*;

fn write(folder: &Path, app: &str, exclusions: &str) {
    let policy = format!(
        "[[apps]]\nname = \"blog\"\nupstream = \"{app}\"\ntrust_forwarded = [\"127.0.0.1\"]\n{exclusions}\n"
    );
    std::fs::write(folder.join("policy.toml"), policy).unwrap();
}

fn exclusion(until: &str) -> String {
    format!(
        "[[apps.exclusions]]\ntags = [\"phalanx/attack/cross-site-scripting\"]\ntarget = \"ARGS:comment\"\npath = \"/blog\"\n\
         owner = \"ann\"\nreason = \"ticket 1: comments hold markup\"\nuntil = {until}\n\
         [[apps.routes]]\npath = \"/blog/strict\"\nparanoia = 2\n"
    )
}

#[test]
fn an_exemption_ends_by_itself() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    let settings = "policy = \"policy.toml\"\n[listen]\naddress = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n[node]\nstate = \"state\"\n";
    std::fs::write(folder.path().join("phalanx.toml"), settings).unwrap();
    let exempt = |until: &str| {
        let exemption = format!(
            "[[exemptions]]\nnetworks = [\"192.0.2.0/25\"]\nowner = \"ann\"\nreason = \"penetration test\"\nuntil = {until}\n"
        );
        write(folder.path(), &app.url, &exemption);
    };
    const ATTACK: &str = "/?q=1%27%20UNION%20SELECT%20password%20FROM%20users";
    let end_ms = SystemClock.now_ms() + 4_000;
    exempt(&phalanx_record::rfc3339(end_ms));
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(folder.path().join("phalanx.toml"));
    let node = Node::start(command);
    let passed = node.get_from("192.0.2.1", ATTACK);
    assert!(passed.status == 200 || SystemClock.now_ms() >= end_ms, "{}", passed.status);
    assert_eq!(node.get_from("192.0.2.200", ATTACK).status, 403, "others are nobody's exemption");
    until("it has ended, and nobody loaded anything", || node.get_from("192.0.2.1", ATTACK).status == 403);
    let checked = phalanx(&["check", "-c"]).arg(folder.path().join("phalanx.toml")).output().unwrap();
    let told = String::from_utf8(checked.stderr).unwrap();
    assert!(told.contains("policy.toml:9: the exemption of 192.0.2.0/25 has ended"), "{told}");
    for (until, why) in
        [("\"soon\"", "no day and no time"), ("2031-01-01\nrules = [1]", "unknown key `rules`")]
    {
        exempt(until);
        let checked = phalanx(&["check", "-c"]).arg(folder.path().join("phalanx.toml")).output().unwrap();
        let told = String::from_utf8(checked.stderr).unwrap();
        assert!(!checked.status.success() && told.contains(why), "{told}");
    }
}

#[test]
fn an_exclusion_holds_for_its_path_and_argument_until_its_day() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    let settings = "policy = \"policy.toml\"\n[listen]\naddress = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n[node]\nstate = \"state\"\n";
    std::fs::write(folder.path().join("phalanx.toml"), settings).unwrap();
    write(folder.path(), &app.url, &exclusion("2999-01-01"));
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(folder.path().join("phalanx.toml"));
    let node = Node::start(command);
    let mut turn = 0;
    let mut ask = |path: &str| {
        // Nobody is refused often enough to be banned.
        turn += 1;
        node.get_from(&format!("192.0.2.{turn}"), path).status
    };
    const SCRIPT: &str = "%3Cscript%3Ealert(1)%3C/script%3E";
    for (path, expected) in [
        (format!("/blog?comment={SCRIPT}"), 200),
        (format!("/blog/post/7?comment={SCRIPT}"), 200),
        (format!("/blog/strict/a?comment={SCRIPT}"), 200),
        (format!("/%62log?comment={SCRIPT}"), 200),
        (format!("/blog?other={SCRIPT}"), 403),
        (format!("/blogs?comment={SCRIPT}"), 403),
        (format!("/shop?comment={SCRIPT}"), 403),
        (format!("/blog/../shop?comment={SCRIPT}"), 403),
        (format!("/blog/%2e%2e/shop?comment={SCRIPT}"), 403),
        ("/blog?comment=1%27%20UNION%20SELECT%20password%20FROM%20users".to_owned(), 403),
    ] {
        assert_eq!(ask(&path), expected, "{path}");
    }
    // Over: said at once, and not by a reload that is still to come.
    write(folder.path(), &app.url, &exclusion("2026-01-01"));
    let checked = phalanx(&["check", "-c"]).arg(folder.path().join("phalanx.toml")).output().unwrap();
    let told = String::from_utf8(checked.stderr).unwrap();
    assert!(
        checked.status.success() && told.contains("policy.toml:11: an exclusion of app `blog` has ended"),
        "{told}"
    );
    assert!(node.cli(&["reload"]).status.success());
    assert_eq!(ask(&format!("/blog?comment={SCRIPT}")), 403);
}

#[test]
fn a_false_positive_is_told_by_its_page_excluded_by_its_id_and_gone_while_attacks_stay_refused() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    let settings = "policy = \"policy.toml\"\n[listen]\naddress = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n[node]\nstate = \"state\"\n";
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("phalanx.toml"), settings).unwrap();
    let kept = "# Ours.\n[[apps]]\nname = \"shop\"\nupstream = \"http://127.0.0.1:1\"\nhosts = [\"shop.example\"]\n\n# The blog.\n";
    write(folder.path(), &app.url, "pages = { name = \"Blog\", contact = \"ann@blog.example\" }\n");
    let blog = std::fs::read_to_string(path("policy.toml")).unwrap();
    std::fs::write(path("policy.toml"), format!("{kept}{blog}")).unwrap();
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(path("phalanx.toml"));
    let node = Node::start(command);
    const SCRIPT: &str = "%3Cscript%3Ealert(1)%3C/script%3E";
    let good = format!("/notes/new?text={SCRIPT}");

    let refused = node.get_from("192.0.2.1", &good);
    let (page, id) = (refused.text(), refused.id().to_owned());
    assert_eq!(refused.status, 403);
    assert!(page.contains("<span>Blog</span>") && page.contains(&format!("<code>{id}</code>")), "{page}");
    assert!(
        page.contains(&format!("mailto:ann@blog.example?subject={id}")) && !page.contains("script"),
        "{page}"
    );
    let fields = [("Accept-Language", "ja, de-CH;q=0.8"), ("X-Forwarded-For", "192.0.2.9")];
    let german = node.get_as(&good, &fields).text();
    assert!(
        german.contains("<html lang=\"de\">") && german.contains("<h1>Anfrage abgelehnt</h1>"),
        "{german}"
    );
    let fields = [("Content-Type", "application/json"), ("X-Forwarded-For", "192.0.2.10")];
    assert!(node.get_as(&good, &fields).text().contains("\"type\":\"urn:phalanx:refused\""));
    // What a stranger does elsewhere is no reason against it; the same at the same place is told.
    let same = node.get_from("198.51.100.7", &good).id().to_owned();
    let other = node.get_from("198.51.100.8", &format!("/notes/new?title={SCRIPT}")).id().to_owned();
    let known = |id: &str| node.cli(&["explain", id]).status.success();
    until("all are in the history", || known(&id) && known(&same) && known(&other));
    let told = String::from_utf8(node.cli(&["explain", &id]).stdout).unwrap();
    assert!(
        told.contains(&format!("    phalanx waf suggest {id} --state ")),
        "the same node is asked: {told}"
    );
    assert!(told.contains("    phalanx decision add --kind allow --ip 192.0.2.1 --for 1d"), "{told}");

    let found = node.cli_json(&["waf", "suggest", &id]);
    assert_eq!(found["passes"], true, "{found}");
    assert_eq!(found["exclusions"][0]["target"], "ARGS:text", "{found}");
    assert_eq!(found["lets_pass"]["others"], 2, "{found}");
    assert_eq!(found["lets_pass"]["examples"][0]["id"], same.as_str(), "{found}");
    let recorded = &found["recording"];
    assert_eq!(
        (&recorded["others"], &recorded["own"], &recorded["passed"]),
        (&2.into(), &2.into(), &1.into())
    );
    assert_eq!(
        (&recorded["examples"][0]["id"], &recorded["complete"]),
        (&same.as_str().into(), &true.into())
    );

    let policy = path("policy.toml").display().to_string();
    let wrote = node.cli(&[
        "waf",
        "suggest",
        &id,
        "--owner",
        "ann",
        "--reason",
        "ticket 7: notes & \"markup\"",
        "--write",
        &policy,
    ]);
    let said = String::from_utf8(wrote.stdout).unwrap();
    assert!(
        wrote.status.success() && said.contains("target = \"ARGS:text\"\npath = \"/notes/new\"\n"),
        "{said}"
    );
    let edited = std::fs::read_to_string(path("policy.toml")).unwrap();
    assert!(edited.starts_with(&format!("{kept}{}", blog.trim_end())), "{edited}");
    let checked = phalanx(&["check", "-c"]).arg(path("phalanx.toml")).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    assert!(node.cli(&["reload"]).status.success());
    // The first rule that refuses ends the inspection; the request was judged again behind it, so once is enough.
    let reply = node.get_from("192.0.2.20", &good);
    assert_eq!(reply.status, 200, "{}", std::fs::read_to_string(path("policy.toml")).unwrap());
    for (client, path, expected) in [
        ("192.0.2.2", format!("/notes/new?title={SCRIPT}"), 403),
        ("192.0.2.3", format!("/notes?text={SCRIPT}"), 403),
        ("192.0.2.4", "/notes/new?text=1%27%20UNION%20SELECT%20password%20FROM%20users".to_owned(), 403),
    ] {
        assert_eq!(node.get_from(client, &path).status, expected, "{path}");
    }
    // What no rule refused has nothing to be excluded.
    let missing = node.cli(&["waf", "suggest", "01M8A4P0833W1TDTB07A3D6H5J"]);
    assert!(!missing.status.success());
}

#[test]
fn one_suggestion_is_enough_where_the_request_is_recorded_and_says_so_where_it_is_not() {
    const RULES: &str = "SecRule ARGS:text \"@contains a\" \"id:1,phase:1,deny\"\n\
                         SecRule ARGS:text \"@contains b\" \"id:2,phase:2,deny\"\n\
                         SecRule ARGS:text|ARGS:title \"@contains c\" \"id:3,phase:2,deny\"\n";
    let app = App::start();
    for recorded in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let settings = "policy = \"policy.toml\"\n[listen]\naddress = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n[node]\nstate = \"state\"\n";
        std::fs::write(path("phalanx.toml"), format!("{settings}[recording]\nenabled = {recorded}\n"))
            .unwrap();
        std::fs::create_dir(path("rules")).unwrap();
        std::fs::write(path("rules/own.conf"), RULES).unwrap();
        write(folder.path(), &app.url, "rules = [\"rules\"]\n");
        let mut command = phalanx(&["run", "--json", "-c"]);
        command.arg(path("phalanx.toml"));
        let node = Node::start(command);
        let refused = node.get_from("192.0.2.1", "/notes?text=abc&title=cd");
        assert_eq!(refused.status, 403);
        let id = refused.id().to_owned();
        until("it is in the history", || node.cli(&["explain", &id]).status.success());
        let policy = path("policy.toml").display().to_string();
        let wrote = node.cli(&["waf", "suggest", &id, "--write", &policy]);
        let said = String::from_utf8(wrote.stdout).unwrap();
        assert!(wrote.status.success(), "{said}");
        assert_eq!(said.contains("the request passes: it was judged again"), recorded, "{said}");
        assert_eq!(said.contains("is not in this node's recording"), !recorded, "{said}");
        assert_eq!(said.contains("rules = [1, 2, 3]\ntarget = \"ARGS:text\"\n"), recorded, "{said}");
        assert!(node.cli(&["reload"]).status.success());
        let status = node.get_from("198.51.100.1", "/notes?text=abc&title=cd").status;
        assert_eq!(status, if recorded { 200 } else { 403 }, "{said}");
        // Who opens the old request once more is told, and nothing is written twice.
        let written = std::fs::read_to_string(&policy).unwrap();
        let again = node.cli(&["waf", "suggest", &id, "--write", &policy]);
        let said = String::from_utf8(again.stderr).unwrap();
        assert!(!again.status.success() && said.contains("is excluded already: policy.toml:"), "{said}");
        assert_eq!(std::fs::read_to_string(&policy).unwrap(), written);
    }
}
