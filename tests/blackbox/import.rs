//! Configurations of other proxies: what is made of them does what they did.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::*;

/// A running proxy; it is stopped when dropped.
struct Proxy(Child);

impl Proxy {
    fn nginx(folder: &Path, listen: SocketAddr) -> Self {
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
        Self::start(command, listen)
    }

    fn haproxy(folder: &Path, listen: SocketAddr) -> Self {
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(folder.join("haproxy.cfg"));
        Self::start(command, listen)
    }

    fn start(mut command: Command, listen: SocketAddr) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("the proxy listens", || std::net::TcpStream::connect(listen).is_ok());
        Self(child)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its workers end with it only if it is asked.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// What a client and an upstream see of a request.
#[derive(Debug, PartialEq)]
struct Seen {
    status: u16,
    location: Option<String>,
    /// Which app was asked, its request line and its `Host`.
    upstream: Option<(usize, String, String)>,
}

fn seen(listen: SocketAddr, apps: &[App], host: &str, path: &str) -> Seen {
    let before: Vec<usize> = apps.iter().map(App::count).collect();
    let reply =
        raw(listen, format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes());
    let asked = apps.iter().zip(before).position(|(app, before)| app.count() > before);
    let text = reply.text();
    let upstream = asked.map(|app| {
        // nginx asks in HTTP/1.0 unless it is told otherwise.
        let line =
            text.lines().next().unwrap_or_default().split(" HTTP/").next().unwrap_or_default().to_owned();
        let host =
            text.lines().find_map(|line| line.strip_prefix("Host: ").or_else(|| line.strip_prefix("host: ")));
        // `$host` is in lower case; hosts are compared without it.
        (app, line, host.unwrap_or_default().to_ascii_lowercase())
    });
    // nginx names itself where policy's redirect is relative.
    let own = format!("http://{host}");
    let location = reply
        .fields
        .get("location")
        .map(|to| to.replace(&format!(":{}", listen.port()), "").replace(&own, ""));
    Seen { status: reply.status, location, upstream }
}

/// A free port, for two programs after each other.
fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// Makes a node of a configuration in `folder`, with state and admin listener of its own.
fn imported(folder: &Path, kind: &str, file: &str) -> Node {
    let out = folder.join("phalanx");
    let mut command = phalanx(&["import", kind, "--out"]);
    command.arg(&out).arg(folder.join(file));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let settings = std::fs::read_to_string(out.join("phalanx.toml")).unwrap();
    let settings =
        settings.replace("[listen]\n", "[node]\nstate = \"state\"\n[listen]\nadmin = \"127.0.0.1:0\"\n");
    std::fs::write(out.join("phalanx.toml"), settings).unwrap();
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(out.join("phalanx.toml"));
    Node::start(command)
}

#[test]
fn a_node_made_of_nginxs_configuration_does_what_nginx_did() {
    if Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_err() {
        eprintln!("skipped: nginx is not installed");
        return;
    }
    compare("nginx", include_str!("import-nginx.conf"), ("nginx.conf", Proxy::nginx), REQUESTS);
}

#[test]
fn a_node_made_of_haproxys_configuration_does_what_haproxy_did() {
    if Command::new("haproxy").arg("-v").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: haproxy is not installed");
        return;
    }
    compare("haproxy", include_str!("import-haproxy.cfg"), ("haproxy.cfg", Proxy::haproxy), HAPROXY_REQUESTS);
}

/// Asks another proxy, then a node that was made of its configuration: status, upstream, path and `Host` are the same.
fn compare(
    kind: &str,
    config: &str,
    (file, start): (&str, fn(&Path, SocketAddr) -> Proxy),
    requests: &[(&str, &str)],
) {
    let (folder, listen) = (tempfile::tempdir().unwrap(), free());
    let apps = [App::start(), App::start()];
    let address = |app: usize| apps[app].url.trim_start_matches("http://").to_owned();
    let config =
        config.replace("LISTEN", &listen.to_string()).replace("FOLDER", &folder.path().display().to_string());
    let config = config.replace("APP0", &address(0)).replace("APP1", &address(1));
    std::fs::write(folder.path().join(file), config).unwrap();
    let ask =
        || -> Vec<Seen> { requests.iter().map(|(host, path)| seen(listen, &apps, host, path)).collect() };
    let other = start(folder.path(), listen);
    let of_other = ask();
    drop(other);
    let node = imported(folder.path(), kind, file);
    assert_eq!(node.listen, listen);
    for ((request, other), ours) in requests.iter().zip(&of_other).zip(ask()) {
        assert_eq!(&ours, other, "{request:?}");
    }
    assert!(of_other.iter().any(|seen| matches!(&seen.upstream, Some((1, _, _)))));
}

