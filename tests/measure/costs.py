#!/usr/bin/env python3
"""What each protection costs a plain request: instructions of a proxied GET over HTTP/1.1 with keep-alive, by what they are for.

    tests/measure/costs.py [--phalanx BINARY] [--requests N] [--defaults-only] [--json]

A node with default settings, one worker and rules off runs under callgrind and serves N requests over one connection, then another one 2N.
The difference, divided by N, is a request: what happens once is gone. Rows are disjoint and add up: a function's row has all that it calls,
but for what belongs to rows of its own. What can be switched is measured again with the switch. Instructions of the kernel are not counted, nor are
those of reading the clock, which the kernel lends the process; how often either is called is told. The request is a browser's, the same as that of
`proxy.py`; the app answers with two fields and a few bytes. nginx, where there is one, is told beside it as a whole. Needs valgrind, llvm-symbolizer
(Debian: `llvm`) and a binary with line tables.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import re
import select
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass

from lab import callgrind, options, upstream
from lab.callgrind import Counts, Frame, Symbols
from lab.http import Api, Connection
from lab.processes import Failed, Lab, Skipped, free_ports, listens, run, until
from proxy import FIELDS

REQUEST = "\r\n".join(("GET /shop/items?category=garden&page=2 HTTP/1.1", "Host: www.example.test", *FIELDS, "", "")).encode()
START_S, END_S = 300, 120

# A thread is known by a function that only it runs.
THREADS = {"data plane": "phalanx_edge10connection5serve", "recorder": "phalanx_record8recorder6Worker3run"}

# What protects, by source file and function; `*` for all of a file.
PROTECTIONS = {
    "framing of the request: lengths, host, target": ["edge/src/http1/semantics.rs examine"],
    "framing of the response": ["edge/src/http1/response.rs frame"],
    "time and least rates: deadlines": [
        "edge/src/control.rs set_deadline set_limit clear_timeout remember", "edge/src/pace.rs *",
        "edge/src/client.rs allow_write_time idle_ms", "edge/src/worker.rs after_ms"],
    "requests of a connection, and whether it is to end": ["edge/src/client.rs is_spent lets_go", "edge/src/leaving.rs *"],
    "decisions: ban, challenge, allow": ["edge/src/pipeline.rs check_standing", "decide/src/verdict.rs standing"],
    "overload": ["edge/src/overload.rs *"],
    "rate limits": ["edge/src/rates.rs *"],
    "requests that go in a circle": ["edge/src/forward.rs went_in_a_circle"],
    "size of bodies, memory of held ones": ["edge/src/exchange.rs count_body", "edge/src/pipeline.rs reserve check_body_announced"],
    "inspection, switched off": ["edge/src/stages.rs *", "edge/src/pipeline.rs judge", "edge/src/trial.rs *"],
    "client's address": ["edge/src/client_address.rs *"],
    "client's own hash": ["edge/src/request.rs agent_hash"],
    "hardening of the response": ["edge/src/route/edit.rs *", "edge/src/route/act.rs said"],
    "who is served well": ["decide/src/good.rs *", "edge/src/events.rs session_hash"],
}
# What tells afterwards what happened.
RECORD = {
    "request id": ["edge/src/worker.rs new_request_id", "model/src/id.rs to_text"],
    "trace context": ["edge/src/trace.rs *"],
    "event of the request": ["edge/src/events.rs *"],
    "event of the request: secrets masked": ["edge/src/mask.rs *"],
    "counters and latencies": ["edge/src/request.rs count_times upstream_answered", "edge/src/events.rs count count_classes", "model/src/counters.rs *"],
    "access log: secrets masked": ["record/src/redact.rs *"],
    "access log: the line": ["record/src/line_log.rs *", "record/src/access_log.rs *", "record/src/escape.rs *"],
}
# What any proxy does.
PROXYING = {
    "forwarding fields for the upstream": ["edge/src/forward.rs write_forwarding"],
    "host and route": ["edge/src/plan.rs find meet handling", "edge/src/hosts.rs *", "edge/src/route/table.rs *"],
    "known fields": ["edge/src/http1/fields.rs KnownFields::of"],
    "upstream: choice, retries, health": ["edge/src/balance/* *"],
    "upstream: its connection": ["edge/src/upstream.rs *"],
    "reading the request's head": ["edge/src/http1/head.rs *"],
    "reading the response's head": ["edge/src/http1/response.rs *"],
    "writing the request": ["edge/src/forward.rs *"],
    "writing the response": ["edge/src/exchange.rs write_head"],
    "moving the body": ["edge/src/http1/body.rs *", "edge/src/outgoing.rs *"],
}
# Only for what no row above takes, neither here nor in whoever calls it.
RUNTIME, REST, RECORDER = "runtime and sockets", "the way through the stages", "recorder: the rest"
WEAK = {"tokio-": RUNTIME, "mio-": RUNTIME, "edge/": REST, "record/": RECORDER}


@dataclass(frozen=True)
class Variant:
    """Settings that switch something: lines of phalanx.toml and of the app in policy.toml, bans in force; and the rows that are about it."""

    settings: str = ""
    policy: str = ""
    bans: int = 0
    # And lines of policy.toml before all apps.
    before: str = ""
    about: tuple[str, ...] = ()


LOG = ("access log: secrets masked", "access log: the line")
VARIANTS = {
    "defaults": Variant(),
    "access log as nginx's (`combined`)": Variant('[log]\naccess_format = "combined"', about=LOG),
    "access log off": Variant('[log]\naccess = "off"', about=LOG),
    "trace contexts unseen (`trace.mode`)": Variant('[trace]\nmode = "off"', about=("trace context",)),
    "1,000 bans in force": Variant(bans=1000, about=("decisions: ban, challenge, allow",)),
    "nothing learned (`detection.mode`)": Variant(before='[detection]\nmode = "off"'),
    "responses hardened (`responses`)": Variant(
        policy='responses = { headers = "standard", cookies = "standard" }', about=("hardening of the response",)),
    "a rate limit by address": Variant(
        policy='rate_limits = [{ name = "all", key = "ip", rate = "1000000/s" }]', about=("rate limits",)),
}
SETTINGS = """policy = "policy.toml"
node = {{ state = "state", workers = 1, drain = "1s" }}
listen = {{ address = ["127.0.0.1:0"], admin = "127.0.0.1:0" }}
sandbox = {{ files = false, calls = false }}
{settings}
"""
POLICY = """{before}
[[apps]]
name = "shop"
upstream = "{upstream}"
mode = "off"
{policy}
"""
NGINX = """daemon off; master_process off; user root; pid {folder}/pid; error_log {folder}/error.log; events {{ worker_connections 512; }}
http {{ access_log {folder}/access.log; keepalive_requests 100000; {temp}
upstream app {{ server {app}; keepalive 8; keepalive_requests 100000; }}
server {{ listen 127.0.0.1:{port}; location / {{ proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host;
  proxy_set_header X-Forwarded-For $remote_addr; proxy_pass http://app; }} }} }}
"""
# Calls that leave what is counted.
CLOCK = "clock_gettime"
SYSTEM_CALLS = ("recv", "read", "send", "write", "writev", "epoll_wait", "syscall")


@dataclass
class Measured:
    """Instructions a request, by thread and row; and calls that leave the program."""

    rows: dict[str, Counter[str | None]]
    clock: float
    system_calls: dict[str, float]

    def total(self, thread: str) -> float:
        return sum(self.rows[thread].values())

    def row(self, name: str | None) -> float:
        return sum(rows[name] for rows in self.rows.values())


def main() -> None:
    given = arguments()
    for program in ("valgrind", "llvm-symbolizer"):
        if not shutil.which(program):
            raise Skipped(f"{program} is not installed")
    with Lab() as lab:
        app, symbols = upstream.start(lab), Symbols(given.phalanx)
        names = list(VARIANTS)[: 1 if given.defaults_only else None]
        show({name: measure(lab, given, app, symbols, name) for name in names}, beside_nginx(lab, given, app), given)


def arguments() -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.add_argument("--requests", type=int, default=2000, help="N, up to 5000, the half of what a connection may ask [2000]")
    parser.add_argument("--defaults-only", action="store_true", help="without the switches")
    return options.read(parser)


def measure(lab: Lab, given: argparse.Namespace, app: str, symbols: Symbols, variant: str) -> Measured:
    few, many = (serve(lab, given.phalanx, app, variant, given.requests * times) for times in (1, 2))
    threads = {thread: callgrind.difference(few[thread], many[thread], given.requests) for thread in THREADS}
    rows = {thread: callgrind.shared_out(counts, symbols, strong, weak) for thread, counts in threads.items()}
    calls = {name: sum(counts.called(rf"(__|__libc_)?{name}") for counts in threads.values()) for name in SYSTEM_CALLS}
    return Measured(rows, sum(counts.called(CLOCK) for counts in threads.values()), calls)


def serve(lab: Lab, binary: pathlib.Path, app: str, variant: str, requests: int) -> dict[str, Counts]:
    """What a node under callgrind counted in its life with so many requests, by thread."""
    switched = VARIANTS[variant]
    log = f"node-{list(VARIANTS).index(variant)}-{requests}"
    folder = lab.subfolder(log)
    (folder / "phalanx.toml").write_text(SETTINGS.format(settings=switched.settings))
    (folder / "policy.toml").write_text(POLICY.format(upstream=app, policy=switched.policy, before=switched.before))
    words = ["valgrind", *callgrind.OPTIONS, f"--callgrind-out-file={folder}/counts", binary, "run", "--json", "-c", folder / "phalanx.toml"]
    child = lab.spawn(words, log, stdout=subprocess.PIPE)
    assert child.stdout is not None
    line = child.stdout.readline() if select.select([child.stdout], [], [], START_S)[0] else b""
    if not line:
        raise Failed(f"the node did not start: {lab.said(log)}")
    ready = json.loads(line)
    place = {key: ready[key].removeprefix("http://").rstrip("/") for key in ("listen", "admin")}
    api = Api(place["admin"], (folder / "state/admin.token").read_text().strip(), START_S)
    for number in range(switched.bans):
        api.ban(f"198.18.{number >> 8}.{number & 255}", 3_600_000)
    ask_and_end(child, place["listen"], requests)
    counted = [callgrind.read(path) for path in folder.glob("counts-*")]
    return {thread: one_that_runs(counted, symbol, thread) for thread, symbol in THREADS.items()}


def ask_and_end(child: subprocess.Popen[bytes], address: str, requests: int) -> None:
    connection = Connection(address, START_S)
    for _ in range(requests):
        status, _ = connection.exchange(REQUEST)
        if status != 200:
            raise Failed(f"a request was answered with {status}")
    connection.close()
    child.send_signal(signal.SIGTERM)
    child.wait(END_S)


def beside_nginx(lab: Lab, given: argparse.Namespace, app: str) -> float | None:
    """What the same request costs nginx, which writes its access log, too; nothing where it is not installed."""
    if not shutil.which("nginx"):
        return None
    totals = []
    for requests in (given.requests, 2 * given.requests):
        folder, (port,) = lab.subfolder(f"nginx-{requests}"), free_ports(1)
        temp = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, temp=temp, app=app.removeprefix("http://"), port=port))
        words = ["valgrind", *callgrind.OPTIONS, f"--callgrind-out-file={folder}/counts", "nginx", "-c", folder / "nginx.conf"]
        child = lab.spawn(words, folder.name)
        until("nginx listens", functools.partial(listens, port), START_S)
        ask_and_end(child, f"127.0.0.1:{port}", requests)
        totals.append(sum(callgrind.read(path).total() for path in folder.glob("counts-*")))
    return (totals[1] - totals[0]) / given.requests


def one_that_runs(counted: list[Counts], symbol: str, thread: str) -> Counts:
    found = [counts for counts in counted if any(symbol in name for name in set(counts.function_of.values()))]
    if not found:
        raise Failed(f"no thread runs {symbol}, by which the {thread} is known")
    return max(found, key=Counts.total)


def strong(frame: Frame) -> str | None:
    return FUNCTIONS.of(frame)


def weak(frame: Frame) -> str | None:
    return next((kind for start, kind in WEAK.items() if frame[0].startswith(start)), None)


class Functions:
    """The rows by file and function, those that name a function before those that take a whole file."""

    def __init__(self, rows: dict[str, list[str]]) -> None:
        self.known: dict[Frame, str | None] = {}
        self.rows: list[tuple[re.Pattern[str], re.Pattern[str], str]] = []
        for row, lines in rows.items():
            for file, *functions in (line.split() for line in lines):
                named = "|".join(f"(.*::)?{re.escape(function)}" for function in functions)
                whole = functions == ["*"]
                entry = (re.compile(re.escape(file).replace(r"\*", ".*")), re.compile(".*" if whole else named), row)
                self.rows.insert(len(self.rows) if whole else 0, entry)

    def of(self, frame: Frame) -> str | None:
        if frame not in self.known:
            found = (row for file, function, row in self.rows if file.fullmatch(frame[0]) and function.fullmatch(frame[1]))
            self.known[frame] = next(found, None)
        return self.known[frame]


FUNCTIONS = Functions(PROTECTIONS | RECORD | PROXYING)


def show(measured: dict[str, Measured], nginx: float | None, given: argparse.Namespace) -> None:
    defaults = measured["defaults"]
    whole = sum(map(defaults.total, THREADS))
    if given.json:
        for name, one in measured.items():
            rows = {thread: {row or "other": round(cost) for row, cost in rows.most_common()} for thread, rows in one.rows.items()}
            print(json.dumps({"measurement": "instructions a request", "variant": name, "rows": rows, "clock": one.clock, "calls": one.system_calls}))
        print(json.dumps({"measurement": "instructions a request", "variant": "nginx", "all": nginx}))
        return
    print(f"| of a request with default settings, rules off | instructions | of {whole:,.0f} |\n|---|---|---|")
    for title, rows in (("protection", PROTECTIONS), ("record", RECORD), ("proxying", [*PROXYING, RUNTIME, REST, RECORDER, None])):
        costs = {row or "not known": defaults.row(row) for row in rows}
        print(f"| **{title}** | **{sum(costs.values()):,.0f}** | {sum(costs.values()) / whole:.1%} |")
        for row, cost in sorted(costs.items(), key=lambda item: -item[1]):
            print(f"| {row} | {max(cost, 0):,.0f} | {max(cost, 0) / whole:.1%} |")
    print("\n| settings | " + " | ".join(THREADS) + " | all | the rows about it | by default |\n|---|" + "---|" * (len(THREADS) + 3))
    for name, one in measured.items():
        totals = [one.total(thread) for thread in THREADS]
        about = [f"{sum(each.row(row) for row in VARIANTS[name].about):,.0f}" if VARIANTS[name].about else "" for each in (one, defaults)]
        print(f"| {name} | " + " | ".join([*(f"{total:,.0f}" for total in [*totals, sum(totals)]), *about]) + " |")
    if nginx:
        print(f"| nginx, its access log on | | | {nginx:,.0f} | | |")
    calls = ", ".join(f"{name} {count:.2f}" for name, count in defaults.system_calls.items() if count >= 0.01)
    print(f"\nNot counted: what the kernel does in {calls}; {defaults.clock:.1f} looks at the clock", file=sys.stderr)


if __name__ == "__main__":
    run(main)
