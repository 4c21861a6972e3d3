"""A whole site: one nats-server or a cluster of three, an app, and nodes before it that know each other."""

from __future__ import annotations

import argparse

from . import nats, upstream
from .node import Member, Node, fleet
from .processes import Lab

SITE = "fra"


def start(lab: Lab, given: argparse.Namespace, servers: int, nodes: int, sync: str = "") -> tuple[list[nats.Server], list[Node]]:
    """Starts it. With three servers there are three copies of each stream."""
    program, app = nats.binary(given.nats_server), upstream.start(lab)
    running = nats.cluster(lab, program, sync) if servers == 3 else [nats.single(lab, program, sync)]
    url = ",".join(server.url for server in running)
    members = fleet(lab, given.phalanx, app, [Member(SITE, chr(ord("a") + number), url) for number in range(nodes)])
    if servers == 3:
        nats.replicate(running)
    return running, members
