#!/usr/bin/env python3
"""The shop that the nodes stand before: it answers each request as the plan of the simulation has it.

    shop.py ADDRESS PORT [CAPACITY]

How is in the field `X-Answer: STATUS BYTES MILLISECONDS`, which a real shop would find out by itself. With a capacity it begins so many
answers a second and lets what comes beyond that wait in a row, five seconds at most.
"""

from __future__ import annotations

import asyncio
import sys
import time

PIECE = b"<p>All of it is on the shelf.</p>\n" * 2000
ROW_SECONDS = 5.0
PLACES = {"/login": "/account", "/checkout/pay": "/checkout/thanks"}


class Shop:
    def __init__(self, capacity: float | None) -> None:
        self.capacity = capacity
        self.free_at = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self.answer(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = head.split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        await reader.readexactly(int(fields.get("content-length", "0")))
        status, size, wait_ms = map(int, fields.get("x-answer", "200 2000 5").split())
        wait = wait_ms / 1000
        if self.capacity:
            now = time.monotonic()
            begins = max(now, self.free_at)
            if begins - now > ROW_SECONDS:
                status, size, wait = 503, 100, 0.0
            else:
                self.free_at = begins + 1 / self.capacity
                wait += begins - now
        if wait:
            await asyncio.sleep(wait)
        path = lines[0].split(" ")[1].partition("?")[0]
        place = f"Location: {PLACES.get(path, '/')}\r\n" if status == 302 else ""
        reply = f"HTTP/1.1 {status} Shop\r\nContent-Type: text/html\r\nContent-Length: {size}\r\nX-Shop: open\r\n{place}\r\n"
        writer.write(reply.encode())
        while size > 0 and not lines[0].startswith("HEAD"):
            piece = PIECE[:size]
            writer.write(piece)
            size -= len(piece)
            await writer.drain()
        await writer.drain()
        return True


async def main() -> None:
    shop = Shop(float(sys.argv[3]) if len(sys.argv) > 3 else None)
    server = await asyncio.start_server(shop.serve, sys.argv[1], int(sys.argv[2]), backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
