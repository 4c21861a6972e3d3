"""One cluster of three nats-servers over two sites, and a fleet with a secret."""

from __future__ import annotations

import contextlib
import pathlib
import secrets
from collections.abc import Sequence

import broker
from network import Machine, Network
from processes import Node, start_all, until
from topology import Programs, Server, Topology, see_each_other


class ClusterServer(Server):
    """A nats-server of a cluster."""

    def __init__(self, machine: Machine, folder: pathlib.Path, binary: str, prompt: bool) -> None:
        super().__init__(machine, folder)
        self.binary, self.prompt = binary, prompt
        self.settings = folder.with_suffix(".conf")

    def configure(self, cluster: list[ClusterServer]) -> None:
        routes = ", ".join(f'"nats://{other.machine.address}:6222"' for other in cluster if other is not self)
        # A route that is cut without a word lasts for minutes by default, and then delays what comes after the cut.
        prompt = 'ping_interval: "2s", ping_max: 2, write_deadline: "2s"' if self.prompt else ""
        self.settings.write_text(f"""server_name: {self.name}
listen: "0.0.0.0:{broker.PORT}"
jetstream {{ store_dir: "{self.folder}", sync_interval: always, max_memory_store: 64MB, max_file_store: 1GB }}
cluster {{ name: faults, listen: "{self.machine.address}:6222", routes: [{routes}], {prompt} }}
""")

    def words(self) -> list[str]:
        return [self.binary, "--config", str(self.settings)]

    def wait_ready(self) -> None:
        until(f"{self.name} answers", self.answers)
        self.live = True

    def answers(self) -> bool:
        try:
            with self.machine.connect(broker.PORT, 1.0) as stream:
                return stream.recv(4) == b"INFO"
        except OSError:
            return False


class OneCluster(Topology):
    """Three servers, two of them in the first site; two nodes in each site, that may connect to any server."""

    SITES = ("fra", "syd")
    COPIES = 3

    def __init__(self, network: Network, folder: pathlib.Path, programs: Programs) -> None:
        super().__init__(network, folder, programs)
        first, second = self.SITES
        servers = []
        for number, site in enumerate((first, first, second), 1):
            machine = network.machine(f"nats{number}", site)
            servers.append(ClusterServer(machine, folder / machine.short, programs.nats_server, programs.prompt_routes))
        for server in servers:
            server.configure(servers)
        self.servers: list[ClusterServer] = servers
        urls = ",".join(f"nats://{server.machine.address}:{broker.PORT}" for server in servers)
        secret = folder / "secret"
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_hex(32))
        for number, site in enumerate((first, first, second, second), 1):
            machine = network.machine(f"edge{number}", site)
            fleet = ["--fleet", urls, "--fleet-secret", str(secret)]
            self.nodes.append(Node(machine, folder / machine.short, programs.phalanx, fleet))

    def start(self) -> None:
        start_all(self.servers)
        until("jetstream has a leader", self.jetstream_answers)
        start_all(self.nodes)
        until("all members are seen", lambda: see_each_other(self.nodes))

    def jetstream_answers(self) -> bool:
        with contextlib.suppress(OSError, broker.NatsError):
            broker.streams(self.servers[0].machine)
            return True
        return False

    def is_settled(self) -> bool:
        """Every stream has all its copies, each of them current."""
        machine = next(server.machine for server in self.servers if server.live)
        whole = 0
        with contextlib.suppress(OSError, broker.NatsError):
            for stream in broker.streams(machine):
                config, cluster = stream["config"], stream.get("cluster") or {}
                if config["num_replicas"] != self.COPIES:
                    # `phalanx` makes streams of one copy unless it is told.
                    broker.api(machine, f"STREAM.UPDATE.{config['name']}", {**config, "num_replicas": self.COPIES})
                elif cluster.get("leader") and all(replica["current"] for replica in cluster.get("replicas", [])):
                    whole += 1
        return whole >= 2 * 3

    def leader(self) -> Server | None:
        stream = f"DEC_{self.SITES[0]}"
        for server in self.servers:
            if not server.live:
                continue
            with contextlib.suppress(OSError, broker.NatsError):
                name = broker.api(server.machine, f"STREAM.INFO.{stream}").get("cluster", {}).get("leader")
                for other in self.servers:
                    if other.name == name:
                        return other
        return None

    def readmit(self, nodes: list[Node]) -> None:
        """They have new keys, and an operator tells the others to forget the old ones."""
        start_all(nodes)
        for node in nodes:
            for other in self.nodes:
                if other in nodes or not other.live:
                    continue
                # As the guide says: where the status reports another key. Before that, the stream still holds the old one.
                until(f"{other.name} reports another key", lambda: other.reports("another key"))
                other.forget(node)

    def backed_up(self, site: str) -> Sequence[Server]:
        return self.servers
