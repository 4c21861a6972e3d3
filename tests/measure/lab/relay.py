"""A TCP relay that holds back every piece for a time, both ways, without limiting how much passes; and that can be cut.

    python3 -m lab.relay HOST:PORT TO-HOST:PORT ONE-WAY-MS

runs one that stands by itself, and cannot be cut.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections import deque
from multiprocessing import Pipe
from multiprocessing.connection import Connection as PipeEnd

from .processes import Lab

PIECE_BYTES = 65536
# What may be under way in one direction: far more than the link ever holds, so that it is never what limits.
UNDER_WAY_MAX = 64 * 1024 * 1024


Address = tuple[str, int]


class Relay:
    """The relay's process, told what to do."""

    def __init__(self, lab: Lab, to_port: int, one_way_ms: float) -> None:
        self.pipe, theirs = Pipe()
        lab.worker(serve, theirs, to_port, one_way_ms / 1000)
        theirs.close()
        self.port = int(self.pipe.recv())

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Nothing passes from here on; as when a cable is pulled, nobody is told."""
        self.tell(False)

    def heal(self) -> None:
        """All passes again, what waited first."""
        self.tell(True)

    def tell(self, whole: bool) -> None:
        self.pipe.send(whole)
        self.pipe.recv()


class Link:
    """Whether the relay is whole, for all its connections."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.whole = asyncio.Event()
        self.whole.set()


def serve(pipe: PipeEnd, to_port: int, delay_s: float) -> None:
    asyncio.run(told_what_to_do(pipe, to_port, delay_s))


async def told_what_to_do(pipe: PipeEnd, to_port: int, delay_s: float) -> None:
    link = Link(delay_s)

    def told() -> None:
        link.whole.set() if pipe.recv() else link.whole.clear()
        pipe.send(None)

    server = await accept(link, ("127.0.0.1", 0), ("127.0.0.1", to_port))
    asyncio.get_running_loop().add_reader(pipe.fileno(), told)
    pipe.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def accept(link: Link, at: Address, to: Address) -> asyncio.Server:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await relay(link, to, reader, writer)

    return await asyncio.start_server(connected, *at)


async def relay(link: Link, to: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        far_reader, far_writer = await asyncio.open_connection(*to)
    except OSError:
        writer.close()
        return
    for one in (writer, far_writer):
        one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ways = [Direction(link, reader, far_writer), Direction(link, far_reader, writer)]
    tasks = [asyncio.create_task(step) for way in ways for step in (way.take(), way.give())]
    await asyncio.gather(*tasks)


class Direction:
    """One way of a connection: pieces with the time when each is due."""

    def __init__(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.link, self.reader, self.writer = link, reader, writer
        self.pieces: deque[tuple[float, bytes]] = deque()
        self.under_way = 0
        self.some = asyncio.Event()

    async def take(self) -> None:
        piece = b"-"
        while piece:
            try:
                piece = await self.reader.read(PIECE_BYTES)
            except OSError:
                piece = b""
            self.under_way += len(piece)
            if self.under_way > UNDER_WAY_MAX:
                piece = b""
            self.pieces.append((time.monotonic() + self.link.delay_s, piece))
            self.some.set()

    async def give(self) -> None:
        """An empty piece is the end."""
        while True:
            await self.some.wait()
            due, piece = self.pieces.popleft()
            if not self.pieces:
                self.some.clear()
            await asyncio.sleep(max(due - time.monotonic(), 0))
            await self.link.whole.wait()
            self.under_way -= len(piece)
            try:
                if not piece:
                    self.writer.close()
                    return
                self.writer.write(piece)
                await self.writer.drain()
            except OSError:
                return


async def alone(at: Address, to: Address, delay_s: float) -> None:
    await (await accept(Link(delay_s), at, to)).serve_forever()


def address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    asyncio.run(alone(address(sys.argv[1]), address(sys.argv[2]), float(sys.argv[3]) / 1000))
