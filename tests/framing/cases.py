"""The cases, as bytes: of HTTP/1 as they are written, of HTTP/2 as frames."""

from __future__ import annotations

import pathlib
import re
import struct
import tomllib
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).resolve().parent
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, CONTINUATION = 0, 1, 3, 4, 7, 9
FRAME_BYTES_MAX = 16384
END_STREAM, END_HEADERS, ACK = 1, 4, 1
PSEUDO = [[":method", "GET"], [":scheme", "http"], [":authority", "a"], [":path", "/{case}"]]


@dataclass
class Case:
    """One client's connection: what it sends, and what becomes of each of its requests."""

    name: str
    group: str
    send: bytes
    expect: list[str]
    # Streams that are answered or reset before the client goes; none over HTTP/1.
    streams: list[int] = field(default_factory=list)
    number: int = 0

    @property
    def http2(self) -> bool:
        return bool(self.streams)

    @property
    def source(self) -> str:
        """The client's address, by which every log knows the case."""
        return f"127.7.{self.number // 250}.{self.number % 250 + 1}"


def all_cases(only: str | None = None) -> list[Case]:
    cases = [http1(raw, group) for raw, group in grouped("http1.toml")]
    cases += [http2(raw, group) for raw, group in grouped("http2.toml")]
    for number, case in enumerate(cases):
        case.number = number
    return [case for case in cases if only is None or only in case.name]


def grouped(file: str) -> list[tuple[dict, str]]:
    """Each case with the heading that it stands under."""
    text = (HERE / file).read_text()
    groups, group = [], ""
    for line in text.splitlines():
        if line.startswith("# "):
            group = line[2:]
        elif line == "[[case]]":
            groups.append(group)
    return list(zip(tomllib.loads(text)["case"], groups, strict=True))


def fill(text: str, name: str) -> str:
    text = re.sub(r"\{([^{}]+)\*(\d+)\}", lambda m: m[1].replace("%0d%0a", "\r\n") * int(m[2]), text)
    text = text.replace("{case}", name)
    _, _, body = text.partition("\r\n\r\n")
    return text.replace("{length}", str(len(body)))


def http1(raw: dict, group: str) -> Case:
    return Case(raw["name"], group, fill(raw["send"], raw["name"]).encode("latin-1"), raw["expect"])


def http2(raw: dict, group: str) -> Case:
    """Streams one after the other, of fields in the order written; pseudo-header fields that a case does not name come first."""
    out = PREFACE + frame(SETTINGS, 0, 0, b"")
    streams = []
    for place, stream in enumerate(raw["streams"]):
        number = 2 * place + 1
        streams.append(number)
        given = [[name, value] for name, value in stream.get("fields", [])]
        named = {name for name, _ in given} | set(stream.get("without", []))
        fields = [pair for pair in PSEUDO if pair[0] not in named] + given
        body, trailers = stream.get("data", []), stream.get("trailers")
        last = END_STREAM if not body and trailers is None else 0
        out += head(last, number, block(fields, raw["name"]))
        for at, data in enumerate(body):
            last = END_STREAM if at == len(body) - 1 and trailers is None else 0
            out += frame(DATA, last, number, data.encode("latin-1"))
        if trailers is not None:
            out += head(END_STREAM, number, block(trailers, raw["name"]))
    return Case(raw["name"], group, out, raw["expect"], streams)


def head(flags: int, stream: int, fields: bytes) -> bytes:
    """In frames of the size that every server takes."""
    parts = [fields[at : at + FRAME_BYTES_MAX] for at in range(0, len(fields), FRAME_BYTES_MAX)] or [b""]
    kinds = [HEADERS] + [CONTINUATION] * (len(parts) - 1)
    ends = [0] * (len(parts) - 1) + [END_HEADERS]
    first = [flags] + [0] * (len(parts) - 1)
    return b"".join(frame(kind, end | begin, stream, part) for kind, end, begin, part in zip(kinds, ends, first, parts))


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def block(fields: list[list[str]], name: str) -> bytes:
    """Fields as literals that no table remembers (RFC 7541 section 6.2.2), neither compressed nor checked."""
    return b"".join(b"\x00" + string(fill(field, name)) + string(fill(value, name)) for field, value in fields)


def string(text: str) -> bytes:
    raw = text.encode("latin-1")
    length = len(raw)
    if length < 127:
        return bytes([length]) + raw
    out, rest = bytes([127]), length - 127
    while rest >= 128:
        out, rest = out + bytes([rest & 127 | 128]), rest >> 7
    return out + bytes([rest]) + raw
