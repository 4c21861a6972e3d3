// An application on Node that answers in every way that HTTP has. Arguments: port (0 for any), protocol (http, https, h2c or h2), and
// certificate and key for TLS. Prints its port.
const [port, protocol, cert, key] = process.argv.slice(2);
const crypto = require("node:crypto");
const fs = require("node:fs");
const tls = cert && { cert: fs.readFileSync(cert), key: fs.readFileSync(key), allowHTTP1: true };
const page = Buffer.from("0123456789".repeat(200));
const waiting = [];

const ways = {
  "/static/page.txt": (request, response) => {
    const fields = { "content-type": "text/plain", etag: '"one"', "accept-ranges": "bytes" };
    if (request.headers["if-none-match"] === '"one"') {
      response.writeHead(304, fields).end();
      return;
    }
    const asked = /^bytes=(\d*)-(\d*)$/.exec(request.headers.range ?? "");
    if (asked) {
      const from = asked[1] ? Number(asked[1]) : page.length - Number(asked[2]);
      const to = asked[1] && asked[2] ? Number(asked[2]) : page.length - 1;
      if (from >= page.length) {
        response.writeHead(416, { "content-range": `bytes */${page.length}`, "content-length": 0 }).end();
        return;
      }
      const part = page.subarray(from, to + 1);
      fields["content-range"] = `bytes ${from}-${to}/${page.length}`;
      response.writeHead(206, { ...fields, "content-length": part.length }).end(part);
      return;
    }
    response.writeHead(200, { ...fields, "content-length": page.length });
    response.end(request.method === "HEAD" ? undefined : page);
  },
  "/app/echo": async (request, response) => {
    const hash = crypto.createHash("sha256");
    let length = 0;
    for await (const chunk of request) {
      hash.update(chunk);
      length += chunk.length;
    }
    response.end(`${request.method} ${length} ${hash.digest("hex")}\n`);
  },
  "/app/chunked": async (request, response) => {
    for (let at = 0; at < 50; at += 1) {
      response.write(`${at} `.repeat(at + 1));
      await new Promise(setImmediate);
    }
    response.end();
  },
  "/app/trailers": (request, response) => {
    response.writeHead(200, { trailer: "x-sum" });
    response.write("a body");
    response.addTrailers({ "x-sum": "42" });
    response.end();
  },
  "/app/hints": (request, response) => {
    response.writeEarlyHints({ link: "</a.css>; rel=preload" });
    response.end("hinted");
  },
  "/app/events": (request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write("data: 1\n\n");
    waiting.push(response);
  },
  "/app/release": (request, response) => {
    waiting.splice(0).forEach((one) => one.end("data: 2\n\n"));
    response.end("released");
  },
  "/app/cut": (request, response) => {
    response.writeHead(200, { "content-length": 1000 });
    response.write("only this", () => end(response));
  },
  "/app/cut-chunked": (request, response) => {
    response.write("only this", () => end(response));
  },
  // Which connection it came on.
  "/app/peer": (request, response) => response.end(`${request.socket.remotePort}`),
  "/app/none": (request, response) => response.writeHead(204).end(),
};

// A little later, so that what was written is on its way.
const end = (response) => setTimeout(() => (response.stream ?? response.socket).destroy(new Error("cut")), 20);

const answer = (request, response) => {
  response.on("error", () => {});
  request.on("error", () => {});
  // What says nothing of itself is guessed at on the way, now so, now otherwise.
  response.setHeader("content-type", "text/plain");
  const way = ways[request.url.split("?")[0]];
  if (way) {
    way(request, response);
  } else {
    response.writeHead(404).end("no such page");
  }
};

// A WebSocket's handshake, after which every byte comes back.
const upgraded = (request, socket) => {
  const digest = crypto.createHash("sha1");
  digest.update(`${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`);
  socket.write(
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
      `Sec-WebSocket-Accept: ${digest.digest("base64")}\r\n\r\n`,
  );
  socket.on("error", () => {});
  socket.pipe(socket);
};

const server = {
  http: () => require("node:http").createServer(answer),
  https: () => require("node:https").createServer(tls, answer),
  h2c: () => require("node:http2").createServer(answer),
  h2: () => require("node:http2").createSecureServer(tls, answer),
}[protocol]();
server.on("upgrade", upgraded);
server.on("sessionError", () => {});
server.keepAliveTimeout = 60_000;
server.listen(Number(port), "127.0.0.1", () => console.log(server.address().port));
