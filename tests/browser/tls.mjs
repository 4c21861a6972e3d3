// Over HTTPS a browser agrees on HTTP/2 and on a post-quantum key exchange, and reads what the node compressed with each coding.
//
//   node tests/browser/tls.mjs PHALANX_BINARY

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { check, listen } from "./lab.mjs";

const require = createRequire(new URL("../../console/package.json", import.meta.url));
const { chromium } = require("playwright-core");

const work = mkdtempSync(join(tmpdir(), "browser-tls-"));
const codings = ["zstd", "br", "gzip"];
const text = "a page that is worth compressing ".repeat(2_000);
let node;
let browser;

try {
  const app = await listen((request, response) => {
    response.setHeader("content-type", "text/html; charset=utf-8");
    // In pieces, so that what the node sends has flushes in it.
    response.write(`<!doctype html><title>app</title><p>${text.slice(0, 40_000)}`);
    setImmediate(() => response.end(text.slice(40_000)));
  });
  const file = (name) => join(work, name);
  execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
    "-subj", "/CN=shop.test", "-addext", "subjectAltName=DNS:*.shop.test", "-keyout", file("key.pem"), "-out", file("cert.pem")],
  { stdio: "ignore" });
  writeFileSync(file("phalanx.toml"), `policy = "policy.toml"\nnode.state = "state"\nlisten.admin = "127.0.0.1:0"
[[listen.tls]]\naddress = "127.0.0.1:0"\n[[certificate]]\ncert = "cert.pem"\nkey = "key.pem"\n`);
  writeFileSync(file("policy.toml"), codings.map((coding) => `[[apps]]\nname = "${coding}"\nhosts = ["${coding}.shop.test"]
upstream = "${app}"\nmode = "off"\ncompression = { codings = ["${coding}"] }\n`).join(""));
  node = spawn(process.argv[2], ["run", "-c", file("phalanx.toml")], { stdio: ["ignore", "pipe", "inherit"], cwd: work });
  const port = await httpsPort(node.stdout);

  browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
      `--host-resolver-rules=MAP *.shop.test 127.0.0.1:${port}`],
  });
  const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("Network.enable");
  for (const coding of codings) {
    const documents = [];
    const note = ({ type, response }) => type === "Document" && documents.push(response);
    cdp.on("Network.responseReceived", note);
    await page.goto(`https://${coding}.shop.test/`, { waitUntil: "load" });
    cdp.off("Network.responseReceived", note);
    const { protocol, securityDetails, headers } = documents[0];
    const group = securityDetails.keyExchangeGroup;
    check("HTTP/2 over TLS 1.3", protocol === "h2" && securityDetails.protocol === "TLS 1.3", `${protocol}, ${securityDetails.protocol}`);
    check("the key exchange is post-quantum", group === "X25519MLKEM768", group);
    check(`the page came with ${coding}`, headers["content-encoding"] === coding);
    const shown = await page.evaluate(() => document.querySelector("p").textContent);
    check("the page is whole", shown === text, `${shown.length} characters`);
  }
} finally {
  await browser?.close();
  node?.kill("SIGTERM");
  if (node?.exitCode === null) await once(node, "exit");
  rmSync(work, { recursive: true, force: true });
}
process.exit();

/** The port that the node says it serves HTTPS on. */
async function httpsPort(stream) {
  for await (const line of createInterface({ input: stream })) {
    const said = line.match(/https:\/\/127\.0\.0\.1:(\d+)/);
    if (said) return said[1];
  }
  throw new Error("the node ended before it was ready");
}
