//! Policy files: what is read, and what is said about mistakes.

use phalanx_policy::{Compression, ContentCoding};
use phalanx_policy::{Diagnostic, Mode, RuleSource, parse_policy, schema::policy_schema};

#[cfg(test)]
#[path = "policy_text/routes.rs"]
mod routes;

fn told(faults: &[Diagnostic]) -> String {
    faults.iter().map(|fault| format!("{fault}\n")).collect()
}

#[test]
fn a_full_policy_is_read() {
    let text = r#"
version = 7
allow = ["192.0.2.7"]
operator_networks = ["127.0.0.0/8", "2001:db8::/32"]

[strikes]
count = 4
window = "2m"
first_ban = "10m"
max_ban = "1h"

[[apps]]
name = "shop"
hosts = ["Shop.example", "www.shop.example"]
upstream = "http://127.0.0.1:3000/base/"
mode = "observe"
rules = ["crs", "/etc/own"]
paranoia = 2
on_error = "allow"
trust_forwarded = ["10.0.0.0/8"]
classes = { policy = "observe", protocol = "off", min_confidence = "medium" }
limits = { body = "10 MiB", body_held = "256 KiB", upstream_head = "2m" }

[[apps]]
name = "rest"
upstream = "http://[::1]:8081"
"#;
    let (policy, warnings) =
        parse_policy("conf/policy.toml", text).unwrap_or_else(|faults| panic!("{}", told(&faults)));
    assert!(warnings.is_empty());
    assert_eq!(policy.apps[0].mode, Mode::Observe);
    assert_eq!(policy.apps[0].rules, RuleSource::Dirs(vec!["conf/crs".into(), "/etc/own".into()]));
    insta::assert_debug_snapshot!(policy);
}

#[test]
fn every_mistake_is_told_at_once() {
    let text = r#"
verion = 1
allow = ["192.0.2.300", 5]
strikes = { count = 99, window = "60", first_ban = "2h", max_ban = "1h" }

[[apps]]
name = "shop"
hosts = ["http://shop.example", "a.example"]
upstream = "ftp://10.0.0.1"
mode = "blok"
rules = "crs"
paranoia = 5
classes = { detection = "blocks", polcy = "off", min_confidence = "sure" }
limits = { body = "lots", body_hold = "1 MiB" }

[[apps]]
name = "shop"
hosts = ["A.example"]
rules = []

[[apps]]
upstream = "10.0.0.1:80"
trust_forwarded = ["0.0.0.0/0"]

[[apps]]
name = "again"
upstream = "http://10.0.0.1"
rules = 7
"#;
    insta::assert_snapshot!(told(&parse_policy("policy.toml", text).unwrap_err()));
}

#[test]
fn an_empty_policy_says_what_is_missing() {
    insta::assert_snapshot!(told(&parse_policy("policy.toml", "").unwrap_err()));
}

#[test]
fn the_schema_is_stable() {
    insta::assert_snapshot!(format!("{:#}", policy_schema()));
}

#[test]
fn classes_that_make_no_sense_are_warned_about() {
    let warned = |classes: &str| {
        let text =
            format!("[[apps]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1\"\nclasses = {{ {classes} }}\n");
        let (policy, warnings) =
            parse_policy("p.toml", &text).unwrap_or_else(|faults| panic!("{}", told(&faults)));
        (policy.apps[0].classes, told(&warnings))
    };
    let (classes, warnings) = warned("detection = \"observe\", min_confidence = \"high\"");
    assert_eq!(classes.detection, phalanx_policy::ClassUse::Observe);
    assert_eq!(
        warnings,
        "warning: p.toml:4: no detection blocks here, however sure it is\n  help: take out `min_confidence`, or write `detection = \"block\"`\n"
    );
    let (_, warnings) = warned("detection = \"off\", policy = \"off\", protocol = \"off\"");
    assert!(warnings.contains("help: write `mode = \"off\"`"), "{warnings}");
    assert_eq!(warned("policy = \"off\"").1, "");
}

