//! Beside proxies of others: what a node says when Envoy, nginx, Traefik or Caddy asks it is what it says itself. They are configured
//! with what the guide says.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::beside_cases::{self, ALLOWED, BANNED, CASES, Case, NAMED};
use crate::support::*;

const GUIDE: &str = include_str!("../../docs/guide/beside.md");

/// A way for a request to come to the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Inline,
    Envoy,
    Traefik,
    Nginx,
    Caddy,
}

const WAYS: [Way; 5] = [Way::Inline, Way::Envoy, Way::Traefik, Way::Nginx, Way::Caddy];

impl Way {
    /// Whether the node gets to see bodies.
    fn shows_bodies(self) -> bool {
        matches!(self, Self::Inline | Self::Envoy | Self::Traefik)
    }

    /// Whether it describes requests in fields that a client may send too.
    fn writes_over(self) -> bool {
        matches!(self, Self::Traefik | Self::Nginx | Self::Caddy)
    }

    /// What a client gets when the node is gone.
    fn without_node(self) -> u16 {
        match self {
            Self::Inline => 0,
            Self::Envoy => 503,
            Self::Caddy => 502,
            Self::Traefik | Self::Nginx => 500,
        }
    }
}

/// A program that ends with the test.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The node, the four proxies that ask it, and where clients of each connect.
struct World {
    node: Node,
    app: App,
    ports: [u16; 5],
    _proxies: Vec<Proxy>,
    _folder: TempDir,
}

fn installed() -> bool {
    for program in ["envoy", "nginx", "traefik", "caddy"] {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
        if !found.status.success() {
            assert!(std::env::var_os("CI").is_none(), "CI has no {program}");
            eprintln!("skipped: {program} is not installed");
            return false;
        }
    }
    true
}

/// The code block of the guide that begins so.
fn snippet(language: &str, begin: &str) -> &'static str {
    let open = format!("```{language}\n{begin}");
    let from = GUIDE.find(&open).unwrap_or_else(|| panic!("the guide has no {open}"));
    let rest = &GUIDE[from + 4 + language.len()..];
    &rest[..rest.find("```").unwrap()]
}

impl World {
    fn start() -> Option<Self> {
        if !installed() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let (app, path) = (App::start(), folder.path());
        let node = node(path, &app);
        let app_port = app.url.rsplit_once(':').unwrap().1.to_owned();
        let ports = [node.listen.port(), free_port(), free_port(), free_port(), free_port()];
        let [_, envoy, traefik, nginx, caddy] = ports;
        let [forward_auth, for_nginx, ext_authz] = node.check_listen[..] else { panic!("three listeners") };
        let configure = |snippet: &str, listen: u16, asks: SocketAddr| {
            snippet
                .replace("8080", &listen.to_string())
                .replace("127.0.0.1:8085", &asks.to_string())
                .replace("port_value: 9001", &format!("port_value: {}", asks.port()))
                .replace("127.0.0.1:3000", &format!("127.0.0.1:{app_port}"))
                .replace("port_value: 3000", &format!("port_value: {app_port}"))
        };
        let write = |name: &str, text: &str| std::fs::write(path.join(name), text).unwrap();
        write(
            "envoy.yaml",
            &configure(snippet("yaml", "# static configuration for Envoy"), envoy, ext_authz),
        );
        let dynamic = snippet("yaml", "# dynamic configuration for Traefik");
        write("dynamic.yml", &configure(dynamic, traefik, forward_auth));
        write("traefik.yml", &traefik_static(path, traefik));
        let block = configure(snippet("nginx", "upstream"), nginx, for_nginx);
        write("nginx.conf", &nginx_main(path, &block));
        let block = configure(snippet("caddyfile", "http://shop.example"), caddy, forward_auth);
        let block = block.replace("http://shop.example", "http://");
        write("Caddyfile", &format!("{{\n\tadmin off\n\tauto_https off\n}}\n{block}"));
        let run = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args).current_dir(path).env("HOME", path).stdin(Stdio::null());
            Proxy(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        };
        let nginx_conf = path.join("nginx.conf").display().to_string();
        let envoy = ["-c", "envoy.yaml", "--use-dynamic-base-id", "--concurrency", "1", "-l", "error"];
        let proxies = vec![
            run("envoy", &envoy),
            run("traefik", &["--configFile", "traefik.yml"]),
            run("nginx", &["-c", &nginx_conf]),
            run("caddy", &["run", "--config", "Caddyfile"]),
        ];
        let world = Self { node, app, ports, _proxies: proxies, _folder: folder };
        for way in WAYS {
            let up = || world.connects(way) && world.get(way, "127.99.0.1", "/").status == 200;
            until(&format!("{way:?} serves"), up);
        }
        Some(world)
    }

    fn address(&self, way: Way) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.ports[way as usize])
    }

    fn connects(&self, way: Way) -> bool {
        TcpStream::connect(self.address(way)).is_ok()
    }

    fn get(&self, way: Way, from: &str, target: &str) -> Answer {
        let raw = format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n");
        ask(self.address(way), from.parse().unwrap(), raw.as_bytes())
    }
}

