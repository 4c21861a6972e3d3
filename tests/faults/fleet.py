#!/usr/bin/env python3
"""What a fleet of real processes loses when machines, links and disks fail: nothing, or this says what.

    tests/faults/fleet.py [--phalanx BINARY] [--nats-server BINARY] [--topology cluster|leaf|spoke|all] [--scenario NAME|all]...
        [--seed N] [--rounds N] [--seconds N] [--one-way-ms MS] [--default-routes] [--keep DIR]

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

from oracle import Counts
from scenarios import SCENARIOS, TOPOLOGIES
from topology import Programs
from world import CONVERGE_SECONDS, World

ROOT = pathlib.Path(__file__).resolve().parents[2]
WARM_UP_SECONDS = 8.0
QUIET_SECONDS = 6.0


@dataclasses.dataclass
class Result:
    """One line of the table."""

    topology: str
    scenario: str
    seed: int
    counts: Counts
    # The slowest round; `None` if one never converged.
    converged: float | None = None
    # Why the run was broken off.
    broken_off: str = ""

    def passed(self) -> bool:
        in_time = self.converged is not None and self.converged <= CONVERGE_SECONDS
        return in_time and self.counts.clean() and not self.broken_off

    def row(self) -> str:
        counts = self.counts
        broken = [counts.lost, counts.for_good, counts.resurrected, counts.late]
        figures = [counts.made + counts.undone, counts.refused, *(len(found) for found in broken)]
        seconds = "never" if self.converged is None else f"{self.converged:.1f}"
        cells = [f"{figure:>{len(name)}}" for name, figure in zip(COLUMNS, [self.seed, *figures, seconds])]
        verdict = "" if self.passed() else f"FAILED {self.broken_off}"
        return f"{self.topology:8} {self.scenario:22} {'  '.join(cells)}  {verdict}".rstrip()


COLUMNS = ["seed", "decisions", "refused", "lost", "for good", "resurrected", "past expiry", "converged"]


def main() -> int:
    options = arguments()
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "nft", options.nats_server))):
        print("skipped: needs root, ip, nft and nats-server")
        return 0
    # Ends like Ctrl-C, so that namespaces and processes go.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    nats_server = os.path.realpath(shutil.which(options.nats_server) or "")
    phalanx = str(pathlib.Path(options.phalanx).resolve())
    programs = Programs(phalanx, nats_server, not options.default_routes, options.one_way_ms)
    results, wanted = [], chosen(options)
    try:
        for topology, name in wanted:
            results.append(run(topology, name, options, programs))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    print(f"\n{'topology':8} {'scenario':22} {'  '.join(COLUMNS)}")
    for result in results:
        print(result.row())
    return 0 if len(results) == len(wanted) and all(result.passed() for result in results) else 1


def chosen(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Topologies, each with the scenarios that there are in it."""
    topologies = list(TOPOLOGIES) if options.topology == "all" else [options.topology]
    names = list(SCENARIOS) if "all" in options.scenario else options.scenario
    return [(one, name) for one in topologies for name in names if issubclass(TOPOLOGIES[one], SCENARIOS[name].of)]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phalanx", default=str(ROOT / "target/release/phalanx"))
    parser.add_argument("--nats-server", default=os.environ.get("PHALANX_NATS_SERVER", "nats-server"))
    parser.add_argument("--topology", choices=[*TOPOLOGIES, "all"], default="all")
    parser.add_argument("--scenario", action="append", choices=[*SCENARIOS, "all"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, help="how long faults last [as long as the scenario says]")
    parser.add_argument("--one-way-ms", type=float, default=0.0, help="hold back what links between sites carry [0]")
    parser.add_argument("--default-routes", action="store_true", help="nats-server's own timeouts for links between servers")
    parser.add_argument("--keep", help="keep logs and the list of events of each scenario in this folder")
    options = parser.parse_args()
    options.scenario = options.scenario or ["all"]
    return options


def run(topology: str, name: str, options: argparse.Namespace, programs: Programs) -> Result:
    """One scenario on a fleet of its own."""
    with tempfile.TemporaryDirectory(prefix="phalanx-faults-") as scratch:
        folder = pathlib.Path(scratch)
        world = World(TOPOLOGIES[topology], programs, folder, f"px{os.getpid()}", options.seed)
        result = Result(topology, name, options.seed, world.oracle.counts)
        try:
            world.start()
            result.converged = rounds(name, world, options)
        except RuntimeError as fault:
            # The others are run all the same.
            result.broken_off = str(fault)
            world.note(f"BROKEN OFF {fault}")
        finally:
            world.close()
            told = "".join(f"{event}\n" for event in world.oracle.events)
            print(f"{topology} {name}, seed {options.seed}\n{told}{result.row()}\n", file=sys.stderr, flush=True)
            if options.keep:
                keep(folder, pathlib.Path(options.keep) / f"{topology}-{name}-{options.seed}", told)
        return result


def rounds(name: str, world: World, options: argparse.Namespace) -> float | None:
    slowest: float | None = 0.0
    scenario = SCENARIOS[name]
    for number in range(options.rounds):
        world.note(f"round {number + 1} of {name}")
        time.sleep(WARM_UP_SECONDS)
        world.claimed.clear()
        with scenario.fault(world):
            time.sleep(options.seconds or scenario.seconds)
        healed_at = time.time()
        took = world.check_healed(healed_at)
        world.note(f"converged after {took:.2f} s" if took is not None else "did not converge")
        if took is None:
            world.note_missing(healed_at)
        slowest = None if slowest is None or took is None else max(slowest, took)
        if number + 1 < options.rounds:
            world.settle()
    # Nothing more is said; what was said holds everywhere, and nothing else comes back.
    world.traffic.stop_acting()
    time.sleep(QUIET_SECONDS)
    world.check_enforced(time.time() - CONVERGE_SECONDS)
    world.note_missing(time.time() - CONVERGE_SECONDS)
    world.check_newcomers()
    return slowest


def keep(folder: pathlib.Path, to: pathlib.Path, told: str) -> None:
    to.mkdir(parents=True, exist_ok=True)
    (to / "events").write_text(told)
    for log in folder.glob("*.log"):
        shutil.copy(log, to)


if __name__ == "__main__":
    sys.exit(main())
