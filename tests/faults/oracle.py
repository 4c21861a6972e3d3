"""What must be true: every ban and withdrawal with the time at which it was acknowledged, and what nodes made of it."""

from __future__ import annotations

import dataclasses
import random
import threading
import time

# How long after its expiry a request may still be refused: the way of a request to the node, on a busy machine.
EXPIRY_GRACE = 0.2
# What is about to expire is not asked for: the question takes time too.
LIVE_MARGIN = 1.5


@dataclasses.dataclass
class Ban:
    """One acknowledged ban of one address."""

    address: str
    author: str
    id: str
    acked_at: float
    expires_at: float
    # When a node acknowledged that it is undone.
    undone_at: float | None = None
    # An undo was sent and never answered, or is on its way: nothing can be said of the ban.
    unsure: bool = False
    # Until when an earlier ban of the address, undone by now, may hold at a node that could not hear of its undo.
    earlier_until: float = 0.0

    def must_hold(self, now: float, said_before: float) -> bool:
        """Whether every connected node must enforce it, for a while yet."""
        told = self.acked_at <= said_before and self.undone_at is None and not self.unsure
        return told and self.expires_at > now + LIVE_MARGIN

    def must_not_hold(self, now: float, said_before: float) -> bool:
        undone = self.undone_at is not None and self.undone_at <= said_before
        return undone or self.is_over(now)

    def is_over(self, now: float) -> bool:
        return now > max(self.expires_at, self.earlier_until) + EXPIRY_GRACE


@dataclasses.dataclass
class Counts:
    """What a run found. All but the first must be 0."""

    made: int = 0
    undone: int = 0
    refused: int = 0
    lost: set[str] = dataclasses.field(default_factory=set)
    # Those of them that did not come later either.
    for_good: set[str] = dataclasses.field(default_factory=set)
    resurrected: set[str] = dataclasses.field(default_factory=set)
    late: set[str] = dataclasses.field(default_factory=set)

    def clean(self) -> bool:
        return not (self.refused or self.lost or self.resurrected or self.late)


class Oracle:
    """Shared by all threads of the driver. There is one ban at a time for each address: the latest."""

    def __init__(self, seed: int) -> None:
        self.lock = threading.Lock()
        self.bans: dict[str, Ban] = {}
        self.reserved: set[str] = set()
        self.random = random.Random(seed)
        self.counts = Counts()
        self.events: list[str] = []
        # Bans and the nodes that listed them, and those of them that were undone and are not listed any more.
        self.seen: set[tuple[str, str]] = set()
        self.gone: set[tuple[str, str]] = set()

    def fresh_address(self) -> str:
        """An address of the range for benchmarks that was never used before."""
        with self.lock:
            while True:
                number = self.random.randrange(1 << 17)
                address = f"198.{18 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
                if address not in self.bans and address not in self.reserved:
                    self.reserved.add(address)
                    return address

    def undone_address(self) -> str | None:
        """An address whose ban was undone: it may be banned anew."""
        with self.lock:
            undone = [ban for ban in self.bans.values() if ban.undone_at and not ban.unsure]
            if not undone:
                return None
            ban = self.random.choice(undone)
            # Nothing is asked of it while the new ban is on its way.
            ban.unsure = True
            return ban.address

    def banned(self, ban: Ban) -> None:
        with self.lock:
            earlier = self.bans.get(ban.address)
            if earlier:
                ban.earlier_until = max(earlier.expires_at, earlier.earlier_until)
            self.bans[ban.address] = ban
            self.counts.made += 1

    def begin_undo(self) -> Ban | None:
        """A ban to undo. The caller says how it ended."""
        now = time.time()
        with self.lock:
            able = [ban for ban in self.bans.values() if ban.must_hold(now, now - 0.5)]
            if not able:
                return None
            ban = self.random.choice(able)
            ban.unsure = True
            return ban

    def end_undo(self, ban: Ban, undone: bool) -> None:
        with self.lock:
            ban.unsure = False
            if undone:
                ban.undone_at = time.time()
                self.counts.undone += 1

    def is_latest(self, ban: Ban) -> bool:
        with self.lock:
            return self.bans.get(ban.address) is ban and not ban.unsure

    def must_hold(self, said_before: float) -> list[Ban]:
        now = time.time()
        with self.lock:
            return [ban for ban in self.bans.values() if ban.must_hold(now, said_before)]

    def must_not_hold(self, said_before: float) -> list[Ban]:
        now = time.time()
        with self.lock:
            return [ban for ban in self.bans.values() if ban.must_not_hold(now, said_before) and not ban.unsure]

    def observe(self, node: str, listed: dict[str, str], asked_at: float) -> None:
        """What a node listed, ids by address: a ban that was undone and gone there must not come back."""
        self.seen.update((name, node) for name in listed.values())
        for ban in self.must_not_hold(asked_at):
            if ban.undone_at is None or not self.is_latest(ban):
                continue
            if ban.address in listed and (ban.id, node) in self.gone:
                self.fault("resurrected", ban, f"{node} lists it again")
            elif ban.address not in listed and (ban.id, node) in self.seen:
                self.gone.add((ban.id, node))

    def still_refused(self, ban: Ban, node: str) -> None:
        """A node refuses what it should not by now: an undo that did not arrive is lost as a ban is."""
        if ban.undone_at is None or (ban.id, node) in self.gone:
            self.fault("resurrected", ban, f"{node} refuses it")
        else:
            self.fault("lost", ban, f"{node} has not heard that it is undone")

    def note(self, text: str) -> None:
        now = time.time()
        with self.lock:
            self.events.append(f"{time.strftime('%H:%M:%S', time.gmtime(now))}.{int(now * 1000) % 1000:03} {text}")

    def refused(self, text: str) -> None:
        with self.lock:
            self.counts.refused += 1
        self.note(f"REFUSED {text}")

    def fault(self, kind: str, ban: Ban, text: str) -> None:
        found: set[str] = getattr(self.counts, kind)
        with self.lock:
            known = ban.id in found
            found.add(ban.id)
        if not known:
            undone = f", undone {ban.undone_at:.3f}" if ban.undone_at else ""
            times = f"acknowledged {ban.acked_at:.3f} by {ban.author}, expires {ban.expires_at:.3f}{undone}"
            self.note(f"{kind.upper()} {ban.address} {ban.id} {times}: {text}")
