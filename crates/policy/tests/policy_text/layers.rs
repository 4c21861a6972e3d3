//! Variables, defaults of the fleet and of sites, templates.

use phalanx_policy::{
    Everywhere, Files, Policy, advice, diff, diff_everywhere, parse_policy, parse_policy_at, policy_sites,
    template,
};

use super::told;

fn at(text: &str, site: Option<&str>) -> Policy {
    let (policy, warnings) =
        parse_policy_at("p.toml", text, site).unwrap_or_else(|faults| panic!("{}", told(&faults)));
    assert!(warnings.is_empty(), "{}", told(&warnings));
    policy
}

fn faults(text: &str) -> String {
    match parse_policy("p.toml", text) {
        Ok((_, warnings)) => told(&warnings),
        Err(faults) => told(&faults),
    }
}

#[test]
fn a_text_with_variables_and_defaults_means_what_is_written_out() {
    let short = r#"
        [variables]
        office = ["203.0.113.0/24", "2001:db8::/32"]
        origin = "10.0.0.7"
        port = 3000
        level = 2
        until = 2030-01-01
        [defaults]
        paranoia = "${level}"
        limits = { body = "2 MiB", upstream_head = "5s" }
        [[defaults.rate_limits]]
        name = "all"
        key = "ip"
        rate = "600/m"
        [[defaults.routes]]
        path = "/.git"
        reply = { status = 404 }
        [[apps]]
        name = "shop"
        hosts = ["shop.example"]
        upstream = "http://${origin}:${port}"
        allow_networks = ["${office}", "10.0.0.0/8"]
        limits = { body = "1 GiB" }
        [[apps.rate_limits]]
        name = "searches"
        key = "ip"
        rate = "30/m"
        [[apps.exclusions]]
        rules = [8512000]
        target = "ARGS:price$${x}"
        owner = "ann"
        reason = "why"
        until = "${until}"
        [[apps]]
        name = "blog"
        upstream = "http://10.0.0.8:3000"
        paranoia = 1
        rate_limits = []
        [[apps]]
        name = "db"
        tcp = true
        upstream = "tcp://10.0.0.9:5432"
        [[apps]]
        name = "old"
        hosts = ["old.example"]
        inherit = false
        upstream = "http://10.0.0.10"
    "#;
    let long = r#"
        [[apps]]
        name = "shop"
        hosts = ["shop.example"]
        upstream = "http://10.0.0.7:3000"
        allow_networks = ["203.0.113.0/24", "2001:db8::/32", "10.0.0.0/8"]
        paranoia = 2
        limits = { body = "1 GiB", upstream_head = "5s" }
        [[apps.rate_limits]]
        name = "searches"
        key = "ip"
        rate = "30/m"
        [[apps.rate_limits]]
        name = "all"
        key = "ip"
        rate = "600/m"
        [[apps.routes]]
        path = "/.git"
        reply = { status = 404 }
        [[apps.exclusions]]
        rules = [8512000]
        target = "ARGS:price${x}"
        owner = "ann"
        reason = "why"
        until = 2030-01-01
        [[apps]]
        name = "blog"
        upstream = "http://10.0.0.8:3000"
        limits = { body = "2 MiB", upstream_head = "5s" }
        [[apps.routes]]
        path = "/.git"
        reply = { status = 404 }
        [[apps]]
        name = "db"
        tcp = true
        upstream = "tcp://10.0.0.9:5432"
        [[apps]]
        name = "old"
        hosts = ["old.example"]
        upstream = "http://10.0.0.10"
    "#;
    let (short, long) = (at(short, None), at(&long.replace("${x}", "$${x}"), None));
    let changes = diff::diff(&long, &short, &std::collections::BTreeMap::new());
    assert!(changes.changes.is_empty(), "{changes:?}");
}