#[test]
fn rate_limits_are_read() {
    let text = r#"
[[apps]]
name = "shop"
upstream = "http://127.0.0.1:3000"

[[apps.rate_limits]]
name = "login"
key = ["ip", "path"]
paths = ["/login", "/account/*/password"]
methods = ["POST"]
rate = "10/min"
scope = "fleet"
share = "50%"

[[apps.rate_limits]]
name = "all"
key = "global"
rate = "1000/s"
burst = 200
action = "observe"
"#;
    let (policy, warnings) = parse_policy("policy.toml", text).unwrap_or_else(|f| panic!("{}", told(&f)));
    assert!(warnings.is_empty());
    insta::assert_debug_snapshot!(policy.apps[0].rate_limits);
}

#[test]
fn mistakes_in_rate_limits_are_told() {
    let limits = [
        "key = 'ip'\nrate = '5/s'",
        "name = 'a b'\nkey = 'ip'\nrate = '5/s'",
        "name = 'one'\nrate = '5/s'",
        "name = 'one'\nkey = 'ip'",
        "name = 'two'\nkey = 'account'\nrate = '0/s'",
        "name = 'three'\nkey = ['ip', 'ip', 'global']\nrate = '5/fortnight'\nburst = 3",
        "name = 'four'\nkey = 'path'\nrate = '5/s'\nburst = 6\nshare = '50%'",
        "name = 'five'\nkey = 'ip'\nrate = '5/s'\nburst = 0\nscope = 'fleet'\nshare = '0%'",
        "name = 'six'\nkey = []\nrate = '5/s'\npaths = ['login', '/a%2fb', '/a//b', '/a**', '/ok/*']\nmethods = ['get', 'A B']",
        "name = 'seven'\nkey = 'header:'\nrate = '5/s'\nscope = 'site'\naction = 'ban'\nbrust = 1",
        "name = 'eight'\nkey = 7\nrate = '5/2d'",
    ];
    let text: String = limits.iter().map(|limit| format!("[[apps.rate_limits]]\n{limit}\n")).collect();
    let text = format!("[[apps]]\nname = 'shop'\nupstream = 'http://127.0.0.1:3000'\n{text}");
    insta::assert_snapshot!(told(&parse_policy("policy.toml", &text).unwrap_err()));
}

#[test]
fn compression_is_a_switch_or_a_table() {
    let compression = |told: &str| {
        let text =
            format!("[[apps]]\nname = 'shop'\nupstream = 'http://127.0.0.1:3000'\ncompression = {told}\n");
        parse_policy("p.toml", &text).map(|(mut policy, _)| policy.apps.remove(0).compression)
    };
    assert_eq!(compression("false").unwrap(), None);
    assert_eq!(compression("true").unwrap(), Some(Compression::default()));
    let told =
        compression("{ codings = ['br', 'gzip'], types = ['text/*', 'Application/JSON'], min = '4 KiB' }");
    let own = Compression {
        codings: vec![ContentCoding::Br, ContentCoding::Gzip],
        types: vec!["text/*".into(), "application/json".into()],
        bytes_least: 4096,
    };
    assert_eq!(told.unwrap(), Some(own));
}

#[test]
fn mistakes_in_compression_are_told() {
    let tables = [
        "compression = 'on'",
        "compression = { codings = ['deflate'] }",
        "compression = { codings = [] }",
        "compression = { codings = ['br', 'gzip', 'br'] }",
        "compression = { types = ['text', 'text/html; charset=utf-8', '*/*'] }",
        "compression = { min = '1' }",
        "compression = { level = 9 }",
    ];
    let faults: String = tables
        .iter()
        .map(|table| {
            let text = format!("[[apps]]\nname = 'shop'\nupstream = 'http://127.0.0.1:3000'\n{table}\n");
            told(&parse_policy("policy.toml", &text).unwrap_err())
        })
        .collect();
    insta::assert_snapshot!(faults);
}

