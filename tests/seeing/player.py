"""Plays the simulation's people and attackers against real nodes: each request over a connection of its own, from its own address, with the
TLS greeting and the header fields of its software. People pass challenges as browsers do; attackers see what they get, and so adapt."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import hashlib
import json
import random
import ssl
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from network import Machine

HTTPS = 8443
TIMEOUT_SECONDS = 30.0
# What clients of TLS 1.2 offer beside the three suites of 1.3: which of them says who it is.
SUITES = [
    f"ECDHE-{key}-{cipher}"
    for key in ("ECDSA", "RSA")
    for cipher in ("AES256-GCM-SHA384", "AES128-GCM-SHA256", "CHACHA20-POLY1305", "AES256-SHA384", "AES128-SHA256", "AES256-SHA", "AES128-SHA")
] + ["AES256-GCM-SHA384", "AES128-GCM-SHA256", "AES256-SHA256", "AES128-SHA256", "AES256-SHA", "AES128-SHA"]
FIELDS = [
    "User-Agent: Mozilla/5.0 (X11; {software}) Simulated/1.0",
    "Accept: text/html,application/xhtml+xml,*/*;q=0.8",
    "Accept-Language: en,fr;q=0.7",
    "DNT: 1",
    "Upgrade-Insecure-Requests: 1",
    "Sec-Fetch-Site: none",
    "Sec-Fetch-Mode: navigate",
    "Sec-GPC: 1",
    "Priority: u=0, i",
]

Request = dict[str, Any]


@dataclasses.dataclass
class Answer:
    """What came of a request."""

    request: Request
    sent_at: float
    status: int = 0
    # The node's own id of the request.
    id: str = ""
    # Whether the shop answered, and not the node.
    served: bool = False
    challenged: bool = False
    # From the request on an open connection to the last byte.
    took_ms: float = 0.0
    size: int = 0
    head: dict[str, str] = dataclasses.field(default_factory=dict)
    # Why there is none.
    fault: str = ""

    @property
    def is_attack(self) -> bool:
        return self.request["attacker"] is not None


@functools.lru_cache(maxsize=4096)
def greeting(software: str) -> ssl.SSLContext:
    """The TLS of a kind of software."""
    chance = random.Random(software)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    must = ["ECDHE-ECDSA-AES128-GCM-SHA256"]
    context.set_ciphers(":".join(must + chance.sample(SUITES, chance.randint(6, 14))))
    context.set_alpn_protocols(["http/1.1"])
    return context


@functools.lru_cache(maxsize=4096)
def fields_of(software: str) -> tuple[str, ...]:
    """How a kind of software writes its requests."""
    chance = random.Random(f"fields {software}")
    several = [FIELDS[0], *chance.sample(FIELDS[1:], chance.randint(3, len(FIELDS) - 1))]
    chance.shuffle(several)
    return tuple(field.format(software=software[:6]) for field in several)


def body_of(request: Request) -> bytes:
    account, secret = request["account"], request["secret"]
    name = f"email={account}%40example.org"
    if request["step"] == "login":
        return f"{name}&password=pw{secret}".encode()
    if request["step"] == "lookup":
        return name.encode()
    if request["step"] == "payment":
        return f"card_number={card(secret)}&sum=20".encode()
    return b"order=1" if request["method"] == "POST" else b""


def status_of(request: Request) -> int:
    """The shop says of a payment by its status how it ended."""
    ended = {"passed": 302, "failed": 402} if request["step"] == "payment" else {}
    return int(ended.get(request["outcome"], request["status"]))


def card(secret: int) -> str:
    """A number whose last digit checks the others."""
    digits = f"4000{secret:011d}"
    total = sum(sum(divmod(int(digit) * (2 - place % 2), 10)) for place, digit in enumerate(digits))
    return digits + str(-total % 10)


@dataclasses.dataclass
class Scene:
    """What is played where, and when it begins."""

    simulation: Sequence[str]
    world: Machine
    nodes: Sequence[str]
    begin_at: float = 0.0
    # Attackers end after so many seconds of theirs, and everybody so many later.
    seconds: int | None = None
    tail: int = 0


class Player:
    """One run of a scenario: of its attackers, or of everybody else."""

    def __init__(self, scene: Scene, attacks: bool) -> None:
        self.scene, self.attacks, self.nodes = scene, attacks, scene.nodes
        simulation = scene.simulation
        self.simulation = subprocess.Popen(simulation, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.simulation.stdout
        self.about: dict[str, Any] = json.loads(self.simulation.stdout.readline() or "{}")
        if not self.about:
            raise RuntimeError("the simulation says nothing")
        whole = self.about["seconds"]
        self.attack_until = whole if scene.seconds is None else min(whole, self.about["quiet"] + scene.seconds)
        self.until = min(whole, self.attack_until + scene.tail)
        self.answers: list[Answer] = []
        self.fared: list[str] = []
        self.passes: dict[str, str] = {}
        self.entered: dict[str, asyncio.Task[Answer]] = {}
        self.began_at = scene.begin_at

    def play(self) -> list[Answer]:
        """All of it, in the time that it takes; on a thread that is in the namespace of everybody."""
        with self.scene.world.inside():
            try:
                asyncio.run(self.seconds())
            finally:
                self.simulation.kill()
                self.simulation.wait()
        return self.answers

    async def seconds(self) -> None:
        under_way: set[asyncio.Task[None]] = set()
        for second in range(self.attack_until if self.attacks else self.until):
            await asyncio.sleep(max(0.0, self.began_at + second - 0.2 - time.time()))
            for request in await asyncio.to_thread(self.next_second):
                if (request["attacker"] is not None) != self.attacks:
                    continue
                task = asyncio.create_task(self.ask_in_time(request))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
        if under_way:
            await asyncio.wait(under_way, timeout=TIMEOUT_SECONDS)

    def next_second(self) -> list[Request]:
        assert self.simulation.stdin and self.simulation.stdout
        fared, self.fared = self.fared, []
        self.simulation.stdin.write(" ".join(fared) + "\n")
        self.simulation.stdin.flush()
        requests: list[Request] = json.loads(self.simulation.stdout.readline() or "[]")
        return requests

    async def ask_in_time(self, request: Request) -> None:
        await asyncio.sleep(max(0.0, self.began_at + request["at_ms"] / 1000 - time.time()))
        await self.enter(request)
        answer = await self.ask(request)
        if answer.is_attack:
            # That rules refuse an attack is what the attack is about.
            refused = not answer.served and not request["attack"]
            self.fared.append(f"{request['attacker']}:{int(refused)}")
        elif answer.challenged:
            answer.served = await self.passes_challenge(request)
        answer.head = {}
        self.answers.append(answer)

    async def enter(self, request: Request) -> None:
        """Who attacks from within an account has logged in there before."""
        session = request["session"]
        if request["attacker"] is None or not session or not request["account"] or request["step"] == "login":
            return
        if session not in self.entered:
            login = {**request, "step": "login", "outcome": "passed", "method": "POST", "path": "/login"}
            login |= {"status": 302, "bytes": 100, "secret": 7, "attack": False}
            self.entered[session] = asyncio.create_task(self.ask(login))
        await self.entered[session]

    async def ask(self, request: Request, path: str | None = None, accept: str | None = None) -> Answer:
        answer = Answer(request, time.time())
        writer = None
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                reader, writer = await asyncio.open_connection(
                    self.nodes[request["node"]],
                    HTTPS,
                    local_addr=(request["ip"], 0),
                    ssl=greeting(request["software"]),
                    server_hostname="shop.test",
                    limit=1 << 20,
                )
                begin = time.monotonic()
                writer.write(self.text(request, path, accept))
                answer.head = await self.read(reader, answer)
                answer.took_ms = (time.monotonic() - begin) * 1000
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError) as error:
            answer.fault = str(error) or type(error).__name__
        finally:
            if writer:
                writer.close()
                with contextlib.suppress(OSError):
                    writer.transport.abort()
        return answer

    def text(self, request: Request, path: str | None, accept: str | None) -> bytes:
        body = b"" if path else body_of(request)
        target = path or request["path"]
        if request["attack"] and not path:
            target += f"?q=%27%20UNION%20SELECT%20password%20FROM%20users%20WHERE%20id%3D{random.randrange(10**9)}--%20"
        method = "GET" if path else request["method"]
        lines = [f"{method} {target} HTTP/1.1", "Host: shop.test"]
        for field in fields_of(request["software"]):
            lines.append(f"Accept: {accept}" if accept and field.startswith("Accept:") else field)
        if accept and not any(line.startswith("Accept:") for line in lines):
            lines.append(f"Accept: {accept}")
        cookies = [f"sid={request['session']}"] if request["session"] else []
        cookies += [self.passes[who(request)]] if who(request) in self.passes else []
        if cookies:
            lines.append("Cookie: " + "; ".join(cookies))
        lines.append(f"X-Answer: {status_of(request)} {request['bytes']} {request['ms']}")
        lines.append("Connection: close")
        if body:
            lines += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + body

    async def read(self, reader: asyncio.StreamReader, answer: Answer) -> dict[str, str]:
        """The head; the body is counted, and kept if it is small."""
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = text.split("\r\n")
        head = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        answer.status = int(lines[0].split(" ")[1])
        answer.id, answer.served = head.get("x-request-id", ""), "x-shop" in head
        answer.challenged = head.get("x-phalanx-challenge") == "required"
        kept = b""
        left = int(head.get("content-length", "-1"))
        while left and (piece := await reader.read(1 << 16)):
            answer.size += len(piece)
            left -= len(piece)
            kept += piece if len(kept) < 4096 else b""
        head[""] = kept.decode("latin-1")
        return head

    async def passes_challenge(self, request: Request) -> bool:
        """Whether a person got what was asked for in the end."""
        asked = await self.ask({**request, "method": "GET"}, path=request["path"], accept="application/json")
        with contextlib.suppress(ValueError, KeyError, AttributeError):
            task = json.loads(asked.head[""])
            number = await asyncio.to_thread(work, task["task"], task["bits"])
            answer_at = f"{task['answer_at']}?task={task['task']}&answer={number}"
            got = await self.ask({**request, "method": "GET"}, path=answer_at)
            self.passes[who(request)] = got.head["set-cookie"].partition(";")[0]
            return (await self.ask(request)).served
        return asked.served


def who(request: Request) -> str:
    return str(request["session"] or request["ip"]) + request["software"]


def work(task: str, bits: int) -> int:
    begun = hashlib.sha256(f"{task}:".encode())
    for number in range(1 << 26):
        tried = begun.copy()
        tried.update(str(number).encode())
        if int.from_bytes(tried.digest(), "big") >> (256 - bits) == 0:
            return number
    return 0
