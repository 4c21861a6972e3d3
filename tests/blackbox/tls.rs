//! HTTPS as curl and openssl see it, and certificates as an operator replaces them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::*;

/// Makes a certificate for `name` that ends in `days`, and its key: `NAME.pem` and `NAME.key`.
pub(crate) fn certificate(folder: &Path, file: &str, name: &str, days: u32) {
    let out = |ending: &str| folder.join(format!("{file}.{ending}"));
    let days = days.to_string();
    let (subject, names) = (format!("/CN={name}"), format!("subjectAltName=DNS:{name}"));
    let words =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", &days];
    let mut command = Command::new("openssl");
    command.args(words).args(["-subj", &subject, "-addext", &names]);
    command.arg("-keyout").arg(out("key")).arg("-out").arg(out("pem"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What `openssl s_client` says of a handshake with the port, and whether there was one.
fn s_client(to: SocketAddr, args: &[&str]) -> (bool, String) {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &to.to_string(), "-servername", "shop.test"]).args(args);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Status and body of a request with curl.
fn curl(folder: &Path, to: SocketAddr, args: &[&str]) -> (String, String) {
    let resolve = format!("shop.test:{}:{}", to.port(), to.ip());
    let mut command = Command::new("curl");
    command.args(["-s", "--resolve", &resolve, "-w", "\n%{http_code}"]).args(args);
    let output = command.arg("--cacert").arg(folder.join("shop.pem")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or_default();
    (status.to_owned(), body.to_owned())
}

fn up(app: &App, folder: &Path) -> (Node, SocketAddr) {
    let file = |ending: &str| folder.join(format!("shop.{ending}")).display().to_string();
    let tls = ["--tls-listen", "127.0.0.1:0", "--cert", &file("pem"), "--key", &file("key")];
    // Clients here come from where operators do by default, who are never banned.
    let node = Node::up(&app.url, &[tls.as_slice(), &["--operator", "192.0.2.0/24"]].concat());
    let listen = node.tls_listen.unwrap();
    (node, listen)
}

/// A node in front of an app, with a certificate for `shop.test` in its folder; none where a client is missing.
fn shop() -> Option<(tempfile::TempDir, App, Node, SocketAddr)> {
    if absent() {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path(), "shop", "shop.test", 90);
    let app = App::start();
    let (node, listen) = up(&app, folder.path());
    Some((folder, app, node, listen))
}

pub(crate) fn absent() -> bool {
    let missing =
        ["curl", "openssl"].into_iter().find(|name| Command::new(name).arg("version").output().is_err());
    missing.inspect(|name| eprintln!("skipped: {name} not installed")).is_some()
}

#[test]
fn curl_and_openssl_get_modern_tls_and_nothing_else() {
    let Some((folder, _app, node, listen)) = shop() else { return };
    let url = format!("https://shop.test:{}/a", listen.port());
    for version in ["--tlsv1.3", "--tls-max=1.2"] {
        let args = match version.split_once('=') {
            Some((name, value)) => vec![name, value, &url],
            None => vec![version, &url],
        };
        let (status, body) = curl(folder.path(), listen, &args);
        assert_eq!(status, "200", "{version}");
        assert!(body.contains("X-Forwarded-Proto: https"), "{body}");
    }
    let (version, _) = curl(folder.path(), listen, &["-w", "\n%{http_version}", &url]);
    assert_eq!(version, "2");
    for (args, expected) in [
        (&["-tls1_3"][..], true),
        (&["-tls1_2"], true),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], true),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"], true),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"], false),
        (&["-tls1_2", "-cipher", "AES128-GCM-SHA256"], false),
        (&["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"], false),
        (&["-tls1_3", "-groups", "P-384"], true),
        (&["-tls1_3", "-groups", "P-521"], false),
    ] {
        let (ok, text) = s_client(listen, args);
        assert_eq!(ok, expected, "{args:?}: {text}");
    }
    // A wrong name is shown the certificate there is, which does not fit it.
    let other = format!("https://other.test:{}/", listen.port());
    let resolve = format!("other.test:{}:127.0.0.1", listen.port());
    assert_eq!(curl(folder.path(), listen, &["--resolve", &resolve, &other]).0, "000");
    // Plain HTTP on this port is told what it is.
    let (status, body) = curl(folder.path(), listen, &[&format!("http://shop.test:{}/", listen.port())]);
    assert_eq!(status, "400");
    assert!(body.contains("HTTPS"), "{body}");
    let metrics = node.admin_get("/metrics").text();
    for line in [
        "phalanx_tls_failures_total{reason=\"plain_http\"} 1",
        "phalanx_tls_failures_total{reason=\"incompatible\"} 4",
        "phalanx_tls_key_exchanges_total{group=\"secp384r1\"} 1",
        "phalanx_tls_certificate_expires_seconds{file=",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
}

