"""The text protocol of NATS, as much of it as asking JetStream takes."""

from __future__ import annotations

import json
import socket
from typing import Any

from network import Machine

PORT = 4222


class NatsError(Exception):
    pass


def ask(machine: Machine, subject: str, body: Any = None, timeout: float = 3.0) -> dict[str, Any]:
    """One request to the server on a machine, and its answer."""
    payload = b"" if body is None else json.dumps(body).encode()
    with machine.connect(PORT, timeout) as stream:
        stream.sendall(
            b'CONNECT {"verbose":false,"pedantic":false,"name":"faults","lang":"python","version":"1"}\r\n'
            b"SUB answer 1\r\n" + f"PUB {subject} answer {len(payload)}\r\n".encode() + payload + b"\r\n"
        )
        return read_answer(stream)


def read_answer(stream: socket.socket) -> dict[str, Any]:
    with stream.makefile("rb") as lines:
        while line := lines.readline():
            words = line.split()
            if words[:1] == [b"MSG"]:
                answer: dict[str, Any] = json.loads(lines.read(int(words[-1])))
                return answer
            if words[:1] == [b"PING"]:
                stream.sendall(b"PONG\r\n")
            if words[:1] == [b"-ERR"]:
                raise NatsError(line.decode(errors="replace").strip())
    raise NatsError("the server closed the connection")


def api(machine: Machine, subject: str, body: Any = None) -> dict[str, Any]:
    """One request to JetStream; what it refuses is an error."""
    answer = ask(machine, f"$JS.API.{subject}", body)
    if "error" in answer:
        raise NatsError(f"{subject}: {answer['error'].get('description')}")
    return answer


def streams(machine: Machine) -> list[dict[str, Any]]:
    return list(api(machine, "STREAM.LIST", {"offset": 0}).get("streams") or [])
