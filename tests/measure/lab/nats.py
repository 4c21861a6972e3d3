"""Real nats-servers, one or a cluster of three, and as much of their text protocol as it takes to ask JetStream something."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from typing import Any

from .processes import Failed, Lab, Skipped, end, free_ports, listens, until

CONFIG = """server_name: {name}
listen: 127.0.0.1:{port}
jetstream {{ store_dir: "{folder}", {sync} }}
"""
CLUSTER = """cluster {{ name: measured, listen: 127.0.0.1:{route}, no_advertise: true, routes: [{routes}] }}
"""


def binary(named: str | None) -> str:
    """The server to run: the one named, that of PHALANX_NATS_SERVER, or that of PATH."""
    found = named or os.environ.get("PHALANX_NATS_SERVER") or "nats-server"
    if not shutil.which(found):
        raise Skipped(f"{found} is not installed; set PHALANX_NATS_SERVER")
    return found


class Server:
    """One nats-server with JetStream; killed and started again it has the same port and store."""

    def __init__(self, lab: Lab, program: str, name: str, port: int, cluster: str, sync: str) -> None:
        self.lab, self.program, self.name, self.port = lab, program, name, port
        folder = lab.subfolder(f"nats-{name}")
        setting = f"sync_interval: {sync}" if sync else ""
        self.config = folder / "nats-server.conf"
        self.config.write_text(CONFIG.format(name=name, port=port, folder=folder, sync=setting) + cluster)
        self.child: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        self.child = self.lab.spawn([self.program, "-c", self.config], f"nats-{self.name}")
        until(f"{self.name} listens: {self.lab.said(f'nats-{self.name}')}", lambda: listens(self.port))

    def kill(self) -> None:
        end(self.child)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"


def single(lab: Lab, program: str, sync: str = "") -> Server:
    """One server. `sync` is how often it writes through to disk: `always`, a time, or its default."""
    return Server(lab, program, "only", free_ports(1)[0], "", sync)


def cluster(lab: Lab, program: str, sync: str = "always") -> list[Server]:
    """Three servers that know each other; returns when JetStream answers."""
    ports = free_ports(6)
    routes = ", ".join(f"nats-route://127.0.0.1:{port}" for port in ports[3:])
    servers = []
    for number, name in enumerate(("n1", "n2", "n3")):
        shape = CLUSTER.format(route=ports[3 + number], routes=routes)
        servers.append(Server(lab, program, name, ports[number], shape, sync))
    until("the cluster's JetStream answers", lambda: answers(servers))
    return servers


def answers(servers: list[Server]) -> bool:
    try:
        with JetStream(servers[0].port) as asked:
            return "error" not in asked.ask("INFO")
    except OSError:
        return False


class JetStream:
    """Asks a server's JetStream API over a connection of its own."""

    def __init__(self, port: int, timeout_s: float = 5.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self.lines = self.socket.makefile("rb")
        self.inbox = f"_INBOX.measure.{os.getpid()}"
        self.lines.readline()  # INFO
        options = {"verbose": False, "pedantic": False, "lang": "python", "version": "0", "name": "measure"}
        self.socket.sendall(f"CONNECT {json.dumps(options)}\r\nSUB {self.inbox} 1\r\n".encode())

    def __enter__(self) -> JetStream:
        return self

    def __exit__(self, *fault: object) -> None:
        self.lines.close()
        self.socket.close()

    def ask(self, subject: str, body: Any = None) -> dict[str, Any]:
        payload = b"" if body is None else json.dumps(body).encode()
        head = f"PUB $JS.API.{subject} {self.inbox} {len(payload)}\r\n".encode()
        self.socket.sendall(head + payload + b"\r\n")
        while True:
            line = self.lines.readline()
            if line.startswith(b"PING"):
                self.socket.sendall(b"PONG\r\n")
            elif line.startswith(b"MSG"):
                answer: dict[str, Any] = json.loads(self.lines.read(int(line.split()[-1]) + 2))
                return answer
            elif line.startswith(b"-ERR") or not line:
                raise ConnectionError(line.decode(errors="replace"))

    def info(self, stream: str) -> dict[str, Any]:
        return self.ask(f"STREAM.INFO.{stream}")

    def streams(self) -> list[str]:
        return self.ask("STREAM.NAMES").get("streams") or []


def leader(servers: list[Server], stream: str) -> Server:
    """The server that leads a stream."""
    found: list[Server] = []

    def look() -> bool:
        with JetStream(next(server.port for server in servers if listens(server.port))) as asked:
            name = (asked.info(stream).get("cluster") or {}).get("leader")
        found[:] = [server for server in servers if server.name == name]
        return bool(found)

    until(f"{stream} has a leader", look)
    return found[0]


def replicate(servers: list[Server], copies: int = 3) -> list[str]:
    """Gives every stream so many copies, unless it has them, and waits until all are current. The names."""
    with JetStream(servers[0].port) as asked:
        names = asked.streams()
        for name in names:
            config = asked.info(name)["config"]
            if config["num_replicas"] != copies:
                answer = asked.ask(f"STREAM.UPDATE.{name}", {**config, "num_replicas": copies})
                if "error" in answer:
                    raise Failed(f"{name} takes no {copies} copies: {answer['error']}")
    until("all copies are current", lambda: current(servers, names, copies), 60)
    return names


def current(servers: list[Server], names: list[str], copies: int = 3) -> bool:
    """Whether every copy of these streams has all that its leader has."""
    try:
        with JetStream(servers[0].port) as asked:
            return all(whole(asked.info(name), copies) for name in names)
    except OSError:
        return False


def whole(info: dict[str, Any], copies: int) -> bool:
    shape = info.get("cluster") or {}
    others = [one for one in shape.get("replicas") or [] if one.get("current") and not one.get("offline")]
    return bool(shape.get("leader")) and len(others) >= copies - 1
