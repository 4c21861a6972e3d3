#!/usr/bin/env python3
"""How long a fleet takes to learn and to forget, within one site.

    tests/measure/spread.py [--phalanx BINARY] [--trials N] [--servers 1|3] [--sync always] [--json]

Three nodes over one nats-server, or over a cluster of three that keeps three copies of each stream. A new actor for every
trial. The whole path: from the third attack on one node until the actor's harmless request is refused, on each node. The
record alone: from an order through the API until it is refused elsewhere. Undo: from the order on one node until the
actor is served again on the others, on one that was stopped meanwhile, and on one that was killed and starts again.
"""

from __future__ import annotations

import argparse
import signal
import time

from lab import options, site
from lab.node import Clients, Node
from lab.processes import Failed, Lab, run
from lab.report import Figure, show
from lab.watch import Watcher, arm


def main() -> None:
    given = arguments()
    with Lab() as lab:
        _servers, nodes = site.start(lab, given, given.servers, 3, given.sync)
        watchers = [Watcher(lab, node.listen, given.pause_ms) for node in nodes]
        clients = Clients()
        title = f"one site, {len(nodes)} nodes, {given.servers} nats-server, sync {given.sync or 'by default'}"
        show(f"third attack until refused; {title}", whole_path(nodes, watchers, clients, given.trials), given.json)
        orders, undone = orders_and_undo(nodes, watchers, clients, given.trials)
        show(f"order through the API until refused; {title}", orders, given.json)
        rejoined = [stopped(nodes, watchers, clients, given), restarted(nodes, watchers, clients, given)]
        show(f"undo until served again; {title}", [*undone, *rejoined], given.json)


def arguments() -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--rejoins", type=int, default=20, help="trials in which a node is stopped or killed [20]")
    parser.add_argument("--stopped-s", type=float, default=3.0, help="for how long it is stopped [3]")
    parser.add_argument("--servers", type=int, choices=(1, 3), default=1)
    parser.add_argument("--sync", default="", help="sync_interval of nats-server, such as always")
    return options.read(parser)


def whole_path(nodes: list[Node], watchers: list[Watcher], clients: Clients, trials: int) -> list[Figure]:
    """Attacks go to each node in turn, so that no place is special."""
    own = Figure("from sent, on the attacked node")
    sent = Figure("from sent, on another node", p99_max=100)
    answered = Figure("from answered, on another node", p99_max=100)
    for trial in range(trials):
        attacked, client = trial % len(nodes), clients.next()
        nodes[attacked].strike(client, 2)
        arm(watchers, client)
        sent_ns, answered_ns = nodes[attacked].third_attack(client)
        for number, watcher in enumerate(watchers):
            at_ns = watcher.seen().at_ns
            rows = [(own, sent_ns)] if number == attacked else [(sent, sent_ns), (answered, answered_ns)]
            for figure, since_ns in rows:
                figure.count(since_ns, at_ns)
    return [own, sent, answered]


def orders_and_undo(nodes: list[Node], watchers: list[Watcher], clients: Clients, trials: int) -> tuple[list[Figure], list[Figure]]:
    sent = Figure("from sent, on another node", p50_max=2, p99_max=20)
    answered = Figure("from answered, on another node", p50_max=2, p99_max=20)
    undone = Figure("from sent, on each node", max_max=1000)
    for trial in range(trials):
        author, undoer = trial % len(nodes), (trial + 1) % len(nodes)
        client = clients.next()
        arm(watchers, client)
        sent_ns, answered_ns, decision = nodes[author].ordered_ban(client)
        for number, watcher in enumerate(watchers):
            at_ns = watcher.seen().at_ns
            if number != author:
                sent.count(sent_ns, at_ns)
                answered.count(answered_ns, at_ns)
        arm(watchers, client, first=403, wanted=200)
        since_ns = time.monotonic_ns()
        nodes[undoer].api.call("DELETE", f"decisions/{decision}")
        for watcher in watchers:
            undone.count(since_ns, watcher.seen().at_ns)
    return [sent, answered], [undone]


def stopped(nodes: list[Node], watchers: list[Watcher], clients: Clients, given: argparse.Namespace) -> Figure:
    """Undone while a node is stopped: from the moment it goes on."""
    figure = Figure(f"from SIGCONT, on a node stopped for {given.stopped_s:g} s", max_max=1000)
    for _ in range(given.rejoins):
        client = clients.next()
        decision = banned(nodes, watchers, client)
        nodes[2].signal(signal.SIGSTOP)
        nodes[1].api.call("DELETE", f"decisions/{decision}")
        time.sleep(given.stopped_s)
        watchers[2].begin(client, 200)
        since_ns = time.monotonic_ns()
        nodes[2].signal(signal.SIGCONT)
        watchers[2].first()
        figure.count(since_ns, watchers[2].seen().at_ns)
    return figure


def restarted(nodes: list[Node], watchers: list[Watcher], clients: Clients, given: argparse.Namespace) -> Figure:
    """Undone while a node is dead: from the moment it is ready again, which it is before it has heard anything."""
    figure = Figure("from ready, on a node that was killed", max_max=1000)
    for _ in range(given.rejoins):
        client = clients.next()
        decision = banned(nodes, watchers, client)
        nodes[2].kill()
        nodes[1].api.call("DELETE", f"decisions/{decision}")
        nodes[2].start()
        since_ns = time.monotonic_ns()
        watchers[2].begin(client, 200)
        watchers[2].first()
        figure.count(since_ns, watchers[2].seen().at_ns)
    return figure


def banned(nodes: list[Node], watchers: list[Watcher], client: str) -> str:
    """Has an actor banned and waits until all nodes know."""
    arm(watchers, client)
    decision = nodes[0].ordered_ban(client)[2]
    if any(watcher.seen().at_ns is None for watcher in watchers):
        raise Failed(f"{client} was never refused")
    return decision


if __name__ == "__main__":
    run(main)
