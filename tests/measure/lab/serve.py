"""Sites with servers of their own, as `phalanx fleet serve` runs them, and a fleet with an authority."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Sequence

from . import nats
from .node import Member, Node, state_of
from .processes import Failed, Lab, free_ports, until


class Authority:
    """The fleet's authority. It lies in the state folder of the first node, which admits the others."""

    def __init__(self, lab: Lab, binary: pathlib.Path, nats_server: str | None, site: str, node: str) -> None:
        self.lab, self.binary, self.nats_server = lab, binary, shutil.which(nats.binary(nats_server)) or ""
        self.site, self.node = site, node
        self.state = state_of(lab, site, node)
        self.command("init", "--fleet-id", "measured")

    def command(self, *words: str) -> str:
        """What a command of `phalanx fleet` says."""
        command = [self.binary, "fleet", *words, "--state", self.state]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        if told.returncode:
            raise Failed(f"fleet {' '.join(words)}: {told.stderr.strip()}")
        return told.stdout

    def invite(self, site: str, what: str) -> list[str]:
        """The words with which a server, or a node that takes orders, joins."""
        return ["--join", str(json.loads(self.command("invite", "--site", site, what, "--json"))["token"])]

    def first_node(self, upstream: str, servers: Sequence[SiteServer]) -> Node:
        url = ",".join(server.url for server in servers)
        member = Member(self.site, self.node, url, ["--enroll", f"127.0.0.1:{free_ports(1)[0]}"])
        return Node(self.lab, self.binary, upstream, member)

    def further_node(self, upstream: str, site: str, node: str) -> Node:
        return Node(self.lab, self.binary, upstream, Member(site, node, None, self.invite(site, "--control")))


class SiteServer:
    """A running `phalanx fleet serve`."""

    def __init__(self, authority: Authority, site: str, name: str, options: Sequence[str], state: pathlib.Path | None = None) -> None:
        self.site, self.log, lab = site, f"serve-{site}-{name}", authority.lab
        port, self.links_port = free_ports(2)
        self.url = f"tls://127.0.0.1:{port}"
        words: list[str | os.PathLike[str]] = [authority.binary, "fleet", "serve", "--json", "--nats-server", authority.nats_server]
        words += ["--state", state or lab.subfolder(self.log), "--site", site, "--server", name]
        words += ["--listen", f"127.0.0.1:{port}", "--leaf-listen", f"127.0.0.1:{self.links_port}"]
        self.lab = lab
        lab.spawn([*words, *options], self.log)

    def hears(self, sites: str) -> None:
        """Waits until it serves and hears the servers of these sites."""
        until(f"{self.log} hears {sites}: {self.lab.said(self.log)}", lambda: f"serving; {sites}" in self.lab.said(self.log))
