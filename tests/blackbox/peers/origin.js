// An application on Node: HTTP/2 and HTTP/1.1 with TLS, or HTTP/1.1 without. Arguments: name, and certificate and key for TLS. Prints
// its port.
const [name, cert, key] = process.argv.slice(2);
const fs = require("node:fs");
const answer = (request, response) => {
  if (request.url === "/events") {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write("data: 1\n\n");
    setTimeout(() => response.end("data: 2\n\n"), 50);
    return;
  }
  if (request.url === "/hints" && response.stream) {
    response.stream.additionalHeaders({ ":status": 103, link: "</a.css>" });
  }
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    if (response.stream && request.url === "/trailers") {
      response.setTrailer("x-sum", "1");
      response.end("body");
      return;
    }
    response.setHeader("x-version", request.httpVersion);
    response.setHeader("x-name", name);
    response.end(request.method === "HEAD" ? "" : `${request.url} ${Buffer.concat(chunks).length}`);
  });
};
const server = cert
  ? require("node:http2").createSecureServer(
      { cert: fs.readFileSync(cert), key: fs.readFileSync(key), allowHTTP1: true },
      answer,
    )
  : require("node:http").createServer(answer);
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
