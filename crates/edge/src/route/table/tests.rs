//! The table of routes against cases, and against going through all routes.

use proptest::prelude::*;

use super::*;
use crate::http1::parse_head;
use phalanx_policy::route::HeaderIs;

fn when(path: &str) -> When {
    match path.strip_prefix('=') {
        Some(path) => When { exact: true, ..When::below(path) },
        None => When::below(path),
    }
}

fn table(routes: &[When]) -> RouteTable {
    RouteTable::new((0..).zip(routes.iter().cloned()))
}

fn head(line: &str) -> RequestHead {
    parse_head(format!("{line} HTTP/1.1\r\nHost: a\r\nX-Kind: one\r\n\r\n").as_bytes()).unwrap()
}

fn find(table: &RouteTable, line: &str) -> Result<Option<u32>, Ambiguous> {
    table.find(&Asked { head: &head(line), secure: false })
}

#[test]
fn the_longest_path_wins_then_the_order() {
    let routes = ["/", "/a", "=/a", "/a/", "/a/b/c", "=/a/b/", "/a"].map(when);
    let table = table(&routes);
    for (target, expected) in [
        ("/", 0),
        ("/ab", 0),
        ("/a", 2),
        ("/a/", 3),
        ("/a/x", 3),
        ("/a/b", 3),
        ("/a/b/", 5),
        ("/a/b/c", 4),
        ("/a/b/c/d", 4),
        ("/a/b/cd", 3),
        ("/a?b", 2),
        ("/a/../a", 2),
        ("//a//b/./c", 4),
        ("/%61", 2),
        ("http://a/a/b/c", 4),
        ("/a;x=1", 2),
        ("/a;x=1/b;y/c", 4),
    ] {
        assert_eq!(find(&table, &format!("GET {target}")), Ok(Some(expected)), "{target}");
    }
    assert_eq!(find(&table, "OPTIONS *"), Ok(None));
}

#[test]
fn a_path_that_can_be_read_past_a_route_is_ambiguous() {
    let table = table(&["/admin", "/public"].map(when));
    for target in [
        "/admin/..%2fpublic/x",
        "/admin/..;/public/x",
        "/public/..%2fadmin",
        "/public/..%5cadmin",
        "/public/..;x/admin",
        "/x%2f..%2fadmin",
        "/admin%00.html",
        "/x\\..\\admin",
        "/%2fadmin",
    ] {
        assert_eq!(find(&table, &format!("GET {target}")), Err(Ambiguous), "{target}");
    }
    for (target, expected) in [
        ("/admin/a%2fb", Some(0)),
        ("/admin/..%2fadmin", Some(0)),
        ("/public/%2e%2e/admin", Some(0)),
        ("/other/..%2f..%2fother", None),
    ] {
        assert_eq!(find(&table, &format!("GET {target}")), Ok(expected), "{target}");
    }
}

#[test]
fn what_is_asked_beyond_the_path_must_hold() {
    let field = |name: &str, is| HeaderIs { name: name.into(), is };
    let routes = [
        When { methods: vec!["POST".into()], ..when("/a") },
        When { suffix: Some(".php".into()), ..when("/a") },
        When { headers: vec![field("x-kind", FieldIs::Equal("two".into()))], ..when("/a") },
        When { headers: vec![field("X-None", FieldIs::Present)], ..when("/a") },
        When { scheme: Some(ClientScheme::Https), ..when("/a") },
        When { headers: vec![field("x-KIND", FieldIs::Equal("one".into()))], ..when("/a/b") },
        When { headers: vec![field("X-None", FieldIs::Absent)], ..when("/a") },
    ];
    let table = table(&routes);
    for (line, expected) in [
        ("POST /a/b", 5),
        ("POST /a", 0),
        ("GET /a/x.php", 1),
        ("GET /a/x.php/y", 6),
        ("GET /a/b", 5),
        ("GET /a", 6),
    ] {
        assert_eq!(find(&table, line), Ok(Some(expected)), "{line}");
    }
    let secure = head("GET /a");
    assert_eq!(table.find(&Asked { head: &secure, secure: true }), Ok(Some(4)));
    let tried = table.tried(b"/a", &Asked { head: &secure, secure: false });
    let against: Vec<_> = tried.iter().map(|(route, why)| (*route, why.as_ref().err().is_some())).collect();
    assert_eq!(against, [(0, true), (1, true), (2, true), (3, true), (4, true), (6, false)]);
}

