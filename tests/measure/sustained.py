#!/usr/bin/env python3
"""How many decisions a second a fleet sustains, until they are enforced on another node, and what limits it.

    tests/measure/sustained.py [--phalanx BINARY] [--decisions N] [--connections N] [--sync always] [--json]

Orders go through the API, on one node and then on two at once, over so many connections that each always wait for an answer;
every one is about another address. An order that a node has no room for (503) is given again a little later. A node that
gave no orders counts what it enforces. The rate is that of all orders, from the first that was sent until that node enforces
all. What limits is named: where orders wait, threads that use a whole core, or the machine; with the CPU that each process
needs for a decision, which says what a quiet machine could do.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection as PipeEnd

from lab import options, site
from lab.http import Api
from lab.node import Node
from lab.proc import Shares, Usage, flush_ms
from lab.processes import Failed, Lab, run
from lab.report import load, percentile

RATE_MIN = 2000
# A ban from each of these is looked for at the end at the reading node's own door.
SAMPLES = 100
BUSY_SHARE = 0.85
IDLE_SHARE = 0.1
ARRIVAL_S_MAX = 120
AGAIN_S = 0.02


@dataclass
class Outcome:
    """One load."""

    name: str
    orders: int
    again: int
    accepted_s: float
    enforced_s: float
    confirmed_s: float
    answer_ms: list[float]
    used: Shares
    flush_ms: float

    def rate(self) -> float:
        return self.orders / self.enforced_s

    def us_each(self) -> dict[str, float]:
        """What each process needs for a decision, in microseconds of CPU."""
        return {name: share * self.enforced_s / self.orders * 1e6 for name, share in self.used.processes.items()}


def main() -> None:
    given = arguments()
    with Lab() as lab:
        servers, nodes = site.start(lab, given, given.servers, 3, given.sync)
        pids = {f"node {node.name}": node.child.pid for node in nodes}
        pids |= {f"nats-server {server.name}": server.child.pid for server in servers}
        reader, network = nodes[2], 1
        for authors in (nodes[:1], nodes[:2]):
            outcome = measured(lab, authors, reader, pids, network, given)
            network += len(authors)
            show(outcome, given)


def arguments() -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.add_argument("--decisions", type=int, default=20_000, help="in each load; an author may have 100,000 [20000]")
    parser.add_argument("--connections", type=int, default=32, help="to each node [32]")
    parser.add_argument("--servers", type=int, choices=(1, 3), default=1)
    parser.add_argument("--sync", default="", help="sync_interval of nats-server, such as always")
    return options.read(parser)


def measured(lab: Lab, authors: list[Node], reader: Node, pids: dict[str, int], network: int, given: argparse.Namespace) -> Outcome:
    """One load on these nodes; what the clients use of the machine is told too."""
    before, each = reader.decisions(), given.decisions // len(authors)
    pipes, workers = [], {}
    for number, author in enumerate(authors):
        ours, theirs = Pipe()
        process = lab.worker(orders, theirs, author.admin, author.token, network + number, each, given.connections)
        workers[f"client {number + 1}"] = int(process.pid or 0)
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    usage = Usage({**pids, **workers})
    started = time.monotonic()
    for pipe in pipes:
        pipe.send(None)
    told = [pipe.recv() for pipe in pipes]
    accepted = time.monotonic()
    made = each * len(authors)
    enforced = when("the other node enforces all", lambda: reader.decisions() >= before + made)
    shares = usage.shares()
    confirmed = when("all is on disk and in the stream", lambda: not any(queue(author) for author in authors))
    sampled(reader, network, len(authors), each)
    name = f"orders on {len(authors)} node{'s' * (len(authors) > 1)}, {given.connections} connections to each"
    times = [ms for _, answers in told for ms in answers]
    ends = (accepted - started, enforced - started, confirmed - started)
    return Outcome(name, made, sum(again for again, _ in told), *ends, times, shares, flush_ms(lab.folder))


def when(what: str, condition: Callable[[], object]) -> float:
    ends = time.monotonic() + ARRIVAL_S_MAX
    while not condition():
        if time.monotonic() > ends:
            raise Failed(f"in vain waited {ARRIVAL_S_MAX} s until {what}")
        time.sleep(0.02)
    return time.monotonic()


def queue(node: Node) -> int:
    return int(node.api.call("GET", "status")["fleet"]["queue"])


def sampled(reader: Node, network: int, authors: int, each: int) -> None:
    """Whether what is counted is really refused."""
    for author in range(authors):
        for number in range(0, each, max(each // SAMPLES, 1)):
            status = reader.ask(address(network + author, number))
            if status != 403:
                raise Failed(f"{address(network + author, number)} is answered with {status}")


def address(network: int, number: int) -> str:
    return f"10.{network}.{number >> 8}.{number & 255}"


def orders(pipe: PipeEnd, admin: str, token: str, network: int, count: int, connections: int) -> None:
    """Runs in the client's process: all requests are made beforehand, so that it uses little of the machine afterwards."""
    api = Api(admin, token)
    made = [api.request("POST", "decisions", order(network, number)) for number in range(count)]
    pipe.send(None)
    pipe.recv()
    pipe.send(asyncio.run(send_all(admin, made, connections)))


def order(network: int, number: int) -> dict[str, object]:
    return {"ip": address(network, number), "for_ms": 600_000, "reason": "measured"}


