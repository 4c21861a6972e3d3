"""What callgrind counted, thread by thread, shared out by source functions, also where the compiler has put one into another.

Addresses are told apart, not lines (`--dump-instr=yes`), and llvm-symbolizer says which functions each belongs to, the inlined ones first. So a
function's cost is whole, whether it was inlined or not.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .processes import Failed

OPTIONS = ("--tool=callgrind", "--dump-instr=yes", "--separate-threads=yes", "--demangle=no")

Function = str
# An object file and an address in it.
Place = tuple[str, int]
# Of a source file, below `crates`, and a function in it.
Frame = tuple[str, str]
Classify = Callable[[Frame], str | None]
# Whether a class is a strong one, and its name.
Kind = tuple[int, str | None]


@dataclass
class Call:
    count: float = 0
    cost: float = 0


@dataclass
class Counts:
    """What one thread did: instructions at each place, and calls from there with all that they led to."""

    own: Counter[Place] = field(default_factory=Counter)
    calls: dict[tuple[Place, Function], Call] = field(default_factory=dict)
    function_of: dict[Place, Function] = field(default_factory=dict)

    def total(self) -> float:
        return sum(self.own.values())

    def called(self, pattern: str) -> float:
        """How often functions were called whose symbols, without the version, match."""
        matches = re.compile(pattern).fullmatch
        return sum(call.count for (_, name), call in self.calls.items() if matches(name.split("@")[0]))


def read(path: pathlib.Path) -> Counts:
    """One file of callgrind, that is one thread."""
    return Reader().read(path)


class Reader:
    """Its format: names and positions are written once, and from then on by number or as distance from the one before."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.names: dict[str, dict[str, str]] = defaultdict(dict)
        self.address = 0
        self.now: dict[str, str] = {}
        self.called = 0

    def read(self, path: pathlib.Path) -> Counts:
        with open(path, errors="replace") as lines:
            for line in lines:
                if line[0] in "0123456789+-*":
                    self.cost(line.split())
                elif "=" in line:
                    self.name(*line.rstrip("\n").split("=", 1))
        return self.counts

    def name(self, key: str, value: str) -> None:
        if key == "calls":
            self.called = int(value.split()[0])
        elif key in ("ob", "fn", "cob", "cfn"):
            number, _, name = value.partition(" ")
            kind = key.removeprefix("c")
            self.now[key] = self.names[kind].setdefault(number, name)

    def cost(self, words: list[str]) -> None:
        where, cost = words[0], int(words[2])
        if where[0] in "+-":
            self.address += int(where, 0)
        elif where != "*":
            self.address = int(where, 0)
        place = (self.now["ob"], self.address)
        self.counts.function_of[place] = self.now["fn"]
        if not self.called:
            self.counts.own[place] += cost
            return
        call = self.counts.calls.setdefault((place, self.now["cfn"]), Call())
        call.count += self.called
        call.cost += cost
        self.called = 0


def difference(few: Counts, many: Counts, requests: int) -> Counts:
    """What one more request cost; what happens once, such as the start, is gone."""
    own = Counter({place: (count - few.own[place]) / requests for place, count in many.own.items()})
    calls = {}
    for key, call in many.calls.items():
        before = few.calls.get(key, Call())
        calls[key] = Call((call.count - before.count) / requests, (call.cost - before.cost) / requests)
    return Counts(own, calls, many.function_of)


class Symbols:
    """Which source functions an address of a binary belongs to."""

    def __init__(self, binary: pathlib.Path) -> None:
        self.binary = os.path.realpath(binary)
        self.known: dict[int, list[Frame]] = {}

    def look_up(self, places: Iterable[Place]) -> None:
        wanted = sorted({address for name, address in places if os.path.realpath(name) == self.binary} - self.known.keys())
        command = ["llvm-symbolizer", "--output-style=JSON", f"--obj={self.binary}"]
        told = subprocess.run(command, input="".join(f"{address:#x}\n" for address in wanted), capture_output=True, text=True, check=False)
        answers = told.stdout.splitlines()
        if len(answers) != len(wanted):
            raise Failed(f"llvm-symbolizer: {told.stderr.strip() or 'it did not answer to all'}")
        for address, answer in zip(wanted, answers, strict=True):
            frames = json.loads(answer).get("Symbol", [])
            self.known[address] = [(below_crates(frame["FileName"]), plain(frame["FunctionName"])) for frame in frames]

    def frames(self, place: Place) -> list[Frame]:
        """The innermost first."""
        return self.known.get(place[1], []) if os.path.realpath(place[0]) == self.binary else []


def below_crates(path: str) -> str:
    return re.sub(r"^.*/(crates|registry/src/[^/]*|library)/", "", path)


def plain(name: str) -> str:
    """A function's name with the type that it belongs to, where that is told, without path and hash; of an `async fn` the function's own."""
    name = re.sub(r"::h[0-9a-f]{16}.*$", "", name)
    name = re.sub(r"(::_?(\$u7b\$|\{)+closure.*)+$", "", name)
    name = re.sub(r"(?<=\w)<.*$", "", name)
    return re.sub(r"^(.*::)?(?=[A-Z]\w*::\w+$)|^.*::(?=[a-z_]\w*$)", "", name)


def shared_out(counts: Counts, symbols: Symbols, strong: Classify, weak: Classify) -> Counter[str | None]:
    """The thread's instructions by class. The innermost function that has a strong class takes them, with all that it calls, but for what
    functions with a strong class of their own do below it; a weak class is for what no strong one takes. Where a function with a class below it is
    called by several, each is given its part by what its calls cost."""
    symbols.look_up([*counts.own, *(place for place, _ in counts.calls)])

    def of(place: Place) -> Kind:
        frames = symbols.frames(place)
        for rank, classify in ((1, strong), (0, weak)):
            for frame in frames:
                if (kind := classify(frame)) is not None:
                    return rank, kind
        return 0, None

    own: dict[Function, Counter[Kind]] = defaultdict(Counter)
    calls_of: dict[Function, list[tuple[Kind, Function, float]]] = defaultdict(list)
    for place, cost in counts.own.items():
        own[counts.function_of[place]][of(place)] += cost
    for (place, callee), call in counts.calls.items():
        calls_of[counts.function_of[place]].append((of(place), callee, call.cost))
    done: dict[Function, Counter[Kind]] = {}

    def inclusive(function: Function) -> Counter[Kind]:
        if function in done:
            return done[function]
        # For a call back into itself: what it cost is in what the outer one cost.
        done[function] = Counter()
        mix = Counter(own[function])
        for caller, callee, cost in calls_of[function]:
            below = inclusive(callee)
            whole = sum(below.values())
            for part, of_part in below.items() if whole else [((0, None), 1.0)]:
                taken = part[1] is None or part[0] < caller[0]
                mix[caller if taken else part] += cost * of_part / (whole or 1.0)
        done[function] = mix
        return mix

    called = {callee for calls in calls_of.values() for _, callee, _ in calls}
    total: Counter[str | None] = Counter()
    for function in [*own]:
        if function not in called:
            for (_, kind), cost in inclusive(function).items():
                total[kind] += cost
    return total
