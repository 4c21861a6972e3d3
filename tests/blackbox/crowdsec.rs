//! CrowdSec's own programs, as Debian ships them: its firewall bouncer enforces what the fleet decides.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

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
