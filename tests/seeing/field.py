"""Three nodes of one fleet in three sites, each on a machine of its own, before one shop; and everybody else, on a machine that has all
the addresses that the simulation's people and attackers come from."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import sys
from collections.abc import Sequence

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "faults"))

from leaf import ENROL, CLIENTS, LeafSites  # noqa: E402
from network import Machine, Network, run  # noqa: E402
from processes import ADMIN, Node, Process, start_all, until  # noqa: E402
from topology import Programs, see_each_other  # noqa: E402

HTTPS, SHOP = 8443, 3000
# From where the simulation's people, machines and attackers come.
ADDRESSES = ("45.0.0.0/8", "81.0.0.0/8", "82.0.0.0/8", "83.0.0.0/8", "100.0.0.0/8", "10.1.0.0/16")
CRAWLER = "10.1.0.1"
ROUTES = ("/products", "/orders", "/login", "/password", "/checkout", "/assets", "/hooks", "/weak", "/search")


@dataclasses.dataclass
class Terms:
    """What the nodes are told."""

    mode: str = "act"
    sharing: bool = True
    # Requests of one kind of software in ten seconds from which it can be a flood.
    flood_requests: int | None = None
    # Answers a second that the shop gives.
    capacity: float | None = None
    databases: Sequence[pathlib.Path] = ()


class Shop(Process):
    def __init__(self, machine: Machine, folder: pathlib.Path, capacity: float | None) -> None:
        super().__init__(machine, folder, "shop")
        self.capacity = capacity

    def words(self) -> list[str]:
        words = [sys.executable, str(HERE / "shop.py"), self.machine.address, str(SHOP)]
        return words + ([str(self.capacity)] if self.capacity else [])

    def wait_ready(self) -> None:
        until("the shop listens", lambda: "LISTEN" in run(*self.machine.command("ss", "-ltnH")))
        self.live = True


class ShopNode(Node):
    """A node with a settings file; `fleet` are lines of its section `[fleet]`."""

    terms: Terms
    shop: Machine

    def words(self) -> list[str]:
        settings = self.folder.parent / f"{self.name}.toml"
        policy = self.folder.parent / "policy.toml"
        certificate = self.folder.parent / "shop.pem"
        lines = [f'policy = "{policy}"', "[node]", f'site = "{self.machine.site}"', f'name = "{self.node}"']
        lines += [f'state = "{self.folder}"', "workers = 1", "[listen]", f'admin = "127.0.0.1:{ADMIN}"']
        lines += ["[[listen.tls]]", f'address = "0.0.0.0:{HTTPS}"']
        lines += ["[[certificate]]", f'cert = "{certificate}"', f'key = "{certificate}"']
        if self.terms.databases:
            lines += ["[geo]", "database = [" + ", ".join(f'"{one}"' for one in self.terms.databases) + "]"]
        if self.fleet:
            lines += ["[fleet]", *self.fleet]
        settings.write_text("\n".join(lines) + "\n")
        return [self.binary, "run", "--json", "-c", str(settings)]


class Field(LeafSites):
    """One server and one node in each of three sites."""

    SERVERS = (1, 1, 1)
    NODES = 1

    def __init__(self, network: Network, folder: pathlib.Path, programs: Programs, terms: Terms) -> None:
        self.terms = terms
        self.app = network.machine("shop", self.SITES[0])
        self.world = network.machine("world", self.SITES[0])
        super().__init__(network, folder, programs)
        self.shop = Shop(self.app, folder / "shop", terms.capacity)
        url = f"tls://{self.home.machine.address}:{CLIENTS}"
        self.home.fleet = [f'url = "{url}"', f'enroll = "{self.home.machine.address}:{ENROL}"']
        for network_of_many in ADDRESSES:
            run("ip", "-n", self.world.name, "route", "add", "local", network_of_many, "dev", "lo")
        for node in self.nodes:
            run("ip", "-n", node.machine.name, "route", "add", "default", "via", self.world.address)
        make_certificate(folder / "shop.pem")
        (folder / "policy.toml").write_text(policy(terms, self.app))

    def node(self, name: str, machine: Machine, folder: pathlib.Path, fleet: list[str], orders: bool = True) -> Node:
        node = ShopNode(machine, folder, self.programs.phalanx, fleet, name, True)
        node.terms = self.terms
        return node

    def let_join(self, node: Node) -> None:
        token = self.folder / f"{node.name}.token"
        token.touch(mode=0o600)
        token.write_text(self.invite(node.machine.site, "--control"))
        node.fleet = [f'join_file = "{token}"']

    def processes(self) -> list[Process]:
        return [*super().processes(), self.shop]

    def start(self) -> None:
        self.shop.start()
        if self.terms.sharing:
            super().start()
            until("somebody names incidents", lambda: all(names(node) for node in self.nodes))
            return
        for node in self.nodes:
            node.fleet = []
        start_all(self.nodes)

    def is_settled(self) -> bool:
        return see_each_other(self.nodes)


def names(node: Node) -> bool:
    return isinstance(node.call("GET", "/status")[1]["learning"].get("named_by"), str)


def policy(terms: Terms, app: Machine) -> str:
    lines = ["version = 1", f'allow = ["{CRAWLER}"]', "[detection]", f'mode = "{terms.mode}"']
    if terms.flood_requests:
        lines.append(f"flood_requests = {terms.flood_requests}")
    lines += ["[[apps]]", 'name = "shop"', f'upstream = "http://{app.address}:{SHOP}"']
    if terms.capacity:
        # What a shop of that capacity should be asked at once; more would wait there instead, and longer.
        lines[-1] = f'upstreams = [{{ url = "http://{app.address}:{SHOP}", max_requests = 8 }}]'
        lines += ["[apps.queue]", "requests = 32", 'wait = "1s"']
    for path in ROUTES:
        lines += ["[[apps.routes]]", f'path = "{path}"']
    return "\n".join(lines) + "\n"


def make_certificate(file: pathlib.Path) -> None:
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    words = ["openssl", "req", "-x509", *key, "-keyout", str(file), "-subj", "/CN=shop.test", "-days", "2"]
    made = subprocess.run(words + ["-addext", "subjectAltName=DNS:shop.test"], check=True, capture_output=True, text=True)
    file.write_text(file.read_text() + made.stdout)
    file.chmod(0o600)
