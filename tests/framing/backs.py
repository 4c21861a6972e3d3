"""Back ends that write down what they understood: which requests, with which bodies."""

from __future__ import annotations

import json
import pathlib
import sys
from dataclasses import dataclass

MEASURE = pathlib.Path(__file__).resolve().parent.parent / "measure"
sys.path.insert(0, str(MEASURE))

from lab.processes import Lab, free_ports, listens, until  # noqa: E402


@dataclass
class Seen:
    """A request as a back end understood it."""

    id: str
    method: str
    target: str
    body: bytes
    client: str


@dataclass
class Back:
    name: str
    port: int
    log: pathlib.Path

    def seen(self) -> list[Seen]:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return [seen(json.loads(line)) for line in lines]


def seen(line: dict) -> Seen:
    return Seen(line["id"], line["method"], line["target"], line["body"].encode("latin-1", "replace"), line["client"])


def nginx(lab: Lab) -> Back:
    port, inner = free_ports(2)
    folder = lab.subfolder("nginx-back")
    log = folder / "seen.log"
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, inner=inner, log=log))
    lab.spawn(["nginx", "-p", folder, "-c", folder / "nginx.conf", "-g", "daemon off;"], "nginx-back")
    until(f"nginx listens: {lab.said('nginx-back')}", lambda: listens(port))
    return Back("nginx", port, log)


def node(lab: Lab) -> Back:
    (port,) = free_ports(1)
    folder = lab.subfolder("node-back")
    log = folder / "seen.log"
    (folder / "back.cjs").write_text(NODE)
    lab.spawn(["node", folder / "back.cjs", str(port), log], "node-back")
    until(f"node listens: {lab.said('node-back')}", lambda: listens(port))
    return Back("node", port, log)


def gunicorn(lab: Lab) -> Back:
    (port,) = free_ports(1)
    folder = lab.subfolder("gunicorn-back")
    log = folder / "seen.log"
    (folder / "back.py").write_text(GUNICORN.replace("LOG", repr(str(log))))
    words = ["gunicorn", "--chdir", folder, "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread", "--threads", "8"]
    lab.spawn([*words, "--keep-alive", "30", "--log-level", "error", "back:app"], "gunicorn-back")
    until(f"gunicorn listens: {lab.said('gunicorn-back')}", lambda: listens(port))
    return Back("python", port, log)


BACKS = {"nginx": nginx, "node": node, "python": gunicorn}

# A server of its own behind it makes nginx read bodies to their end.
NGINX = """
user root;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder};
    proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
    log_format seen escape=json '{{"id":"$http_x_request_id","method":"$request_method","target":"$request_uri",'
        '"body":"$request_body","client":"$http_x_forwarded_for"}}';
    keepalive_timeout 30s; keepalive_requests 100000;
    server {{
        listen 127.0.0.1:{inner};
        location / {{ return 200 "ok"; }}
    }}
    server {{
        listen 127.0.0.1:{port};
        client_body_in_single_buffer on; client_body_buffer_size 1m;
        ignore_invalid_headers off; merge_slashes off;
        # What was cut off in its middle was not understood as a request.
        map_hash_bucket_size 64;
        access_log {log} seen if=$understood;
        location / {{ proxy_pass http://127.0.0.1:{inner}; }}
    }}
    map $status $understood {{ default 1; ~^4(00|08|99) 0; }}
}}
""".replace("        map_hash_bucket_size 64;\n", "")

NODE = r"""
const fs = require('fs');
const log = fs.openSync(process.argv[3], 'a');
const server = require('http').createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    const body = Buffer.concat(parts).toString('latin1');
    const id = request.headers['x-request-id'] ?? '', client = request.headers['x-forwarded-for'] ?? '';
    fs.writeSync(log, JSON.stringify({ id, method: request.method, target: request.url, body, client }) + '\n');
    response.setHeader('Content-Length', 2);
    response.end('ok');
  });
});
server.keepAliveTimeout = 30000;
server.listen(Number(process.argv[2]), '127.0.0.1');
"""

GUNICORN = """
import json, threading
lock = threading.Lock()
log = open(LOG, 'a', buffering=1)
def app(environ, start_response):
    body = environ['wsgi.input'].read().decode('latin-1')
    seen = {'id': environ.get('HTTP_X_REQUEST_ID', ''), 'method': environ['REQUEST_METHOD'], 'target': environ['RAW_URI'],
            'body': body, 'client': environ.get('HTTP_X_FORWARDED_FOR', '')}
    with lock:
        log.write(json.dumps(seen) + '\\n')
    start_response('200 OK', [('Content-Length', '2')])
    return [b'ok']
"""
