"""Sites with servers of their own, linked by leaf links: `phalanx fleet serve` and a fleet with an authority."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import IO, Any

from network import Machine, Network
from processes import Node, Process, empty, start_all, state_of, until
from topology import Programs, Server, Topology, see_each_other

CLIENTS, LINKS, DELAYED_LINKS, ROUTES, ENROL = 4222, 7422, 7423, 6222, 8901
MEASURE = pathlib.Path(__file__).resolve().parents[1] / "measure"
# As nats-server says it, with the account's name before.
LEADS = re.compile(r"new stream leader for '\S+ > DEC_(\w+)'")


@dataclasses.dataclass
class Links:
    """How a server is linked to others."""

    hubs: list[str] = dataclasses.field(default_factory=list)
    peers: list[str] = dataclasses.field(default_factory=list)
    listens: bool = False


class SiteServer(Server):
    """`phalanx fleet serve` with the nats-server that it runs."""

    def __init__(self, machine: Machine, folder: pathlib.Path, programs: Programs, links: Links) -> None:
        super().__init__(machine, folder, machine.short)
        self.programs, self.links = programs, links
        self.server = self.name
        self.said = folder.parent / f"{self.name}.said.log"
        self.said_before = 0
        self.join: list[str] = []

    @property
    def store(self) -> pathlib.Path:
        return self.folder / "nats/streams"

    def words(self) -> list[str]:
        words = [self.programs.phalanx, "fleet", "serve", "--json", "--nats-server", self.programs.nats_server]
        words += ["--state", str(self.folder), "--site", self.machine.site, "--server", self.server]
        words += ["--listen", f"0.0.0.0:{CLIENTS}", "--host", self.machine.address]
        if self.links.listens:
            words += ["--leaf-listen", f"0.0.0.0:{LINKS}"]
        if self.links.peers:
            words += ["--peer-listen", f"{self.machine.address}:{ROUTES}", "--peers", ",".join(self.links.peers)]
        for hub in self.links.hubs:
            words += ["--hub", hub]
        return words + self.join

    @contextlib.contextmanager
    def output(self) -> Iterator[int | IO[bytes]]:
        self.said.touch()
        self.said_before = self.said.stat().st_size
        with open(self.said, "ab") as output:
            yield output

    def wait_ready(self) -> None:
        until(f"{self.name} serves", lambda: self.last_said().get("state") == "serving")
        self.live = True

    def last_said(self) -> dict[str, Any]:
        """What it said last since it was started."""
        with open(self.said, "rb") as said:
            said.seek(self.said_before)
            lines = said.read().splitlines()
        return dict(json.loads(lines[-1])) if lines else {}

    def hears(self) -> set[str]:
        """The other sites whose servers it hears."""
        told = self.last_said()
        _, _, sites = str(told.get("text", "")).partition("hears ")
        return set(sites.split(", ")) if told.get("state") == "serving" and sites else set()

    def nats_id(self) -> int | None:
        try:
            return int((self.folder / "nats/nats.pid").read_text())
        except (OSError, ValueError):
            return None

    def process_ids(self) -> list[int]:
        ids = super().process_ids()
        nats = self.nats_id()
        return [*ids, nats] if ids and nats and state_of(nats) not in ("", "Z") else ids

    def kill(self) -> None:
        """As when the machine loses its power: neither is told anything by the other."""
        if not self.child:
            return
        self.live = False
        ids = self.process_ids()
        # Else `serve` would start another, or the server be asked to end.
        os.kill(self.child.pid, signal.SIGSTOP)
        for process_id in reversed(ids):
            os.kill(process_id, signal.SIGKILL)
        super().kill()
        until(f"{self.name} is gone", lambda: all(state_of(process_id) in ("", "Z") for process_id in ids))

    def wipe(self) -> None:
        """As the guide says: what it stored goes, what the authority gave it stays."""
        empty(self.store)


class Delay(Process):
    """Holds back what goes over one server's links, both ways."""

    def __init__(self, server: SiteServer, one_way_ms: float) -> None:
        super().__init__(server.machine, server.folder.parent / f"{server.name}-delay")
        self.log, self.one_way_ms = self.folder.with_suffix(".log"), one_way_ms

    def words(self) -> list[str]:
        relay = [sys.executable, "-m", "lab.relay", f"0.0.0.0:{DELAYED_LINKS}", f"127.0.0.1:{LINKS}", str(self.one_way_ms)]
        return ["env", f"PYTHONPATH={MEASURE}", *relay]

    def wait_ready(self) -> None:
        until(f"{self.log} listens", self.answers)
        self.live = True

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            self.machine.connect(DELAYED_LINKS, 1.0).close()
            return True
        return False


