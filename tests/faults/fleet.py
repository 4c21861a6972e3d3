#!/usr/bin/env python3
"""What a fleet of real processes loses when machines, links and disks fail: nothing, or this says what.

    tests/faults/fleet.py [--phalanx BINARY] [--nats-server BINARY] [--scenario NAME|all]... [--seed N] [--rounds N]
        [--default-routes] [--keep DIR]

Needs root, `ip` and `nft`. Each machine is a network namespace. Bans are made and undone through every node all the time, by
its API and by attacks; the README beside this file says what counts as lost, resurrected, past expiry and refused. The exit
code is 1 if any of these is not 0, or if the fleet took longer than 5 s to agree after it was mended.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time

from scenarios import SCENARIOS
from world import CONVERGE_SECONDS, Programs, World, one_cluster

ROOT = pathlib.Path(__file__).resolve().parents[2]
WARM_UP_SECONDS = 8.0
QUIET_SECONDS = 6.0


@dataclasses.dataclass
class Result:
    """One line of the table."""

    scenario: str
    seed: int
    made: int
    refused: int
    lost: int
    resurrected: int
    late: int
    # The slowest round; `None` if one never converged.
    converged: float | None

    def passed(self) -> bool:
        in_time = self.converged is not None and self.converged <= CONVERGE_SECONDS
        return in_time and not (self.refused or self.lost or self.resurrected or self.late)

    def row(self) -> str:
        seconds = "never" if self.converged is None else f"{self.converged:.1f}"
        counts = f"{self.made:9} {self.refused:7} {self.lost:5} {self.resurrected:11} {self.late:11}"
        return f"{self.scenario:22} {self.seed:5} {counts} {seconds:>9}  {'' if self.passed() else 'FAILED'}"


HEADER = f"{'scenario':22} {'seed':>5} {'decisions':>9} {'refused':>7} {'lost':>5} {'resurrected':>11} {'past expiry':>11} {'converged':>9}"


def main() -> int:
    options = arguments()
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("nft") or not shutil.which(options.nats_server):
        print("skipped: needs root, ip, nft and nats-server")
        return 0
    # Ends like Ctrl-C, so that namespaces and processes go.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    names = list(SCENARIOS) if "all" in options.scenario else options.scenario
    programs = Programs(str(pathlib.Path(options.phalanx).resolve()), shutil.which(options.nats_server) or "", not options.default_routes)
    results = []
    try:
        for name in names:
            results.append(run(name, options, programs))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    print("\n" + HEADER)
    for result in results:
        print(result.row())
    return 0 if len(results) == len(names) and all(result.passed() for result in results) else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phalanx", default=str(ROOT / "target/release/phalanx"))
    parser.add_argument("--nats-server", default=os.environ.get("PHALANX_NATS_SERVER", "nats-server"))
    parser.add_argument("--scenario", action="append", choices=[*SCENARIOS, "all"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--default-routes", action="store_true", help="nats-server's own timeouts for links between servers")
    parser.add_argument("--keep", help="keep logs and the list of events of each scenario in this folder")
    options = parser.parse_args()
    options.scenario = options.scenario or ["all"]
    return options


def run(name: str, options: argparse.Namespace, programs: Programs) -> Result:
    """One scenario on a fleet of its own."""
    with tempfile.TemporaryDirectory(prefix="phalanx-faults-") as scratch:
        folder = pathlib.Path(scratch)
        world = World(one_cluster, programs, folder, f"px{os.getpid()}", options.seed)
        try:
            world.start()
            converged = rounds(name, world, options.rounds)
            return result(name, options.seed, world, converged)
        finally:
            world.close()
            told = "".join(f"{event}\n" for event in world.oracle.events)
            print(f"{name}, seed {options.seed}\n{told}", file=sys.stderr, flush=True)
            if options.keep:
                keep(folder, pathlib.Path(options.keep) / f"{name}-{options.seed}", told)


def rounds(name: str, world: World, count: int) -> float | None:
    slowest: float | None = 0.0
    for number in range(count):
        world.note(f"round {number + 1} of {name}")
        time.sleep(WARM_UP_SECONDS)
        world.claimed.clear()
        with SCENARIOS[name].fault(world):
            time.sleep(SCENARIOS[name].seconds)
        healed_at = time.time()
        took = world.check_healed(healed_at)
        world.note(f"converged after {took:.2f} s" if took is not None else "did not converge")
        if took is None:
            for node, ban in world.absent(healed_at):
                world.note(f"{node} has not {ban.address} {ban.id} of {ban.author}")
        slowest = None if slowest is None or took is None else max(slowest, took)
        if number + 1 < count:
            world.settle()
    # Nothing more is said; what was said holds everywhere, and nothing else comes back.
    world.traffic.stop_acting()
    time.sleep(QUIET_SECONDS)
    world.check_enforced(time.time() - CONVERGE_SECONDS)
    return slowest


def result(name: str, seed: int, world: World, converged: float | None) -> Result:
    counts = world.oracle.counts
    broken = (len(found) for found in (counts.lost, counts.resurrected, counts.late))
    return Result(name, seed, counts.made + counts.undone, counts.refused, *broken, converged)


def keep(folder: pathlib.Path, to: pathlib.Path, told: str) -> None:
    to.mkdir(parents=True, exist_ok=True)
    (to / "events").write_text(told)
    for log in folder.glob("*.log"):
        shutil.copy(log, to)


if __name__ == "__main__":
    sys.exit(main())
