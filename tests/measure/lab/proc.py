"""What the kernel tells about processes: where they are connected, and which of their threads use how much of a core."""

from __future__ import annotations

import os
import pathlib
import statistics
import time
from dataclasses import dataclass

TICKS = os.sysconf("SC_CLK_TCK")
ESTABLISHED = "01"


def connected_ports(pid: int) -> set[int]:
    """The remote ports of a process's IPv4 connections."""
    links = [os.readlink(entry) for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()]
    sockets = {link.removeprefix("socket:[").rstrip("]") for link in links if link.startswith("socket:[")}
    rows = [line.split() for line in pathlib.Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {int(row[2].split(":")[1], 16) for row in rows if row[3] == ESTABLISHED and row[9] in sockets}


@dataclass(frozen=True)
class Thread:
    """A thread of a process that has a name in the report."""

    process: str
    thread: str
    number: int


def used(processes: dict[str, int]) -> dict[Thread, float]:
    """Seconds of CPU that the threads of these processes have used so far."""
    found = {}
    for name, pid in processes.items():
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
            try:
                stat = (task / "stat").read_text()
            except OSError:
                continue
            # The name stands in brackets and may hold anything.
            comm, _, rest = stat.partition("(")[2].rpartition(")")
            fields = rest.split()
            found[Thread(name, comm, int(task.name))] = (int(fields[11]) + int(fields[12])) / TICKS
    return found


@dataclass(frozen=True)
class Shares:
    """Cores used: by each process, by each of its threads, by all else; and those that nobody used."""

    processes: dict[str, float]
    threads: dict[str, float]
    others: float
    idle: float
    waiting: float


class Usage:
    """The CPU that processes use from now on."""

    def __init__(self, processes: dict[str, int]) -> None:
        self.processes = processes
        self.started = time.monotonic()
        self.before, self.machine_before = used(processes), machine()

    def shares(self) -> Shares:
        seconds = time.monotonic() - self.started
        by_process: dict[str, float] = {}
        by_thread: dict[str, float] = {}
        for thread, now in used(self.processes).items():
            share = (now - self.before.get(thread, 0.0)) / seconds
            by_process[thread.process] = by_process.get(thread.process, 0.0) + share
            by_thread[f"{thread.process}: {thread.thread} {thread.number}"] = share
        busy, idle, waiting = ((now - before) / seconds for now, before in zip(machine(), self.machine_before, strict=True))
        return Shares(by_process, by_thread, max(busy - sum(by_process.values()), 0.0), idle, waiting)


def flush_ms(folder: pathlib.Path, times: int = 50) -> float:
    """What it takes to write 1 KiB through to the disk of a folder: the median."""
    taken = []
    with open(folder / "flushed", "wb", buffering=0) as file:
        for _ in range(times):
            started = time.perf_counter()
            file.write(bytes(1024))
            os.fsync(file.fileno())
            taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken)


def machine() -> tuple[float, float, float]:
    """Seconds that all cores together were busy, idle, and idle while something waited for a disk."""
    fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle, waiting = fields[3], fields[4]
    return (sum(fields) - idle - waiting) / TICKS, idle / TICKS, waiting / TICKS
