//! CrowdSec's own programs, as Debian ships them: its firewall bouncer enforces what the fleet decides, and what its local API decides
//! is taken over.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::*;

/// Whether these programs are installed.
fn installed(programs: &[&str]) -> bool {
    for program in programs {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
        if !found.status.success() {
            assert!(std::env::var_os("CI").is_none(), "CI has no {program}");
            eprintln!("skipped: {program} is not installed");
            return false;
        }
    }
    true
}

/// Whether this user may make a network namespace with a firewall of its own.
fn may_filter() -> bool {
    let tried = Command::new("unshare").args(["--net", "nft", "add", "table", "ip", "phalanx"]).output();
    let may = tried.is_ok_and(|tried| tried.status.success());
    if !may {
        eprintln!("skipped: no network namespace with nftables may be made here");
    }
    may
}

/// Settings of a node that bouncers can ask, in a folder; the sections are added.
fn settings(folder: &Path, sections: &str) -> String {
    fs::write(folder.join("policy.toml"), "[[apps]]\nname = \"shop\"\nupstream = \"http://127.0.0.1:1\"\n")
        .unwrap();
    let path = folder.join("phalanx.toml");
    let text = format!(
        "policy = \"policy.toml\"\n[node]\nstate = \"state\"\nworkers = 1\n[listen]\naddress = [\"127.0.0.1:0\"]\n\
         admin = \"127.0.0.1:0\"\n{sections}"
    );
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A node in a network namespace: a new one, or the one of a process.
fn node_in(namespace: Option<u32>, settings: &str) -> Node {
    let mut command = match namespace {
        None => {
            let mut command = Command::new("unshare");
            command.args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]);
            command
        }
        Some(pid) => within(pid),
    };
    command.arg(binary()).args(["run", "--json", "-c", settings]).stdin(Stdio::null());
    Node::start(command)
}

/// A command in the network namespace of a process.
fn within(pid: u32) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{pid}/ns/net"));
    command
}

/// Debian's crowdsec-firewall-bouncer, with nftables. It ends with the test.
struct Bouncer(Child);

