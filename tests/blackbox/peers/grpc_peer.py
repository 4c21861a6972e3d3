"""A gRPC server and a client of it, over bytes: one call of each kind, errors, metadata. `serve` prints its port; `call PORT` prints one
line for each call, and what went wrong."""

import sys
from concurrent import futures

import grpc

SERVICE = "shop.Echo"


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Fails": grpc.unary_unary_rpc_method_handler(self.fails),
            "Server": grpc.unary_stream_rpc_method_handler(self.several),
            "Client": grpc.stream_unary_rpc_method_handler(self.together),
            "Both": grpc.stream_stream_rpc_method_handler(self.each),
        }
        return kinds.get(details.method.rsplit("/", 1)[-1])

    def unary(self, request, context):
        said = dict(context.invocation_metadata())
        context.send_initial_metadata((("x-initial", said.get("x-asked", "")),))
        context.set_trailing_metadata((("x-behind", "1"), ("x-bytes-bin", b"\x00\xff")))
        return request

    def fails(self, request, context):
        context.set_trailing_metadata((("x-behind", "2"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: ü")

    def several(self, request, context):
        for place in range(5):
            yield request + str(place).encode()

    def together(self, requests, context):
        return b",".join(requests)

    def each(self, requests, context):
        for request in requests:
            yield request.upper()


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


def call(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = lambda kind, name: getattr(channel, kind)(f"/{SERVICE}/{name}")
        # gRPC's frames around a message without fields but one of text: tag 1, length, text.
        text = lambda words: b"\x0a" + bytes([len(words)]) + words
        answer, done = method("unary_unary", "Unary").with_call(
            text(b"hello"), metadata=(("x-asked", "yes"),), timeout=20)
        trailing = dict(done.trailing_metadata())
        print("unary", answer == text(b"hello"), dict(done.initial_metadata())["x-initial"], trailing["x-behind"],
              trailing["x-bytes-bin"])
        try:
            method("unary_unary", "Fails")(text(b"x"), timeout=20)
        except grpc.RpcError as error:
            print("fails", error.code().name, error.details(), dict(error.trailing_metadata())["x-behind"])
        print("server", [len(part) for part in method("unary_stream", "Server")(text(b"y"), timeout=20)])
        print("client", len(method("stream_unary", "Client")(iter([text(b"a"), text(b"b"), text(b"c")]), timeout=20)))
        # Each message is sent when the one before was answered.
        turns = iter([text(b"one"), text(b"two"), text(b"three")])
        import queue
        said = queue.Queue()
        answers = method("stream_stream", "Both")(iter(said.get, None), timeout=20)
        got = []
        for turn in turns:
            said.put(turn)
            got.append(next(answers)[2:].decode())
        said.put(None)
        print("both", got, next(answers, "end"))
        try:
            method("unary_unary", "Unary")(text(b"' UNION SELECT password FROM users-- "), timeout=20)
            print("attack passed")
        except grpc.RpcError as error:
            print("attack", error.code().name, error.details().split(".")[0])


def dead(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            channel.unary_unary(f"/{SERVICE}/Unary")(b"", timeout=20)
        except grpc.RpcError as error:
            print("dead", error.code().name, error.details().split(".")[0])


if __name__ == "__main__":
    {"serve": serve, "call": lambda: call(sys.argv[2]), "dead": lambda: dead(sys.argv[2])}[sys.argv[1]]()
