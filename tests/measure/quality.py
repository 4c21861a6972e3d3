#!/usr/bin/env python3
"""How many labelled requests a rule set refuses, by the set they come from.

    tests/measure/quality.py [--phalanx BINARY] [--rules DIR]... [--paranoia N] [--data DIR]

Without --rules the baseline pack of this tree is measured; `--rules DIR` measures another, such as the Core Rule Set. The
data is `attack.jsonl.gz` and `benign.jsonl.gz` in DIR (default: $PHALANX_SHARED/data), one object a line with `id`, `set`
and `raw_request_b64`. Recordings that are not what their client sent (a JSON body kept in base64, a target that is a
placeholder) are left out: nobody could read them. The sentences of the pack's own tests are measured too.
"""

import argparse
import base64
import gzip
import json
import os
import pathlib
import subprocess
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Documentation, code, CMS pages and search terms that were collected because they resemble attacks.
HARD = {"hardneg-shell-doc", "hardneg-libinjection", "cms-html", "graphql"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phalanx", default=ROOT / "target/release/phalanx")
    parser.add_argument("--rules", action="append", default=[])
    parser.add_argument("--paranoia")
    parser.add_argument("--data", default=None)
    options = parser.parse_args()
    shared = os.environ.get("PHALANX_SHARED")
    data = options.data or (shared and f"{shared}/data")
    if not data or not pathlib.Path(data, "attack.jsonl.gz").exists():
        print("skipped: no data; set PHALANX_SHARED or give --data")
        return
    command = [str(options.phalanx), "waf", "replay"]
    for folder in options.rules or [str(ROOT / "packs/baseline/rules")]:
        command += ["--rules", folder]
    if options.paranoia:
        command += ["--paranoia", options.paranoia]

    attacks = tally(command, read(data, "attack"))
    report("attacks", attacks)
    benign = tally(command, [request for request in read(data, "benign") if well_formed(request)])
    report("benign, natural", {name: count for name, count in benign.items() if name not in HARD})
    report("benign, hard", {name: count for name, count in benign.items() if name in HARD})
    report("benign, sentences", tally(command, sentences()))


def read(data, kind):
    with gzip.open(pathlib.Path(data, f"{kind}.jsonl.gz"), "rt") as lines:
        return [json.loads(line) for line in lines]


def well_formed(request):
    raw = base64.b64decode(request["raw_request_b64"])
    head, _, body = raw.partition(b"\r\n\r\n")
    target = head.split(b"\r\n", 1)[0].split(b" ")[1]
    kept_in_base64 = request["set"] == "rest-api-github" and body and body.lstrip()[:1] not in (b"{", b"[")
    return not kept_in_base64 and target.startswith(b"/")


def sentences():
    """The sentences of the pack's tests, each in a query, a form and JSON."""
    agent = "Host: shop.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    for line in (ROOT / "packs/baseline/tests/data/sentences.txt").read_text().splitlines():
        if not line or line.startswith("# "):
            continue
        encoded = urllib.parse.quote_plus(line)
        body = json.dumps({"title": line, "page": 1}, ensure_ascii=False)
        yield made("query", f"GET /search?q={encoded}&page=1 HTTP/1.1\r\n{agent}\r\n")
        yield made("form", posted(agent, "application/x-www-form-urlencoded", f"q={encoded}&page=1"))
        yield made("json", posted(agent, "application/json", body))


def posted(agent, content_type, body):
    length = len(body.encode())
    return f"POST /x HTTP/1.1\r\n{agent}Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}"


def made(name, raw):
    return {"id": name, "set": name, "raw_request_b64": base64.b64encode(raw.encode()).decode()}


def tally(command, requests):
    """For each set: how many requests there are and how many are refused."""
    requests = list(requests)
    lines = "".join(
        json.dumps({"id": number, "raw_request_b64": request["raw_request_b64"]}) + "\n"
        for number, request in enumerate(requests)
    )
    judged = subprocess.run(command, input=lines, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    if len(judged) != len(requests):
        sys.exit(f"{len(requests)} requests, {len(judged)} verdicts")
    counts = {}
    for request, line in zip(requests, judged):
        count = counts.setdefault(request["set"], [0, 0])
        count[0] += 1
        count[1] += json.loads(line)["blocked"]
    return counts


def report(title, counts):
    print(f"{title:24} {'requests':>9} {'refused':>8}")
    for name, (total, refused) in sorted(counts.items()):
        print(f"  {name:22} {total:9} {refused:8} {share(total, refused)}")
    total, refused = (sum(count[i] for count in counts.values()) for i in (0, 1))
    print(f"  {'all':22} {total:9} {refused:8} {share(total, refused)}\n")


def share(total, refused):
    return f"{100 * refused / max(total, 1):8.3f} %"


main()
