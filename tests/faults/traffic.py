"""What operators and attackers do meanwhile, and whether each node does what it said: threads of the driver."""

from __future__ import annotations

import heapq
import random
import threading
import time
import urllib.parse
from collections.abc import Callable

from oracle import EXPIRY_GRACE, Ban, Oracle
from processes import Node

PAUSE_SECONDS = (0.4, 1.2)
# A lock of a table or a busy machine may delay an answer; longer is a refusal.
REFUSED_SECONDS = 5.0


class Traffic:
    """Bans and undoes through each node, and visits in the name of who was banned."""

    def __init__(self, nodes: list[Node], oracle: Oracle, seed: int) -> None:
        self.nodes, self.oracle, self.seed = nodes, oracle, seed
        self.stopping = threading.Event()
        self.expiring: list[tuple[float, str, Ban]] = []
        self.expiring_lock = threading.Lock()
        self.threads = [threading.Thread(target=self.act, args=(node, n)) for n, node in enumerate(nodes)]
        self.watchers = [threading.Thread(target=self.watch_expiry), threading.Thread(target=self.watch_lists)]
        self.watching = threading.Event()

    def start(self) -> None:
        self.watching.set()
        for thread in [*self.threads, *self.watchers]:
            thread.start()

    def stop_acting(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            if thread.ident:
                thread.join()

    def stop(self) -> None:
        self.stop_acting()
        self.watching.clear()
        for thread in self.watchers:
            if thread.ident:
                thread.join()

    def act(self, node: Node, number: int) -> None:
        choice = random.Random(self.seed * 1000 + number)
        while not self.stopping.wait(choice.uniform(*PAUSE_SECONDS)):
            if not node.live:
                continue
            what = choice.random()
            if not node.orders:
                # It only bans whom it sees attack.
                self.attack(node, choice)
            elif what < 0.25:
                self.undo(node)
            elif what < 0.35:
                self.attack(node, choice)
            else:
                self.add(node, choice)

    def add(self, node: Node, choice: random.Random) -> None:
        again = self.oracle.undone_address() if choice.random() < 0.15 else None
        address = again or self.oracle.fresh_address()
        seconds = choice.choice([choice.uniform(2, 10), choice.uniform(2, 10), choice.uniform(10, 60), choice.uniform(60, 300)])
        order = {"ip": address, "kind": "ban", "for_ms": int(seconds * 1000), "reason": "fault run"}
        child = node.child
        try:
            status, made = node.call("POST", "/decisions", order, REFUSED_SECONDS)
        except (OSError, ValueError) as error:
            self.unanswered(node, child, f"add of {address}: {error}")
            return
        if status != 201:
            self.unanswered(node, child, f"add of {address}: {status} {made}")
            return
        self.made(node, address, made["id"], made["expires_at_ms"])

    def add_then(self, node: Node, at_once: Callable[[], None]) -> Ban | None:
        """A ban by the API, and something that happens as soon as it is acknowledged."""
        order = {"ip": self.oracle.fresh_address(), "kind": "ban", "for_ms": 120_000, "reason": "fault run"}
        status, made = node.call("POST", "/decisions", order, REFUSED_SECONDS)
        at_once()
        if status != 201:
            self.oracle.refused(f"{node.name}: {status} {made}")
            return None
        ban = Ban(str(order["ip"]), node.name, made["id"], time.time(), made["expires_at_ms"] / 1000)
        self.oracle.banned(ban)
        return ban

    def made(self, node: Node, address: str, name: str, expires_at_ms: int) -> None:
        ban = Ban(address, node.name, name, time.time(), expires_at_ms / 1000)
        self.oracle.banned(ban)
        with self.expiring_lock:
            due_at = max(ban.expires_at, ban.earlier_until) + EXPIRY_GRACE
            heapq.heappush(self.expiring, (due_at, ban.id, ban))
        self.check_author(node, ban)

    def check_author(self, node: Node, ban: Ban) -> None:
        """What a node acknowledged it enforces at once."""
        status = self.visit(node, ban)
        if status not in (None, 0, 403) and node.live and ban.must_hold(time.time(), time.time()):
            self.oracle.fault("lost", ban, f"its author {node.name} answers {status} at once")

    def attack(self, node: Node, choice: random.Random) -> None:
        """Three different attacks of one client, which make a ban."""
        address, child = self.oracle.fresh_address(), node.child
        try:
            for _ in range(3):
                text = f"' UNION SELECT password FROM users WHERE id={choice.randrange(10**9)}-- "
                node.visit(address, f"/?q={urllib.parse.quote(text)}", REFUSED_SECONDS)
            end = time.monotonic() + REFUSED_SECONDS
            while time.monotonic() < end:
                for decision in node.decisions():
                    if address_of(decision) == address:
                        self.made(node, address, decision["id"], decision["expires_at_ms"])
                        return
                time.sleep(0.05)
            self.unanswered(node, child, f"three attacks of {address} made no ban")
        except (OSError, ValueError, RuntimeError) as error:
            self.unanswered(node, child, f"attack of {address}: {error}")

    def unanswered(self, node: Node, child: object, what: str) -> None:
        """A node that was killed or stopped meanwhile refused nothing."""
        if node.live and node.child is child:
            self.oracle.refused(f"{node.name}: {what}")

    def undo(self, node: Node) -> None:
        ban = self.oracle.begin_undo()
        if ban is None:
            return
        child = node.child
        try:
            status, answer = node.call("DELETE", f"/decisions/{ban.id}", None, REFUSED_SECONDS)
        except (OSError, ValueError) as error:
            # Whether it took effect is not known: the ban stays unsure.
            self.unanswered(node, child, f"undo of {ban.address}: {error}")
            return
        if status in (200, 404):
            # A node that has not heard of the ban cannot undo it.
            self.oracle.end_undo(ban, status == 200)
        else:
            self.unanswered(node, child, f"undo of {ban.address}: {status} {answer}")

    def visit(self, node: Node, ban: Ban) -> int | None:
        try:
            return node.visit(ban.address)
        except OSError:
            return None

    def watch_expiry(self) -> None:
        """Asks every live node for each ban, a moment after its end."""
        while self.watching.is_set():
            with self.expiring_lock:
                due = bool(self.expiring) and self.expiring[0][0] <= time.time()
                ban = heapq.heappop(self.expiring)[2] if due else None
            if ban is None:
                time.sleep(0.02)
                continue
            for node in self.nodes:
                self.check_expired(node, ban)

    def check_expired(self, node: Node, ban: Ban) -> None:
        if not node.live or not self.oracle.is_latest(ban) or not ban.is_over(time.time()):
            return
        asked_at = time.time()
        status = self.visit(node, ban)
        # One that was banned anew meanwhile is another matter.
        if status == 403 and self.oracle.is_latest(ban):
            self.oracle.fault("late", ban, f"{node.name} refuses {asked_at - ban.expires_at:.3f} s after its expiry")


    def watch_lists(self) -> None:
        """Asks every live node once a second what is in force there."""
        while self.watching.is_set():
            for node in self.nodes:
                asked_at = time.time()
                listed = self.listed(node) if node.live else None
                if listed is not None:
                    self.oracle.observe(node.name, listed, asked_at)
            time.sleep(1)

    def listed(self, node: Node) -> dict[str, str] | None:
        """The ids that a node lists, by address; `None` if it does not answer."""
        try:
            return {address_of(decision): str(decision["id"]) for decision in node.decisions()}
        except (OSError, RuntimeError, ValueError):
            return None


def address_of(decision: dict[str, object]) -> str:
    """The single address that a listed decision is about, or what else it says."""
    actor = decision["actor"]
    value = actor.get("value") if isinstance(actor, dict) else actor
    return str(value).removesuffix("/32")