#[test]
fn where_clients_are_named_is_read_and_mistakes_about_it_told() {
    use phalanx_policy::AddressFrom;
    let read = |top: &str, app: &str| {
        let text = format!("{top}\n[[apps]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1\"\n{app}\n");
        parse_policy("p.toml", &text).map(|(policy, _)| policy).map_err(|faults| told(&faults))
    };
    let trusting =
        |app: &str| read("", &format!("trust_forwarded = [\"10.0.0.0/8\"]\nclient_address = {{ {app} }}"));
    let checked = |app: &str| trusting(app).unwrap().apps.remove(0).client_address;
    assert_eq!(checked("").from, AddressFrom::XForwardedFor);
    let named = checked("from = \"My-Client\", certificate = true");
    assert_eq!((named.from, named.certified), (AddressFrom::Field("my-client".to_owned()), true));
    let counted = checked("from = \"Forwarded\", hops = 2");
    assert_eq!((counted.from, counted.hops), (AddressFrom::Forwarded, Some(2)));
    let preset = read("", "client_address = { preset = \"cloudflare\" }").unwrap();
    assert_eq!(preset.apps[0].client_address.preset.as_deref(), Some("cloudflare"));
    let others = "client_address = { preset = \"ours\" }";
    let policy = read("cdn_networks = \"cdn.toml\"", others).unwrap();
    assert_eq!(policy.cdn_networks.as_deref(), Some(std::path::Path::new("cdn.toml")));
    for (fault, got) in [
        ("did you mean `cloudflare`?", read("", "client_address = { preset = \"cloudflair\" }")),
        (
            "brings no list of the networks of `cloudfront`",
            read("", "client_address = { preset = \"cloudfront\" }"),
        ),
        ("name the forwarders", read("", "client_address = { from = \"forwarded\" }")),
        ("the preset says that already", trusting("preset = \"fastly\", hops = 1")),
        ("`a b` is no name of a header field", trusting("from = \"a b\"")),
        ("has no hops to count", trusting("from = \"x-real-ip\", hops = 1")),
        ("`hops` goes from 1 to 16", trusting("hops = 0")),
    ] {
        let got = got.unwrap_err();
        assert!(got.contains(fault), "{got}");
    }
}

#[test]
fn mistakes_about_what_is_passed_on_are_told() {
    let sound = "[[apps]]\nname = 'db'\nhosts = ['*.db.test']\nupstreams = ['tcp://10.0.0.7:443', 'unix:/run/db.sock']\npassthrough = true\n\
                 [[apps]]\nname = 'shop'\nupstream = 'http://127.0.0.1:3000'\n";
    let (policy, warnings) = parse_policy("policy.toml", sound).unwrap_or_else(|f| panic!("{}", told(&f)));
    assert!(warnings.is_empty() && policy.apps[0].passthrough && !policy.apps[1].passthrough);
    let faults = "[[apps]]\nname = 'a'\nupstream = 'tcp://10.0.0.7'\npassthrough = true\n\
                  [[apps]]\nname = 'b'\nhosts = ['b.test']\nupstream = 'https://10.0.0.7'\npassthrough = true\nrules = 'baseline'\ncompression = true\n\
                  [[apps]]\nname = 'c'\nhosts = ['c.test']\nupstream = 'tcp://10.0.0.7:443'\n\
                  [[apps]]\nname = 'd'\nhosts = ['d.test']\nupstream = 'tcp://10.0.0.7:443/x'\npassthrough = true\n";
    insta::assert_snapshot!(told(&parse_policy("policy.toml", faults).unwrap_err()));
}

