#!/usr/bin/env python3
"""CPU for each proxied request, beside nginx and HAProxy, in interleaved rounds of one run.

    tests/measure/proxy.py [--phalanx BINARY] [--crs DIR] [--rounds N] [--seconds S] [--case NAME]... [--peer NAME]... [--json]

One worker each, on a core of its own; load and origin on the other. As root all of them get real-time priority, so that what else
the machine does stays out. Rules are off, all other protections of the edge on. nginx writes its access log as Phalanx does;
`nginx-nolog` and HAProxy write none. CPU is that of the whole process, with its threads and children, by its own account.

With `--crs DIR`, the folder of the Core Rule Set, case `crs` puts Phalanx with these rules, paranoia 1, beside nginx with ModSecurity and the
same, for a browser's GET. Cases: `plain` HTTP/1.1 with keep-alive; `tls` the same over TLS 1.3; `close` and `handshake` a new connection for each request,
without and with a full TLS 1.3 handshake over X25519; `h2` 8 connections with 100 streams each; `paced` the latency of plain
requests at two fifths of the slowest peer's rate; `workers` Phalanx with two workers beside Phalanx with one, both on all cores beside the load.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lab import options
from lab.node import first_line
from lab.processes import Failed, Lab, Skipped, free_ports, listens, run, until
from lab.report import load, percentile

LOAD_CORE, PROXY_CORE = "0", "1"
CONNECTIONS = 64
BODY = "x" * 1024
TICKS_S = os.sysconf("SC_CLK_TCK")
# What a browser of today sends with a click on a link.
FIELDS = (
    "sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"", "sec-ch-ua-mobile: ?0", "sec-ch-ua-platform: \"Linux\"", "upgrade-insecure-requests: 1",
    "user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    "accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
    "sec-fetch-site: same-origin", "sec-fetch-mode: navigate", "sec-fetch-user: ?1", "sec-fetch-dest: document",
    "referer: https://www.example.test/shop/?category=garden", "accept-encoding: gzip, deflate, br, zstd", "accept-language: en-GB,en;q=0.9,de;q=0.7",
    "cookie: session=4c2d18aa0791f3b2; theme=dark; _ga=GA1.2.1203918231.1764140000; consent=analytics:0|ads:0",
)

NGINX = """{modules} worker_processes 1; worker_cpu_affinity {mask}; daemon off; user root; pid {folder}/pid; error_log {folder}/error.log;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{ access_log {log}; keepalive_requests 100000000; {temp}
{body} }}
"""
NGINX_PROXY = """upstream o {{ server 127.0.0.1:{origin}; keepalive 128; keepalive_requests 100000000; }}
server {{ listen 127.0.0.1:{plain} backlog=4096; listen 127.0.0.1:{tls} ssl http2 backlog=4096;
 ssl_certificate {pair}; ssl_certificate_key {pair}; ssl_protocols TLSv1.3; ssl_ecdh_curve X25519:prime256v1;
 http2_max_concurrent_streams 128;
 location / {{ proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host;
  proxy_set_header X-Forwarded-For $remote_addr; proxy_pass http://o; }} }}"""
MODSECURITY = """SecRuleEngine On
SecRequestBodyAccess On
SecResponseBodyAccess Off
SecRequestBodyLimit 13107200
SecAuditEngine Off
Include {crs}/crs-setup.conf.example
SecAction "id:9900000,phase:1,pass,t:none,nolog,setvar:tx.blocking_paranoia_level=1,setvar:tx.detection_paranoia_level=1"
Include {crs}/rules/*.conf
"""
MODSECURITY_MODULES = "load_module modules/ndk_http_module.so; load_module modules/ngx_http_modsecurity_module.so;"
HAPROXY = """global
  nbthread 1
  maxconn 8192
  ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
  option forwardfor
frontend f
  bind 127.0.0.1:{plain}
  bind 127.0.0.1:{tls} ssl crt {pair} curves X25519:P-256 alpn h2,http/1.1
  default_backend b
backend b
  server o 127.0.0.1:{origin} pool-max-conn 256
"""


@dataclass
class Proxy:
    """A running proxy."""

    name: str
    pid: int
    plain: int
    tls: int
    inspects: bool = False
    of_workers: bool = False

    def cpu_s(self) -> float:
        """Seconds of CPU that it and its children have used."""
        return sum(map(ticks, family(self.pid))) / TICKS_S

    def memory_kb(self) -> int:
        """Resident memory of all of it."""
        found = (re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()) for pid in family(self.pid))
        return sum(int(rss[1]) for rss in found if rss)


@dataclass
class Row:
    """What one proxy did in one case, a figure a round."""

    cpu_us: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    failed: int = 0


def belongs(proxy: Proxy, case: str) -> bool:
    return proxy.inspects == (case == "crs") and proxy.of_workers == (case == "workers")


def family(pid: int) -> list[int]:
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def ticks(pid: int) -> int:
    after_name = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(after_name[11]) + int(after_name[12])


def pinned(core: str) -> list[str]:
    real_time = ["chrt", "-f", "10"] if os.geteuid() == 0 else []
    return [*real_time, "taskset", "-c", core]


def shared() -> list[str]:
    """On all cores, beside the load: for both alike, where a node with two workers is compared."""
    return ["taskset", "-c", f"{LOAD_CORE},{PROXY_CORE}"]


def main() -> None:
    given = arguments()
    with Lab() as lab:
        proxies = start(lab, given)
        rows = {case: {proxy.name: Row() for proxy in proxies if belongs(proxy, case)} for case in given.case}
        for number in range(given.rounds):
            for case in given.case:
                if case == "paced":
                    continue
                for proxy in rotated([proxy for proxy in proxies if proxy.name in rows[case]], number):
                    measure(lab, case, proxy, rows[case][proxy.name], given.seconds)
        if "paced" in given.case:
            paced(lab, [proxy for proxy in proxies if belongs(proxy, "paced")], rows, given)
        show(proxies, rows, given.json)


def arguments() -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3, help="of each round of each [3]")
    parser.add_argument("--case", action="append", choices=[*CASES, "paced"])
    parser.add_argument("--peer", action="append", choices=PEERS)
    parser.add_argument("--crs", type=pathlib.Path, help="the Core Rule Set")
    parser.add_argument("--other", action="append", type=pathlib.Path, default=[], help="another binary of Phalanx, beside the first")
    given = options.read(parser)
    given.case = given.case or [*CASES, "paced"]
    if "crs" in given.case and not given.crs:
        given.case.remove("crs")
    given.peer = given.peer or list(PEERS)
    return given


def start(lab: Lab, given: argparse.Namespace) -> list[Proxy]:
    """The origin and the proxies; one that is not installed is left out with a line."""
    pair = lab.folder / "pair.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", "/CN=www.example.test", "-addext", "subjectAltName=DNS:www.example.test,IP:127.0.0.1",
                    "-keyout", lab.folder / "key.pem", "-out", lab.folder / "cert.pem"], check=True, capture_output=True)
    (lab.folder / "key.pem").chmod(0o600)
    pair.write_text((lab.folder / "cert.pem").read_text() + (lab.folder / "key.pem").read_text())
    (origin,) = free_ports(1)
    nginx(lab, "origin", "off", f"server {{ listen 127.0.0.1:{origin} backlog=4096; default_type text/html; location / {{ return 200 '{BODY}'; }} }}", LOAD_CORE)
    until("the origin listens", lambda: listens(origin))
    makers: dict[str, Callable[[], Proxy]] = {
        "nginx": lambda: nginx_proxy(lab, "nginx", str(lab.subfolder("nginx") / "access.log"), origin),
        "nginx-nolog": lambda: nginx_proxy(lab, "nginx-nolog", "off", origin),
        "haproxy": lambda: haproxy(lab, origin),
    }
    proxies = [phalanx(lab, name, binary, origin) for name, binary in binaries(given)]
    proxies += inspecting(lab, given, origin) if "crs" in given.case else []
    if "workers" in given.case:
        # The one with two first: its figure is told as a share of the other's.
        for workers in (2, 1):
            proxies.append(phalanx(lab, f"phalanx-workers-{workers}", given.phalanx, origin, workers=workers, place=shared()))
            proxies[-1].of_workers = True
    for peer in given.peer:
        try:
            proxies.append(makers[peer]())
        except Skipped as fault:
            print(f"skipped: {fault}", file=sys.stderr)
    for proxy in proxies:
        until(f"{proxy.name} listens", lambda proxy=proxy: listens(proxy.plain) and listens(proxy.tls))
    return proxies


