"""Real nodes: `phalanx up`, as members of a fleet."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from .http import Api, Connection, attack, get
from .processes import DEADLINE_S, Failed, Lab, end, until


@dataclass
class Member:
    """Who a node is, and how it reaches the fleet; one that joins with a token is told that."""

    site: str
    node: str
    nats_url: str | None
    options: Sequence[str] = ()


class Node:
    """A running node. Its state outlives it."""

    def __init__(self, lab: Lab, binary: pathlib.Path, upstream: str, member: Member) -> None:
        self.lab, self.binary, self.upstream, self.member = lab, binary, upstream, member
        self.name = f"{member.site}/{member.node}"
        self.state = state_of(lab, member.site, member.node)
        self.child: subprocess.Popen[bytes]
        self.listen = self.admin = "127.0.0.1:0"
        self.start()

    def start(self) -> None:
        """Starts it, the second time on the addresses that it had."""
        log = self.state.name
        words: list[str | os.PathLike[str]] = [self.binary, "up", "--to", self.upstream, "--listen", self.listen, "--admin", self.admin]
        words += ["--json", "--state", self.state, "--workers", "1"]
        words += ["--fleet", self.member.nats_url] if self.member.nats_url else []
        words += ["--site", self.member.site, "--node", self.member.node, "--trust-forwarded", "127.0.0.1/32"]
        self.child = self.lab.spawn([*words, *self.member.options], log, stdout=subprocess.PIPE)
        line = first_line(self.child)
        if not line:
            raise Failed(f"{self.name} did not start: {self.lab.said(log)}")
        ready = json.loads(line)
        self.listen = ready["listen"].removeprefix("http://").rstrip("/")
        self.admin = ready["admin"].removeprefix("http://").rstrip("/")
        self.token = pathlib.Path(ready["token_file"]).read_text().strip()
        self.client = Connection(self.listen)
        self.api = Api(self.admin, self.token)

    def signal(self, name: signal.Signals) -> None:
        os.kill(self.child.pid, name)

    def kill(self) -> None:
        end(self.child)

    def ask(self, client: str, path: str = "/") -> int:
        """The status of one request in the name of a client."""
        return self.client.exchange(get(path, client))[0]

    def strike(self, client: str, count: int) -> None:
        """Sends so many different attacks; three within a minute are a ban."""
        for number in range(count):
            status = self.ask(client, attack(number))
            if status != 403:
                raise Failed(f"{self.name} answered attack {number} of {client} with {status}")

    def third_attack(self, client: str) -> tuple[int, int]:
        """Sends the one that makes the ban: when it was sent and when it was answered."""
        request = get(attack(2), client)
        sent_ns = time.monotonic_ns()
        status = self.client.exchange(request)[0]
        answered_ns = time.monotonic_ns()
        if status != 403:
            raise Failed(f"{self.name} answered the third attack of {client} with {status}")
        return sent_ns, answered_ns

    def ordered_ban(self, client: str) -> tuple[int, int, str]:
        """Orders a ban by the API: when that was sent, when it was answered, and the decision's id."""
        sent_ns = time.monotonic_ns()
        decision = self.api.ban(client)
        return sent_ns, time.monotonic_ns(), decision

    def decisions(self) -> int:
        return int(self.api.call("GET", "status")["decisions_live"])


def state_of(lab: Lab, site: str, node: str) -> pathlib.Path:
    return lab.subfolder(f"node-{site}-{node}")


def first_line(child: subprocess.Popen[bytes]) -> bytes:
    assert child.stdout is not None
    if not select.select([child.stdout], [], [], DEADLINE_S)[0]:
        return b""
    return child.stdout.readline()


def fleet(lab: Lab, binary: pathlib.Path, upstream: str, members: Sequence[Member]) -> list[Node]:
    """Starts nodes and waits until all know all."""
    nodes = [Node(lab, binary, upstream, member) for member in members]
    acquainted(nodes)
    return nodes


def acquainted(nodes: Sequence[Node]) -> None:
    def all_known(node: Node) -> bool:
        told = node.api.call("GET", "status")["fleet"]
        online = [member for member in told["members"] if member["online"]]
        return bool(told["connected"]) and len(online) == len(nodes)

    for node in nodes:
        until(f"{node.name} sees {len(nodes)} members", functools.partial(all_known, node))


class Clients:
    """Addresses that nobody had yet, from the network for benchmarks."""

    def __init__(self, network: int = 18) -> None:
        self.network, self.count = network, 0

    def next(self) -> str:
        number = self.count
        self.count += 1
        if number >= 1 << 16:
            raise Failed("no more addresses")
        return f"198.{self.network}.{number >> 8}.{number & 255}"