#[test]
fn a_site_has_variables_and_defaults_of_its_own() {
    let text = r#"
        [variables]
        origin = "10.0.0.7"
        [defaults]
        limits = { body = "2 MiB", upstream_head = "5s" }
        [sites.syd.variables]
        origin = "10.1.0.7"
        [sites.syd.defaults]
        mode = "observe"
        limits = { body = "3 MiB" }
        [[apps]]
        name = "shop"
        upstream = "http://${origin}:3000"
    "#;
    assert_eq!(policy_sites(text), ["syd"]);
    let upstream = |policy: &Policy| format!("{}", policy.apps[0].upstreams.servers[0].upstream);
    for site in [None, Some("fra")] {
        let here = at(text, site);
        assert_eq!(
            (upstream(&here).as_str(), here.apps[0].limits.body_bytes_max),
            ("http://10.0.0.7:3000", 2 << 20)
        );
    }
    let there = at(text, Some("syd"));
    assert_eq!(
        (upstream(&there).as_str(), there.apps[0].limits.body_bytes_max),
        ("http://10.1.0.7:3000", 3 << 20)
    );
    assert_eq!(there.apps[0].limits.upstream_head_max_ms, 5_000);
    assert_eq!(there.apps[0].mode, phalanx_policy::Mode::Observe);
}

#[test]
fn every_template_is_a_policy_without_a_fault() {
    for name in template::names() {
        let text = format!("[[apps]]\nname = 'a'\ntemplate = '{name}'\nupstream = 'http://10.0.0.7'\n");
        let policy = at(&text, None);
        let bare = at("[[apps]]\nname = 'a'\nupstream = 'http://10.0.0.7'\n", None);
        assert_ne!(policy, bare, "{name}");
        assert_eq!(template::text(name).map(|text| text.starts_with("# ")), Some(true), "{name}");
    }
}

#[test]
fn what_an_app_says_goes_before_its_template_and_that_before_defaults() {
    let text = r#"
        [defaults]
        limits = { body = "1 MiB", upstream_head = "7s" }
        [[apps]]
        name = "cloud"
        template = "nextcloud"
        upstream = "http://10.0.0.7"
        [apps.limits]
        upstream_connect = "1s"
        [[apps.rate_limits]]
        name = "logins"
        key = "ip"
        paths = ["/login"]
        rate = "3/m"
    "#;
    let app = at(text, None).apps.remove(0);
    assert_eq!(app.limits.upstream_connect_max_ms, 1_000);
    assert_eq!(
        (app.limits.body_bytes_max, app.limits.upstream_head_max_ms),
        (16 << 30, 300_000),
        "the template's"
    );
    let names: Vec<_> =
        app.rate_limits.iter().map(|limit| (limit.name.as_str(), limit.rate.to_string())).collect();
    assert_eq!(names, [("logins", "3/min".to_owned())]);
}

