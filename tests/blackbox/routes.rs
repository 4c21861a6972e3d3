//! Apps, routes and responses as policy says: what a visitor meets, what `check` shows, what a reload changes.

use std::fs;

use crate::cli::{run, write_config};
use crate::support::*;

const POLICY: &str = r#"
[[apps]]
name = "shop"
hosts = ["*.shop.test"]
upstream = "UPSTREAM"
responses = { headers = "standard", cookies = "standard" }
pages = { refused = "refused.html" }
security_txt = { contact = ["mailto:security@shop.test"], expires = 2999-06-01T00:00:00Z }
[[apps.routes]]
name = "moved"
path = "/blog"
redirect = { to = "https://news.test{rest}{query}" }
[[apps.routes]]
name = "admin"
path = "/admin"
methods = ["POST"]
reply = { status = 404 }
[[apps.routes]]
name = "robots"
exact = "/robots.txt"
reply = { file = "robots.txt" }

[[apps]]
name = "rest"
upstream = "UPSTREAM"
maintenance = { retry_after = "1h" }
"#;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("robots.txt"), "User-agent: *\n").unwrap();
    fs::write(folder.path().join("refused.html"), "<h1>No</h1>{request_id}").unwrap();
    folder
}

#[test]
fn routes_answer_lead_away_and_change_with_a_reload() {
    let app = App::start();
    let folder = folder();
    let node = run(&write_config(folder.path(), &app.url, POLICY));
    let shop = |path: &str| {
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: www.shop.test\r\nConnection: close\r\nUser-Agent: blackbox\r\n"
        );
        raw(node.listen, format!("{head}Accept: */*\r\n\r\n").as_bytes())
    };
    let moved = shop("/blog/2?page=3");
    assert_eq!((moved.status, moved.fields["location"].as_str()), (308, "https://news.test/2?page=3"));
    assert_eq!(shop("/robots.txt").text(), "User-agent: *\n");
    let contact = shop("/.well-known/security.txt").text();
    assert!(contact.starts_with("Contact: mailto:security@shop.test\n"), "{contact}");
    let page = shop("/");
    assert_eq!((page.status, page.fields["x-frame-options"].as_str()), (200, "SAMEORIGIN"));
    let down = node.get("/");
    assert_eq!((down.status, down.fields["retry-after"].as_str()), (503, "3600"));
    // What a route answers is protected like what it forwards.
    let refused = shop(&format!("/blog{}", attack(1)));
    assert_eq!((refused.status, refused.text()), (403, format!("<h1>No</h1>{}", refused.id())));
    let id = refused.id().to_owned();
    until("the request is in the history", || node.cli(&["explain", &id]).status.success());
    let told = String::from_utf8(node.cli(&["explain", &id]).stdout).unwrap();
    assert!(told.contains("shop, route moved"), "{told}");

    let policy = folder.path().join("policy.toml");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, text.replace("path = \"/blog\"", "path = \"/log\"")).unwrap();
    assert!(node.cli(&["reload"]).status.success());
    assert_eq!(shop("/blog/2").status, 200);
    assert_eq!(shop("/log/2").status, 308);
    // A page that does not show by what a request is found again is refused, and the plan in force stays.
    fs::write(folder.path().join("refused.html"), "<h1>No</h1>").unwrap();
    let reload = node.cli(&["reload"]);
    let told =
        String::from_utf8_lossy(&reload.stderr).into_owned() + &String::from_utf8_lossy(&reload.stdout);
    assert!(!reload.status.success() && told.contains("request_id"), "{told}");
    assert_eq!(shop("/log/2").status, 308);
}

#[test]
fn check_shows_apps_and_routes_in_order_and_what_a_request_meets() {
    let folder = folder();
    let settings = write_config(folder.path(), "http://127.0.0.1:9", POLICY);
    let check = |args: &[&str]| {
        let output = phalanx(&["check", "-c"]).arg(&settings).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let table = check(&[]);
    let names: Vec<&str> =
        ["security.txt", "robots", "moved", "admin", "forward to", "maintenance", "0 errors"]
            .into_iter()
            .filter(|name| table.contains(name))
            .collect();
    let mut places: Vec<usize> = names.iter().map(|name| table.find(name).unwrap()).collect();
    let found = places.clone();
    places.sort_unstable();
    assert!(names.len() == 7 && places == found, "{table}");
    let told = check(&["--route", "GET", "https://www.shop.test/a/%2e%2e/admin/x"]);
    for words in
        ["it names *.shop.test", "path     /admin/x", "admin: it is for other methods", "route    none"]
    {
        assert!(told.contains(words), "{words} in {told}");
    }
    assert!(check(&["--route", "POST", "https://www.shop.test/admin"]).contains("route    admin"));
    assert!(check(&["--route", "POST", "http://a.shop.test/x/..%2fadmin"]).contains("refused with 400"));
    assert!(check(&["--route", "GET", "http://other/"]).contains("rest: it takes what no other app names"));
}
