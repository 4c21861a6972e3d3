//! HAProxy and nginx with PROXY headers: before a node, which they tell whose connections they pass on, and behind it, where they are told.

use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::origins::certificate;
use crate::support::*;

/// A node whose only listener takes connections of balancers on this machine.
fn node(folder: &Path, app: &App) -> Node {
    let policy = format!("[[apps]]\nname = \"shop\"\nupstream = \"{}\"\nmode = \"off\"\n", app.url);
    std::fs::write(folder.join("policy.toml"), policy).unwrap();
    let settings = "policy = \"policy.toml\"\n[node]\nstate = \"state\"\nworkers = 1\n[listen]\n\
                    admin = \"127.0.0.1:0\"\n[[listen.http]]\naddress = \"127.0.0.1:0\"\n\
                    proxy_protocol = [\"127.0.0.0/8\"]\n";
    let file = folder.join("phalanx.toml");
    std::fs::write(&file, settings).unwrap();
    Node::start(phalanx(&["run", "--json", "-c", file.to_str().unwrap()]))
}

/// What the access log says of the last request for a path: client, peer and balancer.
fn last(node: &Node, path: &str) -> Option<[String; 3]> {
    let log = std::fs::read_to_string(node.state.join("record/access.log")).ok()?;
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let line = lines.rfind(|line| line["target"] == path)?;
    Some(["client", "peer", "balancer"].map(|key| line[key].as_str().unwrap_or_default().to_owned()))
}

/// Asks through a balancer from an address of its own, until the balancer is there; what the node has recorded of it.
fn through(node: &Node, port: u16, from: &str, path: &str) -> (u16, [String; 3]) {
    let url = format!("http://127.0.0.1:{port}{path}");
    let mut status = 0;
    until(&format!("{path} is answered"), || {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--interface", from, &url]);
        let said = curl.output().unwrap();
        status = String::from_utf8_lossy(&said.stdout).parse().unwrap_or(0);
        status == 200 || status == 403
    });
    let mut seen = None;
    until(&format!("{path} is recorded"), || {
        seen = last(node, path);
        seen.is_some()
    });
    (status, seen.unwrap())
}

#[test]
fn haproxy_names_clients_in_both_versions_and_its_checks_are_served() {
    if absent("haproxy") || absent("curl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let app = App::start();
    let node = node(folder.path(), &app);
    let (text, binary) = (free_port(), free_port());
    let config = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 10s\n timeout server 10s\n\
         listen text\n bind 127.0.0.1:{text}\n server node {node} send-proxy\n\
         listen binary\n bind 127.0.0.1:{binary}\n option httpchk GET /check\n\
         server node {node} send-proxy-v2 proxy-v2-options crc32c,unique-id check check-send-proxy inter 100ms\n",
        node = node.listen
    );
    let file = folder.path().join("haproxy.cfg");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(&file);
    let _haproxy = start(command);
    for (port, path) in [(text, "/text"), (binary, "/binary")] {
        let (status, seen) = through(&node, port, "127.9.9.9", path);
        assert_eq!((status, seen), (200, ["127.9.9.9", "127.9.9.9", "127.0.0.1"].map(str::to_owned)));
    }
    // HAProxy's own checks say that they are its own.
    until("a check is recorded", || last(&node, "/check").is_some());
    let seen = last(&node, "/check").unwrap();
    assert_eq!(seen, ["127.0.0.1", "127.0.0.1", "127.0.0.1"].map(str::to_owned));
    // Without a header nobody is served.
    assert!(no_answer(node.listen));
}

