//! The life of the process: another takes over under load, or fails to; the service manager gives sockets and is told.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio_rustls::rustls;

use crate::support::*;
use crate::tls::{absent, certificate};

/// A node whose process may change: settings in a folder, the program by a link that can be turned.
pub(crate) struct Changing {
    folder: tempfile::TempDir,
    pub(crate) first: Node,
}

impl Changing {
    pub(crate) fn start(app: &App, sections: &str) -> Self {
        Self::start_with(app, sections, |_| ())
    }

    fn start_with(app: &App, sections: &str, more: impl FnOnce(&mut Command)) -> Self {
        Self::start_by(app, sections, |program| {
            let mut command = Command::new(program);
            command.stdin(Stdio::null());
            more(&mut command);
            command
        })
    }

    /// The command that begins to start the program is made by `begin`.
    pub(crate) fn start_by(app: &App, sections: &str, begin: impl FnOnce(&Path) -> Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        certificate(folder.path(), "shop", "shop.test", 90);
        let policy = format!(
            "[[apps]]\nname = \"shop\"\nupstream = \"{}\"\ntrust_forwarded = [\"127.0.0.1\"]\n",
            app.url
        );
        std::fs::write(folder.path().join("policy.toml"), policy).unwrap();
        symlink(binary(), folder.path().join("phalanx")).unwrap();
        write_settings(folder.path(), sections);
        let mut command = begin(&folder.path().join("phalanx"));
        command.args(["run", "--json", "-c"]).arg(folder.path().join("phalanx.toml"));
        Self { first: Node::start(command), folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn process(&self) -> u64 {
        self.first.cli_json(&["status"])["process"]["id"].as_u64().unwrap()
    }

    /// Has another process take over, and waits for the one before to end. Returns what the command said.
    pub(crate) fn upgrade(&self) -> String {
        let before = self.process();
        let output = self.first.cli(&["upgrade"]);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{said}");
        assert_ne!(self.process(), before, "{said}");
        said
    }

    fn degraded(&self) -> String {
        self.first.cli_json(&["status"])["fleet"]["degraded"].to_string()
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        end_of(&self.first.state);
    }
}

/// Ends whatever process has this state: what took over is no child of ours.
pub(crate) fn end_of(state: &Path) {
    if let Ok(status) = phalanx(&["status", "--json", "--state"]).arg(state).output()
        && let Ok(status) = serde_json::from_slice::<Value>(&status.stdout)
        && let Some(id) = status["process"]["id"].as_u64()
    {
        let _ = Command::new("kill").args(["-KILL", &id.to_string()]).status();
    }
    let _ = std::fs::remove_file(state.join("admin.sock"));
}

fn write_settings(folder: &Path, sections: &str) {
    let text = format!(
        "policy = \"policy.toml\"\n\
         [listen]\naddress = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n\
         [[listen.tls]]\naddress = \"127.0.0.1:0\"\n\
         [[certificate]]\ncert = \"shop.pem\"\nkey = \"shop.key\"\n\
         {sections}"
    );
    std::fs::write(folder.join("phalanx.toml"), text).unwrap();
}

pub(crate) fn node(more: &str) -> String {
    format!("[node]\nstate = \"state\"\n{more}")
}

/// Clients that ask all the time, each in its way, and what they got.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    clients: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Load {
    pub(crate) fn start(plain: SocketAddr, tls: SocketAddr) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut clients = Vec::new();
        for number in 0..6 {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            clients.push(std::thread::spawn(move || match number {
                0..=2 => ask(&stop, &served, (true, &Asks::default()), || TcpStream::connect(plain)),
                3 => ask(&stop, &served, (false, &Asks::default()), || TcpStream::connect(plain)),
                _ => ask(&stop, &served, (true, &Asks::default()), || over_tls(tls)),
            }));
        }
        Self { stop, served, clients }
    }

    pub(crate) fn more(&self, requests: u64) {
        let before = self.served.load(Ordering::SeqCst);
        until("requests are served", || self.served.load(Ordering::SeqCst) >= before + requests);
    }

    /// How many were served; fails with what failed.
    pub(crate) fn end(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        let failed: Vec<_> = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), &failed[..failed.len().min(5)]);
        self.served.load(Ordering::SeqCst)
    }
}

