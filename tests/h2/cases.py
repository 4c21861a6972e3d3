"""What a client may do to a server's HTTP/2, and what the server must do then: RFC 9113 sections 3 to 8, and RFC 7541.

A case is (section, what, sent, expected). `sent` is a list of bytes and of calls with the connection. Expected is one of

- `goes_on`: it still answers a PING, and had no error to tell
- `answers(stream, status)`
- `stream_error(stream, codes...)`: RST_STREAM with one of the codes, or a connection error with one, or a 4xx for a malformed request
  where `status` says so (section 8.1.1 allows an answer before the reset)
- `connection_error(codes...)`: GOAWAY with one of the codes, or the connection is closed
- `refuses(stream)`: an error of the stream or of the connection, or an answer of 400 or 431
"""

import struct

from wire import *

goes_on = ("goes_on",)


def answers(stream=1, status=200):
    return ("answers", stream, status)


def stream_error(stream, *codes):
    return ("stream_error", stream, codes)


def connection_error(*codes):
    return ("connection_error", codes)


def refuses(stream=1):
    return ("refuses", stream)


# The codec ends the connection, as RFC 9113 section 4.3 asks, but tells PROTOCOL_ERROR and not COMPRESSION_ERROR (ADR 0025).
undecodable = connection_error(COMPRESSION_ERROR, PROTOCOL_ERROR)


def ended(stream):
    """A stream that is over is used: the codec ends the connection, as section 5.4 allows, with PROTOCOL_ERROR (ADR 0025)."""
    return stream_error(stream, STREAM_CLOSED, PROTOCOL_ERROR)


# Pseudo-header fields in trailers are dropped by the codec: nothing behind it ever sees them (ADR 0025).
trailers_dropped = ("either", answers(), stream_error(1, PROTOCOL_ERROR))


def u32(value):
    return struct.pack(">I", value)


def window(stream, by):
    return frame(WINDOW_UPDATE, 0, stream, u32(by))


def reset(stream, code=CANCEL):
    return frame(RST_STREAM, 0, stream, u32(code))


def post(stream, *more, flags=END_HEADERS):
    return headers(stream, request("/upload", *more, method="POST"), flags)


def answered(stream):
    return lambda connection: connection.response(stream)


def acknowledged(connection):
    connection.until(lambda kind, flags, *_: kind == SETTINGS and flags & ACK)


PING8 = b"12345678"
GOOD = request()

