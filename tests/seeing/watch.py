"""What nodes say while a scenario is played: incidents and decisions, asked for at the API of each."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from player import Answer
from processes import Node

POLL_SECONDS = 0.2


class Watch(threading.Thread):
    """Asks each node several times a second which incidents there are."""

    def __init__(self, nodes: list[Node]) -> None:
        super().__init__(daemon=True)
        self.nodes, self.over = nodes, threading.Event()
        self.ended_at = 0.0
        # When a node first told of a detector, or of so many nodes, in an incident.
        self.first: dict[tuple[str, str, str], float] = {}
        self.named: dict[tuple[str, int], float] = {}
        # And of an account.
        self.accounts: dict[str, float] = {}
        self.grew: dict[str, int] = {}
        # When a node was seen to have an order first, and last: by its kind and whom it is about.
        self.orders: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
        # What was played, and what attackers did to get in.
        self.about: dict[str, Any] = {}
        self.entered: list[Answer] = []

    def run(self) -> None:
        while not self.over.wait(POLL_SECONDS):
            for node in self.nodes:
                self.ask(node)

    def ask(self, node: Node) -> None:
        try:
            rows = node.call("GET", "/incidents")[1] or []
            decisions = node.decisions()
        except (OSError, ValueError, RuntimeError):
            return
        now = time.time()
        for decision in decisions:
            of = self.orders.setdefault((decision["kind"], json.dumps(decision["actor"])), {})
            of[node.name] = (of.get(node.name, (now, now))[0], now)
        for row in rows:
            for detector in row["detectors"]:
                self.first.setdefault((node.name, row["id"], detector), now)
            for count in range(1, len(row["nodes"]) + 1):
                self.named.setdefault((row["id"], count), now)
            if row["findings_count"] > self.grew.get(row["id"], 0):
                self.grew[row["id"]] = row["findings_count"]
                self.note_accounts(node, row["id"])

    def note_accounts(self, node: Node, incident: str) -> None:
        whole = node.call("GET", f"/incidents/{incident}")[1] or {"findings": []}
        for finding in whole["findings"]:
            if finding["subject"]["kind"] == "account":
                self.accounts.setdefault(finding["subject"]["value"], time.time())

    def stop(self) -> None:
        self.ended_at = time.time()
        self.over.set()
        self.join()
