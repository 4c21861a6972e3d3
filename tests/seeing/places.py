"""A database that says where the simulation's addresses are, in MaxMind's format (version 2.0): for nodes that look places up in files."""

from __future__ import annotations

import ipaddress
import json
import struct
import subprocess
from typing import Any


class Short(int):
    """A number of 16 bits, where the format has one; others are of 32."""

    KIND = 5


class Long(int):
    """One of 64 bits."""

    KIND = 9


def database(entries: dict[str, dict[str, Any]]) -> bytes:
    """The file, of records by IPv4 address."""
    nodes: list[list[Any]] = [[None, None]]
    data, offsets = b"", {}
    for address, record in entries.items():
        encoded = encode(record)
        if encoded not in offsets:
            offsets[encoded] = len(data)
            data += encoded
        bits = int(ipaddress.IPv4Address(address))
        at = 0
        for place in range(31, 0, -1):
            side = bits >> place & 1
            if nodes[at][side] is None:
                nodes.append([None, None])
                nodes[at][side] = len(nodes) - 1
            at = nodes[at][side]
        nodes[at][bits & 1] = (offsets[encoded],)
    count = len(nodes)
    tree = b"".join(pointer(side, count) for node in nodes for side in node)
    about = {
        "binary_format_major_version": Short(2),
        "binary_format_minor_version": Short(0),
        "build_epoch": Long(1_767_571_200),
        "database_type": "Simulated",
        "description": {"en": "where the simulation's addresses are"},
        "ip_version": Short(4),
        "languages": ["en"],
        "node_count": count,
        "record_size": Short(32),
    }
    return tree + bytes(16) + data + b"\xab\xcd\xefMaxMind.com" + encode(about)


def pointer(side: Any, count: int) -> bytes:
    """Where a bit leads to: another node, data, or nothing."""
    if side is None:
        return struct.pack(">I", count)
    return struct.pack(">I", count + 16 + side[0] if isinstance(side, tuple) else side)


def encode(value: Any) -> bytes:
    """A value of the data section."""
    if isinstance(value, dict):
        return control(7, len(value)) + b"".join(encode(key) + encode(of) for key, of in value.items())
    if isinstance(value, list):
        return control(11, len(value)) + b"".join(map(encode, value))
    if isinstance(value, str):
        return control(2, len(value.encode())) + value.encode()
    if isinstance(value, float):
        return control(3, 8) + struct.pack(">d", value)
    number = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return control(value.KIND if isinstance(value, (Short, Long)) else 6, len(number)) + number


def control(kind: int, size: int) -> bytes:
    """What a value is and how long; those that the simulation needs are shorter than 285 bytes."""
    extended = bytes([kind - 7]) if kind > 7 else b""
    first = (kind if kind <= 7 else 0) << 5
    return bytes([first | size]) + extended if size < 29 else bytes([first | 29]) + extended + bytes([size - 29])


def of_plan(simulation: list[str]) -> dict[str, dict[str, Any]]:
    """Where those are who come in a scenario: played once without anybody to answer."""
    many = subprocess.run(simulation, input="\n" * 100_000, capture_output=True, text=True).stdout.splitlines()
    of_network = lambda asn: {"autonomous_system_number": asn, "country": {"iso_code": country(asn)}}  # noqa: E731
    # Attackers go on from the next of theirs when they are refused, which nobody does here.
    found = {ip: of_network(asn) for ip, asn in json.loads(many[0])["hosts"].items()}
    for line in many[1:]:
        for request in json.loads(line):
            record = found.setdefault(request["ip"], of_network(request["asn"]))
            if request["place"] and "location" not in record:
                north, east = map(float, request["place"])
                record["location"] = {"latitude": north, "longitude": east}
    return found


def country(asn: int) -> str:
    """As the simulation has it: most are at home, attackers' hosts are elsewhere."""
    return "XZ" if asn >= 500 else {3: "DE", 5: "ES"}.get(asn % 7, "FR")
