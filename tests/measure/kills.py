#!/usr/bin/env python3
"""Whether a fleet goes on learning, and how fast, while the server that leads its stream is killed again and again.

    tests/measure/kills.py [--phalanx BINARY] [--kills N] [--bans N] [--every-ms N] [--json]

Three nodes, a cluster of three nats-servers with three copies of each stream, every write through to disk. For each kill so
many actors have sent two attacks; then their third ones go to the first node at a fixed pace, and meanwhile the server that
leads the stream of decisions is killed (SIGKILL). Each ban is awaited at both other nodes. Then the server starts again, and
the next kill waits until all copies are whole. A ban that a node does not enforce within 30 seconds is lost.

The rows below the first tell the bans apart: by when they were sent, and by whose server it was that was killed, because a
node that was linked to it has to find another.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from math import inf
from typing import TextIO

from lab import nats, options, proc, site
from lab.node import Clients, Node
from lab.processes import Failed, Lab, run, until
from lab.report import Figure, show
from lab.watch import Watcher

STREAM = f"DEC_{site.SITE}"
# Of the bans of a kill, so many go before it.
BEFORE_SHARE = 0.1
# Strikes count for a minute; what is prepared for a kill must be sent well within it.
PREPARED_S_MAX = 40
SLOW_MS = 100
LINKS = ("no link cut", "author's link cut", "reader's link cut", "both links cut")


@dataclass
class Round:
    """One kill: when it was, which nodes were linked to that server, and what became of each ban."""

    killed: str
    cut_off: set[str]
    at_ns: int = 0
    sent_ns: dict[str, int] = field(default_factory=dict)
    seen: list[tuple[str, str, int | None]] = field(default_factory=list)


def main() -> None:
    given = arguments()
    with Lab() as lab:
        servers, nodes = site.start(lab, given, 3, 3, given.sync)
        streams = nats.replicate(servers)
        watchers = {node.name: Watcher(lab, node.listen, given.pause_ms) for node in nodes[1:]}
        clients = Clients()
        rounds = []
        for number in range(given.kills):
            rounds.append(one_kill(servers, nodes, watchers, clients, given))
            if given.trace:
                trace(given.trace, number, rounds[-1])
            if not given.json:
                progress(number, rounds[-1])
            whole_again(servers, streams)
        title = f"third attack sent until refused on another node; {given.kills} kills of the stream's leader, {given.bans} bans each"
        pace = f"one each {given.every_ms:g} ms, fsync {proc.flush_ms(lab.folder):.1f} ms"
        show(f"{title}, {pace}", figures(rounds, nodes[0].name), given.json)


def arguments() -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--bans", type=int, default=100, help="for each kill [100]")
    parser.add_argument("--every-ms", type=float, default=40, help="pace of the third attacks [40]")
    parser.add_argument("--trace", type=argparse.FileType("w"), help="a file for each ban of each kill, as JSON lines")
    parser.add_argument("--sync", default="always", help="sync_interval of nats-server [always]")
    return options.read(parser)


def one_kill(
    servers: list[nats.Server], nodes: list[Node], watchers: dict[str, Watcher], clients: Clients, given: argparse.Namespace
) -> Round:
    node, actors = nodes[0], prepared(nodes[0], clients, given.bans)
    leader = nats.leader(servers, STREAM)
    cut_off = {one.name for one in nodes if leader.port in proc.connected_ports(one.child.pid)}
    done = Round(leader.name, cut_off)
    first_ns = time.monotonic_ns()
    for number, client in enumerate(actors):
        sleep_until(first_ns + int(number * given.every_ms * 1e6))
        if number == int(len(actors) * BEFORE_SHARE):
            done.at_ns = time.monotonic_ns()
            leader.kill()
        for watcher in watchers.values():
            watcher.begin(client, 403)
        done.sent_ns[client] = node.third_attack(client)[0]
    for name, watcher in watchers.items():
        done.seen += [(name, seen.client, seen.at_ns) for seen in (watcher.seen() for _ in actors)]
    leader.start()
    return done


def prepared(node: Node, clients: Clients, count: int) -> list[str]:
    """Actors who lack one attack."""
    started = time.monotonic()
    actors = [clients.next() for _ in range(count)]
    for client in actors:
        node.strike(client, 2)
    if time.monotonic() - started > PREPARED_S_MAX:
        raise Failed("the machine is too slow to prepare so many actors within the time in which strikes count")
    return actors


def whole_again(servers: list[nats.Server], streams: list[str]) -> None:
    until("all copies are whole again", lambda: nats.current(servers, streams), 120, 0.1)


def sleep_until(at_ns: int) -> None:
    time.sleep(max(at_ns - time.monotonic_ns(), 0) / 1e9)


def figures(rounds: list[Round], author: str) -> list[Figure]:
    """All bans, and apart by when they were sent and by whose server was killed."""
    every = Figure("all", p99_max=SLOW_MS)
    times = [Figure(f"sent {when}") for when in ("before the kill", "in the first second after it", "later")]
    links = {link: Figure(f"after it, {link}") for link in LINKS}
    for one in rounds:
        for node, client, at_ns in one.seen:
            sent_ns = one.sent_ns[client]
            every.count(sent_ns, at_ns)
            times[(sent_ns >= one.at_ns) + (sent_ns >= one.at_ns + 1_000_000_000)].count(sent_ns, at_ns)
            if sent_ns >= one.at_ns:
                links[LINKS[(author in one.cut_off) + 2 * (node in one.cut_off)]].count(sent_ns, at_ns)
    slow = sum(max(times_ms(one)) > SLOW_MS for one in rounds)
    every.note = f"{slow} of {len(rounds)} kills had a ban above {SLOW_MS:g} ms"
    return [every, *times, *links.values()]


def times_ms(one: Round) -> list[float]:
    """How long each ban of a kill took on each node; endless if it was lost."""
    return [inf if at_ns is None else (at_ns - one.sent_ns[client]) / 1e6 for _node, client, at_ns in one.seen]


def trace(to: TextIO, number: int, one: Round) -> None:
    for (node, client, at_ns), took_ms in zip(one.seen, times_ms(one), strict=True):
        sent_ms = (one.sent_ns[client] - one.at_ns) / 1e6
        line = {"kill": number + 1, "node": node, "cut_off": sorted(one.cut_off), "sent_ms": sent_ms, "took_ms": took_ms if at_ns else None}
        to.write(json.dumps(line) + "\n")


def progress(number: int, one: Round) -> None:
    times = times_ms(one)
    slow = sum(each > SLOW_MS for each in times)
    print(f"kill {number + 1}: {one.killed}, slowest {max(times):.1f} ms, {slow} of {len(times)} above {SLOW_MS:g} ms", flush=True)


if __name__ == "__main__":
    run(main)
