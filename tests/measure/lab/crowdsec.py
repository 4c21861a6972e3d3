"""CrowdSec's local API and its firewall bouncer with nftables, in a network namespace that ends with the process that made it."""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
import random
import select
import shutil
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import Pipe
from multiprocessing.connection import Connection as PipeEnd

from .http import Connection
from .processes import LIBC, Failed, Lab, Skipped, listens, until

CLONE_NEWNET = 0x40000000
PORT = 8080
MACHINE, PASSWORD = "measured", "measured-measured"
PROGRAMS = ("crowdsec", "cscli", "crowdsec-firewall-bouncer", "nft", "ip")
# Orders come this many times as often as the bouncer asks, at random moments, so that each meets another moment of its pause.
ORDERS_PER_POLL = 5

CONFIG = """common: {{daemonize: false, log_media: stdout, log_level: info, working_dir: .}}
config_paths:
  config_dir: {folder}/
  data_dir: {folder}/
  simulation_path: {folder}/simulation.yaml
  hub_dir: {folder}/hub/
  index_path: {folder}/hub/.index.json
db_config: {{type: sqlite, db_path: {folder}/crowdsec.db, use_wal: true}}
api:
  client: {{insecure_skip_verify: true, credentials_path: {folder}/credentials.yaml}}
  server: {{listen_uri: "127.0.0.1:{port}", profiles_path: {folder}/profiles.yaml}}
prometheus: {{enabled: false}}
"""
PROFILE = 'name: default\nfilters: ["Alert.Remediation == true"]\ndecisions: [{type: ban, duration: 4h}]\n'
BOUNCER = """mode: nftables
pid_dir: {folder}/
update_frequency: {every}
daemonize: false
log_mode: stdout
log_level: info
api_url: http://127.0.0.1:{port}/
api_key: {key}
insecure_skip_verify: false
disable_ipv6: true
deny_action: DROP
deny_log: false
supported_decisions_types: [ban]
blacklists_ipv4: crowdsec-blacklists
blacklists_ipv6: crowdsec6-blacklists
nftables:
  ipv4: {{enabled: true, set-only: false, table: crowdsec, chain: crowdsec-chain}}
  ipv6: {{enabled: false}}
prometheus: {{enabled: false, listen_addr: 127.0.0.1, listen_port: 60601}}
"""


@dataclass(frozen=True)
class Job:
    """How often the bouncer asks, and how many orders are given."""

    every_s: int
    trials: int


class Measured:
    """A measurement that runs beside others, in a process of its own."""

    def __init__(self, lab: Lab, job: Job) -> None:
        for program in PROGRAMS:
            if not shutil.which(program):
                raise Skipped(f"{program} is not installed")
        self.job = job
        self.pipe, theirs = Pipe()
        lab.worker(measure, theirs, lab, job)
        theirs.close()

    def times(self) -> list[tuple[int, int | None]]:
        """When each order was sent and when the firewall's set had it."""
        try:
            if not self.pipe.poll(60 + self.job.every_s * (2 + self.job.trials)):
                raise Failed("the measurement of CrowdSec does not end")
            kind, told = self.pipe.recv()
        except EOFError:
            raise Failed("the measurement of CrowdSec ended early") from None
        if kind == "skipped":
            raise Skipped(told)
        if kind == "failed":
            raise Failed(told)
        return list(told)


def measure(pipe: PipeEnd, lab: Lab, job: Job) -> None:
    """Runs in the measurement's process."""
    lab.disown()
    try:
        pipe.send(("times", within_namespace(lab, job)))
    except Skipped as fault:
        pipe.send(("skipped", str(fault)))
    except (Failed, OSError, subprocess.SubprocessError) as fault:
        pipe.send(("failed", f"CrowdSec: {fault}"))
    finally:
        lab.end_children()


