"""Sends requests on which two servers could disagree through Phalanx to three back ends, and compares what each of both understood.

    python3 tests/framing/run.py target/debug/phalanx [--peers] [--table FILE] [--only NAME]

Fails when a request ends elsewhere for the back end than for Phalanx, or when one becomes something else than its case says. With `--peers`
nginx and HAProxy stand in front of the same back ends too; what they do is told and fails nothing."""

from __future__ import annotations

import argparse
import collections
import functools
import os
import pathlib
import socket
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from backs import BACKS, Back, Seen
from cases import DATA, GOAWAY, HEADERS, RST_STREAM, Case, all_cases
from fronts import Done, Front, Haproxy, Nginx, Phalanx, packages
from lab.processes import Failed, Lab, Skipped, run, until

PATIENCE_S = 10.0
CANARY = "127.7.250.1"
NEEDS = {"nginx": "nginx", "node": "nodejs", "gunicorn": "gunicorn"}


@dataclass
class Verdict:
    """What became of a case with one back end."""

    outcomes: list[str] = field(default_factory=list)
    disagreements: list[str] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("--peers", action="store_true", help="nginx and HAProxy in front, too")
    parser.add_argument("--table", type=pathlib.Path, help="write what all of them did")
    parser.add_argument("--only", help="cases with this in their names")
    given = parser.parse_args()
    needs = NEEDS | ({"haproxy": "haproxy"} if given.peers else {})
    if missing := packages(list(needs)):
        what = f"{needs[missing[0]]} not installed"
        raise Failed(f"CI has no {needs[missing[0]]}") if "CI" in os.environ else Skipped(what)
    cases = all_cases(given.only)
    results: dict[str, dict[str, dict[str, Verdict]]] = collections.defaultdict(dict)
    fronts = [functools.partial(Phalanx, binary=given.binary.resolve())] + ([Nginx, Haproxy] if given.peers else [])
    for name, start in BACKS.items():
        for make in fronts:
            # Afresh for each front, so that what one sends is not taken for another's.
            with Lab() as lab:
                back = start(lab)
                front = make(lab, back)
                results[front.name][name] = through(front, back, cases)
            print(f"{front.name} in front of {name}: {told(results[front.name][name])}")
    if given.table:
        given.table.write_text(table(cases, results))
    faults = wrong(cases, results["phalanx"])
    for fault in faults:
        print(fault)
    print(f"{len(cases)} cases, {len(BACKS)} back ends, {len(faults)} faults")
    if faults:
        raise Failed("front and back end disagree, or a case went another way")


def through(front: Front, back: Back, cases: list[Case]) -> dict[str, Verdict]:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda case: converse(front, case), cases))
    good = b"GET /canary HTTP/1.1\r\nHost: a\r\n\r\n"
    speak(front.http1, CANARY, good)
    speak(front.http1, CANARY, good.replace(b"Host: a\r\n", b"Host: a b\r\n"))
    counts = {case.source: len(case.expect) for case in cases}

    def all_told() -> bool:
        told = collections.Counter(done.client for done in front.done())
        return told[CANARY] >= 2 and (front.name != "phalanx" or all(told[client] >= n for client, n in counts.items()))

    try:
        until("all is written down", all_told, PATIENCE_S)
        until("the back end has the last", lambda: any(seen.target == "/canary" for seen in back.seen()), PATIENCE_S)
    except Failed:
        # What is missing shows in the comparison.
        pass
    return compare(front.done(), back.seen(), cases)


