// A visitor under a challenge: the page works by itself and leads to what was asked for; the same without scripts; nothing that axe finds
// serious, in light and dark, and nothing that the page's own policy stops. Pictures go to target/screenshots.
//
//   node tests/browser/challenge.mjs PHALANX_BINARY

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { check, listen, firstLine } from "./lab.mjs";

const require = createRequire(new URL("../../console/package.json", import.meta.url));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const shots = fileURLToPath(new URL("../../target/screenshots/", import.meta.url));
mkdirSync(shots, { recursive: true });

const binary = process.argv[2];
const work = mkdtempSync(join(tmpdir(), "challenge-"));
const state = join(work, "state");
let node;
let browser;

try {
  const asked = [];
  const app = await listen((request, response) => {
    if (request.url !== "/favicon.ico") asked.push(request.url);
    response.setHeader("content-type", "text/html");
    response.end("<!doctype html><html lang=en><title>app</title><p>served</p>");
  });
  node = spawn(binary, ["up", "--to", app, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--json", "--state", state,
    "--trust-forwarded", "127.0.0.1/32"], { stdio: ["ignore", "pipe", "inherit"] });
  const ready = JSON.parse(await firstLine(node.stdout));
  const base = ready.listen.startsWith("http") ? ready.listen.replace(/\/$/, "") : `http://${ready.listen}`;
  execFileSync(binary, ["decision", "add", "--prefix", "192.0.2.0/24", "--kind", "challenge", "--for", "1h", "--reason", "a test",
    "--state", state]);
  browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });

  // It works.
  {
    const { page, faults, close } = await visit("192.0.2.1");
    const started = Date.now();
    const first = await page.goto(`${base}/private?x=1&y=%2F#part`);
    await page.getByText("served").waitFor();
    check("the first answer is a challenge", first.status() === 403 && first.headers()["x-phalanx-challenge"] === "required");
    check("what was asked for is there, with its fragment", page.url() === `${base}/private?x=1&y=%2F#part`, page.url());
    check("it took no longer than a moment", Date.now() - started < 10_000, `${Date.now() - started} ms`);
    check("nothing but the app's page was asked of the app", asked.join() === "/private?x=1&y=%2F", asked.join());
    const entries = await page.evaluate(() => history.length);
    const second = await page.goto(`${base}/again`);
    check("once is enough", second.status() === 200);
    const [cookie] = await page.context().cookies();
    check("the cookie is for the node alone", cookie.httpOnly && cookie.sameSite === "Lax" && !(await page.evaluate(() => document.cookie)));
    check("the way there left no step in the history", entries <= 2, `${entries}`);
    check("the page's policy stopped nothing", faults.length === 0, faults.join("; "));
    await close();
  }

  // It can be read, by anybody, in their language.
  for (const [colorScheme, locale, title] of [["light", "en-GB", "One moment, please"], ["dark", "de-CH", "Einen Moment, bitte"]]) {
    const { page, close } = await visit("192.0.2.2", { colorScheme, locale });
    // What leads on leads nowhere, so that the page stays.
    await page.route("**/.phalanx/challenge?*", (route) => route.fulfill({ status: 204 }));
    await page.goto(`${base}/`, { waitUntil: "domcontentloaded" });
    check(`${locale} is spoken`, (await page.locator("h1").textContent()) === title);
    for (const view of ["works", "", "stuck"]) {
      await page.evaluate((view) => { document.documentElement.className = view; }, view);
      const name = `challenge-${colorScheme}-${view || "waits"}`;
      await page.screenshot({ path: join(shots, `${name}.png`) });
      const { violations } = await page.evaluate(`${axe}; axe.run()`);
      const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
      check(`axe finds nothing serious in ${name}`, serious.length === 0, serious.map(({ id }) => id).join());
    }
    await page.setViewportSize({ width: 320, height: 640 });
    check("it fits a small screen", await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    await close();
  }

  // Without scripts there is a button.
  {
    const { page, close } = await visit("192.0.2.3", { javaScriptEnabled: false });
    await page.goto(`${base}/plain?x=1`);
    await page.screenshot({ path: join(shots, "challenge-without-scripts.png") });
    const started = Date.now();
    await page.getByRole("button", { name: "Continue" }).press("Enter");
    await page.getByRole("alert").waitFor();
    check("too early is told", (await page.getByRole("alert").textContent()).includes("a little early"));
    await until("waiting is enough", async () => {
      await page.getByRole("button", { name: "Continue" }).click();
      return (await page.content()).includes("served");
    });
    check("it had to wait", Date.now() - started > 4_000, `${Date.now() - started} ms`);
    check("and has what it asked for", page.url() === `${base}/plain?x=1`, page.url());
    await close();
  }

  // Who keeps no cookies is told, not sent round and round.
  {
    const { page, close } = await visit("192.0.2.4");
    await page.route("**/.phalanx/challenge?*", (route) => route.fulfill({ status: 303, headers: { location: `${base}/` } }));
    await page.goto(`${base}/`).catch(() => {});
    await page.getByText("keeps no cookies").waitFor();
    check("who keeps no cookies is told", true);
    await close();
  }
} finally {
  await browser?.close();
  node?.kill("SIGTERM");
  if (node?.exitCode === null) await once(node, "exit");
  rmSync(work, { recursive: true, force: true });
}
process.exit();

/** A visitor of their own, from an address. */
async function visit(client, options = {}) {
  const context = await browser.newContext({ extraHTTPHeaders: { "X-Forwarded-For": client }, ...options });
  const page = await context.newPage();
  const faults = [];
  page.on("console", (line) => line.type() === "error" && !line.text().includes("403") && faults.push(line.text()));
  page.on("pageerror", (error) => faults.push(error.message));
  return { page, faults, close: () => context.close() };
}

async function until(what, condition) {
  const deadline = Date.now() + 20_000;
  while (Date.now() < deadline) {
    const answer = await condition().catch(() => false);
    if (answer) return answer;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error(`in vain waited until ${what}`);
}