def within_namespace(lab: Lab, job: Job) -> list[tuple[int, int | None]]:
    if LIBC.unshare(CLONE_NEWNET):
        raise Skipped(f"no network namespace may be made here: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    folder = lab.subfolder(f"crowdsec-{job.every_s}")
    key = start_api(lab, folder)
    start_bouncer(lab, folder, key, job.every_s)
    return give_orders(lab, token(), job)


def start_api(lab: Lab, folder: pathlib.Path) -> str:
    """Starts the local API; the key for a bouncer."""
    (folder / "hub").mkdir()
    texts = {"hub/.index.json": "{}", "simulation.yaml": "simulation: false\n", "profiles.yaml": PROFILE}
    texts |= {"credentials.yaml": f"url: http://127.0.0.1:{PORT}\n", "config.yaml": CONFIG.format(folder=folder, port=PORT)}
    for name, text in texts.items():
        (folder / name).write_text(text)
    cscli(folder, "machines", "add", MACHINE, "--password", PASSWORD, "--force", "-f", str(folder / "credentials.yaml"))
    key = cscli(folder, "bouncers", "add", "measured", "-o", "raw").strip()
    lab.spawn(["crowdsec", "-c", folder / "config.yaml", "-no-cs"], folder.name)
    until("CrowdSec's local API listens", lambda: listens(PORT))
    return key


def cscli(folder: pathlib.Path, *words: str) -> str:
    told = subprocess.run(["cscli", "-c", str(folder / "config.yaml"), *words], capture_output=True, text=True, check=False)
    if told.returncode:
        raise Failed(f"cscli {' '.join(words)}: {told.stderr.strip()}")
    return told.stdout


def start_bouncer(lab: Lab, folder: pathlib.Path, key: str, every_s: int) -> None:
    config = folder / "bouncer.yaml"
    config.write_text(BOUNCER.format(folder=folder, every=f"{every_s}s", port=PORT, key=key))
    config.chmod(0o600)
    lab.spawn(["crowdsec-firewall-bouncer", "-c", config], f"{folder.name}-bouncer")
    command = ["nft", "list", "set", "ip", "crowdsec", "crowdsec-blacklists"]
    until("the bouncer has made its set", lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0)


def token() -> str:
    """A login as CrowdSec's own programs have it."""
    asked = {"machine_id": MACHINE, "password": PASSWORD, "scenarios": []}
    status, answer = post("/v1/watchers/login", asked, "")
    if status != 200:
        raise Failed(f"login at CrowdSec's local API: {status} {answer!r}")
    return str(json.loads(answer)["token"])


def post(path: str, body: object, bearer: str) -> tuple[int, bytes]:
    text = json.dumps(body)
    authorization = f"Authorization: Bearer {bearer}\r\n" if bearer else ""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: measured/1\r\n{authorization}"
    head += f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    return Connection(f"127.0.0.1:{PORT}").exchange((head + text).encode())


def give_orders(lab: Lab, bearer: str, job: Job) -> list[tuple[int, int | None]]:
    """Gives orders at random moments, and notes when the kernel says that the set has each."""
    monitor = lab.spawn(["nft", "-n", "monitor", "new", "elements"], "nft-monitor", stdout=subprocess.PIPE, bufsize=0)
    assert monitor.stdout is not None
    sent: dict[str, int] = {}
    seen: dict[str, int] = {}
    due = time.monotonic()
    ends = due + job.every_s * (3 + job.trials / ORDERS_PER_POLL) + 30
    while len(seen) < job.trials and time.monotonic() < ends:
        now = time.monotonic()
        if len(sent) < job.trials and now >= due:
            client = f"192.0.2.{len(sent) + 1}" if len(sent) < 250 else f"198.51.100.{len(sent) - 249}"
            sent[client] = time.monotonic_ns()
            status, answer = post("/v1/alerts", [alert(client)], bearer)
            if status != 201:
                raise Failed(f"an order to CrowdSec's local API: {status} {answer!r}")
            due = now + random.uniform(0, 2 * job.every_s / ORDERS_PER_POLL)
        wait_s = max(due - time.monotonic(), 0) if len(sent) < job.trials else 0.5
        if select.select([monitor.stdout], [], [], wait_s)[0]:
            at_ns = time.monotonic_ns()
            told = monitor.stdout.read(65536).decode()
            words = told.replace(",", " ").split()
            seen |= {client: at_ns for client in sent if client not in seen and client in words}
    return [(sent_ns, seen.get(client)) for client, sent_ns in sent.items()]


def alert(client: str) -> dict[str, object]:
    """What `cscli decisions add --ip` sends."""
    now = datetime.now(UTC).isoformat()
    decision = {"origin": "cscli", "type": "ban", "scope": "Ip", "value": client, "duration": "4h", "scenario": "measured"}
    times = {"start_at": now, "stop_at": now, "capacity": 0, "leakspeed": "0", "events_count": 1, "events": []}
    names = {"scenario": "measured", "scenario_hash": "", "scenario_version": "", "message": "measured", "simulated": False}
    return {**names, **times, "source": {"scope": "Ip", "value": client, "ip": client}, "decisions": [decision]}
