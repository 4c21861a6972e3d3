"""The faults. Each is a context: entered it breaks something, left it is mended; two may be entered at once."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator

from network import Machine
from processes import Process, until
from world import World

Fault = Callable[[World], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def killed(world: World, *processes: Process) -> Iterator[None]:
    world.note(f"kill -9 {' '.join(process.name for process in processes)}")
    for process in processes:
        process.kill()
    yield
    world.start_all(list(processes))
    world.note(f"started {' '.join(process.name for process in processes)}")


@contextlib.contextmanager
def paused(world: World, process: Process) -> Iterator[None]:
    world.note(f"SIGSTOP {process.name}")
    process.pause()
    yield
    process.resume()
    world.note(f"SIGCONT {process.name}")


@contextlib.contextmanager
def dropping(world: World, machines: list[Machine], others: str) -> Iterator[None]:
    names = " ".join(machine.short for machine in machines)
    world.note(f"packets between {names} and {others} are dropped")
    for machine in machines:
        machine.drop(others)
    yield
    for machine in machines:
        machine.drop_no_more()
    world.note(f"packets of {names} pass again")


@contextlib.contextmanager
def unplugged(world: World, machine: Machine) -> Iterator[None]:
    world.note(f"link of {machine.short} down")
    machine.pull_link()
    yield
    machine.plug_link()
    world.note(f"link of {machine.short} up")


def leader_kill(world: World) -> contextlib.AbstractContextManager[None]:
    return killed(world, world.claim(world.leader()))


def node_kill(world: World) -> contextlib.AbstractContextManager[None]:
    return killed(world, world.any_node())


@contextlib.contextmanager
def lone_node_kill(world: World) -> Iterator[None]:
    """A node that nobody hears is killed in the moment in which it acknowledged: only its own disk can know."""
    node = world.any_node()
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


def node_isolated_drop(world: World) -> contextlib.AbstractContextManager[None]:
    return dropping(world, [world.any_node().machine], "10.77.0.0/16")


def node_isolated_link(world: World) -> contextlib.AbstractContextManager[None]:
    return unplugged(world, world.any_node().machine)


def site_cut_drop(world: World) -> contextlib.AbstractContextManager[None]:
    first, second = world.network.SITES
    return dropping(world, world.machines_of(second), world.network.network_of(first))


@contextlib.contextmanager
def site_cut_link(world: World) -> Iterator[None]:
    world.note("trunk down")
    world.network.cut_trunk()
    yield
    world.network.heal_trunk()
    world.note("trunk up")


def sigstop_node(world: World) -> contextlib.AbstractContextManager[None]:
    return paused(world, world.any_node())


def sigstop_server(world: World) -> contextlib.AbstractContextManager[None]:
    return paused(world, world.any_server())


def site_kill(world: World) -> contextlib.AbstractContextManager[None]:
    return killed(world, *world.of_site(world.random.choice(world.network.SITES)))


def broker_gone(world: World) -> contextlib.AbstractContextManager[None]:
    return killed(world, *world.fleet.servers)


@contextlib.contextmanager
def wiped_server_disk(world: World) -> Iterator[None]:
    server = world.any_server()
    with killed(world, server):
        yield
        server.wipe()
        world.note(f"store of {server.name} removed")


@contextlib.contextmanager
def wiped_all_servers(world: World) -> Iterator[None]:
    with killed(world, *world.fleet.servers):
        yield
        for server in world.fleet.servers:
            server.wipe()
        world.note("stores of all servers removed")


@contextlib.contextmanager
def wiped_node_disk(world: World) -> Iterator[None]:
    """The node comes back with new keys, and an operator tells the others to forget the old ones."""
    node = world.any_node()
    with killed(world, node):
        yield
        node.wipe()
        world.note(f"state of {node.name} removed")
    others = [other for other in world.fleet.nodes if other is not node and other.live]
    for other in others:
        # As the guide says: where the status reports another key. Before that, the stream still holds the old one.
        until(f"{other.name} reports another key", lambda: other.reports("another key"))
        other.forget(node)
    world.note(f"{node.name} forgotten by the others")


@contextlib.contextmanager
def old_backup(world: World) -> Iterator[None]:
    """All servers lose what they stored since a backup, which was made while they stood still."""
    with tempfile.TemporaryDirectory(dir=world.folder) as folder:
        copy = pathlib.Path(folder)
        with killed(world, *world.fleet.servers):
            world.copy_stores(copy)
            world.note("stores of all servers copied")
        # What is decided, withdrawn and stored from here on is not in the copy.
        time.sleep(15)
        with killed(world, *world.fleet.servers):
            yield
            world.restore_stores(copy)
            world.note("stores of all servers are as they were copied")


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


# Faults of one machine, which claim it.
PAIRABLE: list[Fault] = [
    leader_kill,
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
}
