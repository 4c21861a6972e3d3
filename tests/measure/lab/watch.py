"""A client in a process of its own that asks a node again and again in the name of actors until it is answered otherwise.

Times are of the monotonic clock, which all processes of a machine share. A time is that of the *receipt* of the first answer
looked for, so half a round trip and up to one pause are in it: what is measured is never shorter than it was.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection as PipeEnd

from .http import Connection, get
from .processes import DEADLINE_S, Failed, Lab


@dataclass(frozen=True)
class Seen:
    """That an actor was answered as looked for; without a time if it never was."""

    client: str
    at_ns: int | None


class Watcher:
    """Watches one node. Actors are asked in turn, one question at a time, with a pause after each round."""

    def __init__(self, lab: Lab, address: str, pause_ms: float) -> None:
        self.pipe, theirs = Pipe()
        self.firsts: deque[int] = deque()
        self.ended: deque[Seen] = deque()
        lab.worker(watch, theirs, address, pause_ms / 1000)
        theirs.close()

    def begin(self, client: str, wanted: int, deadline_s: float = DEADLINE_S) -> None:
        """Starts to ask for an actor until it is answered with this status."""
        self.pipe.send((client, wanted, deadline_s))

    def first(self) -> int:
        """The status of the first answer of the next actor begun: from here on it is watched."""
        while not self.firsts:
            self.receive()
        return self.firsts.popleft()

    def seen(self) -> Seen:
        """The next actor whose watch ended."""
        while not self.ended:
            self.receive()
        return self.ended.popleft()

    def receive(self) -> None:
        if not self.pipe.poll(DEADLINE_S * 2):
            raise Failed("a watching client says nothing any more")
        kind, *told = self.pipe.recv()
        if kind == "first":
            self.firsts.append(told[0])
        else:
            self.ended.append(Seen(*told))


def arm(watchers: Sequence[Watcher], client: str, first: int = 200, wanted: int = 403) -> None:
    """Has all watch an actor, who is answered by all as expected until then."""
    for watcher in watchers:
        watcher.begin(client, wanted)
    for watcher in watchers:
        status = watcher.first()
        if status != first:
            raise Failed(f"{client} is answered with {status}, not with {first}")


@dataclass
class Watched:
    wanted: int
    ends: float
    request: bytes


def watch(pipe: PipeEnd, address: str, pause_s: float) -> None:
    """Runs in the watcher's process."""
    connection = Connection(address)
    watched: dict[str, Watched] = {}
    while True:
        while pipe.poll(0 if watched else None):
            client, wanted, deadline_s = pipe.recv()
            one = Watched(wanted, time.monotonic() + deadline_s, get("/", client))
            status = connection.exchange(one.request)[0]
            pipe.send(("first", status))
            watched[client] = one
        for client, one in list(watched.items()):
            ended = ask(connection, client, one)
            if ended:
                del watched[client]
                pipe.send(("seen", ended.client, ended.at_ns))
        time.sleep(pause_s)


def ask(connection: Connection, client: str, one: Watched) -> Seen | None:
    status = connection.exchange(one.request)[0]
    if status == one.wanted:
        return Seen(client, time.monotonic_ns())
    if time.monotonic() > one.ends:
        return Seen(client, None)
    return None