def inspecting(lab: Lab, given: argparse.Namespace, origin: int) -> list[Proxy]:
    """Phalanx and nginx with ModSecurity, with the same rules."""
    crs = given.crs.resolve()
    proxies = [phalanx(lab, "phalanx-crs", given.phalanx, origin, ["--rules", crs])]
    try:
        rules = lab.folder / "modsecurity.conf"
        rules.write_text(MODSECURITY.format(crs=crs))
        body = NGINX_PROXY.replace("location /", f"modsecurity on; modsecurity_rules_file {rules}; location /")
        proxies.append(nginx_proxy(lab, "nginx-modsecurity", "off", origin, body, MODSECURITY_MODULES))
        until("nginx with ModSecurity listens", lambda: listens(proxies[-1].plain))
    except (Skipped, Failed) as fault:
        print(f"skipped: {fault}", file=sys.stderr)
        proxies = proxies[:1]
    for proxy in proxies:
        proxy.inspects = True
    return proxies


def binaries(given: argparse.Namespace) -> list[tuple[str, pathlib.Path]]:
    return [("phalanx", given.phalanx), *((f"phalanx-{number}", path) for number, path in enumerate(given.other, 2))]


def nginx(lab: Lab, name: str, log: str, body: str, core: str, modules: str = "") -> int:
    folder = lab.subfolder(name)
    temp = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(modules=modules, folder=folder, log=log, temp=temp, body=body, mask="01" if core == "0" else "10"))
    return lab.spawn([*pinned(core), "nginx", "-c", config], name).pid


