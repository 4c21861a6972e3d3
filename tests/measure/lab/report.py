"""Percentiles, one table for people, one JSON object a line for programs."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass
class Figure:
    """One row: what was measured, its times in milliseconds, and what is to be reached."""

    name: str
    times_ms: list[float] = field(default_factory=list)
    lost: int = 0
    p50_max: float | None = None
    p99_max: float | None = None
    max_max: float | None = None
    note: str = ""

    def count(self, since_ns: int, at_ns: int | None) -> None:
        """One trial; it is lost when what it waited for never came."""
        if at_ns is None:
            self.lost += 1
        else:
            self.times_ms.append((at_ns - since_ns) / 1e6)

    def reached(self) -> bool | None:
        """Whether all that is to be reached was; nothing where nothing is."""
        limits = [(0.5, self.p50_max), (0.99, self.p99_max), (1.0, self.max_max)]
        stated = [(share, limit) for share, limit in limits if limit is not None]
        if not stated:
            return None
        met = all(self.times_ms and percentile(self.times_ms, share) <= limit for share, limit in stated)
        return met and not self.lost

    def goal(self) -> str:
        limits = [("p50", self.p50_max), ("p99", self.p99_max), ("max", self.max_max)]
        return ", ".join(f"{name} <= {limit:g}" for name, limit in limits if limit is not None)


def percentile(times: Sequence[float], share: float) -> float:
    """By nearest rank: a time that was really seen, never one between two."""
    ordered = sorted(times)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def load() -> float:
    return os.getloadavg()[0]


def show(title: str, figures: Iterable[Figure], as_json: bool) -> None:
    """Prints the rows."""
    figures = list(figures)
    if as_json:
        for figure in figures:
            print(json.dumps(as_object(title, figure)), flush=True)
        return
    width = max((len(figure.name) for figure in figures), default=4)
    print(f"{title}; milliseconds; load average {load():.1f} on {os.cpu_count()} cores")
    print(f"{'':{width}} {'trials':>7} {'p50':>9} {'p99':>9} {'max':>9} {'lost':>5}  goal")
    for figure in figures:
        print(f"{figure.name:{width}} {row(figure)}".rstrip(), flush=True)


def row(figure: Figure) -> str:
    trials = len(figure.times_ms) + figure.lost
    times = " ".join(f"{value:>9}" for value in shares(figure))
    verdict = {True: "reached", False: "MISSED", None: ""}[figure.reached()]
    parts = [part for part in (figure.goal(), verdict, figure.note) if part]
    return f"{trials:>7} {times} {figure.lost:>5}  {'; '.join(parts)}"


def shares(figure: Figure) -> list[str]:
    if not figure.times_ms:
        return ["-"] * 3
    return [f"{percentile(figure.times_ms, share):.2f}" for share in (0.5, 0.99, 1.0)]


def as_object(title: str, figure: Figure) -> dict[str, object]:
    times = figure.times_ms
    at = {f"{name}_ms": round(percentile(times, share), 3) if times else None
          for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}
    goal = {"goal": figure.goal() or None, "reached": figure.reached()}
    trials = {"trials": len(times) + figure.lost, "lost": figure.lost}
    machine = {"load": round(load(), 2), "cores": os.cpu_count()}
    return {"measurement": title, "figure": figure.name, **trials, **at, **goal, "note": figure.note or None, **machine}
