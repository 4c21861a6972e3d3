#!/usr/bin/env python3
"""What else spreads such news, side by side in the same run.

    tests/measure/beside.py [--phalanx BINARY] [--trials N] [--json] [--only NAME]...

Phalanx: two nodes over one nats-server, from the third attack, or from an order, until another node refuses. HAProxy:
two peers with a stick table, from the third bad request to the one until the other refuses. CrowdSec: from an order to
its local API until its firewall bouncer has put the address into the nftables set; asking each second, and each ten, which is
its default. Redis: from publishing until a subscriber has the message, the floor: it decides, keeps and enforces nothing.
The quick ones take turns, so that what else the machine does meets all of them; CrowdSec, which mostly waits, runs meanwhile.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import spread
from lab import crowdsec, options, site
from lab.node import Clients
from lab.peers import HaProxies, Redis
from lab.processes import Lab, Skipped, run
from lab.report import Figure, show
from lab.watch import Watcher

ROUNDS = 6
CROWDSEC = "order -> in the firewall's set"
NAMES = ("phalanx", "haproxy", "crowdsec", "redis")

# So many trials more, counted into these rows.
Turn = Callable[[int], None]


def main() -> None:
    given = arguments()
    with Lab() as lab:
        waiting = crowdsecs(lab, given) if "crowdsec" in given.only else []
        rows: list[Figure] = []
        turns = [turn for start in (phalanx, haproxy, redis) if start.__name__ in given.only for turn in started(start, lab, rows, given)]
        for _ in range(ROUNDS):
            for turn in turns:
                turn(-(-given.trials // ROUNDS))
        show("side by side", rows + [ended(figure, job) for figure, job in waiting], given.json)


def arguments() -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.add_argument("--trials", type=int, default=300, help="of the quick ones [300]")
    parser.add_argument("--trials-1s", type=int, default=60, help="of CrowdSec asking each second [60]")
    parser.add_argument("--trials-10s", type=int, default=20, help="of CrowdSec asking each ten seconds [20]")
    parser.add_argument("--only", action="append", choices=NAMES, help="only this; may be repeated")
    given = options.read(parser)
    given.only = given.only or list(NAMES)
    return given


def started(start: Callable[..., Turn], lab: Lab, rows: list[Figure], given: argparse.Namespace) -> list[Turn]:
    """What one of them does in its turn; nothing if it is not installed."""
    try:
        return [start(lab, rows, given)]
    except Skipped as fault:
        print(f"skipped: {fault}", file=sys.stderr)
        return []


def phalanx(lab: Lab, rows: list[Figure], given: argparse.Namespace) -> Turn:
    path = Figure("Phalanx: third attack -> refused on another node", p99_max=100)
    order = Figure("Phalanx: order -> refused on another node", p50_max=2, p99_max=20)
    rows += [path, order]
    _servers, nodes = site.start(lab, given, 1, 2)
    watchers = [Watcher(lab, node.listen, given.pause_ms) for node in nodes]
    clients = Clients()

    def turn(trials: int) -> None:
        _own, sent, _answered = spread.whole_path(nodes, watchers, clients, trials)
        orders, _undone = spread.orders_and_undo(nodes, watchers, clients, trials)
        for figure, more in ((path, sent), (order, orders[0])):
            figure.times_ms += more.times_ms
            figure.lost += more.lost

    return turn


def haproxy(lab: Lab, rows: list[Figure], given: argparse.Namespace) -> Turn:
    figure = Figure("HAProxy peers: third bad request -> refused by the peer")
    proxies = HaProxies(lab, given.pause_ms)
    rows.append(figure)
    return lambda trials: proxies.measure(figure, trials)


def redis(lab: Lab, rows: list[Figure], given: argparse.Namespace) -> Turn:
    figure = Figure("Redis: publish -> received (no decision, nothing kept)")
    server = Redis(lab)
    rows.append(figure)
    return lambda trials: server.measure(figure, trials)


def crowdsecs(lab: Lab, given: argparse.Namespace) -> list[tuple[Figure, crowdsec.Measured]]:
    """Both start to measure at once, each in a network namespace of its own."""
    jobs = [crowdsec.Job(1, given.trials_1s), crowdsec.Job(10, given.trials_10s)]
    try:
        return [(Figure(f"CrowdSec asking each {job.every_s} s: {CROWDSEC}"), crowdsec.Measured(lab, job)) for job in jobs]
    except Skipped as fault:
        print(f"skipped: {fault}", file=sys.stderr)
        return []


def ended(figure: Figure, measured: crowdsec.Measured) -> Figure:
    try:
        for sent_ns, at_ns in measured.times():
            figure.count(sent_ns, at_ns)
    except Skipped as fault:
        figure.note = f"skipped: {fault}"
    return figure


if __name__ == "__main__":
    run(main)
