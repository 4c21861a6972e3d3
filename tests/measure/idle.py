#!/usr/bin/env python3
"""What an idle connection over TLS costs a node in memory: opens many, each with one request answered, and divides.

    tests/measure/idle.py BINARY [--count 5000] [--protocol http/1.1] [--protocol h2]
"""

import argparse
import os
import pathlib
import socket
import sys
import time

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "h2")]

from node import Node, Origin  # noqa: E402
from wire import Connection, get, tls_context  # noqa: E402


def open_one(node, protocol, context, number):
    source = f"127.0.3.{number % 40 + 1}"
    if protocol == "h2":
        connection = Connection(node.tls, context, source=source)
        connection.send(get(1))
        assert connection.response(1)[0] == 200
        return connection
    one = socket.socket()
    one.bind((source, 0))
    one.connect(node.tls)
    one = context.wrap_socket(one, server_hostname="shop.test")
    one.sendall(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
    assert one.recv(4096).startswith(b"HTTP/1.1 200")
    return one


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--count", type=int, default=5_000)
    parser.add_argument("--protocol", action="append")
    args = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}")
    origin = Origin()
    for protocol in args.protocol or ["http/1.1", "h2"]:
        node = Node(args.binary, origin.address, limits='idle_time = "10m"\nhandshake_rate = 100000', workers=1, mode="off")
        try:
            context = tls_context((protocol,))
            kept = [open_one(node, protocol, context, number) for number in range(200)]
            before = node.memory()
            kept += [open_one(node, protocol, context, number) for number in range(args.count)]
            time.sleep(2)
            after, open_now = node.memory(), node.status()["load"]["connections"]
            print(f"{protocol}: {open_now} connections, {(after - before) / args.count:.1f} KiB each ({before} to {after} KiB)", flush=True)
        finally:
            node.process.kill()
    origin.stop()


if __name__ == "__main__":
    main()
