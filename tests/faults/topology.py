"""What a fleet under test is made of, and what of its life depends on its shape."""

from __future__ import annotations

import abc
import dataclasses
import pathlib
from collections.abc import Sequence

from network import Network
from processes import Node, Process


@dataclasses.dataclass
class Programs:
    phalanx: str
    nats_server: str
    # Whether servers notice half-open routes within seconds.
    prompt_routes: bool
    # What passes between sites with servers of their own is held back for so long.
    one_way_ms: float = 0.0


class Server(Process):
    """A server between nodes."""

    @property
    def store(self) -> pathlib.Path:
        """Where its streams lie."""
        return self.folder


class Topology(abc.ABC):
    """A fleet of one shape: each server knows its peers, each node whom to connect to."""

    SITES: tuple[str, ...]

    def __init__(self, network: Network, folder: pathlib.Path, programs: Programs) -> None:
        self.network, self.folder, self.programs = network, folder, programs
        self.servers: Sequence[Server] = []
        self.nodes: list[Node] = []

    def processes(self) -> list[Process]:
        return [*self.servers, *self.nodes]

    @abc.abstractmethod
    def start(self) -> None:
        """Starts all, as an operator would; returns when every node sees every other."""

    @abc.abstractmethod
    def is_settled(self) -> bool:
        """Whether nothing is under way any more: where a round begins."""

    @abc.abstractmethod
    def leader(self) -> Server | None:
        """The server that leads a site's stream of decisions, where there are several to lead it."""

    def may_lose_its_disk(self, node: Node) -> bool:
        return True

    @abc.abstractmethod
    def readmit(self, nodes: list[Node]) -> None:
        """Starts nodes whose disks are gone, with what an operator does so that they may come back."""

    @abc.abstractmethod
    def backed_up(self, site: str) -> Sequence[Server]:
        """The servers whose streams an operator of a site keeps copies of, and puts back."""

    def rebuild(self, servers: Sequence[Server], nodes: list[Node]) -> None:
        """Starts a site all of whose disks are gone."""
        raise NotImplementedError

    def newcomers(self) -> list[Node]:
        """Nodes that join at the end of a run, each to learn all from its own site's server; not started yet."""
        return []


def see_each_other(nodes: Sequence[Node]) -> bool:
    return all(node.sees(other) for node in nodes for other in nodes)
