"""HTTP/2 by hand: frames, header blocks and a connection that sends whatever it is told, right or wrong."""

import socket
import ssl
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY_FLAG = 1, 1, 4, 8, 32
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR = range(7)
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(7, 12)
NAMES = ["DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION"]


def frame(kind, flags=0, stream=0, payload=b"", length=None):
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(*pairs, ack=False):
    return frame(SETTINGS, ACK if ack else 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in pairs))


def integer(value, prefix, first=0):
    """RFC 7541 section 5.1."""
    most = (1 << prefix) - 1
    if value < most:
        return bytes([first | value])
    out, value = [first | most], value - most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + [value])


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return integer(len(value), 7) + value


def field(name, value, first=0x00):
    """A literal with a literal name: 0x00 not indexed, 0x40 indexed, 0x10 never indexed."""
    return bytes([first]) + text(name) + text(value)


def block(*fields):
    return b"".join(one if isinstance(one, bytes) else field(*one) for one in fields)


def request(path="/", *more, method="GET", authority="shop.test", scheme="http"):
    """A header block with all pseudo-header fields; `more` are further fields."""
    return block((":method", method), (":scheme", scheme), (":path", path), (":authority", authority), *more)


def headers(stream, fields, flags=END_STREAM | END_HEADERS, padding=None, priority=None):
    payload = fields
    if priority is not None:
        dependency, weight = priority
        payload, flags = struct.pack(">IB", dependency, weight) + payload, flags | PRIORITY_FLAG
    if padding is not None:
        payload, flags = bytes([padding]) + payload + bytes(padding), flags | PADDED
    return frame(HEADERS, flags, stream, payload)


def get(stream, path="/", *more, **rest):
    return headers(stream, request(path, *more, **rest))


DIGITS = {"00000": "0", "00001": "1", "00010": "2", "011001": "3", "011010": "4", "011011": "5", "011100": "6", "011101": "7",
          "011110": "8", "011111": "9"}
STATUS = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}


def status_of(fields):
    """The status that a response's header block begins with."""
    first = fields[0] if fields else 0
    while first & 0xE0 == 0x20:  # Changes of the table's size.
        fields = fields[1:]
        first = fields[0]
    if first & 0x80:
        return STATUS.get(first & 0x7F)
    size = fields[1]
    value = fields[2:2 + (size & 0x7F)]
    if not size & 0x80:
        return int(value)
    bits, out = "".join(f"{byte:08b}" for byte in value), ""
    while bits and not set(bits) <= {"1"}:
        width = 5 if bits[:5] in DIGITS else 6
        out, bits = out + DIGITS[bits[:width]], bits[width:]
    return int(out)


def tls_context(alpn=("h2",)):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(alpn))
    return context


class Closed(Exception):
    """The connection is over."""


class Connection:
    """A client that looks at nothing it is not asked to."""

    def __init__(self, address, tls=None, begin=True, initial=(), timeout=5.0, rcvbuf=None, source=None):
        raw = socket.socket()
        raw.settimeout(timeout)
        if rcvbuf:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        if source:
            raw.bind((source, 0))
        raw.connect(address)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = tls.wrap_socket(raw, server_hostname="shop.test") if tls else raw
        self.buffer = b""
        self.seen = []
        if begin:
            self.send(PREFACE + settings(*initial))

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError) as error:
            raise Closed from error

    def receive(self, timeout=None):
        """The next frame: kind, flags, stream, payload."""
        if timeout is not None:
            self.socket.settimeout(timeout)
        while True:
            if len(self.buffer) >= 9:
                length = int.from_bytes(self.buffer[:3], "big")
                if len(self.buffer) >= 9 + length:
                    kind, flags = self.buffer[3], self.buffer[4]
                    stream = int.from_bytes(self.buffer[5:9], "big") & 0x7FFFFFFF
                    payload, self.buffer = self.buffer[9:9 + length], self.buffer[9 + length:]
                    self.seen.append((kind, flags, stream, payload))
                    return kind, flags, stream, payload
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                raise
            except (ConnectionError, ssl.SSLError, OSError) as error:
                raise Closed from error
            if not data:
                raise Closed
            self.buffer += data

    def until(self, wanted, timeout=5.0):
        """The first frame for which `wanted` holds; SETTINGS are acknowledged on the way."""
        self.socket.settimeout(timeout)
        while True:
            found = self.receive()
            kind, flags, stream, payload = found
            if kind == SETTINGS and not flags & ACK:
                self.send(settings(ack=True))
            if wanted(*found):
                return found

    def response(self, stream, timeout=5.0):
        """Status and body length of a stream's response."""
        kind, flags, _, fields = self.until(
            lambda kind, flags, of, payload: of == stream and kind in (HEADERS, RST_STREAM) or kind == GOAWAY, timeout)
        if kind != HEADERS:
            raise Closed(NAMES[kind])
        status, size = status_of(fields), 0
        while not flags & END_STREAM:
            kind, flags, _, payload = self.until(lambda kind, flags, of, _: of == stream or kind == GOAWAY, timeout)
            if kind in (RST_STREAM, GOAWAY):
                raise Closed(NAMES[kind])
            if kind == DATA:
                size += len(payload)
        return status, size

    def close(self):
        try:
            self.socket.close()
        except OSError:
            pass
