//! Certificates from a real authority, pebble, that looks at real nodes.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::*;

/// An authority with a name server of its own, in which every name is this machine.
pub(crate) struct Pebble {
    server: Child,
    names: Child,
    folder: tempfile::TempDir,
    port: u16,
    management: u16,
    dns: u16,
}

/// How an authority is to behave.
pub(crate) struct Wants {
    pub(crate) http: u16,
    pub(crate) tls: u16,
    /// How long its certificates count, in seconds.
    pub(crate) valid_s: u64,
    pub(crate) external_account: bool,
    /// It takes up to so long until it looks, in seconds.
    pub(crate) looks_after_s: u8,
}

impl Pebble {
    pub(crate) fn start(wants: &Wants) -> Option<Self> {
        let missing = ["pebble", "pebble-challtestsrv", "openssl", "curl"].into_iter().find(|name| {
            let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).output();
            !found.is_ok_and(|found| found.status.success())
        });
        if let Some(name) = missing {
            assert!(std::env::var("CI").is_err(), "CI has no {name}");
            eprintln!("skipped: {name} not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        self_signed(folder.path(), "pebble", "IP:127.0.0.1");
        let (port, management, dns) = (free_port(), free_port(), free_port());
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": path("pebble.pem"), "privateKey": path("pebble.key"),
            "httpPort": wants.http, "tlsPort": wants.tls, "ocspResponderURL": "",
            "certificateValidityPeriod": wants.valid_s,
            "externalAccountBindingRequired": wants.external_account,
            "externalAccountMACKeys": { "kid-1": EXTERNAL_KEY },
        }});
        std::fs::write(path("pebble.json"), config.to_string()).unwrap();
        let mut names = Command::new("pebble-challtestsrv");
        names.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
        names.args([
            "-dns01",
            &format!("127.0.0.1:{dns}"),
            "-management",
            &format!("127.0.0.1:{}", free_port()),
        ]);
        let names = names.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::fs::write(path("looks"), wants.looks_after_s.to_string()).unwrap();
        let server = Self::spawn(folder.path(), dns);
        let pebble = Self { server, names, folder, port, management, dns };
        pebble.listens();
        Some(pebble)
    }

    fn spawn(folder: &Path, dns: u16) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let mut server = Command::new("pebble");
        server
            .arg("-config")
            .arg(folder.join("pebble.json"))
            .args(["-dnsserver", &format!("127.0.0.1:{dns}")]);
        match std::fs::read_to_string(folder.join("looks")).unwrap().as_str() {
            "0" => server.env("PEBBLE_VA_NOSLEEP", "1"),
            seconds => server.env("PEBBLE_VA_SLEEPTIME", seconds),
        };
        // Some requests are refused for their nonce, and everything is proven anew.
        server.env("PEBBLE_WFE_NONCEREJECT", "10").env("PEBBLE_AUTHZREUSE", "0");
        server.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    fn listens(&self) {
        until("pebble listens", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    fn stop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// It comes back, and remembers nothing.
    fn restart(&mut self) {
        self.server = Self::spawn(self.folder.path(), self.dns);
        self.listens();
    }

    /// How often it began to look whether a host is its orderer's.
    fn looks(&self) -> usize {
        self.log().matches("Pulled a task from the Tasks queue").count()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Where it has its settings and its own certificate.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The certificate that all of its lead to, in a file.
    pub(crate) fn root(&self) -> String {
        let file = self.folder.path().join("root.pem").display().to_string();
        let url = format!("https://127.0.0.1:{}/roots/0", self.management);
        assert!(Command::new("curl").args(["-sk", "-o", &file, &url]).status().unwrap().success());
        file
    }

    /// The settings of a node that orders here.
    pub(crate) fn acme(&self, more: &str) -> String {
        let ca = self.folder.path().join("pebble.pem").display().to_string();
        format!(
            "[acme]\ndirectory = \"https://127.0.0.1:{}/dir\"\nca_file = \"{ca}\"\nagree_to_terms = true\n\
             contact = [\"mailto:ops@shop.test\"]\n{more}\n",
            self.port
        )
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.names] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Makes a certificate for a name that vouches for itself, and its key: `FILE.pem` and `FILE.key`.
pub(crate) fn self_signed(folder: &Path, file: &str, name: &str) {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    openssl.args(["-days", "9", "-subj", "/CN=test", "-addext", &format!("subjectAltName={name}")]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.arg("-keyout").arg(folder.join(format!("{file}.key")));
    openssl.arg("-out").arg(folder.join(format!("{file}.pem")));
    assert!(openssl.output().unwrap().status.success());
}

const EXTERNAL_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

/// A node in front of an app, with a settings file in its folder that says this, too.
pub(crate) fn node(folder: &Path, app: &App, ports: (u16, u16), more: &str) -> Node {
    Node::start(command(folder, app, ports, more))
}

/// What starts it.
pub(crate) fn command(folder: &Path, app: &App, (http, tls): (u16, u16), more: &str) -> Command {
    let policy = format!("[[apps]]\nname = \"shop\"\nhosts = [\"shop.test\"]\nupstream = \"{}\"\n", app.url);
    std::fs::write(folder.join("policy.toml"), policy).unwrap();
    let settings = format!(
        "policy = \"policy.toml\"\n[listen]\naddress = [\"127.0.0.1:{http}\"]\nadmin = \"127.0.0.1:0\"\n\
         [[listen.tls]]\naddress = \"127.0.0.1:{tls}\"\n{more}"
    );
    let settings = match settings.contains("[node]") {
        true => settings,
        false => format!("{settings}[node]\nstate = \"state\"\n"),
    };
    std::fs::write(folder.join("phalanx.toml"), settings).unwrap();
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(folder.join("phalanx.toml"));
    command
}

/// The serial number of the certificate that is shown for the shop; none if there is none.
pub(crate) fn serial(at: SocketAddr) -> Option<String> {
    let script = format!(
        "openssl s_client -connect {at} -servername shop.test </dev/null 2>/dev/null | openssl x509 -noout -serial"
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim().strip_prefix("serial=").map(str::to_owned)
}

pub(crate) fn issued(at: SocketAddr) -> String {
    within(60, "a certificate is shown", || serial(at).is_some());
    serial(at).unwrap()
}

/// Whether a request over TLS is answered, and believed with this root.
pub(crate) fn is_served(at: SocketAddr, root: &str) -> bool {
    let resolve = format!("shop.test:{}:{}", at.port(), at.ip());
    let url = format!("https://shop.test:{}/", at.port());
    let mut command = Command::new("curl");
    command.args([
        "-sS",
        "--resolve",
        &resolve,
        "--cacert",
        root,
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        &url,
    ]);
    command.output().unwrap().stdout == b"200"
}

fn degraded(node: &Node) -> String {
    node.cli_json(&["status"])["fleet"]["degraded"].to_string()
}

#[track_caller]
pub(crate) fn within(seconds: u64, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(seconds), "in vain waited until {what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

#[test]
fn a_certificate_is_ordered_over_http_and_renewed_under_load_and_stays_when_the_authority_is_gone() {
    let wants = Wants { http: free_port(), tls: 1, valid_s: 60, external_account: false, looks_after_s: 0 };
    let Some(mut pebble) = Pebble::start(&wants) else { return };
    let (folder, app) = (tempfile::tempdir().unwrap(), App::start());
    let mut more = pebble.acme("hosts = [\"shop.test\"]\nchallenge = \"http-01\"");
    // All of the load comes from one address, and each request with a handshake of its own.
    more.push_str("[limits]\nhandshake_rate = 100000\n");
    let node = node(folder.path(), &app, (wants.http, 0), &more);
    let at = node.tls_listen.unwrap();
    let first = issued(at);
    let root = pebble.root();
    // From here to its renewal, after two thirds of a minute, every request is answered. The authority refuses one request in ten, and
    // an order that fails by that is followed by the next within 19 s: the third of a minute that is left has room for it.
    let (stop, asked, failed) = (Arc::new(AtomicBool::new(false)), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    asked.fetch_add(1, Ordering::Relaxed);
                    if !is_served(at, &root) {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                    // A pace: as many as the machine can start would take it from the tests beside.
                    std::thread::park_timeout(Duration::from_millis(50));
                }
            });
        }
        within(90, "it is renewed", || serial(at).is_some_and(|serial| serial != first));
        stop.store(true, Ordering::Relaxed);
    });
    let (asked, failed) = (asked.into_inner(), failed.into_inner());
    assert!(asked > 50 && failed == 0, "{failed} of {asked} failed");
    println!("renewed under load: {asked} requests, {failed} failed");
    let metrics = node.admin_get("/metrics").text();
    assert!(
        metrics.contains("phalanx_tls_certificate_expires_seconds{file=\"acme/shop.test\"}"),
        "{metrics}"
    );
    // The authority is gone when it is to be renewed again: what there is stays, and everybody is told.
    pebble.stop();
    let second = serial(at).unwrap();
    within(60, "it is told", || degraded(&node).contains("the certificate for shop.test was not renewed"));
    assert!(degraded(&node).contains("cannot be asked"), "{}", degraded(&node));
    assert_eq!(serial(at).unwrap(), second);
    // It comes back and knows no account of ours: one is made, and an operator need not wait.
    pebble.restart();
    let again = || drop(node.cli(&["reload"]));
    again();
    within(60, "it is told that there is no account", || {
        again();
        serial(at).unwrap() != second
    });
    within(20, "nothing is wrong any more", || degraded(&node) == "[]");
}

#[test]
fn a_certificate_is_ordered_in_a_handshake_with_an_external_account_and_survives_a_restart() {
    let wants =
        Wants { http: 1, tls: free_port(), valid_s: 9_000_000, external_account: true, looks_after_s: 0 };
    let Some(pebble) = Pebble::start(&wants) else { return };
    let (folder, app) = (tempfile::tempdir().unwrap(), App::start());
    let key = folder.path().join("eab.key");
    std::fs::write(&key, EXTERNAL_KEY).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    // The hosts are those of the policy.
    let more = pebble.acme("challenge = \"tls-alpn-01\"\neab_key_id = \"kid-1\"\neab_key_file = \"eab.key\"");
    let started = node(folder.path(), &app, (0, wants.tls), &more);
    let at = started.tls_listen.unwrap();
    let first = issued(at);
    let root = pebble.root();
    assert!(is_served(at, &root));
    assert_eq!(degraded(&started), "[]");
    let looks = pebble.looks();
    // It lies there sealed and comes back with the node, at once and without an order.
    started.stop();
    for file in std::fs::read_dir(folder.path().join("state")).unwrap() {
        let Ok(bytes) = std::fs::read(file.unwrap().path()) else { continue };
        for secret in [&b"PRIVATE KEY"[..], b"key_pkcs8"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret));
        }
    }
    let again = node(folder.path(), &app, (0, wants.tls), &more);
    assert_eq!(serial(at), Some(first.clone()));
    until("it is the one that orders", || {
        again.cli_json(&["status"])["certificates"].as_array().is_some_and(|all| all.len() == 1)
    });
    assert!(is_served(at, &root) && serial(at) == Some(first));
    assert_eq!(pebble.looks(), looks);
}

