"""What else spreads such news: HAProxy's peers with stick tables, and Redis' publish and subscribe."""

from __future__ import annotations

import pathlib
import socket
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection as PipeEnd

from .http import Connection, attack, get
from .node import Clients
from .processes import Failed, Lab, free_ports, listens, until
from .report import Figure
from .watch import Watcher, arm

# Only bad requests are tracked: a peer that tracked harmless ones would overwrite the other's count with its own zero.
HAPROXY = """defaults
  mode http
  timeout connect 5s
  timeout client 1m
  timeout server 1m
peers mesh
  peer a 127.0.0.1:{peer_a}
  peer b 127.0.0.1:{peer_b}
backend actors
  stick-table type ip size 100k expire 5m store gpc0 peers mesh
frontend shop
  bind 127.0.0.1:{port}
  acl bad url_param(q),url_dec -m sub UNION
  http-request track-sc0 req.hdr_ip(X-Forwarded-For) table actors if bad
  http-request sc-inc-gpc0(0) if bad
  http-request deny deny_status 403 if bad
  http-request deny deny_status 403 if {{ req.hdr_ip(X-Forwarded-For),table_gpc0(actors) ge 3 }}
  http-request return status 200 content-type text/html string "<p>open</p>"
"""


class HaProxies:
    """Two of them that tell each other what they count."""

    def __init__(self, lab: Lab, pause_ms: float) -> None:
        port_a, port_b, peer_a, peer_b = free_ports(4)
        self.clients = Clients(19)
        for name, port in (("a", port_a), ("b", port_b)):
            config = lab.subfolder("haproxy") / f"{name}.cfg"
            config.write_text(HAPROXY.format(peer_a=peer_a, peer_b=peer_b, port=port))
            lab.spawn(["haproxy", "-db", "-L", name, "-f", config], f"haproxy-{name}")
        until(f"HAProxy listens: {lab.said('haproxy-a')}", lambda: listens(port_a) and listens(port_b))
        self.first, self.second = Connection(f"127.0.0.1:{port_a}"), Watcher(lab, f"127.0.0.1:{port_b}", pause_ms)
        until("the peers are linked", lambda: self.trial() is not None, every_s=0.2)

    def measure(self, figure: Figure, trials: int) -> None:
        for _ in range(trials):
            sent_ns, at_ns = self.trial() or (0, None)
            figure.count(sent_ns, at_ns)

    def trial(self) -> tuple[int, int] | None:
        """A new actor's third bad request to the one until the other refuses a harmless one."""
        client = self.clients.next()
        for number in range(2):
            self.refused(get(attack(number), client))
        arm([self.second], client)
        sent_ns = time.monotonic_ns()
        self.refused(get(attack(2), client))
        at_ns = self.second.seen().at_ns
        return (sent_ns, at_ns) if at_ns else None

    def refused(self, request: bytes) -> None:
        status = self.first.exchange(request)[0]
        if status != 403:
            raise Failed(f"HAProxy answers a bad request with {status}")


class Redis:
    """A server, and a subscriber in a process of its own."""

    def __init__(self, lab: Lab) -> None:
        self.port = free_ports(1)[0]
        folder: pathlib.Path = lab.subfolder("redis")
        words = ["redis-server", "--bind", "127.0.0.1", "--port", self.port, "--save", "", "--dir", folder]
        lab.spawn([str(word) for word in words], "redis")
        until("Redis listens", lambda: listens(self.port))
        self.pipe, theirs = Pipe()
        lab.worker(subscribe, theirs, self.port)
        theirs.close()
        self.pipe.recv()
        self.socket = linked(self.port)
        self.published = 0

    def measure(self, figure: Figure, trials: int) -> None:
        """From publishing until the subscriber has it."""
        for _ in range(trials):
            self.published += 1
            sent_ns = time.monotonic_ns()
            self.socket.sendall(command("PUBLISH", "bans", str(self.published)))
            self.socket.recv(64)
            told, at_ns = self.pipe.recv()
            figure.count(sent_ns, at_ns if told == self.published else None)


def linked(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def command(*words: str) -> bytes:
    parts = [f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words)]
    return "".join(parts).encode()


def subscribe(pipe: PipeEnd, port: int) -> None:
    """Runs in the subscriber's process. A message comes whole: the next is sent when it has been told of."""
    own = linked(port)
    own.sendall(command("SUBSCRIBE", "bans"))
    own.recv(4096)
    pipe.send(None)
    while message := own.recv(4096):
        at_ns = time.monotonic_ns()
        pipe.send((int(message.split(b"\r\n")[-2]), at_ns))