/// What a client asks, after which it may say how long the connection lasts, and how the reply begins.
#[derive(Clone, Copy)]
pub(crate) struct Asks {
    pub(crate) head: &'static str,
    pub(crate) text: &'static str,
}

impl Default for Asks {
    fn default() -> Self {
        let head = "GET /some?page=1 HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n";
        Self { head, text: "GET /some?page=1" }
    }
}

/// One client. It asks again on its connection until it is told that it is the last time; whatever else ends a connection is a failure.
pub(crate) fn ask<S: Read + Write>(
    stop: &AtomicBool,
    served: &AtomicU64,
    (keeps, asks): (bool, &Asks),
    connect: impl Fn() -> std::io::Result<S>,
) -> Vec<String> {
    let (mut failed, mut open) = (Vec::new(), None);
    while !stop.load(Ordering::SeqCst) {
        let stream = match open.take().map_or_else(|| connect().map(BufReader::new), Ok) {
            Ok(stream) => stream,
            Err(error) => {
                failed.push(format!("connect: {error}"));
                continue;
            }
        };
        let mut stream: BufReader<S> = stream;
        let connection = if keeps { "keep-alive" } else { "close" };
        let head = asks.head.replace("\r\n\r\n", &format!("\r\nConnection: {connection}\r\n\r\n"));
        if let Err(error) = stream.get_mut().write_all(head.as_bytes()) {
            failed.push(format!("write: {error}"));
            continue;
        }
        let reply = read_reply(&mut stream);
        if reply.status != 200 || !reply.text().starts_with(asks.text) {
            failed.push(format!("status {}", reply.status));
            continue;
        }
        served.fetch_add(1, Ordering::SeqCst);
        if keeps && reply.fields.get("connection").is_none_or(|said| said != "close") {
            open = Some(stream);
        }
        // Load, not a flood: the machine has other things to do.
        std::thread::park_timeout(Duration::from_millis(2));
    }
    failed
}

type OverTls = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

pub(crate) fn over_tls(to: SocketAddr) -> std::io::Result<OverTls> {
    over_tls_as("shop.test", to)
}

/// For a host of this name.
pub(crate) fn over_tls_as(host: &'static str, to: SocketAddr) -> std::io::Result<OverTls> {
    let connection = rustls::ClientConnection::new(tls_of(&[]), host.try_into().unwrap()).unwrap();
    Ok(rustls::StreamOwned::new(connection, TcpStream::connect(to)?))
}

/// Any certificate will do; these protocols are spoken over it.
pub(crate) fn tls_of(protocols: &[&[u8]]) -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|one| one.to_vec()).collect();
    Arc::new(config)
}

/// The certificate is looked at in other tests.
#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What became of the node, as its ledger tells it, whose chain must hold.
pub(crate) fn states(state: &Path) -> Vec<String> {
    let folder = state.join("record/ledger");
    phalanx_record::ledger::verify(&folder).unwrap();
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let entries = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    entries.filter_map(|entry| entry["what"]["state"].as_str().map(str::to_owned)).collect()
}

#[test]
fn upgrades_and_reloads_under_load_fail_no_request() {
    if absent() {
        return;
    }
    let app = App::start();
    let node = Changing::start(&app, &node("workers = 3\n"));
    let load = Load::start(node.first.listen, node.first.tls_listen.unwrap());
    load.more(300);
    for workers in [1, 2, 4] {
        for _ in 0..3 {
            assert!(node.first.cli(&["reload"]).status.success());
            load.more(50);
        }
        // Another number of workers than sockets: none may be left alone.
        write_settings(node.path(), &self::node(&format!("workers = {workers}\n")));
        let said = node.upgrade();
        assert!(said.contains("took over from process"), "{said}");
        load.more(300);
    }
    assert!(node.first.cli(&["reload"]).status.success());
    load.more(50);
    let served = load.end();
    println!("10 reloads and 3 upgrades: 0 of {served} requests failed");
    let expected = ["started", "handed over", "started", "handed over", "started", "handed over", "started"];
    assert_eq!(states(&node.first.state), expected);
}