#[test]
fn a_pattern_is_met_in_both_readings_or_refused() {
    let pattern = |text: &str| Some(PathPattern::new(text, false).unwrap());
    let routes = [
        when("/api"),
        When { pattern: pattern(r"\.php$"), ..when("/") },
        When { pattern: pattern(r"^/[^/]+\.html$"), ..when("/") },
        When { pattern: pattern(r"\.php$"), methods: vec!["POST".into()], ..when("/api") },
        When { pattern: pattern("^/user/[0-9]+$"), ..when("/user") },
        when("/"),
    ];
    let table = table(&routes);
    assert_eq!(table.patterns.len(), 3);
    for (line, expected) in [
        ("GET /a/x.php", Ok(Some(1))),
        ("GET /a/x%2ephp", Ok(Some(1))),
        ("GET /a/x.php;a=b?c", Ok(Some(1))),
        ("GET /a/x.php/", Ok(Some(5))),
        ("GET /api/x.php", Ok(Some(0))),
        ("GET /a.html", Ok(Some(2))),
        ("GET /a/b.html", Ok(Some(5))),
        ("GET /user/12", Ok(Some(4))),
        ("GET /user/x", Ok(Some(5))),
        // One server sees two segments, another one.
        ("GET /a%2fb.html", Err(Ambiguous)),
        ("GET /a\\b.html", Err(Ambiguous)),
        // Where `$` is also before the end of a line, this is a script.
        ("GET /x.php%0a", Err(Ambiguous)),
    ] {
        assert_eq!(find(&table, line), expected, "{line}");
    }
    let asked = head("GET /a/b");
    let tried = table.tried(b"/a/b", &Asked { head: &asked, secure: false });
    let against = tried.first().and_then(|(_, why)| why.as_ref().err()).cloned();
    assert_eq!(against.as_deref(), Some(r"the path does not match \.php$"));
}

#[test]
fn letters_compare_without_case_where_that_is_said() {
    let pattern = PathPattern::new("^/Q[0-9]$", true).unwrap();
    let routes = [
        When { suffix: Some(".PHP".into()), ..when("/Admin/X") },
        When { pattern: Some(pattern), ..when("/") },
        when("/"),
    ];
    let routes = routes.map(|when| When { ignore_case: true, ..when });
    let table = table(&routes);
    assert_eq!(find(&table, "GET /aDMIN/x/a.pHp"), Ok(Some(0)));
    assert_eq!(find(&table, "GET /q5"), Ok(Some(1)));
    assert_eq!(find(&table, "GET /aDMIN/xx"), Ok(Some(2)));
}

/// The same by going through all routes.
fn naive(routes: &[When], path: &str) -> Option<u32> {
    let fits = |when: &When| match (when.exact, when.path.as_str()) {
        (true, route) => path == route,
        (false, "/") => true,
        (false, route) => path.strip_prefix(route).is_some_and(|rest| {
            rest.is_empty() && !route.ends_with('/') || rest.starts_with('/') || route.ends_with('/')
        }),
    };
    let rank =
        |when: &When| (when.segments().count(), when.exact, when.path.len() > 1 && when.path.ends_with('/'));
    let mut best: Option<(usize, &When)> = None;
    for (place, when) in routes.iter().enumerate().filter(|(_, when)| fits(when)) {
        if best.is_none_or(|(_, known)| rank(when) > rank(known)) {
            best = Some((place, when));
        }
    }
    best.map(|(place, _)| u32::try_from(place).unwrap())
}

proptest! {
    #[test]
    fn the_table_finds_what_going_through_all_routes_finds(
        routes in proptest::collection::vec("=?(/[ab]{1,2}){0,4}/?", 0..24),
        path in "(/[ab]{1,2}){0,5}/?",
    ) {
        let routes: Vec<When> = routes.iter().map(|route| match route.trim_start_matches('=') {
            "" => when(&format!("{route}/")),
            _ => when(route),
        }).collect();
        let path = if path.is_empty() { "/".to_owned() } else { path };
        let table = table(&routes);
        prop_assert_eq!(find(&table, &format!("GET {path}")), Ok(naive(&routes, &path)));
        // However it is written.
        let written = format!("/x/..{}", path.replace('a', "%61"));
        prop_assert_eq!(find(&table, &format!("GET {written}")), Ok(naive(&routes, &path)));
    }

    #[test]
    fn no_target_meets_a_route_that_another_reading_does_not(target in "/[-ab%2fe5c./;?\\\\0]{0,30}") {
        let routes = ["/a", "/a/b", "/b", "=/a/"].map(when);
        let table = table(&routes);
        let head = parse_head(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        let asked = Asked { head: &head, secure: false };
        if let Ok(found) = table.find(&asked) {
            let (one, other) = table.readings(head.target());
            for reading in [one, other] {
                prop_assert_eq!(table.walk(&reading, |_| true), found);
            }
        }
    }
}
