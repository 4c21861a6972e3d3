//! Exclusions of the policy: narrow, in somebody's name, and over when their day is over.

use std::path::Path;

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
