"""A node of the real binary in front of a small app, for tests and measurements."""

import atexit
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

POLICY = """
operator_networks = ["192.0.2.0/24"]
[[apps]]
name = "shop"
upstream = "http://{upstream}"
mode = "{mode}"
"""

SETTINGS = """
policy = "policy.toml"
[node]
state = "state"
workers = {workers}
[listen]
address = ["127.0.0.1:0"]
admin = "127.0.0.1:0"
h2c = true
[[listen.tls]]
address = "127.0.0.1:0"
[[certificate]]
cert = "shop.pem"
key = "shop.key"
[limits]
{limits}
"""


class App:
    """HTTP/1.1: `/` answers in few bytes, `/large` in a mebibyte, anything else after it has read the body."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    @staticmethod
    def serve(client):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = client.makefile("rb")
        try:
            while line := reader.readline():
                length, chunked = 0, False
                while (head := reader.readline()) not in (b"\r\n", b""):
                    name, _, value = head.lower().partition(b":")
                    length = int(value) if name == b"content-length" else length
                    chunked |= name == b"transfer-encoding"
                while length:
                    length -= len(reader.read(min(length, 65536))) or length
                while chunked:
                    size = int(reader.readline(), 16)
                    reader.read(size + 2)
                    chunked = size > 0
                body = b"x" * (1 << 20) if b" /large" in line else b"ok\n"
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + (b"" if line.startswith(b"HEAD") else body))
        except (OSError, ValueError):
            pass
        finally:
            client.close()


NGINX = """
worker_processes 1; daemon off; error_log stderr crit; pid {folder}/pid;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port} backlog=8192; location / {{ return 200 "ok\\n"; }} location /large {{ root {folder}; }}
    location /upload {{ proxy_pass http://{app}; }} }}
}}
"""


class Origin:
    """nginx as the app, where there is one, so that it is not what is measured; what has a body goes on to an [`App`]."""

    def __init__(self):
        app = App()
        self.process, self.address = None, app.address
        if not shutil.which("nginx"):
            return
        self.folder = tempfile.TemporaryDirectory(prefix="origin-")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (pathlib.Path(self.folder.name) / "large").write_bytes(b"x" * (1 << 20))
        os.chmod(self.folder.name, 0o755)
        config = pathlib.Path(self.folder.name) / "nginx.conf"
        config.write_text(NGINX.format(folder=self.folder.name, port=port, app=app.address))
        self.process = subprocess.Popen(["nginx", "-c", config], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        atexit.register(self.stop)
        self.address = f"127.0.0.1:{port}"
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("nginx does not answer")

    def stop(self):
        if not self.process:
            return
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


class Node:
    """A running node. `limits` are lines of `[limits]`."""

    def __init__(self, binary, upstream, limits="", workers=2, mode="block", wrapper=(), files=None):
        self.folder = tempfile.TemporaryDirectory(prefix="phalanx-")
        path = pathlib.Path(self.folder.name)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                        "-subj", "/CN=shop.test", "-addext", "subjectAltName=DNS:shop.test", "-keyout", path / "shop.key",
                        "-out", path / "shop.pem"], check=True, capture_output=True)
        (path / "shop.key").chmod(0o600)
        (path / "policy.toml").write_text(POLICY.format(upstream=upstream, mode=mode))
        (path / "phalanx.toml").write_text(SETTINGS.format(limits=limits, workers=workers))
        self.log = open(path / "log", "wb")
        limit = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))) if files else None
        self.process = subprocess.Popen([*wrapper, binary, "run", "-c", path / "phalanx.toml", "--json"], stdout=subprocess.PIPE,
                                        stderr=self.log, stdin=subprocess.DEVNULL, preexec_fn=limit)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the node did not start:\n" + (path / "log").read_text())
        ready = json.loads(line)
        self.plain, self.tls, self.admin = (address(ready[key]) for key in ("listen", "tls_listen", "admin"))
        self.token = (path / "state" / "admin.token").read_text().strip()
        self.pid = self.process.pid

    def api(self, path, timeout=10):
        to = urllib.request.Request(f"http://{self.admin[0]}:{self.admin[1]}{path}", headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(to, timeout=timeout) as reply:
            return reply.read().decode()

    def status(self):
        return json.loads(self.api("/api/v1/status"))

    def reached(self):
        return {one["limit"]: one["count"] for one in self.status()["load"]["limits_reached"]}

    def memory(self):
        """Resident memory in KiB."""
        return int(pathlib.Path(f"/proc/{self.pid}/status").read_text().split("VmRSS:")[1].split()[0])

    def cpu(self):
        """CPU seconds since the start."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(40)
        finally:
            self.process.kill()
            self.log.close()
            self.folder.cleanup()


def address(text):
    host, _, port = text.removeprefix("http://").rstrip("/").rpartition(":")
    return host, int(port)
