"""Machines in network namespaces, two sites of them, and the cuts between.

Each machine is a namespace with one link to its site's switch; the switches are bridges in a namespace of their own, joined
by a trunk. Links go down, or packets are dropped so that connections stay half open, which is the harsher fault.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import socket
import subprocess
from collections.abc import Iterator

CLONE_NEWNET = 0x40000000
NAMES = pathlib.Path("/var/run/netns")
LIBC = ctypes.CDLL(None, use_errno=True)


def run(*words: str, stdin: str | None = None, check: bool = True) -> str:
    done = subprocess.run(words, input=stdin, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


class Machine:
    """One namespace with an address of its own."""

    def __init__(self, hub: str, name: str, site: str, address: str) -> None:
        self.hub, self.name, self.site, self.address = hub, name, site, address
        self.short = name.rsplit("-", 1)[-1]

    def command(self, *words: str) -> list[str]:
        """The words of a command that runs here. It becomes the process itself, so that its id is the one started."""
        return ["ip", "netns", "exec", self.name, *words]

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets that this thread makes here belong to the machine, wherever they are used afterwards."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        here = os.open(NAMES / self.name, os.O_RDONLY)
        try:
            enter(here)
            yield
        finally:
            enter(before)
            os.close(here)
            os.close(before)

    def connect(self, port: int, timeout: float) -> socket.socket:
        """A connection to a port of the machine's own loopback: no cut of its link is felt here."""
        with self.inside():
            stream = socket.socket()
        try:
            stream.settimeout(timeout)
            stream.connect(("127.0.0.1", port))
        except OSError:
            stream.close()
            raise
        return stream

    def pull_link(self) -> None:
        run("ip", "-n", self.hub, "link", "set", self.short, "down")

    def plug_link(self) -> None:
        run("ip", "-n", self.hub, "link", "set", self.short, "up")

    def drop(self, others: str) -> None:
        """Drops what comes from and goes to these addresses; open connections hear nothing of it."""
        rules = f"""table inet cut {{
            chain from {{ type filter hook input priority 0; ip saddr {others} drop; }}
            chain to {{ type filter hook output priority 0; ip daddr {others} drop; }}
        }}"""
        run("ip", "netns", "exec", self.name, "nft", "-f", "-", stdin=rules)

    def drop_no_more(self) -> None:
        run("ip", "netns", "exec", self.name, "nft", "delete", "table", "inet", "cut")


def enter(namespace: int) -> None:
    if LIBC.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Network:
    """The machines of a run. `close` takes all of it away."""

    SITES = ("fra", "syd")

    def __init__(self, tag: str) -> None:
        self.tag, self.hub = tag, f"{tag}-hub"
        self.machines: list[Machine] = []
        run("ip", "netns", "add", self.hub)
        for site in self.SITES:
            run("ip", "-n", self.hub, "link", "add", site, "type", "bridge")
            run("ip", "-n", self.hub, "link", "set", site, "up")
        run("ip", "-n", self.hub, "link", "add", "trunk0", "type", "veth", "peer", "name", "trunk1")
        for end, site in zip(("trunk0", "trunk1"), self.SITES):
            run("ip", "-n", self.hub, "link", "set", end, "master", site)
            run("ip", "-n", self.hub, "link", "set", end, "up")

    def machine(self, name: str, site: str) -> Machine:
        number = sum(machine.site == site for machine in self.machines) + 1
        address = self.network_of(site).replace("0/24", str(number))
        machine = Machine(self.hub, f"{self.tag}-{name}", site, address)
        self.machines.append(machine)
        run("ip", "netns", "add", machine.name)
        far = ("peer", "name", "eth0", "netns", machine.name)
        run("ip", "-n", self.hub, "link", "add", machine.short, "type", "veth", *far)
        run("ip", "-n", self.hub, "link", "set", machine.short, "master", site)
        run("ip", "-n", self.hub, "link", "set", machine.short, "up")
        run("ip", "-n", machine.name, "address", "add", f"{machine.address}/16", "dev", "eth0")
        for link in ("lo", "eth0"):
            run("ip", "-n", machine.name, "link", "set", link, "up")
        return machine

    def network_of(self, site: str) -> str:
        return f"10.77.{self.SITES.index(site) + 1}.0/24"

    def cut_trunk(self) -> None:
        run("ip", "-n", self.hub, "link", "set", "trunk0", "down")

    def heal_trunk(self) -> None:
        run("ip", "-n", self.hub, "link", "set", "trunk0", "up")

    def close(self) -> None:
        for name in [machine.name for machine in self.machines] + [self.hub]:
            run("ip", "netns", "delete", name, check=False)
