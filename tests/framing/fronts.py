"""What stands in front of the back ends: Phalanx, and for comparison nginx and HAProxy. Each gives its requests ids, passes them on and
writes down what became of whom."""

from __future__ import annotations

import json
import pathlib
import re
import shlex
import subprocess
from dataclasses import dataclass
from typing import Protocol

from backs import Back
from lab.node import first_line
from lab.processes import Failed, Lab, free_ports, listens, until


@dataclass
class Done:
    """What a front did with one request. `outcome` is `served` by the back end, a fault's name, a status of its own, or `gone`."""

    client: str
    id: str
    outcome: str
    method: str
    # What the back end read of it; -1 where the log does not say.
    body_bytes: int
    status: int


class Front(Protocol):
    name: str
    http1: int
    http2: int

    def done(self) -> list[Done]:
        """All that its log says, in order."""


class Phalanx:
    name = "phalanx"

    def __init__(self, lab: Lab, back: Back, binary: pathlib.Path) -> None:
        state = lab.subfolder(f"phalanx-{back.name}")
        words = [binary, "up", "--to", f"http://127.0.0.1:{back.port}", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        words += ["--json", "--h2c", "--state", state, "--workers", "1", "--protect", "off"]
        child = lab.spawn(words, state.name, stdout=subprocess.PIPE)
        line = first_line(child)
        if not line:
            raise Failed(f"phalanx did not start: {lab.said(state.name)}")
        self.http1 = self.http2 = int(json.loads(line)["listen"].rsplit(":", 1)[1])
        self.log = state / "record" / "access.log"

    def done(self) -> list[Done]:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return [self.one(json.loads(line)) for line in lines]

    @staticmethod
    def one(line: dict) -> Done:
        if line["reason"] == "framing":
            outcome = line["detail"]
        elif line["status"] == 0:
            outcome = "gone"
        else:
            outcome = "served" if line["upstream_us"] > 0 else str(line["status"])
        return Done(line["client"], line["id"], outcome, line["method"], line["request_bytes"], line["status"])


class Nginx:
    name = "nginx"

    def __init__(self, lab: Lab, back: Back) -> None:
        self.http1, self.http2 = free_ports(2)
        folder = lab.subfolder(f"nginx-{back.name}")
        self.log = folder / "done.log"
        config = NGINX.format(folder=folder, http1=self.http1, http2=self.http2, back=back.port, log=self.log)
        (folder / "nginx.conf").write_text(config)
        lab.spawn(["nginx", "-p", folder, "-c", folder / "nginx.conf", "-g", "daemon off;"], folder.name)
        until(f"nginx listens: {lab.said(folder.name)}", lambda: listens(self.http1) and listens(self.http2))

    def done(self) -> list[Done]:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        found = []
        for line in map(json.loads, lines):
            status = line["status"]
            outcome = "served" if line["back"] not in ("", "-") else status
            outcome = "gone" if status == "499" else outcome
            found.append(Done(line["client"], line["id"], outcome, line["method"], -1, int(status)))
        return found


class Haproxy:
    name = "haproxy"

    def __init__(self, lab: Lab, back: Back) -> None:
        self.http1, self.http2 = free_ports(2)
        name = f"haproxy-{back.name}"
        self.log = lab.folder / f"{name}.log"
        config = lab.folder / f"{name}.cfg"
        config.write_text(HAPROXY.format(http1=self.http1, http2=self.http2, back=back.port))
        lab.spawn(["haproxy", "-db", "-f", config], name)
        until(f"HAProxy listens: {lab.said(name)}", lambda: listens(self.http1) and listens(self.http2))

    def done(self) -> list[Done]:
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            match = re.match(r"done (\S+) (\S+) (-?\d+) (\S+) (\S+) (.*)$", line)
            if match is None:
                continue
            client, id_, status, state, server, method = match.groups()
            served = server != "<NOSRV>" and not state.startswith("PR")
            outcome = "served" if served else status
            outcome = "gone" if state.startswith("C") else outcome
            found.append(Done(client, id_, outcome, method, -1, int(status)))
        return found


def packages(names: list[str]) -> list[str]:
    """Of programs, those that are missing."""
    return [name for name in names if subprocess.run(shlex.split(f"sh -c 'command -v {name}'"), capture_output=True).returncode]


NGINX = """
user root;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    client_body_temp_path {folder};
    proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
    log_format done escape=json '{{"client":"$remote_addr","id":"$request_id","status":"$status","back":"$upstream_addr",'
        '"method":"$request_method"}}';
    access_log {log} done;
    merge_slashes off;
    upstream back {{ server 127.0.0.1:{back}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{http1};
        listen 127.0.0.1:{http2} http2;
        location / {{
            proxy_pass http://back;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Request-Id $request_id;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_request_buffering off;
            proxy_ignore_client_abort on;
            proxy_next_upstream off;
        }}
    }}
}}
"""

HAPROXY = """
global
    log stdout len 4096 format raw local0 info
    maxconn 4000
defaults
    mode http
    log global
    timeout connect 5s
    timeout client 10s
    timeout server 10s
    timeout http-request 5s
    option http-keep-alive
frontend front
    bind 127.0.0.1:{http1}
    bind 127.0.0.1:{http2} proto h2
    unique-id-format %{{+X}}o%ci:%cp_%fi:%fp_%Ts_%rt
    http-request set-header X-Request-Id %[unique-id]
    http-request set-header X-Forwarded-For %[src]
    log-format "done %ci %ID %ST %ts %s %HM"
    default_backend back
backend back
    http-reuse always
    retries 0
    server back 127.0.0.1:{back}
"""