/// A node that serves clients itself and answers proxies.
fn node(folder: &Path, app: &App) -> Node {
    let policy = format!(
        "allow = [\"{ALLOWED}\"]\noperator_networks = [\"192.0.2.0/24\"]\n[[apps]]\nname = \"shop\"\nupstream = \"{url}\"\n\
         [[apps.rate_limits]]\nname = \"few\"\nkey = \"ip\"\nrate = \"2/h\"\nburst = 2\nheaders = true\npaths = [\"/limited\"]\n\
         [[apps]]\nname = \"observed\"\nhosts = [\"observed.test\"]\nmode = \"observe\"\nupstream = \"{url}\"\n",
        url = app.url
    );
    std::fs::write(folder.join("policy.toml"), policy).unwrap();
    let check = |kind: &str, more: &str| {
        format!(
            "[[listen.check]]\nkind = \"{kind}\"\naddress = \"127.0.0.1:0\"\nfrom = [\"127.0.0.1\"]\n{more}"
        )
    };
    let settings = format!(
        "policy = \"policy.toml\"\n[node]\nstate = \"state\"\nworkers = 2\n[listen]\naddress = [\"127.0.0.1:0\"]\n\
         admin = \"127.0.0.1:0\"\n{}{}{}",
        check("forward-auth", ""),
        check("forward-auth", "refuse_with = 403\n"),
        check("ext-authz", "")
    );
    std::fs::write(folder.join("phalanx.toml"), settings).unwrap();
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(folder.join("phalanx.toml"));
    Node::start(command)
}

fn traefik_static(folder: &Path, listen: u16) -> String {
    let folder = folder.display();
    format!(
        "entryPoints: {{web: {{address: \"127.0.0.1:{listen}\"}}}}\n\
         providers: {{file: {{filename: \"{folder}/dynamic.yml\"}}}}\n\
         global: {{checkNewVersion: false, sendAnonymousUsage: false}}\n"
    )
}

fn nginx_main(folder: &Path, block: &str) -> String {
    let folder = folder.display();
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};"))
        .join(" ");
    format!(
        "daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n\
         events {{}}\nhttp {{\naccess_log off; {paths}\n{block}}}\n"
    )
}

/// What a client got.
#[derive(Debug)]
struct Answer {
    status: u16,
    /// The head, in lower case.
    head: String,
    body: String,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// Whether the node's word is behind it.
    fn is_by_node(&self) -> bool {
        self.field("x-request-id").is_some_and(|id| id.len() == 26)
    }
}

