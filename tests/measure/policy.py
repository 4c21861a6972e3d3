#!/usr/bin/env python3
"""How long an edit of the policy takes until it is in force on all nodes of a fleet, under load.

    tests/measure/policy.py target/release/phalanx [--edits 40] [--nodes 5] [--rate 500] [--connections 1000]

Starts nats-server (PHALANX_NATS_SERVER, else from PATH), an upstream and the nodes. Long-lived connections, spread over the nodes, ask
at the given rate together; none may fail or be cut. Meanwhile a rule file is edited and pushed again and again; each time counts from
the start of `phalanx policy push` until each node answers a request that only the new rule refuses. Prints p50, p99 and the largest, for
all nodes together and for the slowest of each edit, and what became of the load.
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def upstream(reader, writer):
    """Answers every request with a few bytes."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"content-length" not in head.lower()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n")
            await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
        writer.close()


async def ask(reader, writer, path):
    """One request on a connection that stays; the status."""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: shop\r\nUser-Agent: measure\r\nAccept: */*\r\n\r\n".encode())
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = next(int(line.split(":")[1]) for line in head.lower().split("\r\n") if line.startswith("content-length"))
    await reader.readexactly(length)
    return int(head.split(" ")[1])


async def visit(port, every, load):
    """A long-lived connection that asks now and then."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        load["open"] += 1
        await asyncio.sleep(every * (load["open"] % 97) / 97)
        due = time.monotonic()
        while not load["over"]:
            status = await asyncio.wait_for(ask(reader, writer, "/?q=hello"), 30)
            load["requests"] += 1
            load["failed"] += status != 200
            due += every
            await asyncio.sleep(max(0, due - time.monotonic()))
        writer.close()
    except (OSError, EOFError, asyncio.TimeoutError):
        load["cut"] += 1


async def refused_at(port, word):
    """When a node first refuses the word."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        status = await ask(reader, writer, f"/?q={word}")
        writer.close()
        if status == 403:
            return time.monotonic()
        await asyncio.sleep(0.004)


def at(times, share):
    return sorted(times)[int((len(times) - 1) * share)] * 1e3


async def main(args):
    folder = tempfile.mkdtemp(prefix="policy-")
    processes = []
    server = await asyncio.start_server(upstream, "127.0.0.1", 0, backlog=2048)
    to = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    nats_port = free_port()
    nats = os.environ.get("PHALANX_NATS_SERVER", "nats-server")
    command = [nats, "-a", "127.0.0.1", "-p", str(nats_port), "-js", "-sd", folder + "/nats"]
    processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    try:
        ports, states = [], []
        for n in range(args.nodes):
            states.append(f"{folder}/node-{n}")
            words = ["up", "--to", to, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "1", "--json"]
            words += ["--state", states[n], "--fleet", f"nats://127.0.0.1:{nats_port}", "--site", f"s{n}", "--node", "a"]
            node = subprocess.Popen([args.binary, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            processes.append(node)
            ports.append(int(json.loads(node.stdout.readline())["listen"].rsplit(":", 1)[1]))

        def edit(word):
            rules = f"{folder}/policy/rules"
            os.makedirs(rules, exist_ok=True)
            with open(f"{rules}/own.conf", "w", encoding="utf-8") as out:
                out.write(f'SecRule ARGS:q "@streq {word}" "id:1,phase:2,deny"\n')
            with open(f"{folder}/policy/policy.toml", "w", encoding="utf-8") as out:
                rules = '["rules"]' if not args.rules else json.dumps([os.path.abspath(args.rules)])
                extra = 'extra_rules = ["rules/own.conf"]\n' if args.rules else ""
                out.write(f'[[apps]]\nname = "shop"\nupstream = "{to}"\nrules = {rules}\n{extra}')

        async def push():
            words = ["policy", "push", f"{folder}/policy/policy.toml", "--reason", "a measurement", "--state", states[0]]
            pipe = asyncio.subprocess.PIPE
            command = await asyncio.create_subprocess_exec(args.binary, *words, stdout=pipe, stderr=pipe)
            _, error = await command.communicate()
            if command.returncode:
                sys.exit(error.decode())

        # The first push waits until the fleet has gathered.
        edit("edit-0")
        await asyncio.sleep(5)
        await push()
        await asyncio.gather(*(refused_at(port, "edit-0") for port in ports))
        load = {"open": 0, "requests": 0, "failed": 0, "cut": 0, "over": False}
        every = args.connections / args.rate
        visits = [asyncio.create_task(visit(ports[n % len(ports)], every, load)) for n in range(args.connections)]
        while load["open"] + load["cut"] < args.connections:
            await asyncio.sleep(0.1)
        began, before = time.monotonic(), load["requests"]
        every_node, slowest = [], []
        for n in range(1, args.edits + 1):
            edit(f"edit-{n}")
            start = time.monotonic()
            watching = asyncio.gather(*(refused_at(port, f"edit-{n}") for port in ports))
            await push()
            times = [when - start for when in await asyncio.wait_for(watching, 60)]
            every_node += times
            slowest.append(max(times))
        lasted, asked = time.monotonic() - began, load["requests"] - before
        load["over"] = True
        await asyncio.gather(*visits)
        print(f"{args.edits} edits, {args.nodes} nodes, {load['open']} connections, {asked / lasted:.0f} requests a second")
        print(f"{'until in force, ms':<24}{'p50':>8}{'p99':>8}{'max':>8}")
        for name, times in (("each node", every_node), ("the slowest of an edit", slowest)):
            print(f"{name:<24}{at(times, 0.5):>8.0f}{at(times, 0.99):>8.0f}{at(times, 1):>8.0f}")
        print(f"{load['requests']} requests, {load['failed']} failed; {load['cut']} connections cut")
        return 1 if load["failed"] or load["cut"] else 0
    finally:
        for process in processes:
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--edits", type=int, default=40)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--rules", help="rule folder to compile with each edit, such as the Core Rule Set")
    sys.exit(asyncio.run(main(parser.parse_args())))
