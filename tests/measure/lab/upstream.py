"""A small app to protect: it answers every request with the same page."""

from __future__ import annotations

import asyncio
import socket
from multiprocessing import Pipe
from multiprocessing.connection import Connection as PipeEnd

from .processes import Lab

PAGE = b"<p>open</p>"
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(PAGE), PAGE)


class App(asyncio.Protocol):
    """Reads requests without a body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        *requests, self.buffer = (self.buffer + data).split(b"\r\n\r\n")
        self.transport.write(REPLY * len(requests))


def start(lab: Lab) -> str:
    """Starts it in a process of its own; its URL."""
    ours, theirs = Pipe()
    lab.worker(serve, theirs)
    theirs.close()
    return f"http://127.0.0.1:{ours.recv()}"


def serve(told: PipeEnd) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    asyncio.run(accept(listener, told))


async def accept(listener: socket.socket, told: PipeEnd) -> None:
    server = await asyncio.get_running_loop().create_server(App, sock=listener)
    told.send(listener.getsockname()[1])
    await server.serve_forever()