#[test]
fn any_node_answers_the_authority_and_another_goes_on_when_the_one_that_orders_dies_in_the_middle() {
    let Some(nats) = Nats::start() else { return };
    let wants = Wants { http: free_port(), tls: 1, valid_s: 40, external_account: false, looks_after_s: 5 };
    let Some(pebble) = Pebble::start(&wants) else { return };
    let app = App::start();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let start = |place: usize, ports: (u16, u16)| {
        let folder = folders[place].path();
        let secret = folder.join("secret");
        std::fs::write(&secret, "a secret of the fleet, of some length").unwrap();
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let name = ["a", "b"][place];
        let fleet = format!(
            "[fleet]\nurl = \"{}\"\nsecret_file = \"secret\"\n[node]\nsite = \"fra\"\nname = \"{name}\"\nstate = \"state\"\n",
            nats.url()
        );
        node(folder, &app, ports, &format!("{}{fleet}", pebble.acme("hosts = [\"shop.test\"]")))
    };
    // The authority looks at `b`, and `a` was there first, so that it is the one that orders.
    let a = start(0, (0, 0));
    until("a orders", || pebble.looks() > 0 || degraded(&a).contains("shop.test"));
    let b = start(1, (wants.http, 0));
    let (at_a, at_b) = (a.tls_listen.unwrap(), b.tls_listen.unwrap());
    let first = issued(at_a);
    within(10, "both show the same", || serial(at_b).as_ref() == Some(&first));
    // It is to be renewed: `a` dies while the authority looks.
    let looks = pebble.looks();
    within(60, "the authority looks again", || pebble.looks() > looks);
    a.kill();
    within(60, "b goes on", || serial(at_b).is_some_and(|serial| serial != first));
    let second = serial(at_b).unwrap();
    // It comes back, orders nothing, and shows what `b` got.
    let a = start(0, (0, 0));
    within(30, "a shows it, too", || serial(a.tls_listen.unwrap()).as_ref() == Some(&second));
}
