"""Attacks a node of the real binary, one attack after the other, while honest visitors ask at a steady pace.

    python3 tests/abuse/run.py BINARY [--seconds 8] [--rate 200] [--only TEXT] [--table] [--quick]

For each: what bounds it, what the attacker did, memory and CPU of the node before and meanwhile, what the visitors saw. Exit code 1
where a limit was not met, a visitor's request failed, memory grew by more than 128 MiB, or the node did not come to rest afterwards.
"""

import argparse
import multiprocessing
import queue
import sys
import threading
import time

sys.path.insert(0, __file__.rsplit("/", 2)[0] + "/h2")

import honest  # noqa: E402
from attacks import ATTACKS  # noqa: E402
from node import Node, Origin  # noqa: E402


class Where:
    """Where a node listens; goes to other processes."""

    def __init__(self, node):
        self.plain, self.tls = node.plain, node.tls


class Watch(threading.Thread):
    """The node's memory at its highest, and whether the operator is answered."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node, self.peak, self.slowest, self.over = node, 0, 0.0, threading.Event()
        self.unanswered = 0

    def run(self):
        while not self.over.wait(0.1):
            self.peak = max(self.peak, self.node.memory())
            begun = time.monotonic()
            try:
                self.node.api("/healthz", timeout=5)
            except OSError:
                self.unanswered += 1
            self.slowest = max(self.slowest, time.monotonic() - begun)


def attacking(attack, where, until, answer):
    try:
        answer.put(attack(where, until))
    except Exception as error:  # noqa: BLE001, whatever it is, it is told
        answer.put({"error": f"{type(error).__name__}: {error}"})


def visit(node, rate, seconds, attack=None):
    """Honest visitors for a while, with an attack if there is one."""
    context = multiprocessing.get_context("fork")
    until = time.monotonic() + seconds
    visited, done = context.Queue(), context.Queue()
    processes = [context.Process(target=honest.run, args=(node.plain, node.tls, rate, until, visited))]
    if attack:
        # Those who attack stop a little earlier, so that visitors see the end of it.
        processes.append(context.Process(target=attacking, args=(attack, Where(node), until - 0.5, done)))
    for process in processes:
        process.start()
    latencies, failures = visited.get(timeout=seconds + 60)
    try:
        did = done.get(timeout=20) if attack else {}
    except queue.Empty:
        did = {"error": "the attacker did not end"}
    for process in processes:
        process.join(5)
        process.kill()
    return latencies, failures, did


def comes_to_rest(node):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        # Visitors keep none; those of the attacker are closed by it or cut.
        if node.status()["load"]["connections"] == 0:
            return True
        time.sleep(0.2)
    return False


def one(binary, app, attack, args):
    name, function, bound, limit, settings = attack
    # What meets its limit at once need not outlast a time of the settings.
    seconds = 2.5 if args.quick and "2s" not in settings else args.seconds
    node = Node(binary, app.address, limits=settings, mode="block")
    try:
        if not args.quick:
            visit(node, args.rate, 1)
        # A quick run tells nobody how fast it was: visitors come once, so that what they take is there before memory is measured.
        quiet, failed, _ = visit(node, args.rate, 1 if args.quick else max(2, args.seconds / 4))
        before, cpu = node.memory(), node.cpu()
        watch = Watch(node)
        watch.start()
        begun = time.monotonic()
        during, failures, did = visit(node, args.rate, seconds, function)
        cpu = (node.cpu() - cpu) / (time.monotonic() - begun)
        watch.over.set()
        watch.join()
        faults = [f"{len(failures)} failed: {failures[0]}"] if failures else []
        faults += [f"{len(failed)} failed before"] if failed else []
        faults += [did["error"]] if "error" in did else []
        faults += [f"the limit was not met: {node.reached()}"] if limit and not node.reached().get(limit) else []
        # What the attacker's own process needs to notice is on top of the 2 s of the settings.
        faults += [f"a connection lived {did['oldest']:.1f} s"] if "2s" in settings and did.get("oldest", 0) > 5.5 else []
        faults += ["memory grew too much"] if watch.peak - before > 128 * 1024 else []
        faults += [f"the operator was not answered {watch.unanswered} times"] if watch.unanswered else []
        faults += [] if comes_to_rest(node) else ["connections are left"]
        row = (name, bound, f"{did.get('did', 0):,}", f"{max(did.get('ended', 0), node.reached().get(limit, 0)):,}",
               f"{before / 1024:.0f} to {watch.peak / 1024:.0f}", f"{cpu * 100:.0f}", f"{len(during) / seconds:.0f}",
               f"{honest.percentile(quiet, 50):.1f} / {honest.percentile(quiet, 99):.1f}",
               f"{honest.percentile(during, 50):.1f} / {honest.percentile(during, 99):.1f}", f"{watch.slowest * 1000:.0f}")
        return row, faults
    finally:
        node.stop()


HEAD = ("attack", "bounded by", "sent or opened", "ended or refused", "memory MiB", "CPU %", "honest/s", "quiet p50 / p99 ms", "p50 / p99 ms",
        "operator, slowest ms")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--only", default="")
    parser.add_argument("--table", action="store_true", help="as a table for the guide")
    parser.add_argument("--quick", action="store_true", help="as short as limits can be seen to hold")
    args = parser.parse_args()
    if args.quick:
        args.seconds, args.rate = 4.5, 50
    app, failed = Origin(), 0
    if args.table:
        print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    for attack in ATTACKS:
        if args.only not in attack[0]:
            continue
        row, faults = one(args.binary, app, attack, args)
        print("| " + " | ".join(row) + " |" if args.table else "; ".join(f"{k} {v}" for k, v in zip(HEAD, row)), flush=True)
        for fault in faults:
            print(f"FAILED {attack[0]}: {fault}", flush=True)
        failed += bool(faults)
    app.stop()
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