#[test]
fn what_is_asked_of_clients_is_read_and_mistakes_about_it_told() {
    use phalanx_policy::client_certificate::{CertificateMode, ClientCertificate};
    let read = |app: &str| {
        let text = format!("[[apps]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1\"\n{app}\n");
        parse_policy("conf/p.toml", &text).map(|(mut policy, _)| policy.apps.remove(0).client_certificate)
    };
    let asks = |said: &str| read(&format!("client_certificate = {{ {said} }}"));
    let least = ClientCertificate {
        ca_file: "conf/staff.pem".into(),
        mode: CertificateMode::Require,
        header: "client-cert".to_owned(),
        fingerprint_header: None,
    };
    assert_eq!(read("").unwrap(), None);
    assert_eq!(asks("ca_file = \"staff.pem\"").unwrap().as_ref(), Some(&least));
    let all =
        "ca_file = \"staff.pem\", mode = \"request\", header = \"X-Cert\", fingerprint_header = \"X-Print\"";
    let expected = ClientCertificate {
        mode: CertificateMode::Request,
        header: "x-cert".to_owned(),
        fingerprint_header: Some("x-print".to_owned()),
        ..least
    };
    assert_eq!(asks(all).unwrap(), Some(expected));
    for (fault, got) in [
        ("conf/p.toml:4: nothing says whose certificates are believed", asks("mode = \"require\"")),
        ("ca_file = \"staff.pem\"", asks("ca_file = \"\"")),
        ("unknown value `maybe`", asks("ca_file = \"a\", mode = \"maybe\"")),
        ("`a b` is no name of a header field", asks("ca_file = \"a\", header = \"a b\"")),
        ("`Host` has a meaning of its own", asks("ca_file = \"a\", header = \"Host\"")),
        ("both certificate and fingerprint", asks("ca_file = \"a\", fingerprint_header = \"Client-Cert\"")),
        (
            "`client_certificate` is about requests",
            read("hosts = [\"a.test\"]\npassthrough = true\nclient_certificate = { ca_file = \"a\" }"),
        ),
    ] {
        let got = told(&got.unwrap_err());
        assert!(got.contains(fault), "{got}");
    }
}

#[test]
fn how_accounts_are_known_is_read_and_mistakes_about_it_told() {
    use phalanx_policy::{AccountEndpoint, Accounts, EndpointKind, Success};
    let read = |said: &str| {
        let text = format!("[[apps]]\nname = 'a'\nupstream = 'http://127.0.0.1:1'\n{said}\n");
        parse_policy("p.toml", &text).map(|(mut policy, _)| policy.apps.remove(0).accounts)
    };
    assert_eq!(read("").unwrap(), Accounts::default());
    let all = "[apps.accounts]\nlearn = false\nsession_cookies = ['sid', 'wp_*']\nsession_header = 'X-Session'\n\
               [[apps.accounts.logins]]\npath = '/login/'\naccount = 'user.email'\nsecret = 'pin'\n\
               success = { status = [302], location = '/home', cookie = 'auth', body = 'welcome' }\n\
               [[apps.accounts.lookups]]\npath = '/reset'\nmethod = 'PUT'\n[[apps.accounts.payments]]\npath = '/pay'";
    let endpoint = |kind, path: &str, method: &str| AccountEndpoint {
        kind,
        path: path.into(),
        method: method.into(),
        account: None,
        secret: None,
        success: Success::default(),
    };
    let login = AccountEndpoint {
        account: Some("user.email".into()),
        secret: Some("pin".into()),
        success: Success {
            statuses: vec![302],
            location: Some("/home".into()),
            cookie: Some("auth".into()),
            body: Some("welcome".into()),
        },
        ..endpoint(EndpointKind::Login, "/login", "POST")
    };
    let expected = Accounts {
        learn: false,
        session_cookies: vec!["sid".into(), "wp_*".into(), "auth".into()],
        common_cookies: false,
        session_header: Some("x-session".into()),
        endpoints: vec![
            login,
            endpoint(EndpointKind::Lookup, "/reset", "PUT"),
            endpoint(EndpointKind::Payment, "/pay", "POST"),
        ],
    };
    assert_eq!(read(all).unwrap(), expected);
    let login = |said: &str| read(&format!("[[apps.accounts.logins]]\n{said}"));
    for (fault, got) in [
        ("p.toml:4: nothing says which requests these are", login("account = 'a'")),
        ("a path starts with `/`", login("path = 'login'")),
        ("only what comes with a body is looked at", login("path = '/a'\nmethod = 'GET'")),
        ("nothing is said of success", login("path = '/a'\nsuccess = {}")),
        ("503 tells nothing about an attempt", login("path = '/a'\nsuccess = { status = [503] }")),
        ("every place begins with nothing", login("path = '/a'\nsuccess = { location = '' }")),
        ("a text to find in a body has 1 to", login("path = '/a'\nsuccess = { body = '' }")),
        ("`a b` is no name of a cookie", login("path = '/a'\nsuccess = { cookie = 'a b' }")),
        ("`POST /a` is already declared", login("path = '/a'\n[[apps.accounts.payments]]\npath = '/a/'")),
        ("`*` is no name of a cookie", read("accounts = { session_cookies = ['*'] }")),
        ("cookies are looked at one by one", read("accounts = { session_header = 'Cookie' }")),
        (
            "`accounts` is about requests",
            read("hosts = ['a.test']\npassthrough = true\naccounts = { learn = true }"),
        ),
    ] {
        let got = told(&got.unwrap_err());
        assert!(got.contains(fault), "{fault}: {got}");
    }
}