#[test]
fn what_ends_at_the_old_process_is_recorded_by_the_new_one_and_bans_hold() {
    if absent() {
        return;
    }
    let app = App::start();
    let node = Changing::start(&app, &node(""));
    for n in 0..2 {
        node.first.get_from("192.0.2.7", &attack(n));
    }
    // A request that is under way when the process is followed, and is the third attack.
    let mut stream = connect(node.first.listen);
    let head = "POST /late HTTP/1.1\r\nHost: shop.test\r\nX-Forwarded-For: 192.0.2.7\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                User-Agent: late\r\nAccept: */*\r\nContent-Length: 40\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    until("it is under way", || {
        node.first.cli_json(&["status"])["counters"]["connections_open"].as_u64() >= Some(1)
    });
    node.upgrade();
    stream.write_all(b"q=1'+UNION+SELECT+password+FROM+users--+").unwrap();
    let reply = read_reply(&mut BufReader::new(stream));
    assert_eq!(reply.status, 403);
    let id = reply.id().to_owned();
    until("the new process explains it", || node.first.cli(&["explain", &id]).status.success());
    node.first.cli(&["decision", "add", "--ip", "192.0.2.99", "--for", "1h", "--reason", "test"]);
    until("the order is in force", || node.first.get_from("192.0.2.99", "/").status == 403);
    node.upgrade();
    assert_eq!(node.first.get_from("192.0.2.99", "/").status, 403, "an order outlives the process");
}

#[test]
fn a_tunnel_outlives_the_process_that_was_followed_until_it_ends() {
    if absent() {
        return;
    }
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut app = App::start();
    app.url = format!("http://{}", echo.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut stream = echo.accept().unwrap().0;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(switch.as_bytes()).unwrap();
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() {
            stream.write_all(&byte).unwrap();
        }
    });
    let node = Changing::start(&app, &node(""));
    let mut stream = connect(node.first.listen);
    let head = "GET /chat HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: chat\r\nAccept: */*\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    assert_eq!(read_head(&mut stream), 101);
    let old = node.process();
    node.upgrade();
    for byte in 0..10_u8 {
        stream.get_mut().write_all(&[byte]).unwrap();
        let mut back = [0xff];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, [byte]);
    }
    assert!(runs(old), "it has a tunnel to carry");
    drop(stream);
    until("the old process ends", || !runs(old));
}

/// The status of a reply without a body.
fn read_head(stream: &mut impl std::io::BufRead) -> u16 {
    let mut lines = String::new();
    while !lines.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut lines).unwrap() > 0, "{lines}");
    }
    lines.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Whether a process runs; one that nobody has asked for its end does not.