def nginx_proxy(lab: Lab, name: str, log: str, origin: int, template: str = NGINX_PROXY, modules: str = "") -> Proxy:
    plain, tls = free_ports(2)
    body = template.format(origin=origin, plain=plain, tls=tls, pair=lab.folder / "pair.pem")
    return Proxy(name, nginx(lab, name, log, body, PROXY_CORE, modules), plain, tls)


def haproxy(lab: Lab, origin: int) -> Proxy:
    plain, tls = free_ports(2)
    config = lab.subfolder("haproxy") / "haproxy.cfg"
    config.write_text(HAPROXY.format(plain=plain, tls=tls, origin=origin, pair=lab.folder / "pair.pem"))
    return Proxy("haproxy", lab.spawn([*pinned(PROXY_CORE), "haproxy", "-db", "-f", config], "haproxy").pid, plain, tls)


def phalanx(
    lab: Lab,
    name: str,
    binary: pathlib.Path,
    origin: int,
    rules: Sequence[str | pathlib.Path] = ("--protect", "off"),
    workers: int = 1,
    place: Sequence[str] = (),
) -> Proxy:
    words = [*(place or pinned(PROXY_CORE)), binary, "up", "--to", f"http://127.0.0.1:{origin}", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    (tls,) = free_ports(1)
    words += ["--tls-listen", f"127.0.0.1:{tls}", "--cert", lab.folder / "cert.pem", "--key", lab.folder / "key.pem"]
    words += ["--json", "--state", lab.subfolder(f"{name}-state"), "--workers", str(workers), *rules]
    # All load comes from one address, which begins more handshakes than a client may.
    words += ["--operator", "127.0.0.1/32"]
    child = lab.spawn(words, name, stdout=subprocess.PIPE)
    line = first_line(child)
    if not line:
        raise Failed(f"{name} did not start: {lab.said(name)}")
    ready = json.loads(line)
    return Proxy(name, child.pid, int(ready["listen"].rstrip("/").rsplit(":", 1)[1]), tls)


def rotated(proxies: Sequence[Proxy], number: int) -> list[Proxy]:
    """Each round another begins."""
    by = number % len(proxies)
    return [*proxies[by:], *proxies[:by]]


def measure(lab: Lab, case: str, proxy: Proxy, row: Row, seconds: float) -> None:
    before = proxy.cpu_s()
    requests, failed, rate = CASES[case](proxy, seconds)
    if not requests:
        raise Failed(f"{proxy.name} answered nothing in case {case}: {lab.said(proxy.name)}")
    row.cpu_us.append((proxy.cpu_s() - before) / requests * 1e6)
    row.rates.append(rate)
    row.failed += failed


def wrk(url: str, seconds: float, *words: str, place: Sequence[str] = ()) -> tuple[int, int, float]:
    # It knows its own field only when it is written so.
    fields = [word for line in ("Host: www.example.test", *FIELDS) for word in ("-H", line)]
    said = tool(["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(round(seconds), 1)}s", "--timeout", "5s", *fields, *words, url], place)
    done = re.search(r"(\d+) requests in", said)
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    failed = int(wrong[1]) if wrong else 0
    # A read error is what a connection that its server ends looks like: told apart from others only where none should end.
    failed += sum(int(errors[part]) for part in (1, 3, 4)) if errors else 0
    return int(done[1]) if done else 0, failed, float(rate[1]) if rate else 0.0


def h2load(url: str, *words: str) -> tuple[int, int, float]:
    fields = [word for line in FIELDS for word in ("-H", line)]
    said = tool(["h2load", "-t1", *words, *fields, url])
    done = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", said)
    rate = re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", said)
    if not done:
        raise Failed(f"h2load said {said[-400:]}")
    return int(done[1]), int(done[2]), float(rate[1]) if rate else 0.0


def tool(words: Sequence[str], place: Sequence[str] = ()) -> str:
    if not shutil.which(words[0]):
        raise Skipped(f"{words[0]} is not installed")
    done = subprocess.run([*(place or pinned(LOAD_CORE)), *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    return done.stdout + done.stderr


def h2(proxy: Proxy, seconds: float) -> tuple[int, int, float]:
    return h2load(f"https://127.0.0.1:{proxy.tls}/", "-c8", "-m100", "-D", f"{seconds:g}")


CASES: dict[str, Callable[[Proxy, float], tuple[int, int, float]]] = {
    "plain": lambda proxy, seconds: wrk(f"http://127.0.0.1:{proxy.plain}/", seconds),
    "tls": lambda proxy, seconds: wrk(f"https://127.0.0.1:{proxy.tls}/", seconds),
    "close": lambda proxy, seconds: wrk(f"http://127.0.0.1:{proxy.plain}/", seconds, "-H", "connection: close"),
    "handshake": lambda proxy, seconds: wrk(f"https://127.0.0.1:{proxy.tls}/", seconds, "-H", "connection: close"),
    "h2": h2,
    "workers": lambda proxy, seconds: wrk(f"http://127.0.0.1:{proxy.plain}/", seconds, place=shared()),
    "crs": lambda proxy, seconds: wrk(f"http://127.0.0.1:{proxy.plain}/shop/items?category=garden&page=2&sort=price", seconds),
}
PEERS = ("nginx", "nginx-nolog", "haproxy")


def paced(lab: Lab, proxies: Sequence[Proxy], rows: dict[str, dict[str, Row]], given: argparse.Namespace) -> None:
    """Latency at 40 % of the rate of the slowest, the same for all."""
    known = rows.get("plain") or {proxy.name: Row() for proxy in proxies}
    for proxy in proxies:
        if not known[proxy.name].rates:
            measure(lab, "plain", proxy, known[proxy.name], given.seconds)
    rate = 0.4 * min(statistics.median(row.rates) for row in known.values())
    clients = 32
    for number in range(given.rounds):
        for proxy in rotated(proxies, number):
            times = lab.folder / "latencies"
            times.write_text("")
            _, failed, _ = h2load(f"http://127.0.0.1:{proxy.plain}/", "--h1", f"-c{clients}", "-m1", f"--rps={rate / clients:.3f}",
                                  "-D", f"{given.seconds:g}", f"--log-file={times}")
            row = rows["paced"][proxy.name]
            row.latencies_ms += [int(line.split()[2]) / 1000 for line in times.read_text().splitlines()]
            row.failed += failed
            row.rates.append(rate)


def show(proxies: Sequence[Proxy], rows: dict[str, dict[str, Row]], as_json: bool) -> None:
    if not as_json:
        print(f"load average {load():.1f} on {os.cpu_count()} cores; medians; CPU in microseconds a request, and as a share of each peer's: "
              "Phalanx's divided by the peer's, round by round")
    for case, by_name in rows.items():
        first = next(iter(by_name))
        for name, row in by_name.items():
            entry: dict[str, object] = {"case": case, "proxy": name, "failed": row.failed, "rate": round(statistics.median(row.rates))}
            if row.cpu_us:
                entry["cpu_us"] = round(statistics.median(row.cpu_us), 2)
                ratios = [ours / theirs for ours, theirs in zip(by_name[first].cpu_us, row.cpu_us, strict=True) if theirs]
                if name != first and ratios:
                    entry["ratio"] = round(statistics.median(ratios), 3)
                    entry["ratio_from_to"] = [round(min(ratios), 3), round(max(ratios), 3)]
            if row.latencies_ms:
                entry |= {f"p{share}_ms": round(percentile(row.latencies_ms, share / 100), 3) for share in (50, 99)}
            print(json.dumps(entry) if as_json else " ".join(f"{key}={value}" for key, value in entry.items()))
    for proxy in proxies:
        print(f"memory of {proxy.name}: {proxy.memory_kb() / 1024:.1f} MB", file=sys.stderr)


if __name__ == "__main__":
    run(main)
