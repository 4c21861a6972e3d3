"""A mail server and an HTTP server that print what they are told, one JSON object a line; their ports come first."""

import asyncore
import json
import smtpd
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer


def say(what):
    print(json.dumps(what), flush=True)


class Mail(smtpd.SMTPServer):
    def process_message(self, peer, mailfrom, rcpttos, data, **_):
        say({"mail": data.decode("utf-8", "replace"), "from": mailfrom, "to": rcpttos})
        # 550 is for good: who gets it asks no more.
        return "550 no such user" if "nobody@example.org" in rcpttos else None


class Http(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        say({"path": self.path, "body": json.loads(body), "signed": "X-Phalanx-Signature" in self.headers})
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


mail = Mail(("127.0.0.1", 0), None)
web = HTTPServer(("127.0.0.1", 0), Http)
threading.Thread(target=web.serve_forever, daemon=True).start()
say({"mail": mail.socket.getsockname()[1], "web": web.server_port})
asyncore.loop()
