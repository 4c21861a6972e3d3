#!/usr/bin/env python3
"""How soon rate limits are counted together again after a node was cut off.

    tests/measure/heal.py [--phalanx BINARY] [--nats-server BINARY] [--trials N] [--cut-s SECONDS]

Three nodes and one nats-server, each in a network namespace of its own; needs root, `ip` and `nft`. The packets between one
node and the server are dropped, so that the connection stays half open, until the node keeps to its third of a limit and the others
to their two thirds, and some time more. Then packets pass again, and new clients ask: until one has the whole limit at the node that
was cut off, and then no more than a share at another, which knows of all that. The time is from the first packet that
can pass, and has the one look in it that finds all well: 0.12 s for the news, and ten requests. By their own word nodes count together
when the last of them says so in its log.
"""

from __future__ import annotations

import argparse
import datetime
import pathlib
import re
import secrets
import shutil
import sys
import tempfile
import threading
import time

from lab import nats, options
from lab.report import Figure, show

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "faults"))

import broker  # noqa: E402
from cluster import ClusterServer  # noqa: E402
from network import Machine, Network  # noqa: E402
from processes import ADMIN, APP, LISTEN, Apps, Node, until  # noqa: E402

# Little, so that a look takes little time.
LIMIT, NODES = 6, 3
SHARE = LIMIT // NODES


class Limited(Node):
    """A node with one limit that the fleet counts together. `fleet` is the server's URL and the file with the fleet's secret."""

    def words(self) -> list[str]:
        url, secret = self.fleet
        settings = self.folder.with_suffix(".toml")
        policy = self.folder.with_suffix(".policy.toml")
        policy.write_text(f"""[[apps]]
name = "shop"
upstream = "http://127.0.0.1:{APP}"
trust_forwarded = ["127.0.0.1"]
[[apps.rate_limits]]
name = "all"
key = "ip"
scope = "fleet"
rate = "{LIMIT}/10s"
burst = {LIMIT}
""")
        settings.write_text(f"""policy = "{policy}"
[listen]
address = ["127.0.0.1:{LISTEN}"]
admin = "127.0.0.1:{ADMIN}"
[node]
workers = 1
state = "{self.folder}"
site = "{self.machine.site}"
name = "{self.node}"
[fleet]
url = "{url}"
secret_file = "{secret}"
""")
        return [self.binary, "run", "--json", "-c", str(settings)]

    def admits(self, client: str) -> int:
        """How many requests of a client are admitted before one is refused."""
        time.sleep(LOOK_S)
        admitted = 0
        while admitted < 2 * LIMIT and self.visit(client) == 200:
            admitted += 1
        return admitted

    def counts_with_all_since(self, after: float) -> float:
        """When it said, after this time, that it counts with all nodes; both in seconds of the wall clock. 0 where it did not."""
        said = re.findall(rf"(?m)^(\S+)Z .* counted together known={NODES} heard={NODES}$", self.log.read_text())
        times = (datetime.datetime.fromisoformat(f"{time}+00:00").timestamp() for time in said)
        return min((time for time in times if time > after), default=0.0)


def main() -> None:
    given = arguments()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="heal-"))
    network, apps = Network("heal", ("fra", "syd")), Apps()
    started: list[ClusterServer | Limited] = []
    try:
        server, nodes = make(network, folder, given)
        for node in nodes:
            apps.listen(node.machine)
        threading.Thread(target=apps.serve, daemon=True).start()
        for process in (server, *nodes):
            started.append(process)
            process.start()
        figures = measure(server.machine, nodes, given)
        title = f"three nodes, one nats-server, packets dropped for {given.cut_s} s and more"
        show(f"from the first packet; {title}", figures, given.json)
    finally:
        apps.closed = True
        for process in started:
            process.kill()
        network.close()
        shutil.rmtree(folder)


def arguments() -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--cut-s", type=float, default=0.0, help="how long a cut lasts after both sides keep to their shares [0]")
    return options.read(parser)


def make(network: Network, folder: pathlib.Path, given: argparse.Namespace) -> tuple[ClusterServer, list[Limited]]:
    machine = network.machine("nats1", "fra")
    server = ClusterServer(machine, folder / "nats1", nats.binary(given.nats_server), True)
    server.settings.write_text(f"""listen: "0.0.0.0:{broker.PORT}"
jetstream {{ store_dir: "{server.folder}" }}
""")
    secret = folder / "secret"
    secret.touch(mode=0o600)
    secret.write_text(secrets.token_hex(32))
    url = f"nats://{machine.address}:{broker.PORT}"
    sites = ("fra", "fra", "syd")
    machines = [network.machine(f"edge{number}", site) for number, site in enumerate(sites, 1)]
    return server, [Limited(machine, folder / machine.short, given.phalanx, [url, str(secret)]) for machine in machines]


def measure(server: Machine, nodes: list[Limited], given: argparse.Namespace) -> list[Figure]:
    word = Figure("until all nodes count together, by their own word", p99_max=1000)
    hears = Figure("until the node that was cut off is seen to use the whole limit")
    one = Figure("until one count is seen")
    clients = (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(1 << 20))
    around = list(zip(nodes, nodes[1:] + nodes[:1]))
    # Exactly: with half of it a node knows of one other.
    until("all count together", lambda: all(left_for(*pair, next(clients)) == SHARE for pair in around))
    for trial in range(given.trials):
        nodes[2].machine.drop(server.address)
        until("the node that is cut off keeps a third", lambda: about(nodes[2].admits(next(clients)), SHARE))
        until("the others keep two thirds", lambda: about(nodes[0].admits(next(clients)), LIMIT - SHARE))
        # Longer by a little each time: what waits and tries again does so at other moments.
        time.sleep(given.cut_s + 0.137 * trial)
        healed, healed_ns = time.time(), time.monotonic_ns()
        nodes[2].machine.drop_no_more()
        until("the node counts on all", lambda: about(nodes[2].admits(next(clients)), LIMIT))
        hears.count(healed_ns, time.monotonic_ns())
        until("one count", lambda: about(left_for(nodes[0], nodes[2], next(clients)), SHARE))
        one.count(healed_ns, time.monotonic_ns())
        until("all say so", lambda: all(node.counts_with_all_since(healed) for node in nodes))
        word.times_ms.append(1e3 * (max(node.counts_with_all_since(healed) for node in nodes) - healed))
    return [word, hears, one]


def left_for(then: Limited, first: Limited, client: str) -> int:
    """What a node admits of a client who has used up the whole limit at another; nothing where that did not have the whole."""
    if not about(first.admits(client), LIMIT):
        return 0
    time.sleep(NEWS_S)
    return then.admits(client)


def about(admitted: int, expected: int) -> bool:
    """One more may have come due during the look."""
    return expected <= admitted <= expected + 1


# Between looks: each is of a new client, and the fleet tells of so many only.
LOOK_S = 0.02
# What news takes: a tenth of a second until it is told, and the way.
NEWS_S = 0.12

if __name__ == "__main__":
    main()