async def send_all(admin: str, requests: list[bytes], connections: int) -> tuple[int, list[float]]:
    """How many had to be given again, and how long each answer took in milliseconds."""
    host, port = admin.rsplit(":", 1)
    loop = asyncio.get_running_loop()
    clients = [Client(requests, loop.create_future()) for _ in range(connections)]
    for client in clients:
        await loop.create_connection(functools.partial(itself, client), host, int(port))
    await asyncio.gather(*(client.done for client in clients))
    return sum(client.again for client in clients), [ms for client in clients for ms in client.times_ms]


def itself(client: Client) -> Client:
    return client


class Client(asyncio.Protocol):
    """Sends one request after the other, each when the one before was answered."""

    def __init__(self, requests: list[bytes], done: asyncio.Future[None]) -> None:
        self.requests, self.done = requests, done
        self.again = 0
        self.times_ms: list[float] = []
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.next()

    def next(self) -> None:
        if not self.requests:
            self.transport.close()
            self.done.set_result(None)
            return
        self.sent, self.request = time.monotonic(), self.requests.pop()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
        if len(rest) < length:
            return
        self.buffer = b""
        self.times_ms.append((time.monotonic() - self.sent) * 1000)
        status = head.split(b" ", 2)[1]
        if status == b"201":
            self.next()
        elif status == b"503":
            self.again += 1
            self.requests.append(self.request)
            asyncio.get_running_loop().call_later(AGAIN_S, self.next)
        else:
            self.done.set_exception(Failed(f"an order was answered with {status.decode()} {rest.decode(errors='replace')}"))

    def connection_lost(self, fault: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(fault or ConnectionResetError("the node closed the connection"))


def limits(outcome: Outcome) -> list[str]:
    """The bottlenecks in words."""
    used, found = outcome.used, []
    if outcome.again > outcome.orders / 100:
        found.append(f"the node's ledger: {outcome.again} orders found no room in it and were given again")
    if outcome.enforced_s > 1.3 * outcome.accepted_s:
        confirmed = outcome.orders / outcome.confirmed_s
        found.append(f"what follows the answer: the stream confirms {confirmed:.0f} a second, and only so many may be unconfirmed")
    found += [f"{name} uses {share:.0%} of a core" for name, share in used.threads.items() if share >= BUSY_SHARE]
    if used.idle < IDLE_SHARE * (os.cpu_count() or 1):
        found.append(f"the machine: no core is idle, {used.others:.2f} of them are used by what is not measured here")
    return found or ["no thread and not the machine: something waits"]


def show(outcome: Outcome, given: argparse.Namespace) -> None:
    if given.json:
        print(json.dumps(as_object(outcome, given)), flush=True)
        return
    verdict = "reached" if outcome.rate() >= RATE_MIN else "MISSED"
    servers = f"{given.servers} nats-server, sync {given.sync or 'by default'}, fsync {outcome.flush_ms:.1f} ms"
    print(f"{outcome.name}; {servers}; load average {load():.1f} on {os.cpu_count()} cores")
    print(f"  {outcome.rate():8.0f} decisions a second until enforced on another node (goal {RATE_MIN}: {verdict})")
    print(f"  {outcome.orders:8} decisions: answered after {outcome.accepted_s:.2f} s ({outcome.again} times with 503), "
          f"enforced on another node after {outcome.enforced_s:.2f} s, on disk and in the stream after {outcome.confirmed_s:.2f} s")
    print(f"  {statistics.median(outcome.answer_ms):8.2f} ms p50 for an answer, p99 {percentile(outcome.answer_ms, 0.99):.2f} ms")
    for limit in limits(outcome):
        print(f"  limit: {limit}")
    used = outcome.used
    print(f"  us of CPU for a decision: {words(outcome.us_each(), 8, '.0f')}")
    rest = f"all else {used.others:.2f}; idle {used.idle:.2f}, waiting for disks {used.waiting:.2f}"
    print(f"  cores used: {words(used.processes, 8)}, {rest}")
    print(f"  busiest threads: {words(used.threads, 6)}", flush=True)


def as_object(outcome: Outcome, given: argparse.Namespace) -> dict[str, object]:
    told = {"measurement": "sustained decisions", "load_name": outcome.name, "servers": given.servers, "sync": given.sync or None}
    rate = {"per_second": round(outcome.rate()), "goal": RATE_MIN, "reached": outcome.rate() >= RATE_MIN, "limits": limits(outcome)}
    times = {name: round(getattr(outcome, name), 3) for name in ("accepted_s", "enforced_s", "confirmed_s")}
    answers = {"answer_p50_ms": statistics.median(outcome.answer_ms), "answer_p99_ms": percentile(outcome.answer_ms, 0.99)}
    counts = {"trials": outcome.orders, "answers_503": outcome.again, "us_each": rounded(outcome.us_each())}
    used = {name: rounded(value) for name, value in vars(outcome.used).items()}
    machine = {"cores_used": used, "load": round(load(), 2), "cores": os.cpu_count(), "flush_ms": outcome.flush_ms}
    return {**told, **rate, **counts, **times, **answers, **machine}


def rounded(value: dict[str, float] | float) -> dict[str, float] | float:
    """Without what used nothing."""
    if isinstance(value, dict):
        return {name: round(share, 3) for name, share in value.items() if share >= 0.005}
    return round(value, 3)


def words(shares: dict[str, float], count: int, form: str = ".2f") -> str:
    ordered = sorted(shares.items(), key=lambda item: -item[1])[:count]
    return ", ".join(f"{name} {share:{form}}" for name, share in ordered)


if __name__ == "__main__":
    run(main)
