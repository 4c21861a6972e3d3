"""What the nodes saw, held against what was played: the fields that the simulator prints."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import ipaddress
import json
import pathlib
from typing import Any

from field import Field
from player import Answer
from processes import Node
from watch import POLL_SECONDS, Watch

TROUBLE = {"error-storm", "outage", "unusual-traffic"}
# Told, and not acted on.
NAMED = {"impossible-travel", "session-theft", "new-endpoint", "unusual-traffic"}
# Seconds from the tenth event of thin stuffing, and from the first of the others.
THIN_SECONDS, NAMED_SECONDS = 5.0, 10.0
NAMED_SOON = {"stuffing", "spraying", "idor", "travel"}

# Orders about one subscriber.
NARROW = {"ip", "client", "session", "account"}

Record = dict[str, Any]


@dataclasses.dataclass
class Finding:
    incident: str
    detector: str
    kind: str
    value: str
    name: str
    decisive: bool
    confidence: str
    reason: str
    first_at: float


class Score:
    def __init__(self, options: argparse.Namespace, answers: list[Answer], watch: Watch, field: Field) -> None:
        self.options, self.about, self.watch = options, watch.about, watch
        self.answers = sorted(answers, key=lambda answer: answer.sent_at)
        self.attack = [answer for answer in self.answers if answer.is_attack]
        self.honest = [answer for answer in self.answers if not answer.is_attack]
        self.records = records(field.nodes)
        self.entered = watch.entered
        self.incidents = shown(field.nodes)
        self.decisions = [decision for node in field.nodes[:1] for decision in node.decisions()]
        self.learned = [node.call("GET", "/status")[1]["learning"] for node in field.nodes]
        self.findings = [finding for incident in self.incidents.values() for finding in findings_of(incident)]
        self.guilty = self.whom_it_is_right_to_name()
        self.fields = self.reckon()

    def record(self, answer: Answer) -> Record:
        return self.records.get(answer.id, {})

    def subjects(self, answer: Answer) -> set[tuple[str, str]]:
        """Whom a request is of, as findings name them."""
        record = self.record(answer)
        deed = record.get("deed") or {}
        address = ipaddress.ip_address(answer.request["ip"])
        of = {("address", str(address)), ("prefix", str(ipaddress.ip_network(f"{address}/24", strict=False)))}
        of |= {(kind, deed[kind]) for kind in ("session", "account") if deed.get(kind)}
        return of | ({("software", record["ja4"])} if record.get("ja4") else set())

    def whom_it_is_right_to_name(self) -> set[tuple[str, str]]:
        guilty: set[tuple[str, str]] = set()
        for answer in [*self.attack, *self.entered]:
            entered = answer.request["outcome"] == "passed" or answer.request["step"] == "page"
            guilty |= {(kind, value) for kind, value in self.subjects(answer) if kind != "account" or entered}
        popular = {self.record(answer).get("ja4") for answer in self.honest if answer.request["session"]}
        stuffs = any(answer.request["step"] == "login" for answer in self.attack)
        return {one for one in guilty if one[0] != "software" or stuffs or one[1] not in popular}

    def is_guilty(self, finding: Finding) -> bool:
        name = finding.name if finding.kind == "software" else finding.value
        return (finding.kind, name) in self.guilty or finding.kind == "secret"

    def counts(self, finding: Finding) -> bool:
        return finding.confidence != "low" and (finding.decisive or finding.detector in NAMED)

    def seen_at(self, finding: Finding) -> float | None:
        """When the first node told of it."""
        times = [at for (_, incident, detector), at in self.watch.first.items() if (incident, detector) == (finding.incident, finding.detector)]
        return max(min(times), finding.first_at) if times else None

    def reckon(self) -> dict[str, Any]:
        right = [one for one in self.findings if self.counts(one) and self.is_guilty(one) and one.detector in self.about["expects"]]
        wrong = [one for one in self.findings if one.decisive and one.detector not in TROUBLE and not self.is_guilty(one)]
        found = [at for at in map(self.seen_at, right) if at is not None]
        first = self.attack[0].sent_at if self.attack else None
        tenth = self.attack[9].sent_at if len(self.attack) > 9 else None
        since = lambda begin: round(min(found) - begin, 3) if found and begin else None  # noqa: E731
        incidents = {key: one for key, one in self.incidents.items() if self.is_attack(one)}
        best = max((one for one in incidents.values()), key=lambda one: len(one["nodes"]), default=None)
        named_by_all = self.watch.named.get((best["id"], len(field_nodes(self.watch)))) if best else None
        shares = {key: self.covered(one) for key, one in incidents.items()}
        accounts = self.accounts(right)
        banned, challenged, sessions = self.met()
        refused = sum(self.is_refused(answer) for answer in self.attack)
        last = self.attack[-1].sent_at if self.attack else 0.0
        quiet = [answer for answer in self.honest if not first or answer.sent_at < first]
        attacked = [answer for answer in self.honest if first and first <= answer.sent_at <= last]
        ordered, gone = self.wide_order(last)
        after = [answer for answer in self.attack if ordered and answer.sent_at > ordered]
        return {
            "detected": bool(found),
            "seconds_to_detect": since(first),
            "seconds_after_tenth": since(tenth),
            "nodes_named": len(best["nodes"]) if best else 0,
            "seconds_until_all_named": round(named_by_all - first, 3) if named_by_all and first else None,
            "accounts_entered": len(accounts),
            "accounts_named": sum(at is not None for at in accounts.values()),
            "seconds_to_account": max((round(at, 3) for at in accounts.values() if at is not None), default=None),
            "honest_banned": len(banned),
            "honest_challenged_share": round(len(challenged) / max(1, len(sessions)), 6),
            "attack_refused_share": round(refused / max(1, len(self.attack)), 4),
            "incidents": len(incidents),
            "incident_share": self.least_covered(shares),
            "mixed_incidents": sum(sum(part > 0.05 for part in share.values()) > 1 for share in shares.values()),
            "false_incidents": sum(all(part == 0.0 for part in share.values()) for share in shares.values()),
            "honest_sessions": len(sessions),
            "honest_requests": len(self.honest),
            "honest_failed": sum(not answer.served and not self.is_refused(answer) for answer in self.honest),
            "attack_requests": len(self.attack),
            "attack_failed": sum(bool(answer.fault) for answer in self.attack),
            "found": sorted({one.detector for one in right}),
            "missed": sorted(set(self.about["expects"]) - {one.detector for one in right}),
            "wrong": [f"{one.detector} {one.kind} {one.name or one.value}: {one.reason}" for one in wrong],
            "honest_served_share": round(sum(a.served for a in attacked) / max(1, len(attacked)), 4),
            "quiet_p99_ms": percentile([a.took_ms for a in quiet if a.served], 99),
            "attacked_p99_ms": percentile([a.took_ms for a in attacked if a.served], 99),
            "ordered_p99_ms": percentile([a.took_ms for a in attacked if a.served and ordered and a.sent_at > ordered], 99),
            "seconds_to_order": round(ordered - first, 3) if ordered and first else None,
            "ordered_refused_share": round(sum(map(self.is_refused, after)) / len(after), 4) if after else None,
            "seconds_until_order_gone": gone,
            "learned_from": sum(one["events"] for one in self.learned),
            "dropped": sum(one["events_dropped"] for one in self.learned),
        }

    def wide_order(self, last: float) -> tuple[float | None, float | None]:
        """When all nodes had the first order that is about many, and how long after the last request of the attack it was gone."""
        nodes, found = len(self.watch.nodes), []
        for (_, actor), seen in self.watch.orders.items():
            if json.loads(actor).get("kind") not in NARROW and len(seen) == nodes:
                found.append((max(at for at, _ in seen.values()), max(at for _, at in seen.values())))
        if not found:
            return None, None
        gone_at = max(at for _, at in found)
        is_gone = gone_at < self.watch.ended_at - 2 * POLL_SECONDS * nodes - 1.0
        return min(at for at, _ in found), round(max(0.0, gone_at - last), 1) if is_gone else None

    def accounts(self, right: list[Finding]) -> dict[str, float | None]:
        """The accounts that somebody attacked from or got into: after how many seconds each was named, if it was. It counts from
        when something was wrong with it: its first request, or the finding that it is part of."""
        since: dict[str, float] = {}
        for answer in self.attack:
            account = (self.record(answer).get("deed") or {}).get("account")
            if account and (answer.request["step"] == "page" or answer.request["outcome"] == "passed") and not self.is_refused(answer):
                since.setdefault(account, answer.sent_at)
        found = min((one.first_at for one in right if one.kind != "account"), default=0.0)
        named: dict[str, float | None] = dict.fromkeys(since)
        for one in right:
            if one.kind == "account" and one.value in since:
                at = self.seen_account(one) - max(since[one.value], 0.0 if self.options.scenario == "idor" else found)
                named[one.value] = at
        return named

    def seen_account(self, finding: Finding) -> float:
        return self.watch.accounts.get(finding.value, finding.first_at)

    def least_covered(self, shares: dict[str, dict[int, float]]) -> float:
        """Of the campaign that is covered least, the part that its fullest incident has."""
        fullest = [max((share[campaign] for share in shares.values()), default=0.0) for campaign in self.campaigns()]
        return min(fullest, default=0.0)

    def is_attack(self, incident: Record) -> bool:
        return any(one["decisive"] and one["detector"] not in TROUBLE for one in incident["findings"])

    def is_refused(self, answer: Answer) -> bool:
        record = self.record(answer)
        return bool(record) and record["action"] in ("deny", "challenge", "throttle", "tarpit") and record["reason"] != "rule"

    def campaigns(self) -> list[int]:
        return sorted({answer.request["campaign"] for answer in self.attack})

    def covered(self, incident: Record) -> dict[int, float]:
        """Of each campaign's requests, the part whose actors the incident names."""
        named = {(one.kind, one.name if one.kind == "software" else one.value) for one in findings_of(incident)}
        popular = {self.record(answer).get("ja4") for answer in self.honest if answer.request["session"]}
        named = {one for one in named if one[0] != "prefix" and not (one[0] == "software" and one[1] in popular)}
        # A password is named by a hash of which requests do not tell: it is the one that was tried most.
        tried = collections.Counter((self.record(answer).get("deed") or {}).get("secret") for answer in self.attack)
        sprayed = tried.most_common(1)[0][0] if any(kind == "secret" for kind, _ in named) else None
        shares = {}
        for campaign in self.campaigns():
            of = [answer for answer in self.attack if answer.request["campaign"] == campaign]
            shares[campaign] = round(sum(bool(self.subjects(answer) & named) or self.has_secret(answer, sprayed) for answer in of) / len(of), 4)
        return shares

    def has_secret(self, answer: Answer, secret: int | None) -> bool:
        return secret is not None and (self.record(answer).get("deed") or {}).get("secret") == secret

    def met(self) -> tuple[set[str], set[str], set[str]]:
        """Honest sessions that were refused, that were challenged, and all."""
        stolen = {answer.request["session"] for answer in self.attack}
        banned, challenged, sessions = set(), set(), set()
        for answer in self.honest:
            who = answer.request["session"] or answer.request["ip"]
            sessions.add(who)
            if answer.challenged:
                challenged.add(who)
            elif self.is_refused(answer) and who not in stolen:
                banned.add(who)
        return banned, challenged, sessions

    def json(self) -> str:
        options = self.options
        head = {"scenario": options.scenario, "seed": options.seed, "nodes": 3, "sharing": options.sharing == "on", "real": True}
        return json.dumps({**head, **self.fields})

    def text(self) -> str:
        lines = [f"{name:<24} {value if isinstance(value, str) else json.dumps(value)}" for name, value in self.fields.items()]
        for incident in self.incidents.values():
            lines.append(f"\nincident {incident['id']} {incident['severity']} {incident['stage']} {', '.join(incident['nodes'])}")
            for one in findings_of(incident)[:12]:
                verdict = "" if one.detector in TROUBLE else "right " if self.is_guilty(one) else "WRONG "
                sure = f"{one.confidence}{' decisive' if one.decisive else ''}"
                lines.append(f"  {verdict}{one.detector} {one.kind} {one.name or one.value} {sure}: {one.reason}")
        begin = self.attack[0].sent_at if self.attack else 0.0
        for (kind, actor), seen in list(self.watch.orders.items())[:20]:
            spans = [f"{node} {at - begin:.1f} to {to - begin:.1f} s" for node, (at, to) in seen.items()]
            lines.append(f"order {kind} {actor} seen at {', '.join(spans)}")
        told = dict.fromkeys(f"decision {one['kind']} {one['actor']}: {one['reason']}" for one in self.decisions)
        return "\n".join([*lines, *list(told)[:20]])

    def faults(self) -> list[str]:
        """What misses the figures that are to be reached."""
        of = self.fields
        checks = [
            (of["honest_banned"] == 0, f"{of['honest_banned']} honest sessions were refused"),
            (not of["wrong"], f"it was wrong about {of['wrong']}"),
            *self.checks(),
        ]
        return [fault for holds, fault in checks if not holds]

    def checks(self) -> list[tuple[bool, str]]:
        of, scenario = self.fields, self.options.scenario
        answered = (of["honest_failed"] == 0, f"{of['honest_failed']} honest requests got no answer")
        found = (not of["missed"], f"missed {of['missed']}")
        if self.options.sharing == "off" and scenario == "thin-stuffing":
            return [answered, (not of["detected"], "what is too thin for one node was found by one")]
        if scenario == "thin-stuffing":
            after = of["seconds_after_tenth"]
            in_time = after is not None and after <= THIN_SECONDS
            named = (of["nodes_named"] == 3, f"{of['nodes_named']} nodes are named")
            return [answered, found, (in_time, f"found {after} s after the tenth event"), named]
        if "campaign" in scenario:
            count = len(self.campaigns())
            one = (of["incidents"] == count and not of["mixed_incidents"], f"{of['incidents']} incidents of {count} campaigns")
            return [answered, found, one, (of["incident_share"] >= 0.95, f"the incident has {of['incident_share']} of the events")]
        if "flood" in scenario:
            return [found, *self.flood_checks()]
        if scenario not in NAMED_SOON:
            return [answered, found]
        seconds = [of["seconds_to_detect"], of["seconds_to_account"]]
        soon = all(one <= NAMED_SECONDS for one in seconds if one is not None)
        return [answered, found, (soon, f"it was found after {seconds[0]} s, the account after {seconds[1]} s")]

    def flood_checks(self) -> list[tuple[bool, str]]:
        of = self.fields
        if of["seconds_to_order"] is None:
            return [(False, "there was no order about the flood on all nodes")]
        quiet, ordered, gone = of["quiet_p99_ms"] or 0.0, of["ordered_p99_ms"] or 0.0, of["seconds_until_order_gone"]
        return [
            (of["seconds_to_order"] <= 2.0, f"the order took {of['seconds_to_order']} s"),
            ((of["ordered_refused_share"] or 0.0) >= 0.99, f"{of['ordered_refused_share']} of it was refused"),
            (of["honest_served_share"] >= 0.99, f"{of['honest_served_share']} of honest requests were served"),
            (ordered < 2 * quiet, f"honest p99 is {ordered} ms, {quiet} ms when it is quiet"),
            (gone is not None and gone <= 65.0, f"the order was gone after {gone} s"),
        ]


