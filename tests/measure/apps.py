#!/usr/bin/env python3
"""What many apps and routes cost: loading them, an edit, memory, and a request.

    tests/measure/apps.py target/release/phalanx [--apps 1000] [--routes 10] [--edits 20] [--rounds 7] [--seconds 3]

Starts a node with one app and one route, and one with as many apps with as many routes each as are asked for, all of them protected by the
baseline pack. Prints

- from the start of the process until it is ready, and until a route answers,
- an edit: from SIGHUP until a route answers with the new text, median and largest,
- resident memory, and what an app with its routes adds to it,
- CPU time of the node for a request that a route of the last app answers with a fixed text, by wrk over eight connections, one worker,
  the two nodes in turn; once with the rules off, so that the look-up shows.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time


def policy(apps, routes, text, mode):
    """A policy with hosts of two kinds, routes of several."""
    lines = []
    for app in range(apps):
        host = f"*.app{app}.test" if app % 2 else f"app{app}.test"
        lines += ["[[apps]]", f'name = "app{app}"', f'hosts = ["{host}", "www{app}.test"]', f'mode = "{mode}"']
        lines += [f'upstream = "http://127.0.0.1:{10_000 + app}"']
        lines += ['responses = { headers = "standard" }'] if app % 4 == 0 else []
        for route in range(routes):
            lines += ["[[apps.routes]]", f'name = "r{route}"', f'path = "/area{route}/part{route % 3}"']
            if route % 5 == 1:
                lines += ['redirect = { to = "https://new.test{rest}{query}" }']
            elif route % 5 == 2:
                lines += ['limits = { body = "1 MiB" }', 'rewrite = "/"']
            else:
                lines += [f'reply = {{ body = "{text}" }}']
    return "\n".join(lines) + "\n"


class Node:
    """A node with a policy of so many apps."""

    def __init__(self, binary, folder, apps, routes, mode):
        self.folder, self.shape = folder / f"{apps}-{mode}", (apps, routes, mode)
        self.folder.mkdir()
        self.write("first")
        settings = self.folder / "phalanx.toml"
        settings.write_text(
            f'policy = "policy.toml"\n[node]\nstate = "{self.folder}/state"\nworkers = 1\n'
            '[listen]\naddress = ["127.0.0.1:0"]\nadmin = "127.0.0.1:0"\n'
        )
        started = time.monotonic()
        self.process = subprocess.Popen(
            [binary, "run", "--json", "-c", settings],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        ready = json.loads(self.process.stdout.readline())
        self.ready_ms = (time.monotonic() - started) * 1000
        self.address = ready["listen"].removeprefix("http://").rstrip("/")
        self.until("first")
        self.answers_ms = (time.monotonic() - started) * 1000

    def write(self, text):
        apps, routes, mode = self.shape
        new = self.folder / "new.toml"
        new.write_text(policy(apps, routes, text, mode))
        new.replace(self.folder / "policy.toml")

    @property
    def host(self):
        return f"www{self.shape[0] - 1}.test"

    def until(self, text):
        host, port = self.address.rsplit(":", 1)
        request = f"GET /area0/part0/x HTTP/1.1\r\nHost: {self.host}\r\nUser-Agent: m\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        while True:
            with socket.create_connection((host, int(port)), 10) as connection:
                connection.sendall(request.encode())
                answer = b""
                while part := connection.recv(65536):
                    answer += part
            if answer.decode().endswith(text):
                return

    def edit_ms(self, text):
        self.write(text)
        started = time.monotonic()
        self.process.send_signal(signal.SIGHUP)
        self.until(text)
        return (time.monotonic() - started) * 1000

    def resident_kib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))

    def cpu_s(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cpu_us(self, seconds):
        """CPU time for a request."""
        before = self.cpu_s()
        wrk = subprocess.run(
            ["wrk", "-t1", "-c8", f"-d{seconds}s", "-H", f"Host: {self.host}", "-H", "User-Agent: m", "-H", "Accept: */*",
             f"http://{self.address}/area0/part0/x"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
        ).stdout
        assert "Non-2xx" not in wrk, wrk
        requests = next(int(line.split()[0]) for line in wrk.splitlines() if "requests in" in line)
        return (self.cpu_s() - before) * 1e6 / requests

    def stop(self):
        self.process.terminate()
        self.process.wait()


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("binary", type=pathlib.Path)
    words.add_argument("--apps", type=int, default=1000)
    words.add_argument("--routes", type=int, default=10)
    words.add_argument("--edits", type=int, default=20)
    words.add_argument("--rounds", type=int, default=7)
    words.add_argument("--seconds", type=int, default=3)
    options = words.parse_args()
    if not shutil.which("wrk"):
        sys.exit("this needs wrk")
    print(f"load average {os.getloadavg()[0]:.1f}")
    nodes = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            one, many = (Node(options.binary, pathlib.Path(folder), n, r, "block")
                         for n, r in [(1, 1), (options.apps, options.routes)])
            nodes += [one, many]
            for node in nodes:
                print(f"{node.shape[0]} apps: ready after {node.ready_ms:.0f} ms, answers after {node.answers_ms:.0f} ms")
            added = many.resident_kib() - one.resident_kib()
            print(f"memory: {one.resident_kib() / 1024:.1f} and {many.resident_kib() / 1024:.1f} MiB at the start; "
                  f"{added / (options.apps - 1):.2f} KiB for an app with {options.routes} routes")
            for node in nodes:
                edits = [node.edit_ms(f"edit{n}") for n in range(options.edits)]
                print(f"{node.shape[0]} apps: an edit is live after {statistics.median(edits):.0f} ms, at most {max(edits):.0f} ms")
            print(f"memory: {one.resident_kib() / 1024:.1f} and {many.resident_kib() / 1024:.1f} MiB after {options.edits} edits")
            for mode in ["block", "off"]:
                if mode == "off":
                    one, many = (Node(options.binary, pathlib.Path(folder), n, r, "off")
                                 for n, r in [(1, 1), (options.apps, options.routes)])
                    nodes += [one, many]
                pairs = [(one.cpu_us(options.seconds), many.cpu_us(options.seconds)) for _ in range(options.rounds)]
                ones, manies = (statistics.median(column) for column in zip(*pairs))
                print(f"CPU for a request, mode {mode}: {ones:.2f} us with 1 app, {manies:.2f} us with {options.apps}")
            for node in nodes:
                node.stop()
            nodes.clear()
    finally:
        for node in nodes:
            node.process.kill()


if __name__ == "__main__":
    main()