/// Hosts and targets that both are asked for.
const REQUESTS: &[(&str, &str)] = &[
    ("shop.example", "/"),
    ("SHOP.example", "/a/b?c=d&e=%20"),
    ("www.shop.example", "/"),
    ("wiki.example", "/page"),
    ("paths.example", "/"),
    ("paths.example", "/exact"),
    ("paths.example", "/exact/x"),
    ("paths.example", "/api/a/b?c=d"),
    ("paths.example", "/api/"),
    ("paths.example", "/v1/x?y"),
    ("paths.example", "/gone/x"),
    ("paths.example", "/ok"),
    ("paths.example", "/old?x=1"),
    ("paths.example", "/a/index.php"),
    ("paths.example", "/named/x"),
    ("paths.example", "/blog/a?b=1"),
    ("moved.example", "/a?b"),
    ("a.any.example", "/"),
    ("b.a.any.example", "/"),
    ("order.example", "/a.php"),
    ("order.example", "/b.php"),
    ("order.example", "/api/b.php"),
    ("order.example", "/api/b"),
    ("order.example", "/static/b.php"),
    ("order.example", "/static/b.png"),
    ("order.example", "/x/B.PNG"),
    ("order.example", "/api/a.jpeg"),
    ("order.example", "/user/12"),
    ("order.example", "/user/12/x"),
    ("order.example", "/user/12x"),
    ("order.example", "/b.php?x=/y"),
    ("access.example", "/"),
    ("access.example", "/admin/x"),
    ("access.example", "/inner/x"),
    ("access.example", "/nobody/x"),
    ("access.example", "/told/x"),
    ("mapped.example", "/a"),
    ("b.mapped.example", "/a?b"),
    ("x.c.mapped.example", "/a"),
    ("mapped.example", "/wiki/a"),
    ("b.mapped.example", "/ws"),
];

/// The same for HAProxy.
const HAPROXY_REQUESTS: &[(&str, &str)] = &[
    ("shop.example", "/"),
    ("SHOP.example", "/a/b?c=d&e=%20"),
    ("www.shop.example", "/x"),
    ("shop.example", "/api"),
    ("shop.example", "/api/x?y"),
    ("shop.example", "/api/x.php"),
    ("shop.example", "/x.php"),
    ("shop.example", "/a/x.cgi"),
    ("shop.example", "/old"),
    ("shop.example", "/old/x?y=1"),
    ("shop.example", "/teapot"),
    ("shop.example", "/hidden/x"),
    ("shop.example", "/x/hidden/y"),
    ("shop.example", "/nothidden"),
    ("shop.example", "/user/12"),
    ("shop.example", "/user/12/y"),
    ("shop.example", "/user/x"),
    ("shop.example", "/USER/7"),
    ("shop.example", "/v1/x.php"),
    ("shop.example", "/v1/x"),
    ("shop.example", "/v10/x"),
    ("shop.example", "/a/secret-b"),
    ("wiki.example", "/"),
    ("wiki.example", "/api"),
    ("wiki.example", "/page?x"),
    ("wiki.example", "/x.php"),
    ("a.any.example", "/"),
    ("b.a.any.example", "/q"),
    ("moved.example", "/a?b"),
    ("moved.example", "/"),
    ("unknown.example", "/"),
    ("unknown.example", "/api/x"),
    ("unknown.example", "/x.php"),
    ("unknown.example", "/user/3"),
    ("prefix.example", "/a?b=c"),
    ("prefix.example", "/"),
    ("closed.example", "/"),
    ("closed.example", "/x"),
    ("shop.example", "/exact"),
    ("shop.example", "/exact/x"),
];

#[test]
fn what_is_not_carried_is_listed_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("haproxy.cfg");
    std::fs::write(
        &file,
        "defaults\n  mode http\nfrontend f\n  bind 127.0.0.1:8080\n  acl odd src 10.0.0.0/8\n  use_backend b if odd\n  \
         default_backend b\nbackend b\n  server s 127.0.0.1:3000\n",
    )
    .unwrap();
    let output = phalanx(&["import", "haproxy"]).arg(&file).output().unwrap();
    assert!(output.status.success());
    let (told, listed) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(told.contains("upstream = \"http://127.0.0.1:3000\""), "{told}");
    assert!(
        listed.contains("haproxy.cfg:6: the condition of `use_backend b if odd` is not carried"),
        "{listed}"
    );
    let output = phalanx(&["import", "haproxy", "--json"]).arg(&file).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["not_carried"][0]["line"], &told["faults"]), (&6.into(), &serde_json::json!([])));
    let gone = phalanx(&["import", "nginx", "/nowhere/nginx.conf"]).output().unwrap();
    assert!(!gone.status.success() && String::from_utf8_lossy(&gone.stderr).contains("/nowhere/nginx.conf"));
}

#[test]
fn connections_that_haproxy_carries_as_they_are_are_carried_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("haproxy.cfg");
    let config = "defaults\n  timeout client 30s\n  timeout connect 5s\nlisten db\n  mode tcp\n  bind 127.0.0.1:5432\n  balance leastconn\n  \
        server one 127.0.0.1:6001 check weight 3\n  server two 127.0.0.1:6002 check backup\nfrontend mail\n  mode tcp\n  bind 127.0.0.1:2500\n  \
        bind 127.0.0.1:4650 ssl crt x.pem\n  default_backend m\nbackend m\n  mode tcp\n  timeout tunnel 1h\n  server s 127.0.0.1:2525 send-proxy-v2\n";
    std::fs::write(&file, config).unwrap();
    let out = folder.path().join("out");
    let output = phalanx(&["import", "haproxy"]).arg(&file).arg("--out").arg(&out).output().unwrap();
    let listed = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && listed.contains("haproxy.cfg:13: `bind 127.0.0.1:4650 ssl"),
        "{listed}"
    );
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let (settings, policy) = (read("phalanx.toml"), read("policy.toml"));
    for part in
        ["address = \"127.0.0.1:5432\"\napp = \"db\"\nidle = \"30s\"", "app = \"mail\"\nidle = \"1h\""]
    {
        assert!(settings.contains(part), "{settings}");
    }
    for part in [
        "tcp = true\nbalance = \"least_requests\"",
        "url = \"tcp://127.0.0.1:6001\"\nweight = 3",
        "proxy_protocol = \"v2\"\ntcp = true",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    let checked = phalanx(&["check", "-c"]).arg(out.join("phalanx.toml")).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