#[test]
fn nginx_names_clients() {
    let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
    if absent("nginx") || absent("curl") {
        return;
    }
    if !module.exists() {
        assert!(std::env::var("CI").is_err(), "CI has no libnginx-mod-stream");
        return eprintln!("skipped: libnginx-mod-stream not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let app = App::start();
    let node = node(folder.path(), &app);
    let port = free_port();
    let config = format!(
        "load_module {module};\ndaemon off;\nmaster_process off;\npid nginx.pid;\nerror_log error.log;\nevents {{ }}\nstream {{\n\
         server {{ listen 127.0.0.1:{port}; proxy_pass {node}; proxy_protocol on; }}\n}}\n",
        module = module.display(),
        node = node.listen
    );
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder.path()).arg("-c").arg(&file);
    let _nginx = start(command);
    let (status, seen) = through(&node, port, "127.9.9.8", "/text");
    assert_eq!((status, seen), (200, ["127.9.9.8", "127.9.9.8", "127.0.0.1"].map(str::to_owned)));
}

/// Whether a request without a header is closed without a byte.
fn no_answer(to: SocketAddr) -> bool {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer.is_empty()
}

/// A server that demands PROXY headers, on both families, and what it answers to any request: the four parts of the header as it understood
/// them.
fn told(program: &str, folder: &Path) -> (Running, u16, u16) {
    let (plain, tls) = (free_port(), free_port());
    let (config, args) = match program {
        "nginx" => {
            let ends = "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port";
            let listen = |port: u16, more: &str| {
                format!(
                    "listen 127.0.0.1:{port} {more}proxy_protocol; listen [::1]:{port} {more}proxy_protocol; "
                )
            };
            let config = format!(
                "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log error.log;\nevents {{ }}\nhttp {{ access_log off; server {{ {}{}\n\
                 ssl_certificate origin.pem; ssl_certificate_key origin.key; location / {{ return 200 \"{ends}\"; }} }} }}\n",
                listen(plain, ""),
                listen(tls, "ssl "),
            );
            (config, vec!["-p", ".", "-e", "error.log", "-c"])
        }
        _ => {
            std::fs::write(
                folder.join("both.pem"),
                ["origin.pem", "origin.key"]
                    .map(|file| std::fs::read_to_string(folder.join(file)).unwrap())
                    .concat(),
            )
            .unwrap();
            let bind = |port: u16, more: &str| {
                format!(" bind 127.0.0.1:{port} accept-proxy{more}\n bind [::1]:{port} accept-proxy{more}\n")
            };
            let config = format!(
                "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\nfrontend told\n{}{}\
                 http-request return status 200 content-type text/plain lf-string \"%[src] %[src_port] %[dst] %[dst_port]\"\n",
                bind(plain, ""),
                bind(tls, " ssl crt both.pem"),
            );
            (config, vec!["-db", "-f"])
        }
    };
    std::fs::write(folder.join("config"), config).unwrap();
    let mut command = Command::new(program);
    command.current_dir(folder).args(args).arg(folder.join("config"));
    let running = start(command);
    until(&format!("{program} listens"), || {
        [plain, tls].iter().all(|port| TcpStream::connect(("::1", *port)).is_ok())
    });
    (running, plain, tls)
}

/// A node with an app for each version and way to an upstream that is told; for those of TCP a listener each, on both families.
fn teller(folder: &Path, plain: u16, tls: u16) -> (Node, SocketAddr) {
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, free_port()));
    let mut policy = String::new();
    let mut settings = format!(
        "policy = \"policy.toml\"\n[node]\nstate = \"state\"\nworkers = 1\n[listen]\naddress = [\"127.0.0.1:0\", \"{six}\"]\n\
         admin = \"127.0.0.1:0\"\n"
    );
    for version in ["v1", "v2"] {
        let ways = [
            ("four", format!("http://127.0.0.1:{plain}"), ""),
            ("six", format!("http://[::1]:{plain}"), ""),
            (
                "tls",
                format!("https://127.0.0.1:{tls}"),
                "[apps.upstream_tls]\nca_file = \"ca.pem\"\nserver_name = \"origin.test\"\n",
            ),
        ];
        for (way, upstream, more) in ways {
            policy += &format!(
                "[[apps]]\nname = \"{way}-{version}\"\nhosts = [\"{way}.{version}.test\"]\nupstream = \"{upstream}\"\n\
                 proxy_protocol = \"{version}\"\nmode = \"off\"\ntrust_forwarded = [\"127.0.0.2\"]\n{more}"
            );
        }
        policy += &format!(
            "[[apps]]\nname = \"tcp-{version}\"\ntcp = true\nupstream = \"tcp://[::1]:{plain}\"\nproxy_protocol = \"{version}\"\n"
        );
        for ip in ["127.0.0.1", "[::1]"] {
            settings += &format!("[[listen.tcp]]\naddress = \"{ip}:0\"\napp = \"tcp-{version}\"\n");
        }
    }
    std::fs::write(folder.join("policy.toml"), policy).unwrap();
    let file = folder.join("phalanx.toml");
    std::fs::write(&file, settings).unwrap();
    (Node::start(phalanx(&["run", "--json", "-c", file.to_str().unwrap()])), six)
}

/// What an upstream was told of a client's connection, and what is true of it.
fn heard(at: SocketAddr, host: &str, more: &[&str]) -> (String, String) {
    let mut curl = Command::new("curl");
    curl.args(["-sg", "-m", "20", "-w", "|%{local_ip} %{local_port} %{remote_ip} %{remote_port}", "-H"]);
    curl.arg(format!("Host: {host}")).args(more).arg(format!("http://{at}/"));
    let said = String::from_utf8(curl.output().unwrap().stdout).unwrap();
    let (told, truth) = said.split_once('|').unwrap();
    (told.trim().to_owned(), truth.to_owned())
}

fn upstreams_are_told(program: &str) {
    if absent(program) || absent("curl") || absent("openssl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let (_server, plain, tls) = told(program, folder.path());
    let (node, six) = teller(folder.path(), plain, tls);
    for (version, tcp) in ["v1", "v2"].into_iter().zip(node.tcp_listen.chunks(2)) {
        for way in ["four", "six", "tls"] {
            let host = format!("{way}.{version}.test");
            // By IPv4 and by IPv6; what is told is of the client's side, whatever the upstream's is.
            for at in [node.listen, six] {
                let (told, truth) = heard(at, &host, &[]);
                assert_eq!(told, truth, "{program} {host} {at}");
            }
            // Whom a forwarder names, without a port, which both write as nothing; with a client of another family both ends are of IPv6.
            for (client, as_told) in
                [("192.0.2.7", "192.0.2.7  127.0.0.1"), ("2001:db8::7", "2001:db8::7  ::ffff:127.0.0.1")]
            {
                let field = format!("X-Forwarded-For: {client}");
                let (told, _) = heard(node.listen, &host, &["--interface", "127.0.0.2", "-H", &field]);
                assert_eq!(told, format!("{as_told} {}", node.listen.port()), "{program} {host} {client}");
            }
        }
        for at in tcp {
            let (told, truth) = heard(*at, "any.test", &[]);
            assert_eq!(told, truth, "{program} tcp {version} {at}");
        }
    }
}

#[test]
fn nginx_as_upstream_is_told_of_clients_in_both_versions() {
    upstreams_are_told("nginx");
}

#[test]
fn haproxy_as_upstream_is_told_of_clients_in_both_versions() {
    upstreams_are_told("haproxy");
}