#[test]
fn exclusions_are_read_and_mistakes_about_them_told() {
    let read = |said: &str| {
        let text =
            format!("[[apps]]\nname = 'a'\nupstream = 'http://127.0.0.1:1'\n[[apps.exclusions]]\n{said}\n");
        parse_policy("p.toml", &text).map(|(mut policy, _)| policy.apps.remove(0).exclusions)
    };
    let whole = "rules = [8512000]\ntarget = 'ARGS:q'\npath = '/blog'\nmethods = ['POST']\nowner = 'ann'\nreason = 'ticket 1'\n";
    let one = read(&format!("{whole}until = 2027-01-01")).unwrap().remove(0);
    assert_eq!(
        (one.rules.as_slice(), one.target.as_deref(), one.path.as_deref()),
        (&[8_512_000][..], Some("ARGS:q"), Some("/blog"))
    );
    // To the end of the day.
    assert_eq!(one.until.map(|until| (until.at_s, until.line)), Some((1_798_848_000, 11)));
    let at = |until: &str| read(&format!("{whole}until = {until}")).unwrap()[0].until.map(|until| until.at_s);
    assert_eq!((at("\"never\""), at("2027-01-01T12:00:00+01:00")), (None, Some(1_798_801_200)));
    for (fault, said) in [
        (
            "p.toml:4: nothing says which rules are meant",
            "owner = 'ann'\nreason = 'x'\nuntil = 'never'".to_owned(),
        ),
        ("the exclusion has no `owner`", whole.replace("owner = 'ann'\n", "") + "until = 'never'"),
        ("the exclusion has no `reason`", whole.replace("'ticket 1'", "' '") + "until = 'never'"),
        ("nothing says when the exclusion ends", whole.to_owned()),
        ("this is no day and no time with an offset", format!("{whole}until = 12:00:00")),
        ("this is no day and no time with an offset", format!("{whole}until = 'soon'")),
        (
            "`TX:score` is nothing that a rule looks at",
            whole.replace("ARGS:q", "TX:score") + "until = 'never'",
        ),
        ("is nothing that a rule looks at", whole.replace("ARGS:q", "ARGS:q,deny") + "until = 'never'"),
        ("a path starts with `/`", whole.replace("'/blog'", "'blog'") + "until = 'never'"),
        ("is no tag", "tags = ['a;b']\n".to_owned() + whole + "until = 'never'"),
    ] {
        let found = read(&said).unwrap_err();
        assert!(found.iter().any(|one| one.to_string().contains(fault)), "{fault}: {found:?}");
    }
}