#[test]
fn certificates_are_replaced_by_a_reload_and_bad_ones_change_nothing() {
    if absent() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    certificate(path, "shop", "shop.test", 90);
    let app = App::start();
    let (node, listen) = up(&app, path);
    let shown = || {
        let (_, text) = s_client(listen, &["-showcerts"]);
        let begin = text.find("-----BEGIN").unwrap();
        text[begin..text.find("-----END").unwrap()].to_owned()
    };
    let first = shown();
    // Another key under the old certificate.
    certificate(path, "next", "shop.test", 5);
    std::fs::copy(path.join("next.key"), path.join("shop.key")).unwrap();
    let reload = node.cli(&["reload"]);
    let told = String::from_utf8_lossy(&reload.stderr).into_owned();
    assert!(!reload.status.success() && told.contains("does not belong"), "{told}");
    assert_eq!(shown(), first);
    let status = String::from_utf8(node.cli(&["status"]).stdout).unwrap();
    assert!(status.contains("a certificate was refused, the one in force stays"), "{status}");
    // With its certificate beside it, it is in force; SIGHUP does the same as `reload`.
    std::fs::copy(path.join("next.pem"), path.join("shop.pem")).unwrap();
    node.signal("HUP");
    until("the new certificate is shown", || shown() != first);
    let status = String::from_utf8(node.cli(&["status"]).stdout).unwrap();
    assert!(status.contains("(shop.test), ends in 4 d") && status.contains("ends in 4 days"), "{status}");
    let url = format!("https://shop.test:{}/", listen.port());
    assert_eq!(curl(path, listen, &[&url]).0, "200");
}

#[test]
fn check_tells_of_certificates_that_end_soon_and_of_open_keys() {
    if absent() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    certificate(path, "shop", "shop.test", 5);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(path.join("shop.key"), open).unwrap();
    std::fs::write(
        path.join("policy.toml"),
        "[[apps]]\nname = \"shop\"\nupstream = \"http://127.0.0.1:1\"\n",
    )
    .unwrap();
    let settings = "policy = \"policy.toml\"\n[[listen.tls]]\naddress = \"127.0.0.1:0\"\n\
         [[certificate]]\ncert = \"shop.pem\"\nkey = \"shop.key\"\n";
    std::fs::write(path.join("phalanx.toml"), settings).unwrap();
    let check = || {
        let output = phalanx(&["check", "-c"]).arg(path.join("phalanx.toml")).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (ok, told) = check();
    assert!(ok && told.contains("shop.pem: the certificate ends in 4 days"), "{told}");
    assert!(told.contains("every user of this machine may read the key"), "{told}");
    std::fs::write(path.join("shop.key"), "nothing").unwrap();
    let (ok, told) = check();
    assert!(!ok && told.contains("shop.key: there is no private key in it"), "{told}");
}

#[test]
fn a_decision_about_a_fingerprint_refuses_its_clients_and_explain_shows_it() {
    let Some((folder, _app, node, listen)) = shop() else { return };
    let url = format!("https://shop.test:{}/", listen.port());
    // An attack, because the history keeps those.
    let (status, body) = curl(folder.path(), listen, &[&format!("{url}{}", &attack(1)[1..])]);
    assert_eq!(status, "403", "{body}");
    until("it is in the history", || !node.cli_json(&["events"]).as_array().unwrap().is_empty());
    let told = || {
        let id = node.cli_json(&["events"])[0]["id"].as_str().unwrap_or_default().to_owned();
        String::from_utf8(node.cli(&["explain", &id]).stdout).unwrap()
    };
    let explained = told();
    let greets = explained.split_once("greets as ").and_then(|(_, rest)| rest.split_once(" (JA4)"));
    let ja4 = greets.unwrap_or_else(|| panic!("{explained}")).0.to_owned();
    assert!(ja4.starts_with("t13d") && explained.contains("over TLSv1.3"), "{explained}");
    let added = node.cli(&["decision", "add", "--ja4", &ja4, "--for", "5m", "--reason", "scraper"]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    until("curl is refused", || curl(folder.path(), listen, &[&url]).0 == "403");
    until("the refusal is in the history", || {
        let told = told();
        told.contains(&format!("ja4 {ja4}")) && told.contains("scraper")
    });
    assert_eq!(node.get("/").status, 200, "without TLS there is no fingerprint");
}