def compare(done: list[Done], seen: list[Seen], cases: list[Case]) -> dict[str, Verdict]:
    verdicts = {case.name: Verdict() for case in cases}
    by_source = {case.source: case.name for case in cases}
    known = {one.id: one for one in done}
    for one in done:
        if name := by_source.get(one.client):
            verdicts[name].outcomes.append(one.outcome)
    understood = collections.Counter(request.id for request in seen)
    for request in seen:
        front = known.get(request.id)
        name = by_source.get(front.client if front else request.client) or next((n for n in verdicts if n in request.target), None)
        if name is None and (front is None or front.client != CANARY):
            name = "?"
        if name is None:
            continue
        told = verdicts.setdefault(name, Verdict()).disagreements
        what = f"{request.method} {request.target}"
        if front is None:
            told.append(f"the back end took `{what}` for a request")
        elif understood[request.id] > 1:
            told.append(f"the back end has seen `{what}` {understood[request.id]} times")
        # gunicorn turns every method into capitals.
        elif front.method.upper() != request.method.upper():
            told.append(f"the back end has seen `{what}`, not {front.method}")
        elif front.outcome == "served" and front.body_bytes not in (-1, len(request.body)):
            told.append(f"the body of `{what}` had {len(request.body)} bytes, not {front.body_bytes}")
    for one in done:
        # What it answered with an error it may have refused without writing it down.
        if one.outcome == "served" and one.status < 400 and one.id not in understood and one.client in by_source:
            verdicts[by_source[one.client]].disagreements.append("what was answered is no request to the back end")
    return verdicts


def wrong(cases: list[Case], by_back: dict[str, dict[str, Verdict]]) -> list[str]:
    faults = []
    for back, verdicts in by_back.items():
        for case in cases:
            # Refused and passed requests come to the log by ways of their own.
            outcomes = verdicts[case.name].outcomes
            if sorted(outcomes) != sorted(case.expect):
                faults.append(f"{case.name} ({back}): {outcomes}, expected {case.expect}")
        for name, verdict in verdicts.items():
            faults += [f"{name} ({back}): {what}" for what in verdict.disagreements]
    return faults


def told(verdicts: dict[str, Verdict]) -> str:
    differ = sum(bool(verdict.disagreements) for verdict in verdicts.values())
    refused = sum(any(one not in ("served", "gone") for one in verdict.outcomes) for verdict in verdicts.values())
    return f"{refused} cases refused, {differ} with a disagreement"


def converse(front: Front, case: Case) -> None:
    if case.http2:
        speak_http2(front.http2, case)
    else:
        speak(front.http1, case.source, case.send)


def connect(port: int, source: str) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S, source_address=(source, 0))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def speak(port: int, source: str, send: bytes) -> None:
    """Sends all and no more, and waits for the end."""
    with connect(port, source) as client:
        try:
            client.sendall(send)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
        except (ConnectionError, TimeoutError, OSError):
            # It was cut; the logs say what became of it.
            pass


def speak_http2(port: int, case: Case) -> None:
    """Sends all, and waits until each stream or the connection has ended."""
    left, received, ends = set(case.streams), b"", time.monotonic() + PATIENCE_S
    with connect(port, case.source) as client:
        try:
            client.sendall(case.send)
            while left and time.monotonic() < ends:
                more = client.recv(65536)
                if not more:
                    return
                received += more
                while len(received) >= 9:
                    length, kind, flags = int.from_bytes(received[:3], "big"), received[3], received[4]
                    if len(received) < 9 + length:
                        break
                    stream = struct.unpack(">I", received[5:9])[0]
                    received = received[9 + length :]
                    if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & 1):
                        left.discard(stream)
                    if kind == GOAWAY:
                        left = set()
        except (ConnectionError, TimeoutError, OSError):
            pass


def table(cases: list[Case], results: dict[str, dict[str, dict[str, Verdict]]]) -> str:
    fronts = list(results)
    lines, group = [], None
    for case in cases:
        if case.group != group:
            group = case.group
            lines += ["", f"## {group}", "", "| case | " + " | ".join(fronts) + " |", "|---" * (len(fronts) + 1) + "|"]
        row = [" / ".join(cell(results[front], case.name)) for front in fronts]
        lines.append(f"| `{case.name}` | " + " | ".join(row) + " |")
    return "\n".join(lines).strip() + "\n"


def cell(by_back: dict[str, dict[str, Verdict]], name: str) -> list[str]:
    """What a front did, once where it did the same before all back ends, and before which of them it was not understood."""
    said = {back: ", ".join(verdicts[name].outcomes) or "closed" for back, verdicts in by_back.items()}
    differ = [back for back, verdicts in by_back.items() if verdicts[name].disagreements]
    words = [next(iter(said.values()))] if len(set(said.values())) == 1 else [f"{back}: {what}" for back, what in said.items()]
    return words + ([f"**differs: {', '.join(differ)}**"] if differ else [])


if __name__ == "__main__":
    run(main)
