"""A node that may open few files, with more connections than it can have: idle ones give way, unknown clients are refused, those
served well and the operator are not, and it says so; afterwards it is calm again.

    python3 tests/abuse/overload.py BINARY [--files 400] [--seconds 12]
"""

import argparse
import multiprocessing
import sys
import time

sys.path.insert(0, __file__.rsplit("/", 2)[0] + "/h2")

from attacks import all_connections, nothing, send_slowly  # noqa: E402
from node import Node, Origin  # noqa: E402
from run import Watch, visit  # noqa: E402


def level(node):
    return node.status()["load"]["level_number"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=8)
    args = parser.parse_args()
    app, faults = Origin(), []
    node = Node(args.binary, app.address, limits='head_time = "20s"', files=args.files)
    try:
        load = node.status()["load"]
        print(f"files {load['files']} of {load['files_limit']}, connections {load['connections_limit']} at most")
        if not 0 < load["connections_limit"] < args.files:
            faults.append("the limit of files does not limit connections")
        visit(node, 100, 2)
        for name, attack in (("idle", all_connections(nothing, b"")),
                             ("slow", all_connections(send_slowly(b"a"), b"GET / HTTP/1.1\r\nHost: shop.test\r\nX: "))):
            watch = Watch(node)
            watch.start()
            levels = []
            context = multiprocessing.get_context("fork")
            looking = context.Event()

            def look(looking=looking, levels=levels):
                while not looking.is_set():
                    levels.append(level(node))
                    time.sleep(0.2)

            import threading
            looker = threading.Thread(target=look, daemon=True)
            looker.start()
            latencies, failures, did = visit(node, 100, args.seconds, attack)
            looking.set()
            looker.join()
            watch.over.set()
            watch.join()
            print(f"{name}: {did}; level up to {max(levels)}; visitors {len(latencies)} served, {len(failures)} failed; "
                  f"operator answered in {watch.slowest * 1000:.0f} ms at most; {node.reached()}")
            faults += [f"{name}: {len(failures)} failed: {failures[0]}"] if failures else []
            faults += [f"{name}: the operator was not answered"] if watch.unanswered else []
            faults += [f"{name}: {did['error']}"] if "error" in did else []
            faults += [f"{name}: nothing was shed"] if max(levels) < 1 else []
        deadline = time.monotonic() + 30
        while level(node) and time.monotonic() < deadline:
            time.sleep(0.2)
        status = node.status()
        faults += ["it does not come to rest"] if status["load"]["level_number"] else []
        reached = node.reached()
        faults += [f"{limit} was not counted" for limit in ("overload_idle", "overload_connection") if not reached.get(limit)]
        metrics = node.api("/metrics")
        faults += ["metrics do not tell"] if 'phalanx_limits_reached_total{limit="overload_idle"}' not in metrics else []
        faults += ["metrics have no level"] if "phalanx_overload_level 0" not in metrics else []
    finally:
        node.stop()
        app.stop()
    for fault in faults:
        print(f"FAILED {fault}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
