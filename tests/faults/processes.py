"""The processes of a fleet, on its machines, and the apps before which nodes stand."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any

from network import Machine

LISTEN, ADMIN, APP = 8080, 8900, 3000
# Longer than any of it takes where several builds run beside.
START_SECONDS = 60.0
ANSWER_SECONDS = 10.0


class Process:
    """A program on a machine, with a folder that outlives it."""

    def __init__(self, machine: Machine, folder: pathlib.Path, name: str | None = None) -> None:
        self.machine, self.folder = machine, folder
        self.name = name or machine.short
        self.log = folder.parent / f"{self.name}.log"
        self.child: subprocess.Popen[bytes] | None = None
        # Whether it runs and is not stopped: said before a fault begins and after it ends.
        self.live = False
        folder.mkdir(parents=True, exist_ok=True)

    def words(self) -> list[str]:
        raise NotImplementedError

    def wait_ready(self) -> None:
        raise NotImplementedError

    def launch(self) -> None:
        with open(self.log, "ab") as log, self.output() as output:
            environment = {**os.environ, "PHALANX_LOG": "info,phalanx_fleet=debug"}
            self.child = subprocess.Popen(
                self.machine.command(*self.words()),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    @contextlib.contextmanager
    def output(self) -> Iterator[int | IO[bytes]]:
        """Where its standard output goes."""
        yield subprocess.PIPE

    def start(self) -> None:
        self.launch()
        self.wait_ready()

    def kill(self) -> None:
        self.live = False
        if self.child:
            self.child.kill()
            self.child.wait()
            if self.child.stdout:
                self.child.stdout.close()
            self.child = None

    def pause(self) -> None:
        self.live = False
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)
        self.live = True

    def signal(self, number: signal.Signals) -> None:
        for process_id in self.process_ids():
            os.kill(process_id, number)

    def process_ids(self) -> list[int]:
        """Its own, and of what it started itself."""
        return [self.child.pid] if self.child else []

    def stands_still(self) -> bool:
        return all(state_of(process_id) == "T" for process_id in self.process_ids())

    def wipe(self) -> None:
        """Its disk is gone."""
        empty(self.folder)


class Node(Process):
    """A node of the fleet in front of an app."""

    def __init__(
        self, machine: Machine, folder: pathlib.Path, binary: str, fleet: list[str], name: str | None = None, orders: bool = True
    ) -> None:
        """`fleet` are the words of its command line that say how it reaches the fleet; `orders` whether it takes an operator's."""
        super().__init__(machine, folder, name)
        self.binary, self.fleet, self.orders = binary, fleet, orders
        self.node = self.name
        self.token = ""

    def words(self) -> list[str]:
        words = [self.binary, "up", "--json", "--workers", "1", "--to", f"http://127.0.0.1:{APP}"]
        words += ["--listen", f"127.0.0.1:{LISTEN}", "--admin", f"127.0.0.1:{ADMIN}", "--state", str(self.folder)]
        words += ["--trust-forwarded", "127.0.0.1/32", "--site", self.machine.site, "--node", self.node]
        return words + self.fleet

    def wait_ready(self) -> None:
        if self.child is None or self.child.stdout is None:
            raise RuntimeError(f"{self.name} was not launched")
        ready, _, _ = select.select([self.child.stdout], [], [], START_SECONDS)
        line = self.child.stdout.readline() if ready else b""
        if not line.startswith(b"{"):
            raise RuntimeError(f"{self.name} did not start: see {self.log}")
        self.token = (self.folder / "admin.token").read_text().strip()
        self.live = True

    def visit(self, client: str, path: str = "/", timeout: float = ANSWER_SECONDS) -> int:
        """The status that a client behind the trusted forwarder gets; 0 where the connection was cut."""
        return exchange(self.machine, LISTEN, "GET", path, {"X-Forwarded-For": client}, b"", timeout)[0]

    def call(self, method: str, path: str, body: Any = None, timeout: float = ANSWER_SECONDS) -> tuple[int, Any]:
        """A request to the node's API: its status, and what was answered."""
        fields = {"Authorization": f"Bearer {self.token}"}
        content = b""
        if body is not None:
            content = json.dumps(body).encode()
            fields["Content-Type"] = "application/json"
        status, answer = exchange(self.machine, ADMIN, method, f"/api/v1{path}", fields, content, timeout)
        return status, json.loads(answer) if answer else None

    def decisions(self) -> list[dict[str, Any]]:
        status, found = self.call("GET", "/decisions?limit=10000")
        if status != 200:
            raise RuntimeError(f"{self.name} lists no decisions: {status}")
        return list(found)

    def status(self) -> dict[str, Any]:
        """What it says of the fleet; nothing if it does not answer."""
        try:
            status, told = self.call("GET", "/status")
        except (OSError, ValueError):
            return {}
        return dict(told["fleet"]) if status == 200 else {}

    def reports(self, text: str) -> bool:
        """Whether something like this is degraded."""
        return any(text in fault for fault in self.status().get("degraded", []))

    def sees(self, other: Node) -> bool:
        members = self.status().get("members", [])
        return any((m["site"], m["node"]) == (other.machine.site, other.node) and (m["online"] or m["me"]) for m in members)

    def forget(self, other: Node) -> None:
        self.order("forget", "--site", other.machine.site, "--node", other.node)

    def order(self, *words: str) -> str:
        """What `phalanx fleet` says to this at the node."""
        command = self.machine.command(self.binary, "fleet", *words, "--state", str(self.folder))
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: fleet {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout


def state_of(process_id: int) -> str:
    """The kernel's letter for it: T is stopped, Z waited for by nobody; empty if there is none."""
    try:
        return pathlib.Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def empty(folder: pathlib.Path) -> None:
    """Removes what a folder holds; there must be something, or the fault was none."""
    if not any(folder.iterdir()):
        raise RuntimeError(f"{folder} holds nothing that could be lost")
    shutil.rmtree(folder)
    folder.mkdir()


def exchange(
    machine: Machine, port: int, method: str, path: str, fields: dict[str, str], body: bytes, timeout: float
) -> tuple[int, bytes]:
    """One HTTP exchange on a connection of its own. Status 0 if the peer closed without an answer."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nUser-Agent: faults\r\nAccept: */*\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head += f"Content-Length: {len(body)}\r\n\r\n" if body else "\r\n"
    with machine.connect(port, timeout) as stream:
        answer = b""
        try:
            stream.sendall(head.encode() + body)
            while piece := stream.recv(65536):
                answer += piece
        except ConnectionError:
            pass
    return parse(answer)


def parse(answer: bytes) -> tuple[int, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        return 0, b""
    if b"transfer-encoding: chunked" in head.lower():
        body = unchunk(body)
    return int(words[1]), body


def unchunk(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size or b"0", 16)
        whole, body = whole + body[:length], body[length + 2 :]
    return whole


class Apps:
    """What the nodes protect: a socket on each machine, all served by one thread of the driver."""

    ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

    def __init__(self) -> None:
        self.listeners: list[socket.socket] = []
        self.closed = False

    def listen(self, machine: Machine) -> None:
        with machine.inside():
            listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", APP))
        listener.listen(64)
        self.listeners.append(listener)

    def serve(self) -> None:
        while not self.closed:
            ready, _, _ = select.select(self.listeners, [], [], 0.2)
            for listener in ready:
                self.answer(listener)

    def answer(self, listener: socket.socket) -> None:
        try:
            stream, _ = listener.accept()
            with stream:
                stream.settimeout(2)
                stream.recv(65536)
                stream.sendall(self.ANSWER)
        except OSError:
            pass


def start_all(processes: Sequence[Process]) -> None:
    for process in processes:
        process.launch()
    for process in processes:
        process.wait_ready()


def until(what: str, holds: Any, seconds: float = START_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(f"in vain: {what}")
        time.sleep(0.1)
