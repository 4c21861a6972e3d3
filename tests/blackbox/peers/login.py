"""A small application with accounts: a form that logs in, an interface that does, a reset of passwords, and pages behind a login."""

import gzip
import http.server
import json
import secrets
import sys
import urllib.parse

PASSWORDS = {"ann@shop.test": "correct horse", "bob@shop.test": "battery staple"}
SESSIONS = {}
TOKEN = "a-token-for-ann"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def session(self):
        for pair in self.headers.get("Cookie", "").split(";"):
            name, _, value = pair.strip().partition("=")
            if name == "shop_session":
                return value
        return None

    def answer(self, status, body, *fields, kind="text/html"):
        body = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in fields:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        who = SESSIONS.get(self.session())
        if self.path == "/account" and who is None:
            return self.answer(302, "", ("Location", "/login"))
        self.answer(200, "<h1>%s</h1>" % ("hello" if who is None else "your orders"))

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path == "/graphql":
            sent = json.loads(body)["variables"]
            known = PASSWORDS.get(sent["email"]) == sent["password"]
            told = {"data": {"login": {"token": TOKEN}}} if known else {"errors": [{"message": "That is not right."}]}
            told = gzip.compress(json.dumps(told).encode())
            return self.answer(200, told, ("Content-Encoding", "gzip"), kind="application/json")
        if self.path == "/api/login":
            sent = json.loads(body)
            known = PASSWORDS.get(sent["user"]["email"]) == sent["user"]["password"]
            return self.answer(200 if known else 401, json.dumps({"ok": known}), kind="application/json")
        sent = {name: values[0] for name, values in urllib.parse.parse_qs(body).items()}
        if self.path == "/forgot":
            return self.answer(200, "<p>A letter is on its way.")
        if PASSWORDS.get(sent.get("email")) != sent.get("password"):
            return self.answer(200, "<form>That is not right.</form>")
        session = secrets.token_hex(16)
        SESSIONS[session] = sent["email"]
        self.answer(302, "", ("Location", "/account"), ("Set-Cookie", f"shop_session={session}; Path=/; HttpOnly"))


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
server.serve_forever()
