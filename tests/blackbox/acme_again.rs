//! Certificates that are ordered anew long before their end: because the authority says so, and because a node was put out.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::acme::{Pebble, Wants, command, is_served, issued, node, serial, within};
use crate::clocks::{faked, library};
use crate::enrol::Fleet;
use crate::origins::absent;
use crate::support::*;

/// nginx before the authority: it shows its directory with one entry more, and answers for that one itself (RFC 9773), which the pebble of
/// Debian 12 does not.
struct Informed {
    nginx: Child,
    port: u16,
}

impl Informed {
    fn start(pebble: &Pebble) -> Self {
        let (folder, port) = (pebble.folder(), free_port());
        let url = format!("https://127.0.0.1:{}/dir", pebble.port());
        let directory = Command::new("curl").args(["-sk", &url]).output().unwrap().stdout;
        let mut directory: serde_json::Value = serde_json::from_slice(&directory).unwrap();
        directory["renewalInfo"] = format!("https://127.0.0.1:{port}/info").into();
        std::fs::write(folder.join("dir"), directory.to_string()).unwrap();
        let config = format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nevents {{ }}\nhttp {{ access_log asked; server {{\n\
             listen 127.0.0.1:{port} ssl; ssl_certificate pebble.pem; ssl_certificate_key pebble.key; root .;\n\
             default_type application/json; add_header Retry-After 21600; location /info/ {{ try_files /info =404; }} }} }}\n"
        );
        std::fs::write(folder.join("nginx.conf"), config).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder).args(["-e", "error.log", "-c"]).arg(folder.join("nginx.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let informed = Self { nginx: command.spawn().unwrap(), port };
        until("nginx listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        informed
    }

    /// Has it say when certificates are to be renewed, in seconds from now.
    fn says(pebble: &Pebble, from_s: i64, to_s: i64) {
        let at = |in_s: i64| {
            let mut date = Command::new("date");
            date.args(["-u", "+%Y-%m-%dT%H:%M:%SZ", "-d", &format!("{in_s} seconds")]);
            String::from_utf8(date.output().unwrap().stdout).unwrap().trim().to_owned()
        };
        let said = serde_json::json!({ "suggestedWindow": { "start": at(from_s), "end": at(to_s) } });
        // Whole or not at all: it is read at any time.
        std::fs::write(pebble.folder().join("info.new"), said.to_string()).unwrap();
        std::fs::rename(pebble.folder().join("info.new"), pebble.folder().join("info")).unwrap();
    }

    /// About which certificates it was asked.
    fn asked(pebble: &Pebble) -> Vec<String> {
        let log = std::fs::read_to_string(pebble.folder().join("asked")).unwrap_or_default();
        log.lines()
            .filter_map(|line| Some(line.split_once("GET /info/")?.1.split_once(' ')?.0.to_owned()))
            .collect()
    }
}

impl Drop for Informed {
    fn drop(&mut self) {
        let _ = self.nginx.kill();
        let _ = self.nginx.wait();
    }
}

/// A certificate of the shop, as `openssl x509` tells of it with these words.
fn told(at: SocketAddr, words: &str) -> String {
    let script = format!(
        "openssl s_client -connect {at} -servername shop.test </dev/null 2>/dev/null | openssl x509 -noout {words}"
    );
    String::from_utf8(Command::new("sh").args(["-c", &script]).output().unwrap().stdout).unwrap()
}

/// How the authority is asked about what is shown for the shop: by the issuer's key and the number, in the bytes that a certificate has.
fn name_of_shown(at: SocketAddr) -> String {
    let base64 = |hex: &str| {
        let digits: Vec<char> = hex.chars().filter(char::is_ascii_hexdigit).collect();
        let byte = |two: &[char]| u8::from_str_radix(&two.iter().collect::<String>(), 16).unwrap();
        let mut bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
        // A number is never negative.
        if bytes.len() < 20 && bytes[0] >= 0x80 {
            bytes.insert(0, 0);
        }
        URL_SAFE_NO_PAD.encode(bytes)
    };
    let (issuer, serial) = (told(at, "-ext authorityKeyIdentifier"), told(at, "-serial"));
    let issuer = issuer.lines().last().unwrap().trim().trim_start_matches("keyid:");
    format!("{}.{}", base64(issuer), base64(serial.split_once('=').unwrap().1))
}

#[test]
fn a_certificate_is_renewed_when_its_authority_says_so_and_not_before() {
    let (Some(library), false) = (library(), absent("nginx", &["-v"])) else { return };
    let wants =
        Wants { http: free_port(), tls: 1, valid_s: MONTHS, external_account: false, looks_after_s: 0 };
    let Some(pebble) = Pebble::start(&wants) else { return };
    let informed = Informed::start(&pebble);
    let (folder, app) = (tempfile::tempdir().unwrap(), App::start());
    let [plain, informing] = [pebble.port(), informed.port].map(|port| format!(":{port}/dir"));
    let more = pebble.acme("hosts = [\"shop.test\"]\nchallenge = \"http-01\"").replace(&plain, &informing);
    // The authority is asked every six hours.
    let started_after = |hours: &str| {
        let mut command = command(folder.path(), &app, (wants.http, 0), &more);
        faked(&library)(&mut command);
        Node::start({
            command.env("FAKETIME", hours);
            command
        })
    };
    Informed::says(&pebble, 30 * DAY, 31 * DAY);
    let node = started_after("+0h");
    let first = issued(node.tls_listen.unwrap());
    assert_eq!(Informed::asked(&pebble), [""; 0]);
    node.stop();
    let node = started_after("+7h");
    let at = node.tls_listen.unwrap();
    within(30, "it asks", || !Informed::asked(&pebble).is_empty());
    let name = name_of_shown(at);
    assert_eq!((Informed::asked(&pebble), serial(at)), (vec![name.clone()], Some(first.clone())));
    node.stop();
    // All that were issued on some day are to be replaced at once.
    Informed::says(&pebble, -2 * DAY, -DAY);
    let node = started_after("+14h");
    let at = node.tls_listen.unwrap();
    within(60, "it is renewed", || serial(at).is_some_and(|serial| serial != first));
    assert_eq!(Informed::asked(&pebble), [name.clone(), name]);
    assert_eq!(node.cli_json(&["status"])["fleet"]["degraded"].to_string(), "[]");
}

#[test]
fn when_a_node_is_put_out_its_site_has_the_account_under_another_key_and_another_certificate() {
    let wants =
        Wants { http: free_port(), tls: 1, valid_s: MONTHS, external_account: false, looks_after_s: 0 };
    let Some(pebble) = Pebble::start(&wants) else { return };
    let Some(fleet) = Fleet::start_with(&[]) else { return };
    let (folder, thief, app) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), App::start());
    let invited = fleet.a.cli_json(&["fleet", "invite", "--site", "fra", "--control"]);
    let token = folder.path().join("token");
    std::fs::write(&token, invited["token"].as_str().unwrap()).unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let more = pebble.acme("hosts = [\"shop.test\"]");
    let more = format!(
        "{more}[fleet]\njoin_file = \"token\"\n[node]\nsite = \"fra\"\nname = \"m\"\nstate = \"state\"\n"
    );
    let node = node(folder.path(), &app, (wants.http, 0), &more);
    let _thief = fleet.joins(thief.path(), "fra", "t", &[]);
    let at = node.tls_listen.unwrap();
    let first = issued(at);
    let key = told(at, "-pubkey");
    let rolled = || pebble.log().contains("/rollover-account-key");
    assert!(!rolled());
    let revoked = fleet.a.cli(&["fleet", "revoke", "fra/t", "--reason", "stolen"]);
    assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stderr));
    within(60, "it is ordered anew", || serial(at).is_some_and(|serial| serial != first));
    assert_ne!(told(at, "-pubkey"), key);
    assert!(rolled() && is_served(at, &pebble.root()));
}

const MONTHS: u64 = 9_000_000;
const DAY: i64 = 86_400;
