//! The console's port, and all places where people read what visitors wrote, as an attacker meets them.

use std::io::{BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::*;
use crate::tls::{absent, certificate};

/// What is invisible, moves the cursor or reorders text; as itself, and as a visitor's address has it.
const HIDDEN: &[(char, &str)] = &[
    ('\u{1b}', "%1b%5b2J%1b%5d0;owned%07"),
    ('\u{9b}', "%c2%9b31m"),
    ('\u{202e}', "%e2%80%ae"),
    ('\u{2066}', "%e2%81%a6"),
    ('\u{200b}', "%e2%80%8b"),
    ('\u{2028}', "%e2%80%a8"),
    ('\r', "%0d%0aX-Forged:%20yes"),
    ('\0', "%00"),
];

/// An attack with something for each place where it may be read.
fn hostile(hidden: &str) -> String {
    format!(
        "/=cmd;=1+1,@x/{hidden}?q=%3Cscript%3Ealert(1)%3C/script%3E%3C!channel%3E%20@everyone%20[x](https://evil.example)"
    )
}

fn is_hidden(c: char) -> bool {
    (c.is_control() && c != '\n') || HIDDEN.iter().any(|(hidden, _)| *hidden == c)
}

#[test]
fn what_visitors_write_is_text_on_a_terminal_in_pages_and_in_tables() {
    let app = App::start();
    let node = Node::up(&app.url, &[]);
    let agents = [
        "\u{202e}moc.live",
        "=HYPERLINK(\"https://evil.example\")",
        "<img src=x onerror=alert(1)>",
        "a\u{200b}\u{9b}2J",
    ];
    let mut ids = Vec::new();
    for ((_, hidden), agent) in HIDDEN.iter().zip(agents.iter().cycle()) {
        let reply = node.get_as(&hostile(hidden), &[("User-Agent", agent), ("Referer", agent)]);
        if let Some(id) = reply.fields.get("x-request-id") {
            ids.push(id.clone());
        }
    }
    assert!(ids.len() >= 4, "{ids:?}");
    // As a name of a server, too.
    let named =
        format!("GET {} HTTP/1.1\r\nHost: <b>\u{202e}evil</b>\r\nConnection: close\r\n\r\n", hostile("%00"));
    raw(node.listen, named.as_bytes());
    let last = ids.last().unwrap().clone();
    until("the last is there", || node.cli(&["explain", &last]).status.success());
    let mut shown = vec![
        vec!["events"],
        vec!["top", "--once"],
        vec!["traffic", "--last", "1h"],
        vec!["audit"],
        vec!["incidents"],
    ];
    shown.extend([vec!["report", "--last", "1h"], vec!["report", "--last", "1h", "--format", "html"]]);
    shown.push(vec!["report", "--last", "1h", "--format", "csv"]);
    shown.extend(ids.iter().map(|id| vec!["explain", id.as_str()]));
    for command in &shown {
        let output = node.cli(command);
        let text = String::from_utf8(output.stdout).unwrap();
        let csv = command.contains(&"csv");
        let hidden = text.chars().find(|c| is_hidden(*c) && !(csv && *c == '\r'));
        assert!(output.status.success() && hidden.is_none(), "{command:?} shows {hidden:?}: {text}");
        assert!(!text.lines().any(|line| line.starts_with("X-Forged")), "{command:?}: {text}");
        if command.contains(&"html") {
            assert!(!text.contains("<script") && !text.contains("<img"), "{text}");
        }
        if csv {
            for cell in text.split([',', ';', '\n']).map(|cell| cell.trim_start_matches(['"', ' '])) {
                assert!(!cell.starts_with(['=', '+', '@']), "{cell} of {text}");
            }
        }
    }
    let listed = String::from_utf8(node.cli(&["events"]).stdout).unwrap();
    assert!(listed.contains("cmd"), "what was written is there to be read: {listed}");
}

/// How many answers there are to these bytes on the console's port, and the first one's status.
fn answers(to: SocketAddr, bytes: &str) -> (usize, u16) {
    let mut stream = connect(to);
    // Whoever is still being waited for says nothing more; half a connection might be given up before it is answered.
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let _ = stream.write_all(bytes.as_bytes());
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let all = String::from_utf8_lossy(&all).into_owned();
    let status = all.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    (all.matches("HTTP/1.1 ").count(), status)
}

#[test]
fn the_consoles_port_reads_one_request_of_one_host_or_none() {
    let app = App::start();
    let node = Node::up(&app.url, &[]);
    let at = node.admin;
    let get = |target: &str, fields: &str| {
        answers(at, &format!("GET {target} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n"))
    };
    let own = format!("Host: {at}\r\n");
    assert_eq!(get("/healthz", &own), (1, 200));
    assert_eq!(get(&format!("http://{at}/healthz"), &own), (1, 200));
    for (target, fields) in [
        ("/healthz", String::new()),
        ("/healthz", format!("{own}Host: {at}\r\n")),
        ("/healthz", format!("{own}Host: evil.example\r\n")),
        ("/healthz", "Host: evil.example\r\n".to_owned()),
        ("/healthz", format!("Host: {at}.\r\n")),
        ("/healthz", format!("Host: user@{at}\r\n")),
        ("/healthz", format!("Host: {at}, evil.example\r\n")),
        ("/healthz", "Host: [::ffff:192.0.2.1]\r\n".to_owned()),
        ("http://evil.example/healthz", own.clone()),
        ("//evil.example/healthz", "Host: evil.example\r\n".to_owned()),
        ("evil.example:443", own.clone()),
        ("*", "Host: evil.example\r\n".to_owned()),
        ("/healthz", format!("Host : {at}\r\n")),
        ("/healthz", format!("{own} folded: yes\r\n")),
    ] {
        let (count, status) = get(target, &fields);
        assert!(count <= 1 && status != 200, "{target} {fields:?}: {count} answers, {status}");
    }
    // A second request that a proxy before us would have taken for the body of the first.
    let inner = format!("GET /healthz HTTP/1.1\r\nConnection: close\r\nHost: {at}\r\n\r\n");
    for (name, framing) in [
        ("both", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
        ("two lengths", "Content-Length: 0\r\nContent-Length: 44\r\n"),
        ("a list of lengths", "Content-Length: 0, 44\r\n"),
        ("a sign", "Content-Length: +0\r\n"),
        ("another coding", "Transfer-Encoding: chunked, identity\r\n"),
        ("a coding with a tab", "Transfer-Encoding:\tchunked\x0b\r\n"),
        ("a folded coding", "Transfer-Encoding:\r\n chunked\r\n"),
        ("a space before the colon", "Content-Length : 0\r\n"),
        ("a bare line feed", "X: y\nContent-Length: 0\r\n"),
    ] {
        let (count, status) =
            answers(at, &format!("POST /api/v1/logout HTTP/1.1\r\n{own}{framing}\r\n0\r\n\r\n{inner}"));
        // Whatever is refused as it was framed ends the connection: nothing after it is read.
        let ended = count <= 1 && status == 400;
        // What the RFC has one reading for is read so: the chunks, or no body and then what is no request.
        assert!(ended || status == 401, "{name}: {count} answers, {status}");
        let smuggled = count == 2 && status == 401 && name != "both" && name != "a bare line feed";
        assert!(!smuggled, "{name}: {count} answers, {status}");
    }
}

#[test]
fn a_flood_of_streams_of_http_2_finds_nobody_who_speaks_it() {
    let app = App::start();
    let node = Node::up(&app.url, &[]);
    let mut flood = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for stream in (1..4_001u32).step_by(2) {
        // A head of three fields, and its end by RST_STREAM.
        flood.extend_from_slice(&[0, 0, 3, 1, 5]);
        flood.extend_from_slice(&stream.to_be_bytes());
        flood.extend_from_slice(&[0x82, 0x84, 0x86, 0, 0, 4, 3, 0]);
        flood.extend_from_slice(&stream.to_be_bytes());
        flood.extend_from_slice(&[0, 0, 0, 8]);
    }
    let started = Instant::now();
    let mut stream = connect(node.admin);
    let _ = stream.write_all(&flood);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(started.elapsed() < Duration::from_secs(5) && answer.len() < 1_024, "{}", answer.len());
    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(node.admin_get("/healthz").status, 200);
}

/// An address of this machine that is not loopback, to come from elsewhere by.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    let usable = !address.is_loopback() && !address.is_unspecified();
    if !usable {
        eprintln!("skipped: this machine has no address but loopback");
    }
    usable.then_some(address)
}

/// A node whose console listens on all addresses.
fn open_console(folder: &Path, app: &App) -> Node {
    certificate(folder, "console", "console.test", 90);
    let policy = format!("[[apps]]\nname = \"shop\"\nhosts = [\"shop.test\"]\nupstream = \"{}\"\n", app.url);
    std::fs::write(folder.join("policy.toml"), policy).unwrap();
    let settings = "policy = \"policy.toml\"\n[node]\nstate = \"state\"\n[listen]\naddress = [\"127.0.0.1:0\"]\nadmin = \"0.0.0.0:0\"\n\
                    [admin]\nnames = [\"console.test\"]\ncert = \"console.pem\"\nkey = \"console.key\"\n";
    std::fs::write(folder.join("phalanx.toml"), settings).unwrap();
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(folder.join("phalanx.toml"));
    Node::start(command)
}

/// Whether the console answers by TLS over this address of the node, and how long that takes.
fn health(folder: &Path, to: SocketAddr) -> (bool, Duration) {
    let started = Instant::now();
    let mut command = Command::new("curl");
    command.args(["-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"]);
    command.arg(folder.join("console.pem")).arg("--resolve");
    command.arg(format!("console.test:{}:{}", to.port(), to.ip()));
    let output = command.arg(format!("https://console.test:{}/healthz", to.port())).output().unwrap();
    (output.stdout == b"200", started.elapsed())
}

#[test]
fn ten_thousand_connections_of_one_address_leave_room_for_others_and_go_when_they_say_nothing() {
    if absent() {
        return;
    }
    let Some(address) = own_address() else { return };
    let (folder, app) = (tempfile::tempdir().unwrap(), App::start());
    let node = open_console(folder.path(), &app);
    let port = node.admin.port();
    let (from_elsewhere, here) = (SocketAddr::new(address, port), SocketAddr::from(([127, 0, 0, 1], port)));
    let mut held = Vec::new();
    for n in 0..10_000 {
        let Ok(mut stream) = TcpStream::connect_timeout(&from_elsewhere, Duration::from_secs(5)) else {
            continue;
        };
        // The first bytes of a handshake, and never more.
        let _ = stream.write_all(&[0x16, 0x03, 0x01]);
        held.push(stream);
        if n % 1_000 == 999 {
            let (served, took) = health(folder.path(), here);
            assert!(served && took < Duration::from_secs(4), "after {n}: {served} {took:?}");
            // Those that were refused are closed already.
            held.drain(..900);
        }
    }
    assert!(node.cli(&["status"]).status.success(), "the socket has connections of its own");
    // A handshake has ten seconds: then there is room for this address, too.
    until("those that say nothing are gone", || health(folder.path(), from_elsewhere).0);
    drop(held);
}

#[test]
fn slow_heads_and_bodies_end_and_the_socket_is_served_meanwhile() {
    let app = App::start();
    let node = Node::up(&app.url, &[]);
    let slow: Vec<TcpStream> = (0..300)
        .map(|n| {
            let mut stream = connect(node.admin);
            let body = format!(
                "POST /api/v1/login/password HTTP/1.1\r\nHost: {0}\r\nOrigin: http://{0}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
                node.admin
            );
            let text = if n % 2 == 0 { "GET / HTTP/1.1\r\nHost: x" } else { body.as_str() };
            stream.write_all(text.as_bytes()).unwrap();
            stream
        })
        .collect();
    let started = Instant::now();
    assert!(node.cli(&["status"]).status.success() && started.elapsed() < Duration::from_secs(5));
    // A byte now and then prolongs nothing.
    let mut drip: Vec<TcpStream> = slow.iter().map(|stream| stream.try_clone().unwrap()).collect();
    until("a place is free", || {
        drip.iter_mut().for_each(|stream| _ = stream.write_all(b" "));
        let mut stream = TcpStream::connect(node.admin).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let _ = stream.write_all(
            format!("GET /healthz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", node.admin).as_bytes(),
        );
        read_reply_or_none(stream) == Some(200)
    });
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

fn read_reply_or_none(stream: TcpStream) -> Option<u16> {
    let mut first = [0; 12];
    BufReader::new(stream).read_exact(&mut first).ok()?;
    std::str::from_utf8(&first).ok()?.rsplit(' ').next()?.parse().ok()
}