#[test]
fn faults_are_told_where_they_stand() {
    let app = "[[apps]]\nname = 'a'\nupstream = 'http://10.0.0.7'\n";
    let cases = [
        ("an unknown variable", format!("{app}mode = '${{mod}}'\n[variables]\nmode = 'block'\n")),
        ("a list within a text", format!("{app}hosts = ['x.${{l}}']\n[variables]\nl = ['a']\n")),
        ("no end", format!("{app}hosts = ['${{l']\n[variables]\nl = 'a'\n")),
        ("a name", format!("{app}[variables]\n\"a b\" = 1\n")),
        ("a variable of variables", format!("{app}[variables]\na = 'x'\nb = '${{a}}'\n")),
        ("a table", format!("{app}[variables.a]\nb = 1\n")),
        ("of the wrong type", format!("{app}paranoia = '${{a}}'\n[variables]\na = 'x'\n")),
        ("a site's alone", format!("{app}[sites.fra.variables]\na = 'x'\n")),
        ("a site's name", format!("{app}[sites.Fra]\n")),
        ("an app's own in defaults", format!("{app}[defaults]\nname = 'b'\nhosts = ['c']\n")),
        (
            "an unknown key in defaults, once for two apps",
            format!("{app}{app}hosts = ['b']\n[defaults]\nparanoja = 2\n"),
        ),
        ("a bad value in defaults", format!("{app}[defaults]\nallow_networks = ['10.0.0.0/33']\n")),
        ("a template that is not there", format!("{app}template = 'wordpres'\n")),
        (
            "a template of what is carried",
            "[[apps]]\nname = 'a'\ntcp = true\ntemplate = 'wordpress'\nupstream = 'tcp://10.0.0.7:1'\n"
                .to_owned(),
        ),
    ];
    let all: Vec<String> = cases.iter().map(|(what, text)| format!("{what}:\n{}", faults(text))).collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn what_is_made_of_a_short_text_is_bounded() {
    let list = format!("[{}]", vec!["'10.0.0.1'"; 1_000].join(","));
    let apps: String = (0..1_100)
        .map(|n| format!("[[apps]]\nname = 'a{n}'\nhosts = ['h{n}']\nupstream = 'http://10.0.0.7'\nallow_networks = ['${{l}}']\n"))
        .collect();
    let told = faults(&format!("{apps}[variables]\nl = {list}\n"));
    assert!(told.contains("make more than 300000 values"), "{told}");
}

#[test]
fn a_template_gets_no_advice_and_a_default_gets_it_once() {
    for name in template::names() {
        let app = format!("[[apps]]\nname = 'a'\ntemplate = '{name}'\nupstream = 'http://10.0.0.7'\n");
        // Who may come to its back office is for the app to say, and all that is told.
        let found = advice::advise(Files::Disk, "p.toml", &app, 0);
        let others: Vec<_> =
            found.iter().filter(|one| !one.message.starts_with("those who run `a`")).collect();
        assert!(others.is_empty() && found.len() <= 1, "{name}: {}", told(&found));
    }
    let apps = "[[apps]]\nname = 'a'\nhosts = ['a']\nupstream = 'http://10.0.0.7'\n[[apps]]\nname = 'b'\nupstream = 'http://10.0.0.7'\n";
    let advice = advice::advise(Files::Disk, "p.toml", &format!("{apps}[defaults]\non_error = 'allow'\n"), 0);
    assert_eq!(advice.iter().map(|advice| advice.line).collect::<Vec<_>>(), [9], "{}", told(&advice));
}

#[test]
fn what_changes_at_one_site_alone_shows_with_its_name() {
    let app = "[[apps]]\nname = 'a'\nupstream = 'http://10.0.0.7'\n";
    let read = |text: &str| Everywhere::parse("p.toml", text).unwrap().0;
    let (old, new) = (read(app), read(&format!("{app}[sites.syd.defaults]\nmode = 'off'\n")));
    let none = std::collections::BTreeMap::new();
    let changes = diff_everywhere(&old, &new, &none);
    let places = |places: Vec<&diff::Place>| -> Vec<_> { places.iter().map(|at| at.site.clone()).collect() };
    assert!(!changes.changes.is_empty() && !changes.dangers.is_empty());
    assert!(
        places(changes.changes.iter().map(|it| &it.place).collect())
            .iter()
            .all(|at| at.as_deref() == Some("syd"))
    );
    assert!(
        places(changes.dangers.iter().map(|it| &it.place).collect())
            .iter()
            .all(|at| at.as_deref() == Some("syd"))
    );
    let everywhere = diff_everywhere(&old, &read(&format!("{app}mode = 'off'\n[sites.syd]\n")), &none);
    assert!(places(everywhere.dangers.iter().map(|it| &it.place).collect()).iter().all(Option::is_none));
    assert_eq!(new.distinct().len(), 2);
    assert_eq!(diff_everywhere(&new, &new, &none), diff::PolicyDiff::default());
}

#[test]
fn what_is_made_of_long_texts_is_bounded_and_stops_at_the_first_fault() {
    let app = "[[apps]]\nname = 'a'\nupstream = 'http://10.0.0.7'\n";
    let long = "x".repeat(60_000);
    let hosts = vec!["'y${a}'"; 40_000].join(",");
    let told = faults(&format!("{app}hosts = [{hosts}]\n[variables]\na = '{long}'\n"));
    assert!(told.contains("or 16 MiB"), "{}", told.chars().take(300).collect::<String>());
    // Each of these would copy all of the list, and none does.
    let list = format!("[{}]", vec!["1"; 200_000].join(","));
    let hosts = vec!["'${l}'"; 100_000].join(",");
    let told = faults(&format!("{app}hosts = [{hosts}]\n[variables]\nl = {list}\n"));
    assert!(told.contains("make more than"), "{}", told.chars().take(300).collect::<String>());
    let hosts = vec!["'y${none}'"; 100_000].join(",");
    let told = faults(&format!("{app}hosts = [{hosts}]\n"));
    assert!(told.lines().count() < 200, "{}", told.lines().count());
}
