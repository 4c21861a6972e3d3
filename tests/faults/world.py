"""A fleet under test: its topology, and what is measured of it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import pathlib
import random
import secrets
import shutil
import threading
import time
from collections.abc import Callable

import broker
from network import Machine, Network
from oracle import Ban, Oracle
from processes import Apps, Node, Process, Server, until
from traffic import Traffic

CONVERGE_SECONDS = 5.0
# How long is waited for what did not converge in time, to tell late from never.
PATIENCE_SECONDS = 90.0


@dataclasses.dataclass
class Fleet:
    """What a topology made: each server knows its peers, each node whom to connect to."""

    servers: list[Server]
    nodes: list[Node]


@dataclasses.dataclass
class Programs:
    phalanx: str
    nats_server: str
    # Whether servers notice half-open routes within seconds.
    prompt_routes: bool


# Per node, the ids that it lists by address; `None` if it did not answer.
Lists = dict[str, dict[str, str] | None]
# What is not as it should be, by node and ban.
Missing = dict[tuple[str, str], Ban]
Topology = Callable[[Network, pathlib.Path, Programs], Fleet]


def one_cluster(network: Network, folder: pathlib.Path, programs: Programs) -> Fleet:
    """Three servers in one cluster, two of them in the first site; two nodes in each site, that may connect to any server."""
    first, second = network.SITES
    servers = []
    for number, site in enumerate((first, first, second), 1):
        machine = network.machine(f"nats{number}", site)
        servers.append(Server(machine, folder / machine.short, programs.nats_server, programs.prompt_routes))
    for server in servers:
        server.configure(servers)
    urls = ",".join(f"nats://{server.machine.address}:{broker.PORT}" for server in servers)
    secret = folder / "secret"
    secret.touch(mode=0o600)
    secret.write_text(secrets.token_hex(32))
    nodes = []
    for number, site in enumerate((first, first, second, second), 1):
        machine = network.machine(f"edge{number}", site)
        nodes.append(Node(machine, folder / machine.short, programs.phalanx, urls, secret))
    return Fleet(servers, nodes)


class World:
    """One fleet, from its first process to the last. A scenario runs its faults on it, `rounds` times."""

    COPIES = 3

    def __init__(self, topology: Topology, programs: Programs, folder: pathlib.Path, tag: str, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.oracle = Oracle(seed)
        self.network = Network(tag)
        self.apps = Apps()
        self.fleet = Fleet([], [])
        self.claimed: set[str] = set()
        try:
            self.fleet = topology(self.network, folder, programs)
            for node in self.fleet.nodes:
                self.apps.listen(node.machine)
        except BaseException:
            self.network.close()
            raise
        self.apps_thread = threading.Thread(target=self.apps.serve)
        self.traffic = Traffic(self.fleet.nodes, self.oracle, seed)

    def start(self) -> None:
        self.apps_thread.start()
        self.start_all(self.fleet.servers)
        until("jetstream has a leader", self.jetstream_answers)
        self.start_all(self.fleet.nodes)
        until("all members are seen", self.members_are_seen)
        self.settle()
        self.traffic.start()

    def close(self) -> None:
        self.traffic.stop()
        for process in self.processes():
            process.kill()
        self.apps.closed = True
        if self.apps_thread.ident:
            self.apps_thread.join()
        for listener in self.apps.listeners:
            listener.close()
        self.network.close()

    def processes(self) -> list[Process]:
        return [*self.fleet.servers, *self.fleet.nodes]

    def start_all(self, processes: list[Server] | list[Node] | list[Process]) -> None:
        for process in processes:
            process.launch()
        for process in processes:
            process.wait_ready()

    def jetstream_answers(self) -> bool:
        with contextlib.suppress(OSError, broker.NatsError):
            broker.streams(self.fleet.servers[0].machine)
            return True
        return False

    def members_are_seen(self) -> bool:
        for node in self.fleet.nodes:
            status, told = node.call("GET", "/status")
            if status != 200 or sum(m["online"] or m["me"] for m in told["fleet"]["members"]) < len(self.fleet.nodes):
                return False
        return True

    def settle(self) -> None:
        """Every stream has all its copies, each of them current: where a round begins."""
        until("streams have all their copies", self.streams_are_whole, 120)

    def streams_are_whole(self) -> bool:
        machine = next(server.machine for server in self.fleet.servers if server.live)
        whole = 0
        with contextlib.suppress(OSError, broker.NatsError):
            for stream in broker.streams(machine):
                config, cluster = stream["config"], stream.get("cluster") or {}
                if config["num_replicas"] != self.COPIES:
                    # `phalanx` makes streams of one copy and has no setting for more.
                    broker.api(machine, f"STREAM.UPDATE.{config['name']}", {**config, "num_replicas": self.COPIES})
                elif cluster.get("leader") and all(replica["current"] for replica in cluster.get("replicas", [])):
                    whole += 1
        return whole >= 2 * 3

    def leader(self) -> Server:
        """The server that leads the first site's stream of decisions."""
        stream = f"DEC_{self.network.SITES[0]}"
        for server in self.fleet.servers:
            with contextlib.suppress(OSError, broker.NatsError):
                name = broker.api(server.machine, f"STREAM.INFO.{stream}").get("cluster", {}).get("leader")
                for other in self.fleet.servers:
                    if other.name == name:
                        return other
        return self.random.choice(self.fleet.servers)

    def claim(self, process: Process) -> Process:
        """Keeps a second fault away from a machine."""
        self.claimed.add(process.name)
        return process

    def any_server(self) -> Server:
        free = [server for server in self.fleet.servers if server.name not in self.claimed]
        server = self.random.choice(free)
        self.claim(server)
        return server

    def any_node(self) -> Node:
        free = [node for node in self.fleet.nodes if node.name not in self.claimed]
        node = self.random.choice(free)
        self.claim(node)
        return node

    def of_site(self, site: str) -> list[Process]:
        return [process for process in self.processes() if process.machine.site == site]

    def machines_of(self, site: str) -> list[Machine]:
        return [machine for machine in self.network.machines if machine.site == site]

    def note(self, text: str) -> None:
        self.oracle.note(text)

    def check_healed(self, healed_at: float) -> float | None:
        """Watches the fleet converge on all that was said before it healed; the seconds, or `None` if it never did."""
        checked, converged = False, None
        missing: Missing = {}
        while converged is None and time.time() < healed_at + PATIENCE_SECONDS:
            if not checked and time.time() >= healed_at + CONVERGE_SECONDS:
                checked = self.check_enforced(healed_at)
            listed = self.lists()
            before, missing = missing, self.missing(healed_at, listed)
            if checked:
                self.note_ended(before, missing, listed)
            if not missing and all(found is not None for found in listed.values()):
                converged = time.time() - healed_at
            else:
                time.sleep(0.1)
        if not checked:
            time.sleep(max(0.0, healed_at + CONVERGE_SECONDS - time.time()))
            self.check_enforced(healed_at)
        return converged

    def lists(self) -> Lists:
        """What each node lists, asked at once."""
        names = [node.name for node in self.fleet.nodes]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            return dict(zip(names, pool.map(self.traffic.listed, self.fleet.nodes)))

    def missing(self, said_before: float, listed: Lists) -> Missing:
        """Where a node does not list what it must, or lists what it must not."""
        must, must_not = self.oracle.must_hold(said_before), self.oracle.must_not_hold(said_before)
        missing: Missing = {}
        for name, found in listed.items():
            known = found or {}
            wrong = [ban for ban in must if ban.address not in known]
            wrong += [ban for ban in must_not if ban.address in known and self.oracle.is_latest(ban)]
            missing.update({(name, ban.id): ban for ban in wrong})
        return missing

    def note_ended(self, before: Missing, missing: Missing, listed: Lists) -> None:
        """A ban that ended before it arrived was not only late."""
        for name, ban_id in before.keys() - missing.keys():
            ban = before[name, ban_id]
            if ban.undone_at is None and not ban.unsure and ban.address not in (listed[name] or {}):
                self.oracle.fault("for_good", ban, f"it ended before it was so at {name}")

    def check_enforced(self, said_before: float) -> bool:
        """Real requests in the name of everyone that was banned, to each node, and what each lists."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: self.check_node(node, said_before), self.fleet.nodes))
        return True

    def check_node(self, node: Node, said_before: float) -> None:
        if not node.live:
            return
        for ban in self.oracle.must_hold(said_before):
            status = self.traffic.visit(node, ban)
            if status not in (0, 403) and ban.must_hold(time.time(), said_before):
                self.oracle.fault("lost", ban, f"{node.name} answers {status}")
        must_not = self.oracle.must_not_hold(said_before)
        listed = self.traffic.listed(node) or {}
        for ban in must_not:
            refused = ban.address in listed or self.traffic.visit(node, ban) == 403
            if refused and self.oracle.is_latest(ban):
                self.oracle.still_refused(ban, node.name)

    def note_missing(self, said_before: float) -> None:
        """What is not in force everywhere although it was waited for: it was not only late."""
        for (name, _), ban in self.missing(said_before, self.lists()).items():
            self.oracle.fault("for_good", ban, f"not so at {name}")

    def copy_stores(self, to: pathlib.Path) -> None:
        for server in self.fleet.servers:
            shutil.copytree(server.folder, to / server.name)

    def restore_stores(self, of: pathlib.Path) -> None:
        for server in self.fleet.servers:
            server.wipe()
            shutil.copytree(of / server.name, server.folder, dirs_exist_ok=True)
