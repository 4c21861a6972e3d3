#!/usr/bin/env python3
"""The simulator's scenarios against three real nodes in network namespaces, in real time.

    cargo xtask sim SCENARIO --real [--seed S] [--sharing on|off] [--honest PERCENT] [--attack PERCENT] [--lead SECONDS] [--json] [--check]

Needs root, `ip`, `ss`, `openssl` and nats-server. Everything that it makes goes when it ends. `docs/guide/simulator.md` tells what is played
and what is printed; with `--check` the exit code is 1 if the scenario's figures are not reached.
"""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import places
from field import Field, Terms
from network import Network
from player import Answer, Player, Scene
from score import Score
from topology import Programs
from watch import Watch

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What is under way when the last request is answered.
SETTLE_SECONDS = 6.0
WAIT_SECONDS = 40.0
# Answers a second that the shop gives where it is flooded.
CAPACITY = 60
# What CI plays, at the same time: two and a half minutes.
SHORT = [
    ["thin-stuffing", "--lead", "10", "--seconds", "55"],
    ["thin-stuffing", "--lead", "10", "--seconds", "55", "--sharing", "off"],
    # So many people for so long that the tool is a stranger, and that it is known how large answers are.
    ["short-campaign", "--lead", "60", "--honest", "300"],
]


def main() -> int:
    options = arguments()
    needs = ("ip", "ss", "openssl", options.nats_server)
    if os.geteuid() != 0 or not all(map(shutil.which, needs)):
        print("skipped: needs root, ip, ss, openssl and nats-server")
        return 0
    # Ends like Ctrl-C, so that namespaces and processes go.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if options.scenario == "short":
        return short(options)
    with tempfile.TemporaryDirectory(prefix="phalanx-seeing-") as scratch:
        folder = pathlib.Path(scratch)
        try:
            score = play(options, folder)
        finally:
            if options.keep:
                shutil.copytree(folder, options.keep, dirs_exist_ok=True, ignore=shutil.ignore_patterns("nats", "*.sock"))
    print(score.json() if options.json else score.text())
    faults = score.faults() if options.check else []
    for fault in faults:
        print(f"FAILED {fault}", file=sys.stderr)
    return 1 if faults else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", help="one of the simulator's, or `short`: what CI plays")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sharing", choices=["on", "off"], default="on")
    parser.add_argument("--honest", type=int, default=100, help="how many people there are, per cent [100]")
    parser.add_argument("--attack", type=int, default=100, help="how much attackers do, per cent [100]")
    parser.add_argument("--lead", type=int, default=60, help="seconds of people alone before anybody attacks [60]")
    parser.add_argument("--seconds", type=int, help="end after so many seconds of the attack")
    parser.add_argument("--tail", type=int, default=0, help="and go on for so many without it [0]")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true", help="fail if the scenario's figures are not reached")
    parser.add_argument("--keep", help="keep settings, logs and records in this folder")
    parser.add_argument("--phalanx", default=str(ROOT / "target/debug/phalanx"))
    parser.add_argument("--sim", default=str(ROOT / "target/debug/examples/sim"))
    parser.add_argument("--nats-server", default=os.environ.get("PHALANX_NATS_SERVER", "nats-server"))
    return parser.parse_args()


def short(options: argparse.Namespace) -> int:
    """Some scenarios beside each other, each with a fleet of its own."""
    same = ["--phalanx", options.phalanx, "--sim", options.sim, "--nats-server", options.nats_server]
    same += ["--seed", str(options.seed), "--check"]
    runs = []
    try:
        for words in SHORT:
            command = [sys.executable, __file__, *words, *same, "--json"]
            runs.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        told = [run.communicate()[0] for run in runs]
    finally:
        for run in runs:
            if run.poll() is None:
                run.terminate()
                run.wait()
    for words, run, said in zip(SHORT, runs, told):
        print(f"{'ok    ' if run.returncode == 0 else 'FAILED'} {' '.join(words)}\n{said}")
    return int(any(run.returncode for run in runs))


def play(options: argparse.Namespace, folder: pathlib.Path) -> Score:
    nats_server = os.path.realpath(shutil.which(options.nats_server) or "")
    programs = Programs(str(pathlib.Path(options.phalanx).resolve()), nats_server, True)
    network = Network(f"px{os.getpid()}", Field.SITES)
    field = None
    try:
        simulation = [options.sim, options.scenario, "--live", str(options.lead)]
        for word in ("seed", "honest", "attack"):
            simulation += [f"--{word}", str(getattr(options, word))]
        watched = "campaign" in options.scenario
        database = folder / "places.mmdb"
        database.write_bytes(places.database(places.of_plan(simulation)))
        terms = Terms("observe" if watched else "act", options.sharing == "on", databases=[database])
        if "flood" in options.scenario:
            # One kind of software that asks for half of a node's part of what the shop can answer.
            terms.capacity, terms.flood_requests = CAPACITY, 5 * CAPACITY // len(Field.SITES)
        field = Field(network, folder, programs, terms)
        field.start()
        scene = Scene(simulation, field.world, [node.machine.address for node in field.nodes])
        scene.seconds, scene.tail = options.seconds, options.tail
        return Score(options, *perform(scene, field), field)
    finally:
        for process in field.processes() if field else []:
            process.kill()
        network.close()


def perform(scene: Scene, field: Field) -> tuple[list[Answer], Watch]:
    """Plays it. Attackers are another process, so that what they do costs people nothing but what it costs the nodes."""
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe(duplex=False)
    scene.begin_at = time.time() + 1.0
    attackers = fork.Process(target=attack, args=(scene, there))
    attackers.start()
    watch = Watch(field.nodes)
    watch.start()
    people = Player(scene, attacks=False)
    try:
        watch.about = people.about
        answers = people.play()
        # Without waiting it would not end while what it says is not read.
        theirs, watch.entered = here.recv() if here.poll(WAIT_SECONDS) else ([], [])
        time.sleep(SETTLE_SECONDS)
    finally:
        watch.stop()
        attackers.kill()
        attackers.join()
    return answers + theirs, watch


def attack(scene: Scene, to: multiprocessing.connection.Connection) -> None:
    player = Player(scene, attacks=True)
    answers = player.play()
    to.send((answers, [task.result() for task in player.entered.values() if task.done() and not task.cancelled()]))


if __name__ == "__main__":
    sys.exit(main())