impl Bouncer {
    fn start(namespace: u32, folder: &Path, url: &str, key: &str) -> Self {
        let folder_name = folder.display();
        let text = format!(
            "mode: nftables\npid_dir: {folder_name}/\nupdate_frequency: 1s\ndaemonize: false\nlog_mode: stdout\n\
             log_level: info\napi_url: {url}\napi_key: {key}\ninsecure_skip_verify: false\ndisable_ipv6: false\n\
             deny_action: DROP\ndeny_log: false\nsupported_decisions_types: [ban]\n\
             blacklists_ipv4: crowdsec-blacklists\nblacklists_ipv6: crowdsec6-blacklists\nnftables:\n  \
             ipv4: {{enabled: true, set-only: false, table: crowdsec, chain: crowdsec-chain}}\n  \
             ipv6: {{enabled: true, set-only: false, table: crowdsec6, chain: crowdsec6-chain}}\n\
             prometheus: {{enabled: false, listen_addr: 127.0.0.1, listen_port: 60601}}\n"
        );
        let path = folder.join("bouncer.yaml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let mut command = within(namespace);
        command.args(["crowdsec-firewall-bouncer", "-c"]).arg(path);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// The addresses in the firewall's set, as nft prints it.
    fn set(&self) -> String {
        let list = ["nft", "list", "set", "ip", "crowdsec", "crowdsec-blacklists"];
        let output = within(self.0.id()).args(list).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Debian's crowdsec with its local API alone, and state of its own. It ends with the test.
struct Lapi {
    child: Child,
    config: PathBuf,
    port: u16,
}

impl Lapi {
    /// With a certificate for `localhost` in `folder` it speaks TLS.
    fn start(folder: &Path, tls: bool) -> Self {
        let port = free_port();
        let name = folder.display();
        let scheme = if tls { "https" } else { "http" };
        let certificate = match tls {
            true => format!("    tls: {{cert_file: {name}/lapi.pem, key_file: {name}/lapi.key}}\n"),
            false => String::new(),
        };
        let config = folder.join("config.yaml");
        fs::create_dir_all(folder.join("hub")).unwrap();
        fs::write(folder.join("hub/.index.json"), "{}").unwrap();
        fs::write(folder.join("simulation.yaml"), "simulation: false\n").unwrap();
        let profile = "name: default\nfilters: [\"Alert.Remediation == true\"]\ndecisions: [{type: ban, duration: 4h}]\n";
        fs::write(folder.join("profiles.yaml"), profile).unwrap();
        fs::write(folder.join("credentials.yaml"), format!("url: {scheme}://localhost:{port}\n")).unwrap();
        let text = format!(
            "common: {{daemonize: false, log_media: stdout, log_level: info, working_dir: .}}\nconfig_paths:\n  \
             config_dir: {name}/\n  data_dir: {name}/\n  simulation_path: {name}/simulation.yaml\n  \
             hub_dir: {name}/hub/\n  index_path: {name}/hub/.index.json\n\
             db_config: {{type: sqlite, db_path: {name}/crowdsec.db, use_wal: true}}\napi:\n  \
             client: {{insecure_skip_verify: true, credentials_path: {name}/credentials.yaml}}\n  server:\n    \
             listen_uri: 127.0.0.1:{port}\n    profiles_path: {name}/profiles.yaml\n{certificate}\
             prometheus: {{enabled: false}}\n"
        );
        fs::write(&config, text).unwrap();
        let credentials = format!("{name}/credentials.yaml");
        let me = ["machines", "add", "test", "--password", "test-test", "--force", "-f", &credentials];
        cscli(&config, &me);
        // The file that this wrote names the address that it listens on, and the certificate another.
        let written = fs::read_to_string(folder.join("credentials.yaml")).unwrap();
        let url = format!("{scheme}://localhost:{port}");
        let lines = written.lines().map(|line| match line.starts_with("url:") {
            true => format!("url: {url}\n"),
            false => format!("{line}\n"),
        });
        fs::write(folder.join("credentials.yaml"), lines.collect::<String>()).unwrap();
        let mut command = Command::new("crowdsec");
        command.arg("-c").arg(&config).arg("-no-cs").stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let lapi = Self { child, config, port };
        until("crowdsec listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        lapi
    }

    /// A key for a bouncer, in a file.
    fn key_file(&self, folder: &Path) {
        let key = cscli(&self.config, &["bouncers", "add", "phalanx", "-o", "raw"]);
        let path = folder.join("crowdsec.key");
        fs::write(&path, key).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn decisions(&self, words: &[&str]) {
        cscli(&self.config, &[&["decisions"], words].concat());
    }
}

impl Drop for Lapi {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cscli(config: &Path, words: &[&str]) -> String {
    let output = Command::new("cscli").arg("-c").arg(config).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn run(settings: &str) -> Node {
    Node::start(phalanx(&["run", "--json", "-c", settings]))
}

fn status_of_import(node: &Node) -> Value {
    node.cli_json(&["status"])["imports"][0].clone()
}

fn ban(node: &Node, ip: &str, time: &str) -> String {
    let made = node.cli_json(&["decision", "add", "--ip", ip, "--for", time, "--reason", "test"]);
    made["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_firewall_enforces_what_the_fleet_decides_and_lets_go_when_it_is_undone() {
    let programs = ["crowdsec-firewall-bouncer", "nft", "ip", "unshare", "nsenter"];
    if !installed(&programs) || !may_filter() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), "[lapi]\nlisten = \"127.0.0.1:8901\"\n");
    let node = node_in(None, &settings);
    let key = node.cli_json(&["bouncer", "add", "fw-1"])["key"].as_str().unwrap().to_owned();
    let bouncer = Bouncer::start(node.pid(), folder.path(), "http://127.0.0.1:8901/", &key);
    until("the firewall has its set", || bouncer.set().contains("crowdsec-blacklists"));
    println!("before: {}", bouncer.set());
    assert!(!bouncer.set().contains("elements"));

    ban(&node, "192.0.2.7", "1h");
    let other = ban(&node, "198.51.100.9", "1h");
    until("both are refused", || {
        let set = bouncer.set();
        set.contains("192.0.2.7 timeout 59m") && set.contains("198.51.100.9")
    });
    println!("banned: {}", bouncer.set());
    let id = ban(&node, "192.0.2.7", "5h");
    until("the longer ban counts", || bouncer.set().contains("192.0.2.7 timeout 4h59m"));
    assert!(node.cli(&["decision", "delete", &id]).status.success());
    until("the one is let go", || !bouncer.set().contains("192.0.2.7"));
    println!("undone: {}", bouncer.set());
    assert!(bouncer.set().contains("198.51.100.9"));
    let listed = node.cli(&["bouncer", "list"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("fw-1") && listed.contains("crowdsec-firewall-bouncer"), "{listed}");

    // Undone while the bouncer does not ask, and the node starts again before it does.
    bouncer.signal("STOP");
    assert!(node.cli(&["decision", "delete", &other]).status.success());
    node.stop();
    let node = node_in(Some(bouncer.0.id()), &settings);
    bouncer.signal("CONT");
    until("the other is let go", || !bouncer.set().contains("198.51.100.9"));

    let allowed =
        ["decision", "add", "--ip", "203.0.113.9", "--kind", "allow", "--for", "1h", "--reason", "partner"];
    node.cli_json(&allowed);
    ban(&node, "203.0.113.9", "1h");
    ban(&node, "203.0.113.10", "1h");
    until("the neighbour is refused", || bouncer.set().contains("203.0.113.10"));
    assert!(!bouncer.set().contains("203.0.113.9 "), "{}", bouncer.set());
}

#[test]
fn what_crowdsec_decides_is_enforced_and_ends_with_it() {
    if !installed(&["crowdsec", "cscli"]) {
        return;
    }
    let (folder, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let lapi = Lapi::start(theirs.path(), false);
    lapi.key_file(folder.path());
    let import = format!(
        "[lapi]\nlisten = \"127.0.0.1:0\"\n[[import.crowdsec]]\nurl = \"http://127.0.0.1:{}/\"\n\
         api_key_file = \"crowdsec.key\"\nevery = \"1s\"\n",
        lapi.port
    );
    let settings = settings(folder.path(), &import);
    lapi.decisions(&["add", "--ip", "192.0.2.7", "--duration", "4h", "--reason", "before"]);
    let node = run(&settings);
    until("what was decided before is enforced", || node.banned() == ["192.0.2.7"]);
    lapi.decisions(&["add", "--ip", "198.51.100.9", "--duration", "720h", "--reason", "month"]);
    lapi.decisions(&["add", "--range", "203.0.113.0/24", "--duration", "4h"]);
    until("what is new is enforced", || node.banned().len() == 2);
    let list = node.cli_json(&["decision", "list"]);
    let month = list.as_array().unwrap().iter().find(|d| d["actor"]["value"] == "198.51.100.9").unwrap();
    let reason = month["reason"].as_str().unwrap();
    assert!(reason.starts_with("crowdsec:cscli/month via 127.0.0.1:"), "{reason}");
    until("the range is told of", || {
        status_of_import(&node)["skipped"]
            .as_str()
            .is_some_and(|s| s.contains("1 not about single addresses"))
    });
    lapi.decisions(&["delete", "--ip", "192.0.2.7"]);
    until("what is deleted is let go", || node.banned() == ["198.51.100.9"]);

    // Without the source everything stays; it says so, and catches up when the source is back.
    let (config, port) = (lapi.config.clone(), lapi.port);
    drop(lapi);
    until("the fault is told", || status_of_import(&node)["fault"].is_string());
    assert_eq!(node.banned(), ["198.51.100.9"]);
    let degraded = node.cli_json(&["status"])["fleet"]["degraded"].to_string();
    assert!(degraded.contains("cannot be read") && degraded.contains("stay until their end"), "{degraded}");
    let mut command = Command::new("crowdsec");
    command.arg("-c").arg(&config).arg("-no-cs").stdin(Stdio::null());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let lapi = Lapi { child, config, port };
    until("crowdsec listens again", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    lapi.decisions(&["add", "--ip", "192.0.2.8", "--duration", "4h"]);
    until("it is read again", || node.banned().len() == 2);

    // Deleted while the node is away.
    node.stop();
    lapi.decisions(&["delete", "--ip", "192.0.2.8"]);
    let node = run(&settings);
    until("the restarted node has compared", || node.banned() == ["198.51.100.9"]);
}

#[test]
fn the_certificate_of_a_source_is_checked() {
    if !installed(&["crowdsec", "cscli", "openssl"]) {
        return;
    }
    let (folder, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "lapi.key", "-out", "lapi.pem"])
        .current_dir(theirs.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let lapi = Lapi::start(theirs.path(), true);
    lapi.key_file(folder.path());
    lapi.decisions(&["add", "--ip", "192.0.2.7", "--duration", "4h"]);
    let import = |ca: &str| {
        format!(
            "[[import.crowdsec]]\nurl = \"https://localhost:{}/\"\napi_key_file = \"crowdsec.key\"\nevery = \"1s\"\n{ca}",
            lapi.port
        )
    };
    let node = run(&settings(folder.path(), &import("")));
    until("a stranger's certificate is refused", || {
        status_of_import(&node)["fault"].as_str().is_some_and(|fault| fault.starts_with("TLS: "))
    });
    assert!(node.banned().is_empty());
    node.stop();
    let ca = format!("ca_file = \"{}/lapi.pem\"\n", theirs.path().display());
    let node = run(&settings(folder.path(), &import(&ca)));
    until("a known one is taken", || node.banned() == ["192.0.2.7"]);
}
