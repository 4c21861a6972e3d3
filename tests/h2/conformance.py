"""Runs the cases of `cases.py` against a node of the real binary, without TLS and over TLS.

    python3 tests/h2/conformance.py BINARY [--only TEXT] [--verbose]

Prints each case that fails, and a sum; exit code 1 if one does. Afterwards the node must have no connection left, must have logged no
panic, and must have grown no more than a node that is used does.
"""

import argparse
import sys
import time

import cases
from node import App, Node
from wire import *


class Failed(Exception):
    pass


def describe(found):
    kind, flags, stream, payload = found
    name = NAMES[kind] if kind < len(NAMES) else f"type {kind}"
    told = ""
    if kind == GOAWAY:
        told = f" code {int.from_bytes(payload[4:8], 'big')} {payload[8:]!r}"
    elif kind == RST_STREAM:
        told = f" code {int.from_bytes(payload, 'big')}"
    elif kind == HEADERS:
        told = f" status {status_of(payload)}"
    return f"{name}[{stream}]{told}"


def code(payload):
    return int.from_bytes(payload[-4:] if len(payload) == 4 else payload[4:8], "big")


def watch(connection, until, timeout=5.0):
    """Reads until `until` says something of a frame, or the connection is closed: "closed"."""
    deadline = time.monotonic() + timeout
    # What came while something was waited for counts, too.
    for found in list(connection.seen):
        if said := until(*found):
            return said
    while True:
        try:
            found = connection.receive(max(0.05, deadline - time.monotonic()))
        except Closed:
            return "closed"
        if found[0] == SETTINGS and not found[1] & ACK:
            try:
                connection.send(settings(ack=True))
            except Closed:
                pass
        if said := until(*found):
            return said


def expect(connection, expected):
    """None, or what was found instead."""
    what, *of = expected
    if what == "either":
        found = []
        for one in of:
            try:
                found.append(expect(connection, one))
            except TimeoutError:
                found.append("nothing")
            if found[-1] is None:
                return None
        return " and ".join(found)
    if what == "goes_on":
        try:
            connection.send(frame(PING, 0, 0, b"going on"))
        except Closed:
            pass

        def said(kind, flags, stream, payload):
            if kind == GOAWAY:
                return describe((kind, flags, stream, payload))
            return "fine" if kind == PING and flags & ACK and payload == b"going on" else None

        found = watch(connection, said)
        return None if found == "fine" else found
    if what == "answers":
        stream, status = of

        def said(kind, flags, of, payload):
            if kind == HEADERS and of == stream and status_of(payload) == status:
                return "fine"
            return describe((kind, flags, of, payload)) if kind in (GOAWAY, RST_STREAM, HEADERS) and of in (0, stream) else None

        found = watch(connection, said)
        return None if found == "fine" else found
    if what == "refused":
        return None if watch(connection, lambda *_: None) == "closed" else "it goes on"
    stream, codes = (None, of[0]) if what == "connection_error" else (of[0], of[1] if len(of) > 1 else None)

    def said(kind, flags, of, payload):
        if kind == GOAWAY and (code(payload) or NO_ERROR in (codes or ())):
            return "fine" if codes is None or code(payload) in codes else describe((kind, flags, of, payload))
        if what == "connection_error":
            return None
        if kind == RST_STREAM and of == stream:
            return "fine" if codes is None or code(payload) in codes else describe((kind, flags, of, payload))
        if what == "refuses" and kind == HEADERS and of == stream:
            return "fine" if 400 <= status_of(payload) < 500 else describe((kind, flags, of, payload))
        return None

    found = watch(connection, said)
    return None if found in ("fine", "closed") else found


def run(address, tls, case):
    _, _, sent, expected = case
    initial, sent = (), list(sent)
    raw = sent[:1] == ["raw"]
    if raw:
        sent = sent[1:]
    if sent and isinstance(sent[0], tuple):
        initial, sent = sent[0][1:], sent[1:]
    connection = Connection(address, tls, begin=not raw, initial=initial)
    try:
        try:
            pending = b""
            for part in sent:
                if callable(part):
                    connection.send(pending)
                    pending = b""
                    part(connection)
                else:
                    pending += part
            connection.send(pending)
        except Closed:
            pass  # What it said before is looked at below.
        return expect(connection, expected)
    except TimeoutError:
        return "nothing, for 5 s; seen: " + ", ".join(describe(found) for found in connection.seen[-5:])
    finally:
        connection.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--only", default="")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    app = App()
    node = Node(args.binary, app.address, mode="block")
    failed, ran = 0, 0
    try:
        before = 0
        for name, address, tls in (("h2c", node.plain, None), ("h2", node.tls, tls_context())):
            for case in cases.CASES:
                if args.only not in f"{case[0]} {case[1]}":
                    continue
                ran += 1
                found = run(address, tls, case)
                if found is not None:
                    failed += 1
                    print(f"FAILED {name} {case[0]} {case[1]}: expected {case[3]}, found {found}", flush=True)
                elif args.verbose:
                    print(f"ok {name} {case[0]} {case[1]}", flush=True)
            before = before or node.memory()
        # One client that does all as it should is still served.
        connection = Connection(node.tls, tls_context())
        connection.send(get(1))
        assert connection.response(1) == (200, 3)
        connection.close()
        deadline = time.monotonic() + 20
        while (left := node.status()["load"]["connections"]) and time.monotonic() < deadline:
            time.sleep(0.1)
        log = open(node.folder.name + "/log", "rb").read()
        if left:
            print(f"FAILED {left} connections are left")
        if b"panicked" in log:
            print("FAILED the node panicked:\n" + log.decode(errors="replace")[-3000:])
        grown = node.memory() - before
        print(f"{ran} cases, {failed} failed; {left} connections left; the second half of the cases added {grown} KiB")
        failed += bool(left) + (b"panicked" in log) + (grown > 32 * 1024)
    finally:
        node.stop()
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
