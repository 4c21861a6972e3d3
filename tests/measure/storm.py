#!/usr/bin/env python3
"""Everything at once on one node: 10,000 idle TLS connections, rapid reset, slow heads, slow readers, and visitors who ask for 60 % of
what the node can do, with an upgrade of the binary in the middle where it can be upgraded.

    tests/measure/storm.py BINARY [--idle 10000] [--seconds 20] [--share 60] [--upgrade] [--json]

No request of a visitor may fail, and their p99 must stay below twice the quiet one; exit code 1 otherwise. The node has one worker, on
the first core; who attacks runs with low priority beside the visitors on the others, because they share a machine here. Needs
`h2load` and `wrk`.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "h2"), str(TESTS / "abuse")]

import honest  # noqa: E402
from attacks import rapid_reset, slow_head, slow_read  # noqa: E402
from honest import percentile  # noqa: E402
from node import Node, Origin  # noqa: E402
from run import Where  # noqa: E402
from wire import tls_context  # noqa: E402

def capacity(node, seconds):
    command = ["wrk", "-t", "1", "-c", "32", "-d", f"{seconds}s", "http://%s:%d/" % node.plain]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))


def visit(node, rate, seconds, clients=32):
    """Latencies in milliseconds, and how many failed, of visitors that ask at this rate."""
    with tempfile.NamedTemporaryFile("r", suffix=".log") as log:
        command = ["h2load", "--h1", "-c", str(clients), "--rps", f"{rate / clients:.2f}", "-D", str(seconds), "--log-file", log.name,
                   "http://%s:%d/" % node.plain]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows = [line.split("\t") for line in log.read().splitlines()]
    latencies = [int(took) / 1000 for _, status, took in rows if status == "200"]
    failed = sum(status != "200" for _, status, _ in rows)
    told = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", text)
    return latencies, max(failed, *(int(one) for one in told.groups()))


def hold_idle(where, count, ready, over):
    """TLS connections that were used once, or not at all, and are kept."""
    os.nice(10)
    context, kept = tls_context(("http/1.1",)), []
    for number in range(count):
        one = socket.socket()
        one.bind((f"127.0.2.{number % 40 + 1}", 0))
        one.connect(where.tls)
        kept.append(context.wrap_socket(one, server_hostname="shop.test"))
    ready.set()
    over.wait()
    left = 0
    for one in kept:
        one.setblocking(False)
        try:
            left += one.recv(1) != b""
        except OSError:
            left += 1  # Nothing to read: it is still there.
    print(f"of {count} idle connections {left} are left", file=sys.stderr)


def attacking(attack, where, until):
    os.nice(10)
    attack(where, until)


def upgrade(node, binary, after, successor):
    """Has the node hand over to a new process of the same binary; its id goes into `successor`."""
    time.sleep(after)
    done = subprocess.run([binary, "upgrade", "--state", f"{node.folder.name}/state"], capture_output=True, text=True)
    print(f"upgrade: {done.stdout}{done.stderr}".strip(), file=sys.stderr)
    if told := re.search(r"process (\d+)", done.stdout):
        successor.value = int(told.group(1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--share", type=int, default=60)
    parser.add_argument("--upgrade", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    others = cores[1:] or cores
    os.sched_setaffinity(0, set(others))
    origin = Origin()
    limits = 'idle_time = "10m"\nhandshake_rate = 100000'
    node = Node(args.binary, origin.address, limits=limits, workers=1, mode="off", wrapper=["taskset", "-c", str(cores[0])])
    context = multiprocessing.get_context("fork")
    result = {"load_average": os.getloadavg()[0], "idle": args.idle}
    processes, over, successor = [], context.Event(), context.Value("i", 0)
    try:
        full = capacity(node, 4)
        rate = full * args.share / 100
        quiet, quiet_failed = visit(node, rate, max(5, args.seconds // 2))
        result |= {"capacity": round(full), "rate": round(rate), "quiet_p50_ms": percentile(quiet, 50), "quiet_p99_ms": percentile(quiet, 99),
                   "quiet_failed": quiet_failed, "memory_before_kib": node.memory()}
        ready = context.Event()
        processes.append(context.Process(target=hold_idle, args=(Where(node), args.idle, ready, over)))
        processes[0].start()
        if not ready.wait(300):
            raise SystemExit("the idle connections could not be made")
        result["memory_idle_kib"] = node.memory()
        result["idle_connection_kib"] = round((node.memory() - result["memory_before_kib"]) / args.idle, 1)
        until = time.monotonic() + args.seconds + 2
        for attack in (rapid_reset, slow_head, slow_read):
            processes.append(context.Process(target=attacking, args=(attack, Where(node), until)))
            processes[-1].start()
        time.sleep(1)
        if args.upgrade:
            processes.append(context.Process(target=upgrade, args=(node, args.binary, args.seconds / 2, successor)))
            processes[-1].start()
        # h2load opens no connection again that was closed in good order, so that it begins anew every few seconds; the visitors beside it
        # keep theirs, or open new ones, all the time.
        answer = context.Queue()
        steady = context.Process(target=honest.run, args=(node.plain, node.tls, 200, time.monotonic() + args.seconds, answer))
        steady.start()
        latencies, failed, slices = [], 0, args.seconds // 4 if args.upgrade else 1
        for _ in range(slices):
            took, missed = visit(node, rate, args.seconds // slices)
            latencies, failed = latencies + took, failed + missed
        of_steady, failures = answer.get(timeout=60)
        steady.join()
        failed += len(failures)
        result |= {"steady_served": len(of_steady), "steady_p50_ms": percentile(of_steady, 50), "steady_p99_ms": percentile(of_steady, 99),
                   "steady_failures": failures[:3]}
        result |= {"served": len(latencies), "failed": failed, "p50_ms": percentile(latencies, 50), "p99_ms": percentile(latencies, 99),
                   "reached": node.reached()}
        if args.upgrade:
            result["upgraded"] = successor.value != 0
        else:
            result["memory_storm_kib"] = node.memory()
    finally:
        over.set()
        for process in processes:
            process.join(15)
            process.kill()
        if successor.value:
            os.kill(successor.value, signal.SIGKILL)
        node.process.kill()
        origin.stop()
    passed = result["failed"] == 0 and result["p99_ms"] < 2 * result["quiet_p99_ms"] and result.get("upgraded", True)
    result["passed"] = passed
    print(json.dumps(result) if args.json else "\n".join(f"{key:22} {value}" for key, value in result.items()))
    sys.exit(not passed)


if __name__ == "__main__":
    main()