def field_nodes(watch: Watch) -> list[Node]:
    return watch.nodes


def records(nodes: list[Node]) -> dict[str, Record]:
    """Each request as the node that it came to recorded it, by its id."""
    found: dict[str, Record] = {}
    for node in nodes:
        folder = pathlib.Path(node.folder) / "record"
        for file in sorted(folder.glob("access.log*")):
            for line in file.read_text(errors="replace").splitlines():
                record = json.loads(line)
                found[record["id"]] = record
    return found


def shown(nodes: list[Node]) -> dict[str, Record]:
    """All incidents, each by one name: with sharing as the first node knows them, and what the others know besides."""
    whole: dict[str, Record] = {}
    parts: set[str] = set()
    for node in nodes:
        for row in node.call("GET", "/incidents")[1] or []:
            if row["id"] not in whole and row["id"] not in parts:
                incident = node.call("GET", f"/incidents/{row['id']}")[1]
                whole[incident["id"]] = incident
                parts |= set(incident["parts"])
    return whole


def findings_of(incident: Record) -> list[Finding]:
    return [
        Finding(
            incident["id"],
            one["detector"],
            one["subject"]["kind"],
            one["subject"]["value"],
            one["subject"].get("name") or "",
            one["decisive"],
            str(one["confidence"]).lower(),
            one["reason"],
            one["first_at_ms"] / 1000,
        )
        for one in incident["findings"]
    ]


def percentile(of: list[float], percent: int) -> float | None:
    ordered = sorted(of)
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 1) if ordered else None
