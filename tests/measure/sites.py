#!/usr/bin/env python3
"""How long a fleet of two sites takes to learn, 40 ms apart, and how soon it agrees after a cut.

    tests/measure/sites.py [--phalanx BINARY] [--layout one-server|leaf|leaf-3] [--trials N] [--one-way-ms 40] [--cuts N] [--json]

Every piece of what passes between the sites is held back in a relay of our own, both ways; nothing limits how much passes.
A layout says which node reaches the fleet where: one server for both sites, or a server of its own in each, linked, which
`phalanx fleet serve` runs; in `leaf-3` the first site has three. Bans are made at each of the sites in turn and awaited at the other. In
a cut nothing passes and nobody is told; both sides ban and undo meanwhile; time counts from the moment all passes again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

from lab import nats, options, upstream
from lab.node import Clients, Member, Node, acquainted, fleet
from lab.processes import Failed, Lab, free_ports, run
from lab.relay import Relay
from lab.report import Figure, show
from lab.serve import Authority, SiteServer
from lab.watch import Watcher, arm

BANS_IN_A_CUT = 10
# Of which all bans of all cuts are well below a twentieth.
GOOD_CLIENTS = 3000


@dataclass
class Layout:
    """A running node in each of two sites, and what is between these."""

    name: str
    nodes: list[Node]
    relays: list[Relay]


def one_server(lab: Lab, given: argparse.Namespace, app: str) -> Layout:
    """One nats-server, in the first site; the other site reaches it through the relay."""
    server = nats.single(lab, nats.binary(given.nats_server), given.sync)
    relay = Relay(lab, server.port, given.one_way_ms)
    members = [Member("fra", "a", server.url), Member("syd", "a", relay.url)]
    return Layout("one nats-server, in fra", fleet(lab, given.phalanx, app, members), [relay])


def leaf(lab: Lab, given: argparse.Namespace, app: str, hubs: int = 1) -> Layout:
    """A server in each site, or three in the first; that of the second links itself to one of the first through a relay."""
    authority = Authority(lab, given.phalanx, given.nats_server, "fra", "a")
    routes = [f"127.0.0.1:{port}" for port in free_ports(hubs)]
    peers = [["--peers", ",".join(routes), "--peer-listen", route] if hubs > 1 else [] for route in routes]
    servers = [SiteServer(authority, "fra", "nats-1", peers[0], authority.state)]
    if hubs == 1:
        servers[0].hears("no other site")
    first = authority.first_node(app, servers)
    for number, more in enumerate(peers[1:], 2):
        servers.append(SiteServer(authority, "fra", f"nats-{number}", [*more, *authority.invite("fra", "--server")]))
    relays = [Relay(lab, server.links_port, given.one_way_ms) for server in servers]
    links = [word for relay in relays for word in ("--hub", f"tls://127.0.0.1:{relay.port}")]
    servers.append(SiteServer(authority, "syd", "nats-1", [*links, *authority.invite("syd", "--server")]))
    for server in servers:
        server.hears("hears syd" if server.site == "fra" else "hears fra")
    nodes = [first, authority.further_node(app, "syd", "a")]
    acquainted(nodes)
    return Layout(f"linked servers, {hubs} in fra and 1 in syd", nodes, relays)


def leaf_3(lab: Lab, given: argparse.Namespace, app: str) -> Layout:
    return leaf(lab, given, app, 3)


# Another way to connect sites is another function here.
LAYOUTS: dict[str, Callable[..., Layout]] = {"one-server": one_server, "leaf": leaf, "leaf-3": leaf_3}


def main() -> None:
    given = arguments()
    with Lab() as lab:
        layout = LAYOUTS[given.layout](lab, given, upstream.start(lab))
        nodes = layout.nodes
        watchers = [Watcher(lab, node.listen, given.pause_ms) for node in nodes]
        clients = Clients()
        title = f"two sites {given.one_way_ms:g} ms apart, {layout.name}"
        learned = [spread(nodes, watchers, clients, author, given.trials) for author in (0, 1)]
        show(f"third attack until refused at the other site; {title}", [row for rows in learned for row in rows], given.json)
        if given.cuts:
            show(f"after a cut of {given.cut_s:g} s; {title}", cuts(nodes, watchers, layout, clients, given), given.json)


def arguments() -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.add_argument("--trials", type=int, default=300, help="in each direction [300]")
    parser.add_argument("--one-way-ms", type=float, default=40)
    parser.add_argument("--cuts", type=int, default=5)
    parser.add_argument("--cut-s", type=float, default=10)
    parser.add_argument("--layout", choices=sorted(LAYOUTS), default="one-server")
    parser.add_argument("--sync", default="", help="sync_interval of nats-server, such as always [as it is by default; always in leaf]")
    return options.read(parser)


def spread(nodes: list[Node], watchers: list[Watcher], clients: Clients, author: int, trials: int) -> list[Figure]:
    """The whole path and the record alone, from one site to the other."""
    other = 1 - author
    way = f"{nodes[author].name} -> {nodes[other].name}"
    path = Figure(f"{way}, third attack sent", p50_max=50, p99_max=250)
    order = Figure(f"{way}, order sent", p50_max=50, p99_max=250)
    for _ in range(trials):
        client = clients.next()
        nodes[author].strike(client, 2)
        arm([watchers[other]], client)
        path.count(nodes[author].third_attack(client)[0], watchers[other].seen().at_ns)
        client = clients.next()
        arm([watchers[other]], client)
        order.count(nodes[author].ordered_ban(client)[0], watchers[other].seen().at_ns)
    return [path, order]


def cuts(nodes: list[Node], watchers: list[Watcher], layout: Layout, clients: Clients, given: argparse.Namespace) -> list[Figure]:
    """What both sides decided while they were apart. Within a site nothing may be refused because of the cut."""
    bans = Figure("bans of both sides, at the other", max_max=5000)
    undone = Figure("undone at one side, at the other", max_max=5000)
    # With few others, a handful of bans would be more of the good clients than a node takes from another without asking.
    for node in nodes[:2]:
        for _ in range(GOOD_CLIENTS):
            node.ask(clients.next())
    for _ in range(given.cuts):
        before = [(author, *ordered_and_known(nodes, watchers, clients, author)) for author in (0, 1)]
        for relay in layout.relays:
            relay.cut()
        ends = time.monotonic() + given.cut_s
        for author, _client, decision in before:
            nodes[author].api.call("DELETE", f"decisions/{decision}")
        made = [(author, banned_here(nodes[author], clients)) for author in (0, 1) for _ in range(BANS_IN_A_CUT)]
        time.sleep(max(ends - time.monotonic(), 0))
        for author, client in made:
            arm([watchers[1 - author]], client)
        for author, client, _decision in before:
            arm([watchers[1 - author]], client, first=403, wanted=200)
        since_ns = time.monotonic_ns()
        for relay in layout.relays:
            relay.heal()
        told = {seen.client: seen.at_ns for watcher in watchers for seen in (watcher.seen() for _ in range(BANS_IN_A_CUT + 1))}
        for _author, client in made:
            bans.count(since_ns, told[client])
        for _author, client, _decision in before:
            undone.count(since_ns, told[client])
    return [bans, undone]


def ordered_and_known(nodes: list[Node], watchers: list[Watcher], clients: Clients, author: int) -> tuple[str, str]:
    """A ban of an author that the other site knows: its actor and its id."""
    client, other = clients.next(), watchers[1 - author]
    arm([other], client)
    decision = nodes[author].ordered_ban(client)[2]
    if other.seen().at_ns is None:
        raise Failed(f"{client} was never refused")
    return client, decision


def banned_here(node: Node, clients: Clients) -> str:
    """An actor whom a node banned, as it does without the others, too."""
    client = clients.next()
    node.strike(client, 3)
    ends = time.monotonic() + 1
    while node.ask(client) != 403:
        if time.monotonic() > ends:
            raise Failed(f"{node.name} did not ban {client} while it was cut off")
    return client


if __name__ == "__main__":
    run(main)
