"""Visitors who ask at a steady pace, whatever the node does: on connections that they keep, plain and over TLS, and on new ones."""

import asyncio
import ssl
import time

HONEST = "127.0.0.2"


class Visitors:
    """`rate` requests a second over `connections` kept ones, a tenth of them on a new one. Counts failures and takes latencies in
    milliseconds, from when a request was due."""

    def __init__(self, plain, tls, rate, connections=8):
        self.plain, self.tls, self.rate, self.connections = plain, tls, rate, connections
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self.latencies, self.failures = [], []

    async def open(self, number):
        tls = number % 2 == 1
        return await asyncio.open_connection(*(self.tls if tls else self.plain), ssl=self.context if tls else None,
                                             local_addr=(HONEST, 0))

    async def ask(self, streams, close=False):
        reader, writer = streams
        ends = b"Connection: close\r\n" if close else b""
        writer.write(b"GET / HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: honest\r\nAccept: */*\r\n" + ends + b"\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise OSError(head.split(b"\r\n")[0].decode())
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        return b"connection: close" in head.lower()

    async def visitor(self, number, until):
        pause = self.connections / self.rate
        due = time.monotonic() + pause * number / self.connections
        streams, asked = None, 0
        while due < until:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            asked += 1
            try:
                async with asyncio.timeout(10):
                    if asked % 10 == 0 and streams:
                        streams[1].close()
                        streams = None
                    streams = streams or await self.open(number)
                    if await self.ask(streams):
                        streams[1].close()
                        streams = None
                self.latencies.append((time.monotonic() - due) * 1000)
            except (OSError, EOFError, TimeoutError) as error:
                self.failures.append(f"{type(error).__name__} {error}")
                if streams:
                    streams[1].close()
                streams = None
            due = max(due + pause, time.monotonic() - 1)

    async def visit(self, until):
        await asyncio.gather(*(self.visitor(number, until) for number in range(self.connections)))


def run(plain, tls, rate, until, answer):
    """For a process of its own: puts (latencies, failures) into the queue `answer`."""
    visitors = Visitors(plain, tls, rate)
    asyncio.run(visitors.visit(until))
    answer.put((visitors.latencies, visitors.failures))


def percentile(values, of):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * of / 100))] if values else float("nan")
