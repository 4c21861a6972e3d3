"""The faults. Each is a context: entered it breaks something, left it is mended; two may be entered at once.

A fault that did not strike is an error, so that no scenario passes for nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

from cluster import OneCluster
from leaf import LeafCluster, LeafSites, SiteServer
from network import Machine
from processes import Node, Process, empty, start_all, until
from topology import Server, Topology
from world import World

Fault = Callable[[World], contextlib.AbstractContextManager[None]]
# A peer that is gone is noticed within this.
NOTICED_SECONDS = 15.0


def struck(what: str, so: bool) -> None:
    if not so:
        raise RuntimeError(f"the fault did not strike: {what}")


@contextlib.contextmanager
def killed(world: World, *processes: Process) -> Iterator[None]:
    world.note(f"kill -9 {' '.join(process.name for process in processes)}")
    for process in processes:
        struck(f"{process.name} was not there to be killed", bool(process.process_ids()))
        process.kill()
    yield
    start_all(list(processes))
    world.note(f"started {' '.join(process.name for process in processes)}")


@contextlib.contextmanager
def paused(world: World, process: Process) -> Iterator[None]:
    world.note(f"SIGSTOP {process.name}")
    process.pause()
    yield
    struck(f"{process.name} runs", process.stands_still())
    process.resume()
    world.note(f"SIGCONT {process.name}")


@contextlib.contextmanager
def dropping(world: World, machines: list[Machine], others: str) -> Iterator[None]:
    names = " ".join(machine.short for machine in machines)
    world.note(f"packets between {names} and {others} are dropped")
    for machine in machines:
        machine.drop(others)
    yield
    dropped = sum(machine.drop_no_more() for machine in machines)
    world.note(f"packets of {names} pass again, {dropped} were dropped")
    struck("no packet was dropped", dropped > 0)


@contextlib.contextmanager
def unplugged(world: World, machine: Machine) -> Iterator[None]:
    world.note(f"link of {machine.short} down")
    machine.pull_link()
    yield
    struck(f"{machine.short} has its link", not machine.has_link())
    machine.plug_link()
    world.note(f"link of {machine.short} up")


@contextlib.contextmanager
def noticed(world: World, seers: Sequence[Node], seen: Sequence[Node]) -> Iterator[None]:
    """What is cut off from each other must say so before it is mended."""
    yield
    until("who was cut off is missed", lambda: world.see_nobody_of(seers, seen), NOTICED_SECONDS)


def leader_kill(world: World) -> contextlib.AbstractContextManager[None]:
    leader = world.fleet.leader()
    if leader is None:
        raise RuntimeError("the stream has no leader to kill")
    return led_by_another(world, leader)


def some_server_kill(world: World) -> contextlib.AbstractContextManager[None]:
    """The leader, unless another fault has it, or there is none."""
    leader = world.fleet.leader()
    free = leader is not None and world.is_free(leader)
    return killed(world, world.claim(leader) if leader and free else world.any_server())


@contextlib.contextmanager
def led_by_another(world: World, leader: Server) -> Iterator[None]:
    with killed(world, world.claim(leader)):
        yield
        until("another server leads", lambda: world.fleet.leader() not in (None, leader))


def node_kill(world: World) -> contextlib.AbstractContextManager[None]:
    return killed(world, world.any_node())


@contextlib.contextmanager
def lone_node_kill(world: World) -> Iterator[None]:
    """A node that nobody hears is killed in the moment in which it acknowledged: only its own disk can know."""
    node = world.any_node(takes_orders=True)
    with unplugged(world, node.machine):
        world.traffic.add_then(node, node.kill)
        world.note(f"kill -9 {node.name}")
        yield
        node.start()
        world.note(f"started {node.name}")


def server_isolated_drop(world: World) -> contextlib.AbstractContextManager[None]:
    return dropping(world, [world.any_server().machine], "10.77.0.0/16")


def server_isolated_link(world: World) -> contextlib.AbstractContextManager[None]:
    return unplugged(world, world.any_server().machine)


@contextlib.contextmanager
def node_isolated_drop(world: World) -> Iterator[None]:
    node = world.any_node()
    with dropping(world, [node.machine], "10.77.0.0/16"), noticed(world, *apart(world, [node])):
        yield


@contextlib.contextmanager
def node_isolated_link(world: World) -> Iterator[None]:
    node = world.any_node()
    with unplugged(world, node.machine), noticed(world, *apart(world, [node])):
        yield


def apart(world: World, nodes: list[Node]) -> tuple[list[Node], list[Node]]:
    return nodes, [node for node in world.fleet.nodes if node not in nodes]


@contextlib.contextmanager
def site_cut_drop(world: World) -> Iterator[None]:
    site = world.any_site()
    beside = world.network.networks_beside(site)
    with dropping(world, world.machines_of(site), beside), noticed(world, *apart(world, world.nodes_of(site))):
        yield


@contextlib.contextmanager
def site_cut_link(world: World) -> Iterator[None]:
    site = world.any_site()
    world.note(f"trunk of {site} down")
    world.network.cut_trunk(site)
    with noticed(world, *apart(world, world.nodes_of(site))):
        yield
    world.network.heal_trunk(site)
    world.note(f"trunk of {site} up")


def sigstop_node(world: World) -> contextlib.AbstractContextManager[None]:
    return paused(world, world.any_node())


def sigstop_server(world: World) -> contextlib.AbstractContextManager[None]:
    return paused(world, world.any_server())


def site_kill(world: World) -> contextlib.AbstractContextManager[None]:
    return killed(world, *world.of_site(world.any_site()))


def broker_gone(world: World) -> contextlib.AbstractContextManager[None]:
    return killed(world, *world.fleet.servers)


@contextlib.contextmanager
def wiped(world: World, *servers: Server) -> Iterator[None]:
    with killed(world, *servers):
        yield
        for server in servers:
            server.wipe()
        world.note(f"stores of {' '.join(server.name for server in servers)} removed")


def wiped_server_disk(world: World) -> contextlib.AbstractContextManager[None]:
    return wiped(world, world.any_server())


def wiped_all_servers(world: World) -> contextlib.AbstractContextManager[None]:
    return wiped(world, *world.fleet.servers)


def wiped_site_servers(world: World) -> contextlib.AbstractContextManager[None]:
    return wiped(world, *world.servers_of(world.any_site()))


@contextlib.contextmanager
def wiped_node_disk(world: World) -> Iterator[None]:
    """The node comes back with new keys, and an operator sees to it that it may."""
    node = world.any_node(with_disk_to_lose=True)
    world.note(f"kill -9 {node.name}")
    node.kill()
    yield
    node.wipe()
    world.note(f"state of {node.name} removed")
    world.fleet.readmit([node])
    world.note(f"{node.name} is back under its name")


@contextlib.contextmanager
def old_backup(world: World) -> Iterator[None]:
    """The servers of a site lose what they stored since a backup, which was made while they stood still."""
    servers = world.fleet.backed_up(world.any_site())
    with tempfile.TemporaryDirectory(dir=world.folder) as folder:
        copy = pathlib.Path(folder)
        with killed(world, *servers):
            for server in servers:
                shutil.copytree(server.store, copy / server.name)
            world.note(f"stores of {' '.join(server.name for server in servers)} copied")
        # What is decided, withdrawn and stored from here on is not in the copy.
        time.sleep(15)
        with killed(world, *servers):
            yield
            for server in servers:
                server.wipe()
                shutil.copytree(copy / server.name, server.store, dirs_exist_ok=True)
            world.note("these stores are as they were copied")


@contextlib.contextmanager
def nats_kill(world: World) -> Iterator[None]:
    """Only nats-server dies; `fleet serve` sees to it."""
    server = world.any_server()
    nats = server.nats_id() if isinstance(server, SiteServer) else None
    if nats is None:
        raise RuntimeError("no nats-server to kill")
    world.note(f"kill -9 of the nats-server of {server.name}")
    os.kill(nats, signal.SIGKILL)
    yield
    until("another nats-server serves", lambda: server.nats_id() not in (None, nats) and server.last_said()["state"] == "serving")
    world.note(f"nats-server of {server.name} is back")


@contextlib.contextmanager
def hub_kill(world: World) -> Iterator[None]:
    """All servers of the first hub, over which the other sites hear each other. They must do so over the second, before it is back."""
    first, *others = world.network.sites
    servers = world.servers_of(first)
    with killed(world, *servers):
        since = time.time()
        for author, hears in (others, reversed(others)):
            node, other = world.nodes_of(author)[0], world.nodes_of(hears)[0]
            ban = world.traffic.add_then(node, lambda: None)
            until(f"a ban crosses from {author} to {hears}", lambda: ban and world.traffic.visit(other, ban) == 403)
        world.note(f"the second hub has taken over {time.time() - since:.2f} s after the first was gone")
        yield


def hub_unreachable(world: World) -> contextlib.AbstractContextManager[None]:
    """One server of the last site reaches the second hub only, and stays linked to it; its siblings stay where they are."""
    first, *_, last = world.network.sites
    server = world.random.choice(world.servers_of(last))
    return dropping(world, [server.machine], world.network.network_of(first))


@contextlib.contextmanager
def site_destroyed(world: World) -> Iterator[None]:
    """A site comes back with nothing: new tokens, and the server under another name, because a name is not given twice."""
    site = world.random.choice(world.network.sites[1:])
    servers, nodes = world.servers_of(site), world.nodes_of(site)
    world.note(f"kill -9 of all of {site}")
    for process in world.of_site(site):
        process.kill()
    yield
    for process in [*servers, *nodes]:
        empty(process.folder)
    world.note(f"all disks of {site} are gone")
    world.fleet.rebuild(servers, nodes)
    world.note(f"{site} is back")


@contextlib.contextmanager
def two_at_once(world: World) -> Iterator[None]:
    first, second = world.random.sample(PAIRABLE, 2)
    world.note(f"{first.__name__} and {second.__name__}")
    with first(world):
        # The second strikes while the first takes effect, not only after all have noticed it.
        time.sleep(world.random.uniform(0, 2))
        with second(world):
            yield


@dataclasses.dataclass
class Scenario:
    fault: Fault
    # For how long the fault lasts, while decisions are made.
    seconds: float = 10.0
    # Where it is one.
    of: type[Topology] = Topology


# Faults of one machine, which claim it.
PAIRABLE: list[Fault] = [
    some_server_kill,
    node_kill,
    server_isolated_drop,
    node_isolated_drop,
    node_isolated_link,
    site_cut_link,
    sigstop_node,
    sigstop_server,
    wiped_server_disk,
]

SCENARIOS: dict[str, Scenario] = {
    "leader_kill": Scenario(leader_kill),
    "node_kill": Scenario(node_kill),
    "lone_node_kill": Scenario(lone_node_kill, 5),
    "server_isolated_drop": Scenario(server_isolated_drop, 15),
    "server_isolated_link": Scenario(server_isolated_link, 15),
    "node_isolated_drop": Scenario(node_isolated_drop, 15),
    "node_isolated_link": Scenario(node_isolated_link, 15),
    "site_cut_drop": Scenario(site_cut_drop, 20),
    "site_cut_link": Scenario(site_cut_link, 20),
    "sigstop_node_30s": Scenario(sigstop_node, 30),
    "sigstop_server_30s": Scenario(sigstop_server, 30),
    "site_kill": Scenario(site_kill),
    "wiped_server_disk": Scenario(wiped_server_disk),
    "wiped_all_servers": Scenario(wiped_all_servers),
    "wiped_node_disk": Scenario(wiped_node_disk),
    "old_backup": Scenario(old_backup),
    "two_at_once": Scenario(two_at_once, 15),
    "broker_gone": Scenario(broker_gone, 60),
    "nats_kill": Scenario(nats_kill, 10, LeafSites),
    "hub_kill": Scenario(hub_kill, 15, LeafSites),
    "hub_unreachable": Scenario(hub_unreachable, 15, LeafSites),
    "wiped_site_servers": Scenario(wiped_site_servers, 10, LeafSites),
    "site_destroyed": Scenario(site_destroyed, 10, LeafSites),
}
TOPOLOGIES: dict[str, type[Topology]] = {"cluster": OneCluster, "leaf": LeafSites, "spoke": LeafCluster}
