//! Certificates that one app asks of its clients, as curl and openssl show them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::*;
use crate::tls::{absent, certificate};

/// A certificate for `name` that `authority` signed, beside it.
fn signed(folder: &Path, authority: &str, name: &str, more: &str) {
    let file = |name: &str, ending: &str| folder.join(format!("{name}.{ending}"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    command.args(["-days", "9", "-subj", &format!("/CN={name}")]);
    command.args(["-addext", more, "-addext", "basicConstraints=critical,CA:FALSE"]);
    command.arg("-CA").arg(file(authority, "pem")).arg("-CAkey").arg(file(authority, "key"));
    command.arg("-keyout").arg(file(name, "key")).arg("-out").arg(file(name, "pem"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn write_policy(folder: &Path, app: &App, authority: &str) {
    let text = format!(
        "[[apps]]\nname = \"open\"\nhosts = [\"open.test\"]\nupstream = \"{0}\"\nmode = \"off\"\n\
         [[apps]]\nname = \"staff\"\nhosts = [\"staff.test\"]\nupstream = \"{0}\"\nmode = \"off\"\n\
         client_certificate = {{ ca_file = \"{authority}.pem\", fingerprint_header = \"x-cert-sha256\" }}\n",
        app.url
    );
    std::fs::write(folder.join("policy.toml"), text).unwrap();
}

/// Status and body of a request for `host` over a connection that asks for `name`, with somebody's certificate; 000 without a session.
fn curl(
    folder: &Path,
    to: SocketAddr,
    (name, host): (&str, &str),
    who: &str,
    version: &str,
) -> (String, String) {
    let mut command = Command::new("curl");
    command.args(["-s", version, "-w", "\n%{http_code}", "-H", "Client-Cert: :forged:"]);
    command.args(["--resolve", &format!("{name}:{}:{}", to.port(), to.ip()), "-H", &format!("Host: {host}")]);
    command.arg("--cacert").arg(folder.join("site.pem"));
    if !who.is_empty() {
        let file = |ending: &str| folder.join(format!("{who}.{ending}"));
        command.arg("--cert").arg(file("pem")).arg("--key").arg(file("key"));
    }
    let output = command.arg(format!("https://{name}:{}/a", to.port())).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or_default();
    (status.to_owned(), body.to_owned())
}

#[test]
fn one_host_asks_for_certificates_and_no_other_connection_reaches_it() {
    if absent() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for authority in ["site", "staff", "others"] {
        certificate(path, authority, authority, 30);
    }
    signed(path, "site", "shown", "subjectAltName=DNS:open.test,DNS:staff.test");
    signed(path, "staff", "alice", "subjectAltName=DNS:alice");
    signed(path, "others", "mallory", "subjectAltName=DNS:mallory");
    let app = App::start();
    write_policy(path, &app, "staff");
    let settings = "policy = \"policy.toml\"\n[node]\nstate = \"state\"\nworkers = 1\n[listen]\naddress = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n\
         [[listen.tls]]\naddress = \"127.0.0.1:0\"\n[[certificate]]\ncert = \"shown.pem\"\nkey = \"shown.key\"\n";
    std::fs::write(path.join("phalanx.toml"), settings).unwrap();
    let node = Node::start({
        let mut command = phalanx(&["run", "--json", "-c"]);
        command.arg(path.join("phalanx.toml"));
        command
    });
    let listen = node.tls_listen.unwrap();
    let digest = Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(path.join("alice.pem"))
        .output()
        .unwrap();
    let digest = String::from_utf8(digest.stdout).unwrap().to_ascii_lowercase().replace(':', "");
    let digest = digest.trim().rsplit('=').next().unwrap().to_owned();
    for version in ["--http1.1", "--http2"] {
        for (name, host, who, expected) in [
            ("open.test", "open.test", "", "200"),
            ("open.test", "open.test", "mallory", "200"),
            ("staff.test", "staff.test", "", "000"),
            ("staff.test", "staff.test", "mallory", "000"),
            ("staff.test", "staff.test", "alice", "200"),
            ("open.test", "staff.test", "alice", "421"),
            ("staff.test", "open.test", "alice", "421"),
        ] {
            let (status, body) = curl(path, listen, (name, host), who, version);
            assert_eq!(status, expected, "{version} {name} {host} {who}: {body}");
            if host == "staff.test" && expected == "200" {
                let told = body.contains("client-cert: :MII") && body.contains(&digest);
                assert!(told && !body.contains("forged"), "{body}");
            }
        }
    }
    // A session that began at the open host is of no use at the other, and one of staff's is there alone.
    let session = path.join("session");
    let s_client = |name: &str, more: &[&str]| {
        let mut command = Command::new("openssl");
        command
            .args(["s_client", "-tls1_2", "-connect", &listen.to_string(), "-servername", name])
            .args(more);
        let output = command.stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let session = session.to_str().unwrap();
    let (pem, key) = (path.join("alice.pem"), path.join("alice.key"));
    let alice = ["-cert", pem.to_str().unwrap(), "-key", key.to_str().unwrap(), "-sess_out", session];
    s_client("staff.test", &alice);
    assert!(s_client("staff.test", &["-sess_in", session]).contains("Reused, "), "it goes on where it began");
    assert!(!s_client("open.test", &["-sess_in", session]).contains("Reused, "));
    // Another authority, by a reload: who was believed is not, and neither is the session.
    write_policy(path, &app, "others");
    let reload = node.cli(&["reload"]);
    assert!(reload.status.success(), "{}", String::from_utf8_lossy(&reload.stderr));
    assert_eq!(curl(path, listen, ("staff.test", "staff.test"), "alice", "--http1.1").0, "000");
    assert_eq!(curl(path, listen, ("staff.test", "staff.test"), "mallory", "--http1.1").0, "200");
    assert!(!s_client("staff.test", &["-sess_in", session]).contains("Reused, "));
    // A file that holds no authority is told with its name, and changes nothing.
    write_policy(path, &app, "policy");
    std::fs::write(path.join("policy.pem"), "none").unwrap();
    let told = String::from_utf8(node.cli(&["reload"]).stderr).unwrap();
    assert!(told.contains("policy.pem") && told.contains("there is no certificate in it"), "{told}");
    assert_eq!(curl(path, listen, ("staff.test", "staff.test"), "mallory", "--http1.1").0, "200");
}