pub(crate) fn runs(id: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn a_program_that_does_not_start_changes_nothing() {
    if absent() {
        return;
    }
    let app = App::start();
    let node = Changing::start(&app, &node(""));
    let process = node.process();
    let load = Load::start(node.first.listen, node.first.tls_listen.unwrap());
    let program = node.path().join("phalanx");
    let refused = |why: &str| {
        let output = node.first.cli(&["upgrade"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{said}");
        assert_eq!(node.process(), process);
        assert!(node.degraded().contains("the last upgrade failed"), "{}", node.degraded());
        load.more(50);
    };
    std::fs::remove_file(&program).unwrap();
    refused("cannot be started");
    std::fs::write(&program, "#!/bin/sh\nexit 3\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    refused("ended with code 3");
    std::fs::remove_file(&program).unwrap();
    symlink(binary(), &program).unwrap();
    std::fs::write(node.path().join("policy.toml"), "[[apps]]\nnam = \"shop\"\n").unwrap();
    refused("unknown key `nam`");
    load.end();
}

#[test]
fn a_process_that_fails_with_the_state_in_hand_is_followed_by_one_of_the_old_image() {
    if absent() {
        return;
    }
    let app = App::start();
    let settings = node("");
    let node = Changing::start(&app, &settings);
    let load = Load::start(node.first.listen, node.first.tls_listen.unwrap());
    load.more(50);
    let process = node.process();
    // Found out late: the source's key is read when the fleet's state is open.
    let import = "[[import.crowdsec]]\nurl = \"http://127.0.0.1:1\"\napi_key_file = \"missing\"\n";
    write_settings(node.path(), &format!("{settings}{import}"));
    let output = node.first.cli(&["upgrade"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("cannot be imported"), "{said}");
    assert_ne!(node.process(), process);
    assert!(node.degraded().contains("the last upgrade failed"), "{}", node.degraded());
    load.more(100);
    write_settings(node.path(), &settings);
    node.upgrade();
    assert!(!node.degraded().contains("upgrade"), "{}", node.degraded());
    load.more(100);
    load.end();
}

#[test]
fn files_that_settings_name_later_are_read_after_an_upgrade() {
    if absent() {
        return;
    }
    let app = App::start();
    let node = Changing::start(&app, &node(""));
    let status = node.first.cli_json(&["status"])["process"]["confinement"].to_string();
    if !status.contains("(landlock)") {
        eprintln!("skipped: the kernel has no landlock");
        return;
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let rules = elsewhere.path().join("more.conf");
    std::fs::write(&rules, "SecRule REQUEST_URI \"@contains forbidden\" \"id:1,phase:1,deny\"\n").unwrap();
    let policy = node.path().join("policy.toml");
    let text = std::fs::read_to_string(&policy).unwrap();
    std::fs::write(&policy, format!("{text}extra_rules = [\"{}\"]\n", rules.display())).unwrap();
    let output = node.first.cli(&["reload"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("phalanx upgrade"), "{said}");
    assert_eq!(node.first.get("/forbidden").status, 200);
    node.upgrade();
    assert_eq!(node.first.get("/forbidden").status, 403);
}

#[test]
fn the_service_manager_is_told_and_signals_mean_what_they_mean_to_nginx() {
    if absent() {
        return;
    }
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let told = UnixDatagram::bind(&path).unwrap();
    told.set_read_timeout(Some(DEADLINE)).unwrap();
    let next = |wanted: &str| loop {
        let mut text = [0; 4096];
        let length = told.recv(&mut text).unwrap_or_else(|error| panic!("waiting for {wanted}: {error}"));
        let text = String::from_utf8_lossy(&text[..length]).into_owned();
        if text.contains(wanted) {
            return text;
        }
    };
    let node = Changing::start_with(&app, &node(""), |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    });
    next("READY=1");
    next("WATCHDOG=1");
    node.first.signal("HUP");
    next("RELOADING=1");
    next("READY=1");
    node.first.signal("USR1");
    let process = node.process();
    node.first.signal("USR2");
    let main = next("MAINPID=");
    until("another process answers", || node.process() != process);
    assert!(main.contains(&format!("MAINPID={}", node.process())), "{main}");
    next("WATCHDOG=1");
    let status = Command::new("kill").args(["-TERM", &node.process().to_string()]).status();
    assert!(status.unwrap().success());
    next("STOPPING=1");
}

#[test]
fn sockets_of_the_service_manager_are_used_and_handed_on() {
    if absent() {
        return;
    }
    let app = App::start();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let policy = format!("[[apps]]\nname = \"shop\"\nupstream = \"{}\"\n", app.url);
    std::fs::write(folder.path().join("policy.toml"), policy).unwrap();
    let config = folder.path().join("phalanx.toml");
    let write = |listen: &str| {
        let listen = format!("[listen]\naddress = [\"{listen}\"]\nadmin = \"127.0.0.1:0\"\n");
        std::fs::write(
            &config,
            format!("policy = \"policy.toml\"\n{listen}[node]\nstate = \"state\"\nworkers = 2\n"),
        )
        .unwrap();
    };
    // As a service manager does it: the socket as descriptor 3, and its own process id in a variable.
    let script = "import os, sys\n\
                  os.dup2(0, 3)\n\
                  os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES='shop.socket', LISTEN_PID=str(os.getpid()))\n\
                  os.execv(sys.argv[1], sys.argv[1:])\n";
    let activated = || {
        let mut command = Command::new("python3");
        command.args(["-c", script, &binary(), "run", "--json", "-c"]).arg(&config);
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(socket.try_clone().unwrap())));
        command
    };
    write(&address.to_string());
    let node = Node::start(activated());
    assert_eq!(node.listen, address);
    for _ in 0..20 {
        assert_eq!(node.get("/").status, 200);
    }
    node.stop();
    write("127.0.0.1:0");
    let output = activated().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains(&format!("passes a socket on {address} (shop.socket) that no setting names")),
        "{said}"
    );
}
