// A page of another origin loads three attack-shaped images from a protected app: its visitor must not be banned.
// The same three requests sent by a script from one address must lead to a ban.
//
//   node tests/browser/crosssite.mjs PHALANX_BINARY

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { check, listen, firstLine } from "./lab.mjs";

const require = createRequire(new URL("../../console/package.json", import.meta.url));
const { chromium } = require("playwright-core");

const binary = process.argv[2];
const work = mkdtempSync(join(tmpdir(), "crosssite-"));
const payloads = ["<script>alert(1)</script>", "<img src=x onerror=alert(2)>", "<svg onload=alert(3)>"];
let node;
let browser;

try {
  const app = await listen((request, response) => response.end("app"));
  node = spawn(binary, ["up", "--to", app, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--json",
    "--state", join(work, "state"), "--operator", "203.0.113.0/24"], { stdio: ["ignore", "pipe", "inherit"] });
  const ready = JSON.parse(await firstLine(node.stdout));
  const protectedUrl = ready.listen;
  const base = protectedUrl.startsWith("http") ? protectedUrl : `http://${protectedUrl}`;

  const images = payloads.map((p) => `<img src="${base}/?q=${encodeURIComponent(p)}">`).join("");
  const elsewhere = await listen((request, response) => {
    response.setHeader("content-type", "text/html");
    response.end(`<!doctype html><title>elsewhere</title>${images}`);
  });
  browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  const page = await browser.newPage();
  await page.goto(elsewhere.replace("127.0.0.1", "localhost"), { waitUntil: "load" });
  // The browser hides a refused image from the page and from us (opaque response blocking): ask the node.
  const refused = await until("the node has recorded three refusals", async () => {
    const events = await recorded(ready);
    return events.length === 3 && events;
  });
  check("the three images were refused", refused.every((event) => event.status === 403 && event.reason.kind === "rule"));
  check("the visitor is not banned", (await fetch(base)).status === 200);

  for (const payload of payloads) await fetch(`${base}/?q=${encodeURIComponent(payload)}`);
  await until("the script's address is banned", async () => (await fetch(base)).status === 403);
  check("the script's address is banned", true);
} finally {
  await browser?.close();
  node?.kill("SIGTERM");
  // A node that stops writes its state: the folder goes when the node is gone.
  if (node?.exitCode === null) await once(node, "exit");
  rmSync(work, { recursive: true, force: true });
}
process.exit();

/** What the node has recorded of refused requests. */
async function recorded({ admin, token_file }) {
  const headers = { authorization: `Bearer ${readFileSync(token_file, "utf8").trim()}` };
  return (await fetch(`http://${admin}/api/v1/events`, { headers })).json();
}

async function until(what, condition) {
  const deadline = Date.now() + 5_000;
  while (Date.now() < deadline) {
    // A ban closes its actor's connections, so a request may be cut off: not yet an answer.
    const answer = await condition().catch(() => false);
    if (answer) return answer;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`in vain waited until ${what}`);
}
