"""A fleet under test, and what is measured of it."""

from __future__ import annotations

import collections
import concurrent.futures
import pathlib
import random
import threading
import time
from collections.abc import Sequence

from network import Machine, Network
from oracle import Ban, Oracle
from processes import Apps, Node, Process, until
from topology import Programs, Server, Topology
from traffic import Traffic

CONVERGE_SECONDS = 5.0
# How long is waited for what did not converge in time, to tell late from never.
PATIENCE_SECONDS = 90.0
SETTLE_SECONDS = 120.0

# Per node, the ids that it lists by address; `None` if it did not answer.
Lists = dict[str, dict[str, str] | None]
# What is not as it should be, by node and ban.
Missing = dict[tuple[str, str], Ban]


class World:
    """One fleet, from its first process to the last. A scenario runs its faults on it, `rounds` times."""

    def __init__(self, topology: type[Topology], programs: Programs, folder: pathlib.Path, tag: str, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.oracle = Oracle(seed)
        self.network = Network(tag, topology.SITES)
        self.apps = Apps()
        self.claimed: set[str] = set()
        self.late: list[Node] = []
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
        self.fleet.start()
        self.settle()
        self.traffic.start()

    def close(self) -> None:
        self.traffic.stop()
        for process in [*self.late, *self.fleet.processes()]:
            process.kill()
        self.apps.closed = True
        if self.apps_thread.ident:
            self.apps_thread.join()
        for listener in self.apps.listeners:
            listener.close()
        self.network.close()

    def settle(self) -> None:
        """Where a round begins."""
        until("the fleet is settled", self.fleet.is_settled, SETTLE_SECONDS)

    def claim(self, process: Process) -> Process:
        """Keeps a second fault away from a machine."""
        self.claimed.add(process.machine.name)
        return process

    def is_free(self, process: Process) -> bool:
        return process.machine.name not in self.claimed

    def any_server(self) -> Server:
        server = self.random.choice([server for server in self.fleet.servers if self.is_free(server)])
        self.claim(server)
        return server

    def any_node(self, with_disk_to_lose: bool = False, takes_orders: bool = False) -> Node:
        free = [node for node in self.fleet.nodes if self.is_free(node)]
        if with_disk_to_lose:
            free = [node for node in free if self.fleet.may_lose_its_disk(node)]
        if takes_orders:
            free = [node for node in free if node.orders]
        node = self.random.choice(free)
        self.claim(node)
        return node

    def any_site(self) -> str:
        return self.random.choice(self.network.sites)

    def of_site(self, site: str) -> list[Process]:
        return [process for process in self.fleet.processes() if process.machine.site == site]

    def servers_of(self, site: str) -> list[Server]:
        return [server for server in self.fleet.servers if server.machine.site == site]

    def nodes_of(self, site: str) -> list[Node]:
        return [node for node in self.fleet.nodes if node.machine.site == site]

    def machines_of(self, site: str) -> list[Machine]:
        return [machine for machine in self.network.machines if machine.site == site]

    def see_nobody_of(self, seers: Sequence[Node], seen: Sequence[Node]) -> bool:
        """Whether nodes that run noticed that others are gone."""
        return all(not seer.sees(other) for seer in seers if seer.live for other in seen)

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
                at_last = collections.Counter(f"{name} of {ban.author}" for (name, _), ban in before.items())
                self.note("at last came " + (", ".join(f"{n} to {which}" for which, n in sorted(at_last.items())) or "nothing"))
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

    def check_newcomers(self) -> None:
        """Nodes that were never there before, and what each makes of what its own site's server has."""
        self.late = self.fleet.newcomers()
        for node in self.late:
            self.apps.listen(node.machine)
            node.launch()
        for node in self.late:
            node.wait_ready()
        started_at = said_before = time.time()
        while self.late and time.time() < started_at + CONVERGE_SECONDS:
            listed = {node.name: self.traffic.listed(node) for node in self.late}
            if not self.missing(said_before, listed):
                self.note(f"nodes that are new at each site list all {time.time() - started_at:.1f} s after they are ready")
                break
            time.sleep(0.1)
        # What they were told in short is checked by now, record by record.
        time.sleep(CONVERGE_SECONDS if self.late else 0)
        for node in self.late:
            self.check_node(node, said_before)