/// Sends a request from an address and reads what comes back, up to its end.
fn ask(to: SocketAddr, from: IpAddr, raw: &[u8]) -> Answer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    if socket.connect(&to.into()).is_err() {
        return Answer { status: 0, head: String::new(), body: String::new() };
    }
    let mut stream = TcpStream::from(socket);
    // Whoever refuses a body need not read it.
    let _ = stream.write_all(raw);
    let mut read = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let end = read.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let head = String::from_utf8_lossy(&read[..end.unwrap_or(0)]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let answer = Answer { status, head, body: String::new() };
        let length = answer.field("content-length").and_then(|length| length.parse::<usize>().ok());
        let from = end.map_or(read.len(), |end| end + 4);
        let whole =
            end.is_some() && (raw.starts_with(b"HEAD") || length.is_some_and(|l| read.len() >= from + l));
        let more = if whole { 0 } else { stream.read(&mut piece).unwrap_or(0) };
        if more == 0 {
            return Answer { body: String::from_utf8_lossy(&read[from..]).into_owned(), ..answer };
        }
        read.extend_from_slice(&piece[..more]);
    }
}

/// The answers to all cases on one way, in order.
fn answers(world: &World, cases: &[Case], way: Way) -> Vec<Answer> {
    let ask =
        |(place, case): (usize, &Case)| ask(world.address(way), case.address(place, way as u8), &case.raw);
    cases.iter().enumerate().map(ask).collect()
}

/// Where the ways differ from the node's own word.
#[derive(Debug, Default)]
struct Found {
    /// Refused, and passed where the proxy does not show bodies.
    unseen: usize,
    /// Refused for a field that neither the node nor the app gets by way of the proxy.
    written_over: usize,
    /// Refused by the proxy before it asked.
    by_proxy: usize,
    /// Anything else.
    wrong: Vec<String>,
}

fn compare(cases: &[Case], all: &[Vec<Answer>]) -> Found {
    let mut found = Found::default();
    for (place, case) in cases.iter().enumerate() {
        let inline = &all[0][place];
        if case.status.is_some_and(|status| status != inline.status) {
            found.wrong.push(format!("{}: the node itself says {}", case.name, inline.status));
        }
        for way in WAYS {
            let answer = &all[way as usize][place];
            let passed = answer.status == 200 && inline.status >= 400;
            match (answer.status == inline.status, inline.status >= 400 && answer.status >= 400) {
                // A refusal is nothing that the proxy made up.
                (true, _) if answer.is_by_node() || answer.status < 400 => {}
                (_, true) if !answer.is_by_node() => found.by_proxy += 1,
                _ if passed && case.by_body && !way.shows_bodies() => found.unseen += 1,
                _ if passed && case.is_written_over() && way.writes_over() => found.written_over += 1,
                _ => {
                    let told = format!("{way:?} says {}, not {}", answer.status, inline.status);
                    found.wrong.push(format!("{}: {told}", case.name));
                }
            }
        }
    }
    found
}

#[test]
fn proxies_that_ask_refuse_what_a_node_refuses_itself() {
    let Some(world) = World::start() else { return };
    for ip in [BANNED, NAMED] {
        let added =
            world.node.cli(&["decision", "add", "--ip", &ip.to_string(), "--for", "1h", "--reason", "test"]);
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    }
    let banned = || world.get(Way::Inline, &BANNED.to_string(), "/").status == 403;
    until("bans are in force", banned);
    let cases = beside_cases::all();
    assert!(std::env::var_os("PHALANX_SHARED").is_none() || cases.len() == CASES, "{}", cases.len());
    let all: Vec<Vec<Answer>> = std::thread::scope(|scope| {
        let (world, cases) = (&world, cases.as_slice());
        let ways = WAYS.map(|way| scope.spawn(move || answers(world, cases, way)));
        ways.map(|way| way.join().unwrap()).into()
    });
    let found = compare(&cases, &all);
    let (wrong, asked) = (&found.wrong, cases.len() * WAYS.len());
    assert!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
    println!("{} cases: {found:?}", cases.len());
    assert!(found.unseen >= 8, "attacks in bodies that nginx and Caddy cannot show");
    assert!(found.written_over <= 12, "attacks in fields that proxies write over");
    assert!(found.by_proxy <= cases.len() / 10, "what proxies refuse by themselves");
    claims_end_at_the_proxy(&world);
    replies_are_the_nodes_own(&world);
    strikes_count(&world);
    events_name_the_proxy(&world);
    proxies_fail_closed(world);
}