CASES = [
    # 3. Starting HTTP/2.
    ("3.4", "a preface and settings begin a connection", [get(1)], answers()),
    ("3.4", "a preface may come in pieces", ["raw", PREFACE[:10], PREFACE[10:] + settings(), get(1)], answers()),
    ("3.4", "another preface is refused", ["raw", b"PRI * HTTP/2.0\r\n\r\nSM\r\r\r\n" + settings()], ("refused",)),
    ("3.4", "another frame than SETTINGS comes first", ["raw", PREFACE + frame(PING, 0, 0, PING8)], connection_error(PROTOCOL_ERROR)),
    ("3.4", "a request comes before SETTINGS", ["raw", PREFACE + get(1)], connection_error(PROTOCOL_ERROR)),
    # 4.1 Frame format.
    ("4.1", "a frame of an unknown type is ignored", [frame(0x42, 0xFF, 0, b"12345678")], goes_on),
    ("4.1", "one on a stream that is idle, too", [frame(0x42, 0, 101, b"")], goes_on),
    ("4.1", "undefined flags are ignored", [frame(PING, 0xFE, 0, PING8)], goes_on),
    ("4.1", "the reserved bit is ignored", [frame(PING, 0, 0x80000000, PING8)], goes_on),
    ("4.1", "the reserved bit of a request is ignored", [headers(0x80000001, GOOD)], answers()),
    # 4.2 Frame size.
    ("4.2", "a frame as large as is allowed is taken", [post(1), frame(DATA, END_STREAM, 1, bytes(16384))], answers()),
    ("4.2", "a larger DATA frame is refused", [post(1), frame(DATA, END_STREAM, 1, bytes(16385))], stream_error(1, FRAME_SIZE_ERROR)),
    ("4.2", "a larger HEADERS frame is refused", [headers(1, request("/", ("x", "a" * 16400)))], connection_error(FRAME_SIZE_ERROR)),
    ("4.2", "a larger frame of an unknown type is refused", [frame(0x42, 0, 0, bytes(16385))], connection_error(FRAME_SIZE_ERROR)),
    ("4.2", "an empty DATA frame ends a stream", [post(1), frame(DATA, END_STREAM, 1)], answers()),
    # 4.3 Field sections.
    ("4.3", "an index that is none is a decoding error", [headers(1, GOOD + b"\xff\xff\xff\x0f")], undecodable),
    ("4.3", "a block in which something else comes is refused", [headers(1, GOOD, END_STREAM), frame(PRIORITY, 0, 1, bytes(5))], connection_error(PROTOCOL_ERROR)),
    ("4.3", "another stream's HEADERS in a block are refused", [headers(1, GOOD, END_STREAM), get(3)], connection_error(PROTOCOL_ERROR)),
    ("4.3", "a frame of an unknown type in a block is refused", [headers(1, GOOD, END_STREAM), frame(0x42, 0, 1)], connection_error(PROTOCOL_ERROR)),
    # 5.1 Stream states: idle.
    ("5.1", "DATA on an idle stream", [frame(DATA, END_STREAM, 1, b"x")], connection_error(PROTOCOL_ERROR, STREAM_CLOSED)),
    ("5.1", "RST_STREAM on an idle stream", [reset(1)], connection_error(PROTOCOL_ERROR)),
    ("5.1", "WINDOW_UPDATE on an idle stream", [window(1, 100)], connection_error(PROTOCOL_ERROR)),
    ("5.1", "CONTINUATION on an idle stream", [frame(CONTINUATION, END_HEADERS, 1, GOOD)], connection_error(PROTOCOL_ERROR)),
    ("5.1", "PRIORITY on an idle stream is allowed", [frame(PRIORITY, 0, 1, u32(0) + b"\x10")], goes_on),
    # Half-closed (remote): the request is whole, the answer waits for a window that is not there.
    ("5.1", "DATA after the end of a request", [get(1, "/large"), frame(DATA, END_STREAM, 1, b"x")], ended(1)),
    ("5.1", "HEADERS after the end of a request", [get(1, "/large"), get(1)], ended(1)),
    ("5.1", "CONTINUATION after the end of a request", [get(1, "/large"), frame(CONTINUATION, END_HEADERS, 1, GOOD)], connection_error(PROTOCOL_ERROR, STREAM_CLOSED)),
    ("5.1", "WINDOW_UPDATE, PRIORITY and RST_STREAM after it are allowed", [get(1, "/large"), window(1, 100), frame(PRIORITY, 0, 1, u32(0) + b"\x10"), reset(1)], goes_on),
    # Closed.
    ("5.1", "DATA on a stream that the client reset", [post(1), reset(1), frame(DATA, END_STREAM, 1, b"x")], ended(1)),
    ("5.1", "HEADERS on a stream that the client reset", [post(1), reset(1), get(1)], ended(1)),
    ("5.1", "DATA on a stream that is answered", [get(1), answered(1), frame(DATA, END_STREAM, 1, b"x")], ended(1)),
    ("5.1", "HEADERS on a stream that is answered", [get(1), answered(1), get(1)], connection_error(STREAM_CLOSED, PROTOCOL_ERROR)),
    ("5.1", "CONTINUATION on a stream that is answered", [get(1), answered(1), frame(CONTINUATION, END_HEADERS, 1, GOOD)], connection_error(STREAM_CLOSED, PROTOCOL_ERROR)),
    ("5.1", "WINDOW_UPDATE on a stream that is answered is ignored", [get(1), answered(1), window(1, 100)], goes_on),
    ("5.1", "RST_STREAM on a stream that is answered is ignored", [get(1), answered(1), reset(1)], goes_on),
    ("5.1", "PRIORITY on a stream that is answered is ignored", [get(1), answered(1), frame(PRIORITY, 0, 1, u32(0) + b"\x10")], goes_on),
    # 5.1.1 Stream identifiers.
    ("5.1.1", "a client's stream has an odd number", [get(2)], connection_error(PROTOCOL_ERROR)),
    ("5.1.1", "numbers rise", [get(5), answered(5), get(3)], connection_error(PROTOCOL_ERROR, STREAM_CLOSED)),
    ("5.1.1", "numbers may be left out", [get(7), answered(7), get(101)], answers(101)),
    ("5.1.1", "the highest number is one", [get(0x7FFFFFFF)], answers(0x7FFFFFFF)),
    ("5.1.2", "streams beyond the limit are refused, and others answered", [acknowledged] + [post(n) for n in range(1, 2 * 101 + 1, 2)], stream_error(201, REFUSED_STREAM, PROTOCOL_ERROR)),
    # 5.2 Flow control.
    ("5.2.1", "an answer waits for the window", [("settings", (4, 1)), get(1, "/large"), lambda c: c.until(lambda kind, _, of, payload: kind == DATA and len(payload) == 1), window(1, 5), lambda c: c.until(lambda kind, _, of, payload: kind == DATA and len(payload) == 5)], goes_on),
    # 5.3 and 6.3 PRIORITY.
    ("5.3", "HEADERS may carry a priority", [headers(1, GOOD, priority=(0, 200))], answers()),
    ("5.3", "a stream that depends on itself by HEADERS", [headers(1, GOOD, priority=(1, 200))], stream_error(1, PROTOCOL_ERROR)),
    ("5.3", "a stream that depends on itself by PRIORITY", [frame(PRIORITY, 0, 3, u32(3) + b"\x10")], stream_error(3, PROTOCOL_ERROR)),
    # 5.4.1 Errors.
    ("5.4.1", "GOAWAY of the client does not end what is under way", [get(1), frame(GOAWAY, 0, 0, u32(0) + u32(0))], answers()),
    # 5.5 Extensions.
    ("5.5", "an unknown setting is ignored", [settings((0x4242, 7))], goes_on),
    # 6.1 DATA.
    ("6.1", "DATA of stream 0", [frame(DATA, 0, 0, b"x")], connection_error(PROTOCOL_ERROR)),
    ("6.1", "padded DATA is taken", [post(1), frame(DATA, END_STREAM | PADDED, 1, b"\x05hello" + bytes(5))], answers()),
    ("6.1", "DATA that is padding alone is taken", [post(1), frame(DATA, END_STREAM | PADDED, 1, b"\x05" + bytes(5))], answers()),
    ("6.1", "more padding than there is", [post(1), frame(DATA, END_STREAM | PADDED, 1, b"\x06hello")], connection_error(PROTOCOL_ERROR)),
    ("6.1", "padding without its length", [post(1), frame(DATA, END_STREAM | PADDED, 1)], connection_error(PROTOCOL_ERROR, FRAME_SIZE_ERROR)),
    # 6.2 HEADERS.
    ("6.2", "HEADERS of stream 0", [get(0)], connection_error(PROTOCOL_ERROR)),
    ("6.2", "padded HEADERS are taken", [headers(1, GOOD, padding=9)], answers()),
    ("6.2", "HEADERS with padding and priority are taken", [headers(1, GOOD, padding=9, priority=(3, 1))], answers()),
    ("6.2", "more padding than there is", [frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, b"\xff" + GOOD)], connection_error(PROTOCOL_ERROR)),
    ("6.2", "a priority that is not there", [frame(HEADERS, END_STREAM | END_HEADERS | PRIORITY_FLAG, 1, b"\x00")], connection_error(PROTOCOL_ERROR, FRAME_SIZE_ERROR)),
    ("6.2", "HEADERS without fields", [headers(1, b"")], refuses()),
    # 6.3 PRIORITY.
    ("6.3", "PRIORITY of stream 0", [frame(PRIORITY, 0, 0, bytes(5))], connection_error(PROTOCOL_ERROR)),
    ("6.3", "PRIORITY of another length", [get(1, "/large"), frame(PRIORITY, 0, 1, bytes(4))], stream_error(1, FRAME_SIZE_ERROR)),
    # 6.4 RST_STREAM.
    ("6.4", "RST_STREAM of stream 0", [reset(0)], connection_error(PROTOCOL_ERROR)),
    ("6.4", "RST_STREAM of another length", [get(1, "/large"), frame(RST_STREAM, 0, 1, bytes(3))], connection_error(FRAME_SIZE_ERROR)),
    ("6.4", "an unknown error code is a code", [get(1, "/large"), reset(1, 0x4242)], goes_on),
    # 6.5 SETTINGS.
    ("6.5", "SETTINGS are acknowledged", [settings((3, 10)), acknowledged, acknowledged], goes_on),
    ("6.5", "an acknowledgement with a payload", [frame(SETTINGS, ACK, 0, bytes(6))], connection_error(FRAME_SIZE_ERROR)),
    ("6.5", "SETTINGS of a stream", [frame(SETTINGS, 0, 1, b"")], connection_error(PROTOCOL_ERROR)),
    ("6.5", "SETTINGS that are no multiple of six bytes", [frame(SETTINGS, 0, 0, bytes(5))], connection_error(FRAME_SIZE_ERROR)),
    ("6.5", "one setting may stand more than once", [settings((4, 1), (4, 65535)), get(1)], answers()),
    ("6.5.2", "ENABLE_PUSH beyond 1", [settings((2, 2))], connection_error(PROTOCOL_ERROR)),
    ("6.5.2", "INITIAL_WINDOW_SIZE beyond the largest window", [settings((4, 0x80000000))], connection_error(FLOW_CONTROL_ERROR)),
    ("6.5.2", "MAX_FRAME_SIZE below the least", [settings((5, 16383))], connection_error(PROTOCOL_ERROR)),
    ("6.5.2", "MAX_FRAME_SIZE beyond the most", [settings((5, 16777216))], connection_error(PROTOCOL_ERROR)),
    ("6.5.2", "MAX_CONCURRENT_STREAMS of 0 does not keep requests from their answers", [settings((3, 0)), get(1)], answers()),
    ("6.5.2", "HEADER_TABLE_SIZE of 0 is kept to", [settings((1, 0)), acknowledged, get(1)], answers()),
    ("6.5.2", "HEADER_TABLE_SIZE may be large", [settings((1, 0xFFFFFFFF)), get(1)], answers()),
    ("6.5.3", "an acknowledgement too many", [settings(ack=True), settings(ack=True), settings(ack=True)], ("either", goes_on, connection_error(PROTOCOL_ERROR))),
    # 6.6 PUSH_PROMISE.
    ("6.6", "a client that promises a push", [frame(PUSH_PROMISE, END_HEADERS, 1, u32(2) + GOOD)], connection_error(PROTOCOL_ERROR)),
    ("6.6", "one on a stream of its own", [get(1, "/large"), frame(PUSH_PROMISE, END_HEADERS, 1, u32(2) + GOOD)], connection_error(PROTOCOL_ERROR)),
    # 6.7 PING.
    ("6.7", "PING is answered with what it had", [frame(PING, 0, 0, b"abcdefgh"), lambda c: c.until(lambda kind, flags, of, payload: kind == PING and flags == ACK and payload == b"abcdefgh")], goes_on),
    ("6.7", "an answer that nobody asked for is ignored", [frame(PING, ACK, 0, PING8)], goes_on),
    ("6.7", "PING of a stream", [frame(PING, 0, 1, PING8)], connection_error(PROTOCOL_ERROR)),
    ("6.7", "PING of another length", [frame(PING, 0, 0, b"1234")], connection_error(FRAME_SIZE_ERROR)),
    # 6.8 GOAWAY.
    ("6.8", "GOAWAY of a stream", [frame(GOAWAY, 0, 1, bytes(8))], connection_error(PROTOCOL_ERROR)),
    ("6.8", "GOAWAY that is too short", [frame(GOAWAY, 0, 0, bytes(7))], connection_error(FRAME_SIZE_ERROR, PROTOCOL_ERROR)),
    ("6.8", "GOAWAY with a reason in words", [frame(GOAWAY, 0, 0, bytes(8) + b"bye"), get(1)], ("either", answers(), connection_error(NO_ERROR))),
    # 6.9 WINDOW_UPDATE.
    ("6.9", "an increment of 0 for the connection", [window(0, 0)], connection_error(PROTOCOL_ERROR)),
    ("6.9", "an increment of 0 for a stream", [get(1, "/large"), window(1, 0)], stream_error(1, PROTOCOL_ERROR)),
    ("6.9", "WINDOW_UPDATE of another length", [frame(WINDOW_UPDATE, 0, 0, bytes(3))], connection_error(FRAME_SIZE_ERROR)),
    ("6.9", "the reserved bit of an increment is ignored", [frame(WINDOW_UPDATE, 0, 0, u32(0x80000001))], goes_on),
    ("6.9.1", "a connection's window beyond the largest", [window(0, 0x7FFFFFFF), window(0, 0x7FFFFFFF)], connection_error(FLOW_CONTROL_ERROR)),
    ("6.9.1", "a stream's window beyond the largest", [("settings", (4, 0)), get(1, "/large"), window(1, 0x7FFFFFFF), window(1, 0x7FFFFFFF)], stream_error(1, FLOW_CONTROL_ERROR)),
    ("6.9.1", "a body beyond the connection's window", [post(1)] + [frame(DATA, 0, 1, bytes(16384))] * 40, ("either", goes_on, stream_error(1, FLOW_CONTROL_ERROR))),
    ("6.9.2", "SETTINGS change the windows of streams there are", [("settings", (4, 0)), get(1, "/large"), settings((4, 10)), lambda c: c.until(lambda kind, _, of, payload: kind == DATA and len(payload) == 10)], goes_on),
    ("6.9.2", "windows may become negative", [("settings", (4, 3)), get(1, "/large"), lambda c: c.until(lambda kind, _, of, payload: kind == DATA and len(payload) == 3), settings((4, 2)), window(1, 2), lambda c: c.until(lambda kind, _, of, payload: kind == DATA and len(payload) == 1)], goes_on),
    ("6.9.2", "a setting that takes a window beyond the largest", [("settings", (4, 10)), get(1, "/large"), lambda c: c.until(lambda kind, *_: kind == DATA), window(1, 0x7FFFFFFF), settings((4, 0x7FFFFFFF))], connection_error(FLOW_CONTROL_ERROR)),
    # 6.10 CONTINUATION.
    ("6.10", "a block over several frames is taken", [headers(1, GOOD[:20], END_STREAM), frame(CONTINUATION, 0, 1, GOOD[20:40]), frame(CONTINUATION, END_HEADERS, 1, GOOD[40:])], answers()),
    ("6.10", "a CONTINUATION without fields is taken", [headers(1, GOOD, END_STREAM), frame(CONTINUATION, END_HEADERS, 1, b"")], answers()),
    ("6.10", "CONTINUATION after the end of a block", [headers(1, GOOD, END_HEADERS), frame(CONTINUATION, END_HEADERS, 1, GOOD)], connection_error(PROTOCOL_ERROR)),
    ("6.10", "CONTINUATION of another stream", [headers(1, GOOD, END_STREAM), frame(CONTINUATION, END_HEADERS, 3, b"")], connection_error(PROTOCOL_ERROR)),
    ("6.10", "CONTINUATION of stream 0", [headers(1, GOOD, END_STREAM), frame(CONTINUATION, END_HEADERS, 0, b"")], connection_error(PROTOCOL_ERROR)),
    ("6.10", "CONTINUATION after DATA", [post(1), frame(DATA, 0, 1, b"x"), frame(CONTINUATION, END_HEADERS, 1, b"")], connection_error(PROTOCOL_ERROR)),
    # 7. Error codes.
    ("7", "an unknown code in GOAWAY is a code", [get(1), frame(GOAWAY, 0, 0, u32(0) + u32(0x4242))], ("either", answers(), connection_error(NO_ERROR, 0x4242))),
    # 8.1 Framing of messages.
    ("8.1", "a body in several frames is one", [post(1), frame(DATA, 0, 1, b"a"), frame(DATA, 0, 1), frame(DATA, END_STREAM, 1, b"b")], answers()),
    ("8.1", "trailers end a request", [post(1), frame(DATA, 0, 1, b"a"), headers(1, block(("x", "y")))], answers()),
    ("8.1", "a second block that does not end the stream", [post(1), frame(DATA, 0, 1, b"a"), headers(1, block(("x", "y")), END_HEADERS)], stream_error(1, PROTOCOL_ERROR)),
    ("8.1", "trailers with a pseudo-header field", [post(1), frame(DATA, 0, 1, b"a"), headers(1, block((":path", "/")))], trailers_dropped),
    ("8.1.1", "more body than its length says", [post(1, ("content-length", "1")), frame(DATA, END_STREAM, 1, b"ab")], refuses()),
    ("8.1.1", "less body than its length says", [post(1, ("content-length", "3")), frame(DATA, END_STREAM, 1, b"ab")], refuses()),
    ("8.1.1", "a length without a body", [headers(1, request("/", ("content-length", "3")))], refuses()),
    ("8.1.1", "a length over several frames", [post(1, ("content-length", "1")), frame(DATA, 0, 1, b"a"), frame(DATA, END_STREAM, 1, b"b")], refuses()),
    ("8.1.1", "two lengths", [post(1, ("content-length", "1"), ("content-length", "2")), frame(DATA, END_STREAM, 1, b"a")], refuses()),
    ("8.1.1", "a length that is right", [post(1, ("content-length", "2")), frame(DATA, END_STREAM, 1, b"ab")], answers()),
    # 8.2 Fields.
    ("8.2", "a name in capitals", [headers(1, request("/", ("X-Name", "a")))], refuses()),
    ("8.2.1", "a name with a space", [headers(1, request("/", ("x name", "a")))], refuses()),
    ("8.2.1", "a name with a colon", [headers(1, request("/", ("x:name", "a")))], refuses()),
    ("8.2.1", "an empty name", [headers(1, request("/", ("", "a")))], refuses()),
    ("8.2.1", "a name with NUL", [headers(1, request("/", ("x\0", "a")))], refuses()),
    ("8.2.1", "a name with a byte beyond ASCII", [headers(1, request("/", (b"x\x80", "a")))], refuses()),
    ("8.2.1", "a value with a line end", [headers(1, request("/", ("x", "a\r\nb: c")))], refuses()),
    ("8.2.1", "a value with LF", [headers(1, request("/", ("x", "a\nb")))], refuses()),
    ("8.2.1", "a value with CR", [headers(1, request("/", ("x", "a\rb")))], refuses()),
    ("8.2.1", "a value with NUL", [headers(1, request("/", ("x", "a\0b")))], refuses()),
    ("8.2.1", "a path with a line end", [headers(1, request("/ HTTP/1.1\r\nx: y"))], refuses()),
    ("8.2.2", "Connection", [headers(1, request("/", ("connection", "close")))], refuses()),
    ("8.2.2", "Transfer-Encoding", [headers(1, request("/", ("transfer-encoding", "chunked")))], refuses()),
    ("8.2.2", "Upgrade", [headers(1, request("/", ("upgrade", "h2c")))], refuses()),
    ("8.2.2", "Keep-Alive", [headers(1, request("/", ("keep-alive", "1")))], refuses()),
    ("8.2.2", "Proxy-Connection", [headers(1, request("/", ("proxy-connection", "close")))], refuses()),
    ("8.2.2", "TE with another value than trailers", [headers(1, request("/", ("te", "gzip")))], refuses()),
    ("8.2.2", "TE: trailers", [headers(1, request("/", ("te", "trailers")))], answers()),
    ("8.2.3", "a cookie in several fields", [headers(1, request("/", ("cookie", "a=b"), ("cookie", "c=d")))], answers()),
    # 8.3 Control data.
    ("8.3", "an unknown pseudo-header field", [headers(1, block((":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), (":x", "y")))], refuses()),
    ("8.3", "a pseudo-header field of responses", [headers(1, GOOD + block((":status", "200")))], refuses()),
    ("8.3", "a pseudo-header field after others", [headers(1, block((":method", "GET"), (":scheme", "http"), ("x", "y"), (":path", "/"), (":authority", "a")))], refuses()),
    ("8.3", "a pseudo-header field twice", [headers(1, GOOD + block((":path", "/")))], refuses()),
    ("8.3.1", "no method", [headers(1, block((":scheme", "http"), (":path", "/"), (":authority", "a")))], refuses()),
    ("8.3.1", "no scheme", [headers(1, block((":method", "GET"), (":path", "/"), (":authority", "a")))], refuses()),
    ("8.3.1", "no path", [headers(1, block((":method", "GET"), (":scheme", "http"), (":authority", "a")))], refuses()),
    ("8.3.1", "an empty path", [headers(1, request(""))], refuses()),
    ("8.3.1", "an empty method", [headers(1, request(method=""))], refuses()),
    ("8.3.1", "a method twice", [headers(1, block((":method", "GET")) + GOOD)], refuses()),
    ("8.3.1", "a path without a slash", [headers(1, request("a"))], refuses()),
    ("8.3.1", "OPTIONS of *", [headers(1, request("*", method="OPTIONS"))], answers()),
    ("8.3.1", "an authority with a user", [headers(1, request(authority="u@shop.test"))], refuses()),
    ("8.3.1", "no authority and no Host", [headers(1, block((":method", "GET"), (":scheme", "http"), (":path", "/")))], refuses()),
    ("8.3.1", "Host in place of an authority", [headers(1, block((":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "shop.test")))], answers()),
    ("8.3.1", "Host that says another", [headers(1, request("/", ("host", "other.test")))], refuses()),
    ("8.3.1", "Host that says the same", [headers(1, request("/", ("host", "shop.test")))], answers()),
    ("8.3.1", "two Hosts", [headers(1, request("/", ("host", "shop.test"), ("host", "other.test")))], refuses()),
    ("8.5", "CONNECT with a path", [headers(1, request("/", method="CONNECT"))], refuses()),
    ("8.5", "CONNECT with an authority alone is not served", [headers(1, block((":method", "CONNECT"), (":authority", "a:443")), END_HEADERS)], refuses()),
    ("8.5", "extended CONNECT was not offered", [headers(1, request("/", (":protocol", "websocket"), method="CONNECT"), END_HEADERS)], refuses()),
    ("8.1.1", "HEAD has no body", [headers(1, request(method="HEAD"))], answers()),
    # RFC 7541.
    ("7541 2.3.3", "indexed fields of the static table", [headers(1, b"\x82\x86\x84" + block((":authority", "shop.test")))], answers()),
    ("7541 2.3.2", "indexed fields of the dynamic table", [headers(1, b"\x82\x86\x84" + block((":authority", "shop.test")) + field("x", "y", 0x40)), answered(1), headers(3, b"\x82\x86\x84" + block((":authority", "shop.test")) + b"\xbe")], answers(3)),
    ("7541 2.3.3", "an index beyond both tables", [headers(1, GOOD + b"\xfe")], undecodable),
    ("7541 6.1", "index 0", [headers(1, GOOD + b"\x80")], undecodable),
    ("7541 6.2.3", "fields that are never indexed", [headers(1, GOOD + field("authorization", "secret", 0x10))], answers()),
    ("7541 5.1", "an integer without end", [headers(1, GOOD + b"\x7f" + b"\xff" * 20)], undecodable),
    ("7541 5.2", "a string longer than its block", [headers(1, GOOD + b"\x00\x05ab")], undecodable),
    ("7541 5.2", "Huffman padding of more than seven bits", [headers(1, GOOD + b"\x00\x01x\x82\xff\xff")], undecodable),
    ("7541 5.2", "Huffman padding that is not ones", [headers(1, GOOD + b"\x00\x01x\x81\x00")], undecodable),
    ("7541 5.2", "Huffman with the end of string", [headers(1, GOOD + b"\x00\x01x\x84\xff\xff\xff\xff")], undecodable),
    ("7541 4.2", "a change of the table's size at the beginning", [headers(1, b"\x20" + GOOD)], answers()),
    ("7541 4.2", "two changes at the beginning", [headers(1, b"\x20\x3f\x01" + GOOD)], answers()),
    ("7541 4.2", "a change of the table's size at the end", [headers(1, GOOD + b"\x20")], undecodable),
    ("7541 6.3", "a change beyond what was offered", [headers(1, integer(65536, 5, 0x20) + GOOD)], undecodable),
    ("7541 4.4", "a field larger than the table empties it", [headers(1, GOOD + field("x", "y" * 5000, 0x40)), answered(1), headers(3, GOOD + b"\xbe")], undecodable),
    # 10.5 What takes resources.
    ("10.5.1", "a head larger than SETTINGS say", [headers(1, request("/", ("x", "a" * 16000)), 0)] + [frame(CONTINUATION, 0, 1, block(("x", "a" * 16000)))] * 2 + [frame(CONTINUATION, END_HEADERS | END_STREAM, 1, b"")], refuses()),
    ("10.5", "a head without end", [headers(1, GOOD, 0)] + [frame(CONTINUATION, 0, 1, block(("x", "a" * 1000)))] * 500, connection_error(ENHANCE_YOUR_CALM, COMPRESSION_ERROR, PROTOCOL_ERROR)),
    ("10.5", "empty CONTINUATION without end", [headers(1, GOOD, 0)] + [frame(CONTINUATION, 0, 1, b"")] * 500, connection_error(ENHANCE_YOUR_CALM)),
    ("10.5", "empty DATA without end", [post(1)] + [frame(DATA, 0, 1, b"")] * 5000, connection_error(ENHANCE_YOUR_CALM)),
    ("10.5", "PING without end", [frame(PING, 0, 0, PING8)] * 5000, connection_error(ENHANCE_YOUR_CALM)),
    ("10.5", "SETTINGS without end", [settings((4, 65535))] * 5000, connection_error(ENHANCE_YOUR_CALM)),
    ("10.5", "PRIORITY without end", [frame(PRIORITY, 0, 1, u32(0) + b"\x10")] * 5000, connection_error(ENHANCE_YOUR_CALM)),
    ("10.5", "WINDOW_UPDATE without end", [window(0, 1)] * 5000, connection_error(ENHANCE_YOUR_CALM)),
]
