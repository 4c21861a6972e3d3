"""A plain HTTP/1.1 client on one connection that stays open, quick enough to measure with, and a node's API over it."""

from __future__ import annotations

import json
import select
import socket
from typing import Any

AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


class Connection:
    """One connection to an address, made again when it was closed."""

    def __init__(self, address: str, timeout_s: float = 10.0) -> None:
        host, port = address.rsplit(":", 1)
        self.address = (host, int(port))
        self.timeout_s = timeout_s
        self.socket: socket.socket | None = None
        self.buffer = b""

    def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Sends a request and reads its reply: status and body. Status 0: cut off, as a ban may do, or not reached."""
        try:
            return self.attempt(request)
        except OSError:
            self.close()
            return 0, b""

    def attempt(self, request: bytes) -> tuple[int, bytes]:
        if self.socket and select.select([self.socket], [], [], 0)[0]:
            # Nothing is due: the other side has closed what was idle for long.
            self.close()
        if self.socket is None:
            self.socket = socket.create_connection(self.address, timeout=self.timeout_s)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.buffer = b""
        self.socket.sendall(request)
        head = self.head()
        fields = head.lower()
        body = self.body(fields)
        if b"\r\nconnection: close" in fields:
            self.close()
        return int(head.split(b" ", 2)[1]), body

    def head(self) -> bytes:
        while b"\r\n\r\n" not in self.buffer:
            self.read()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head

    def body(self, fields: bytes) -> bytes:
        if b"\r\ntransfer-encoding: chunked" in fields:
            return self.chunks()
        length = fields.partition(b"\r\ncontent-length:")[2].split(b"\r\n", 1)[0]
        return self.take(int(length or 0))

    def chunks(self) -> bytes:
        body = b""
        while True:
            while b"\r\n" not in self.buffer:
                self.read()
            size, _, self.buffer = self.buffer.partition(b"\r\n")
            chunk = self.take(int(size, 16) + 2)[:-2]
            if not chunk:
                return body
            body += chunk

    def take(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self.read()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def read(self) -> None:
        data = self.socket.recv(65536) if self.socket else b""
        if not data:
            raise ConnectionResetError
        self.buffer += data

    def close(self) -> None:
        if self.socket:
            self.socket.close()
        self.socket = None


def get(path: str, client: str) -> bytes:
    """A GET in the name of a client behind a trusted forwarder."""
    head = f"GET {path} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: {AGENT}\r\nAccept: */*\r\n"
    return f"{head}X-Forwarded-For: {client}\r\n\r\n".encode()


def attack(number: int) -> str:
    """A path with an attack in it. The number makes the payload distinct: the same one again does not strike again."""
    return f"/?q=%27%20UNION%20SELECT%20password%20FROM%20users%20WHERE%20id%3D{number}--%20"


class Api:
    """A node's API, with its token."""

    def __init__(self, address: str, token: str, timeout_s: float = 10.0) -> None:
        self.connection = Connection(address, timeout_s)
        self.fields = f"Host: {address}\r\nAuthorization: Bearer {token}\r\n"

    def request(self, method: str, path: str, body: Any = None) -> bytes:
        text = "" if body is None else json.dumps(body)
        kind = "Content-Type: application/json\r\n" if text else ""
        head = f"{method} /api/v1/{path} HTTP/1.1\r\n{self.fields}{kind}Content-Length: {len(text)}\r\n\r\n"
        return (head + text).encode()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The answer; an answer that says no, or none, is an error."""
        status, answer = self.connection.exchange(self.request(method, path, body))
        if not 200 <= status < 300:
            raise ConnectionError(f"{method} {path}: {status} {answer.decode(errors='replace')[:200]}")
        return json.loads(answer) if answer else None

    def ban(self, client: str, for_ms: int = 600_000) -> str:
        """Orders a ban; the decision's id."""
        return str(self.call("POST", "decisions", {"ip": client, "for_ms": for_ms, "reason": "measured"})["id"])
