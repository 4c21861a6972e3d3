"""Machines in network namespaces, in sites, and the cuts between.

Each machine is a namespace with one link to its site's switch; the switches are bridges in a namespace of their own, each joined
to one in the middle by a trunk. Links go down, or packets are dropped so that connections stay half open, which is the harsher fault.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import re
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

    def has_link(self) -> bool:
        """Whether the machine itself sees a carrier."""
        return "LOWER_UP" in run("ip", "-n", self.name, "link", "show", "eth0")

    def drop(self, others: str) -> None:
        """Drops what comes from and goes to these addresses; open connections hear nothing of it."""
        rules = f"""table inet cut {{
            chain from {{ type filter hook input priority 0; ip saddr {others} counter drop; }}
            chain to {{ type filter hook output priority 0; ip daddr {others} counter drop; }}
        }}"""
        run("ip", "netns", "exec", self.name, "nft", "-f", "-", stdin=rules)

    def drop_no_more(self) -> int:
        """How many packets were dropped meanwhile."""
        listed = run("ip", "netns", "exec", self.name, "nft", "list", "table", "inet", "cut")
        run("ip", "netns", "exec", self.name, "nft", "delete", "table", "inet", "cut")
        return sum(map(int, re.findall(r"counter packets (\d+)", listed)))


def enter(namespace: int) -> None:
    if LIBC.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Network:
    """The machines of a run. `close` takes all of it away."""

    def __init__(self, tag: str, sites: tuple[str, ...]) -> None:
        self.tag, self.sites, self.hub = tag, sites, f"{tag}-hub"
        self.machines: list[Machine] = []
        run("ip", "netns", "add", self.hub)
        for switch in ("middle", *sites):
            run("ip", "-n", self.hub, "link", "add", switch, "type", "bridge")
            run("ip", "-n", self.hub, "link", "set", switch, "up")
        for site in sites:
            near, far = trunk(site), f"{trunk(site)}-far"
            run("ip", "-n", self.hub, "link", "add", near, "type", "veth", "peer", "name", far)
            for end, switch in ((near, site), (far, "middle")):
                run("ip", "-n", self.hub, "link", "set", end, "master", switch)
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
        return f"10.77.{self.sites.index(site) + 1}.0/24"

    def networks_beside(self, site: str) -> str:
        """What all the other sites have, as a set of the packet filter's."""
        return "{ " + ", ".join(self.network_of(other) for other in self.sites if other != site) + " }"

    def cut_trunk(self, site: str) -> None:
        run("ip", "-n", self.hub, "link", "set", trunk(site), "down")

    def heal_trunk(self, site: str) -> None:
        run("ip", "-n", self.hub, "link", "set", trunk(site), "up")

    def close(self) -> None:
        for name in [machine.name for machine in self.machines] + [self.hub]:
            run("ip", "netns", "delete", name, check=False)


def trunk(site: str) -> str:
    return f"trunk-{site}"