/// What a client writes where the proxy describes requests is neither believed nor handed on uninspected.
fn claims_end_at_the_proxy(world: &World) {
    for way in WAYS.into_iter().filter(|way| way.writes_over()) {
        let raw = "GET /a HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\nX-Forwarded-Method: CLAIMED\r\n\
             X-Forwarded-Uri: /claimed\r\nX-Forwarded-Host: claimed.test\r\nX-Forwarded-Proto: claimed\r\n\
             X-Forwarded-For: 127.77.0.3\r\n\r\n";
        let answer = ask(world.address(way), Ipv4Addr::new(127, 6, 0, 1).into(), raw.as_bytes());
        let arrived = answer.body.to_ascii_lowercase();
        assert!(answer.status == 200 && !arrived.contains("claimed"), "{way:?}: {answer:?}");
    }
}

fn replies_are_the_nodes_own(world: &World) {
    let attack = "/?q=%3Cscript%3Ealert(1)%3C/script%3E";
    let page = |answer: &Answer| {
        let id = answer.field("x-request-id").unwrap().to_ascii_uppercase();
        (answer.status, answer.body.replace(&id, "ID"))
    };
    let inline = page(&world.get(Way::Inline, "127.3.0.1", attack));
    assert!(inline.1.contains("ID"), "{inline:?}");
    for way in [Way::Envoy, Way::Traefik, Way::Caddy] {
        assert_eq!(page(&world.get(way, "127.3.0.1", attack)), inline, "{way:?}");
    }
    for (place, way) in WAYS.into_iter().enumerate() {
        let from = format!("127.3.1.{}", place + 1);
        let passed = world.get(way, &from, "/limited");
        if !matches!(way, Way::Traefik | Way::Nginx | Way::Caddy) {
            assert_eq!(passed.field("ratelimit"), Some("\"few\";r=1;t=1800"), "{way:?}: {passed:?}");
        }
        world.get(way, &from, "/limited");
        let refused = world.get(way, &from, "/limited");
        assert_eq!((refused.status, refused.field("retry-after")), (429, Some("1800")), "{way:?}");
    }
}

/// Three attacks by way of a proxy ban their sender, and not the proxy.
fn strikes_count(world: &World) {
    for (place, way) in WAYS.into_iter().enumerate() {
        let from = format!("127.4.0.{}", place + 1);
        for n in 1..=3 {
            assert_eq!(world.get(way, &from, &attack(n)).status, 403, "{way:?}");
        }
        until("the third attack bans", || world.get(way, &from, "/").status == 403);
        assert_eq!(world.get(Way::Inline, &from, "/").status, 403, "{way:?}");
    }
    let banned = world.node.banned();
    assert!(!banned.iter().any(|actor| actor == "127.0.0.1"), "{banned:?}");
}

fn events_name_the_proxy(world: &World) {
    for (way, kind) in [(Way::Envoy, "ext-authz"), (Way::Traefik, "forward-auth")] {
        let refused = world.get(way, "127.5.0.1", &attack(9));
        let id = refused.field("x-request-id").unwrap().to_ascii_uppercase();
        let told = || String::from_utf8(world.node.cli(&["explain", &id]).stdout).unwrap();
        until("the refusal is in the history", || told().contains(&format!("asked about it ({kind})")));
        assert!(told().contains("from 127.5.0.1"), "{}", told());
    }
}

fn proxies_fail_closed(world: World) {
    let World { node, app, ports, _proxies: proxies, _folder: folder } = world;
    let before = app.count();
    node.stop();
    for way in &WAYS[1..] {
        let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), ports[*way as usize]);
        let raw = b"GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n";
        assert_eq!(ask(to, Ipv4Addr::LOCALHOST.into(), raw).status, way.without_node(), "{way:?}");
    }
    assert_eq!(app.count(), before, "a request came to the app unasked");
    drop((proxies, folder));
}