class LeafSites(Topology):
    """A hub of three servers, a second hub of one, and a site that is linked to either. Two nodes in each: one that takes orders, and
    one that bans whom it sees attack. The first node holds the authority, on the machine and in the state folder of the first server.
    """

    SITES = ("fra", "iad", "syd")
    # How many servers each has: one or three.
    SERVERS = (3, 1, 1)
    # And how many nodes.
    NODES = 2

    def __init__(self, network: Network, folder: pathlib.Path, programs: Programs) -> None:
        super().__init__(network, folder, programs)
        port = DELAYED_LINKS if programs.one_way_ms else LINKS
        hubs: list[str] = []
        servers: list[SiteServer] = []
        for site, count in zip(self.SITES, self.SERVERS):
            machines = [network.machine(f"nats{len(servers) + number + 1}", site) for number in range(count)]
            peers = [f"{machine.address}:{ROUTES}" for machine in machines] if count > 1 else []
            is_hub = site != self.SITES[-1]
            servers += [self.server(machine, Links(list(hubs), peers, is_hub)) for machine in machines]
            hubs += [f"tls://{machine.address}:{port}" for machine in machines]
        self.servers: list[SiteServer] = servers
        self.delays = [Delay(server, programs.one_way_ms) for server in servers if server.links.listens and programs.one_way_ms]
        own = [server for server in servers if server.machine.site == self.SITES[0]]
        urls = ",".join(f"tls://{server.machine.address}:{CLIENTS}" for server in own)
        self.home = self.node("edge1", own[0].machine, own[0].folder, ["--fleet", urls])
        self.home.fleet += ["--enroll", f"{own[0].machine.address}:{ENROL}"]
        self.nodes = [self.home]
        for number, site in enumerate([site for site in self.SITES for _ in range(self.NODES)][1:], 2):
            machine = network.machine(f"edge{number}", site)
            self.nodes.append(self.node(machine.short, machine, folder / machine.short, [], number % 2 == 1))

    def server(self, machine: Machine, links: Links) -> SiteServer:
        return SiteServer(machine, self.folder / machine.short, self.programs, links)

    def node(self, name: str, machine: Machine, folder: pathlib.Path, fleet: list[str], orders: bool = True) -> Node:
        return Node(machine, folder, self.programs.phalanx, fleet, name, orders)

    def processes(self) -> list[Process]:
        return [*self.delays, *super().processes()]

    def start(self) -> None:
        first, *others = self.servers
        self.home.order("init", "--fleet-id", "faults")
        for delay in self.delays:
            delay.start()
        # It has no streams before there are two of the three; the authority has what it takes to admit the second.
        first.launch()
        self.home.start()
        for server in others:
            server.join = ["--join", self.invite(server.machine.site, "--server")]
        start_all(others)
        first.wait_ready()
        until("all servers hear all sites", self.hear_each_other)
        for node in self.nodes[1:]:
            self.let_join(node)
        start_all(self.nodes[1:])
        until("all members are seen", lambda: see_each_other(self.nodes))

    def invite(self, site: str, *words: str) -> str:
        token: str = json.loads(self.home.order("invite", "--site", site, "--json", *words))["token"]
        return token

    def let_join(self, node: Node) -> None:
        control = ["--control"] if node.orders else []
        node.fleet = ["--join", self.invite(node.machine.site, *control)]

    def hear_each_other(self) -> bool:
        return all(server.hears() == set(self.SITES) - {server.machine.site} for server in self.servers)

    def is_settled(self) -> bool:
        """All hear all, and no node waits for anything or finds anything amiss."""
        told = [node.status() for node in self.nodes]
        calm = all(one.get("connected") and one.get("queue") == 0 and not one.get("degraded") for one in told)
        return calm and self.hear_each_other() and see_each_other(self.nodes)

    def leader(self) -> Server | None:
        """Each server of a cluster says in its log when it is made a stream's leader."""
        site = self.SITES[self.SERVERS.index(max(self.SERVERS))]
        found: list[tuple[str, SiteServer]] = []
        for server in self.servers:
            for line in server.log.read_text(errors="replace").splitlines():
                leads = LEADS.search(line)
                if leads and leads[1] == server.machine.site == site:
                    found.append((line.split()[0], server))
        return max(found, key=lambda one: one[0])[1] if found else None

    def may_lose_its_disk(self, node: Node) -> bool:
        # Who loses the authority has lost the fleet; the guide says to back it up.
        return node is not self.home

    def readmit(self, nodes: list[Node]) -> None:
        """Their old keys are revoked, which is where the operator takes over what they had said; then they join with new tokens."""
        for node in nodes:
            self.home.order("revoke", f"{node.machine.site}/{node.node}", "--reason", "its disk is gone")
            self.let_join(node)
        start_all(nodes)

    def backed_up(self, site: str) -> Sequence[Server]:
        return [server for server in self.servers if server.machine.site == site]

    def rebuild(self, servers: Sequence[Server], nodes: list[Node]) -> None:
        rebuilt = [server for server in self.servers if server in servers]
        for server in rebuilt:
            self.home.order("revoke", f"{server.machine.site}/{server.server}", "--reason", "its disk is gone")
            server.server += "-again"
            server.join = ["--join", self.invite(server.machine.site, "--server")]
        start_all(rebuilt)
        self.readmit(nodes)

    def newcomers(self) -> list[Node]:
        nodes = []
        for number, site in enumerate(self.SITES, 1):
            machine = self.network.machine(f"late{number}", site)
            nodes.append(self.node(machine.short, machine, self.folder / machine.short, [], False))
            self.let_join(nodes[-1])
        return nodes


class LeafCluster(LeafSites):
    """The same with hubs of one server each, and three servers in the site that is linked to them."""

    SERVERS = (1, 1, 3)
