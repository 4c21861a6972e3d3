#!/usr/bin/env python3
"""Whether a node that bans very many actors at once forgets any of them.

    tests/measure/burst.py [--phalanx BINARY] [--actors N] [--rounds N] [--json]

Many actors have sent two attacks to one of two nodes; then the third ones come as fast as the node answers, over many
connections, as from a botnet. When both nodes' numbers of decisions stand still, each actor sends a harmless request to each
node. One that is served was forgotten: its attacks were refused, and nothing came of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection as PipeEnd

from lab import options, site
from lab.http import attack, get
from lab.node import Clients, Node
from lab.processes import Failed, Lab, run
from lab.report import load

ATTACKS = 3
# Strikes count for a minute; all of an actor's must be sent within it.
STRIKES_S_MAX = 50
STILL_S = 2.0
# With more, the node's table of those who have struck would give way.
ACTORS_MAX = 20_000


@dataclass
class Burst:
    """What became of one: for the attacked node and for the other."""

    per_second: float
    still_s: list[float]
    forgotten: list[int]


def main() -> None:
    given = arguments()
    with Lab() as lab:
        _servers, nodes = site.start(lab, given, 1, 2)
        clients = Clients()
        bursts = [burst(lab, nodes, clients, given) for _ in range(given.rounds)]
        show(bursts, given)


def burst(lab: Lab, nodes: list[Node], clients: Clients, given: argparse.Namespace) -> Burst:
    actors = [clients.next() for _ in range(given.actors)]
    started = time.monotonic()
    for number in range(ATTACKS):
        last = time.monotonic()
        attacked(lab, nodes[0], [get(attack(number), actor) for actor in actors], given.connections)
    ended = time.monotonic()
    if ended - started > STRIKES_S_MAX:
        raise Failed("the machine is too slow to send so many attacks within the time in which strikes count")
    still = [until - last for until in still_at(nodes)]
    forgotten = [sum(node.ask(actor) != 403 for actor in actors) for node in nodes]
    return Burst(len(actors) / (ended - last), still, forgotten)


def arguments() -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.add_argument("--actors", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    given = options.read(parser)
    if given.actors > ACTORS_MAX:
        parser.error(f"at most {ACTORS_MAX} actors")
    return given


def attacked(lab: Lab, node: Node, requests: list[bytes], connections: int) -> None:
    """Sends requests in a process of its own; all must be refused."""
    ours, theirs = Pipe()
    lab.worker(send, theirs, node.listen, requests, connections)
    theirs.close()
    wrong = ours.recv()
    if wrong:
        raise Failed(f"{wrong} attacks were not answered with 403")


def send(pipe: PipeEnd, address: str, requests: list[bytes], connections: int) -> None:
    pipe.send(asyncio.run(send_all(address, requests, connections)))


async def send_all(address: str, requests: list[bytes], connections: int) -> int:
    """How many were not answered with 403."""
    statuses = await asyncio.gather(*(send_some(address, requests) for _ in range(connections)))
    return sum(status != 403 for some in statuses for status in some)


async def send_some(address: str, requests: list[bytes]) -> list[int]:
    """Takes requests for one connection while there are any; the reply to an attack that made a ban closes it."""
    host, port = address.rsplit(":", 1)
    statuses: list[int] = []
    while requests:
        reader, writer = await asyncio.open_connection(host, int(port))
        open_still = True
        while requests and open_still:
            writer.write(requests.pop())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0))
            statuses.append(int(head.split(b" ", 2)[1]))
            open_still = b"\r\nconnection: close" not in head
        writer.close()
    return statuses


def still_at(nodes: list[Node]) -> list[float]:
    """When each node's number of decisions last changed."""
    counts, changed = [-1] * len(nodes), [time.monotonic()] * len(nodes)
    while time.monotonic() - max(changed) < STILL_S:
        for number, node in enumerate(nodes):
            count = node.decisions()
            if count != counts[number]:
                counts[number], changed[number] = count, time.monotonic()
        time.sleep(0.005)
    return changed


def show(bursts: list[Burst], given: argparse.Namespace) -> None:
    lost = max(sum(forgotten) for forgotten in zip(*(one.forgotten for one in bursts), strict=True))
    if given.json:
        told = {"measurement": "burst of bans by attacks", "actors": given.actors, "lost": lost, "reached": not lost, "load": round(load(), 2)}
        print(json.dumps({**told, "bursts": [vars(one) for one in bursts]}))
        return
    print(f"bursts of {given.actors} bans by attacks on one node; load average {load():.1f} on {os.cpu_count()} cores")
    print(f"{'attacks/s':>9} {'in force there':>15} {'elsewhere':>10} {'forgotten there':>16} {'elsewhere':>10}")
    for one in bursts:
        here, there = one.still_s
        print(f"{one.per_second:>9.0f} {here:>13.2f} s {there:>8.2f} s {one.forgotten[0]:>16} {one.forgotten[1]:>10}")
    print(f"{lost} of {given.actors * len(bursts)} forgotten (goal 0: {'MISSED' if lost else 'reached'})")


if __name__ == "__main__":
    run(main)
