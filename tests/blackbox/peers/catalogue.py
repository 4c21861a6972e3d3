"""The same application for gunicorn, in the ways that WSGI has."""

import hashlib
import threading

released = threading.Condition()
releases = [0]
PAGE = b"0123456789" * 200


def page(environ, start):
    fields = [("Content-Type", "text/plain"), ("ETag", '"one"')]
    if environ.get("HTTP_IF_NONE_MATCH") == '"one"':
        start("304 Not Modified", fields)
        return []
    start("200 OK", [*fields, ("Content-Length", str(len(PAGE)))])
    return [PAGE]


def echo(environ, start):
    digest, length = hashlib.sha256(), 0
    while chunk := environ["wsgi.input"].read(65_536):
        digest.update(chunk)
        length += len(chunk)
    text = f"{environ['REQUEST_METHOD']} {length} {digest.hexdigest()}\n".encode()
    start("200 OK", [("Content-Length", str(len(text)))])
    return [text]


def chunked(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    return (f"{at} ".encode() * (at + 1) for at in range(50))


def events(environ, start):
    start("200 OK", [("Content-Type", "text/event-stream")])
    before = releases[0]
    yield b"data: 1\n\n"
    with released:
        released.wait_for(lambda: releases[0] > before, timeout=20)
    yield b"data: 2\n\n"


def release(environ, start):
    with released:
        releases[0] += 1
        released.notify_all()
    return text(start, "released")


def cut(environ, start):
    start("200 OK", [("Content-Length", "1000")])
    yield b"only this"
    raise RuntimeError("cut")


def cut_chunked(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    yield b"only this"
    raise RuntimeError("cut")


def text(start, words, status="200 OK"):
    start(status, [("Content-Length", str(len(words)))])
    return [words.encode()]


WAYS = {
    "/static/page.txt": page,
    "/app/echo": echo,
    "/app/chunked": chunked,
    "/app/events": events,
    "/app/release": release,
    "/app/cut": cut,
    "/app/cut-chunked": cut_chunked,
    "/app/peer": lambda environ, start: text(start, environ["REMOTE_PORT"]),
}


def app(environ, start):
    way = WAYS.get(environ["PATH_INFO"])
    return way(environ, start) if way else text(start, "no such page", "404 Not Found")
