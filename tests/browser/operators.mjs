// The first owner, from nothing to a passkey; then signed out and in again, with the passkey, and with a password and a code.
// Chromium has an authenticator of its own for that.
//
//   node tests/browser/operators.mjs PHALANX_BINARY

import { execFileSync, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { check, chromium, firstLine, listen, SHOTS as shots, withAuthenticator } from "./lab.mjs";

const binary = process.argv[2];
const work = mkdtempSync(join(tmpdir(), "operators-"));
const state = join(work, "state");
let node;
let browser;

try {
  mkdirSync(shots, { recursive: true });
  const app = await listen((request, response) => response.end("app"));
  node = spawn(binary, ["up", "--to", app, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--json",
    "--state", state], { stdio: ["ignore", "pipe", "inherit"] });
  const ready = JSON.parse(await firstLine(node));
  browser = await chromium();

  // Without a command: by the link that the node itself told when it started.
  const { page } = await newPage();
  const started = Date.now();
  await page.goto(ready.console);
  await page.getByLabel("Your name").fill("alice");
  await page.screenshot({ path: join(shots, "first-owner.png") });
  await page.getByRole("button", { name: "Make the owner’s account" }).click();
  await page.getByRole("heading", { name: "How will you sign in?" }).waitFor();
  await page.screenshot({ path: join(shots, "enrol.png") });
  await page.getByRole("button", { name: "Make a passkey" }).click();
  await page.getByRole("contentinfo").waitFor();
  check(`the first owner has a passkey and the console after ${Date.now() - started} ms`, true);
  check("nobody is asked to make the first account again", (await page.getByLabel("Your name").count()) === 0);

  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in", exact: true }).waitFor();
  await page.screenshot({ path: join(shots, "sign-in.png") });
  await page.getByRole("button", { name: "Sign in with a passkey" }).click();
  await page.getByRole("contentinfo").waitFor();
  const me = await page.evaluate(() => fetch("/api/v1/me").then((answer) => answer.json()));
  check("the passkey signs in as alice, an owner", me.account.name === "alice" && me.role === "owner");

  // Tabs of one browser have one session, whoever's it is.
  const beside = await page.context().newPage();
  await beside.goto(page.url());
  await beside.getByRole("contentinfo").waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await beside.getByRole("heading", { name: "Sign in", exact: true }).waitFor();
  check("who signs out in one tab is signed out in the other", true);
  const link = new URL(JSON.parse(execFileSync(binary, ["login", "--json", "--state", state])).url);
  await beside.goto(new URL(page.url()).origin + link.pathname + link.search);
  await page.getByRole("contentinfo").waitFor();
  check("who comes in by a link in one tab is in the other, and not as who was there before", (await page.getByRole("banner").getByText("alice").count()) === 0);
  await beside.close();

  const second = (await newPage()).page;
  await second.goto(invite("bob", "viewer"));
  await second.getByRole("button", { name: "Set up an app" }).click();
  const secret = await second.locator(".key code").innerText();
  const password = "correct horse battery";
  await second.getByLabel("Code that the app shows").fill(code(secret, -1));
  await second.getByRole("textbox", { name: /^Password/ }).fill(password);
  await second.getByRole("button", { name: "Set the password" }).click();
  await second.getByRole("heading", { name: "Keep these codes" }).waitFor();
  check("ten recovery codes are shown", (await second.locator(".codes li").count()) === 10);
  await second.getByRole("button", { name: "I have kept them" }).click();
  await second.getByRole("contentinfo").waitFor();
  await second.getByRole("button", { name: "Sign out" }).click();
  for (const [shown, right] of [["000000", false], [code(secret, 0), true]]) {
    await second.getByRole("textbox", { name: "Name" }).fill("bob");
    await second.getByRole("textbox", { name: "Password" }).fill(password);
    await second.getByLabel(/^Code of your app/).fill(shown);
    await second.getByRole("button", { name: "Sign in with a password" }).click();
    await (right ? second.getByRole("contentinfo") : second.getByRole("alert")).waitFor();
    check(right ? "password and code sign in" : "a password without the code does not", true);
  }
  const refused = await second.evaluate(() =>
    fetch("/api/v1/policy/reload", { method: "POST" }).then((answer) => answer.status));
  check("a viewer changes nothing", refused === 403);
  execFileSync(binary, ["operator", "disable", "bob", "--state", state]);
  await second.getByRole("heading", { name: "Sign in", exact: true }).waitFor();
  check("who is disabled loses the console at once", true);
} finally {
  await browser?.close();
  if (node) {
    node.kill("SIGTERM");
    if (node.exitCode === null) await once(node, "exit");
  }
  rmSync(work, { recursive: true, force: true });
}
process.exit();

function invite(name, role) {
  const made = execFileSync(binary, ["operator", "add", name, "--role", role, "--json", "--state", state]);
  return JSON.parse(made).url;
}

/** A page in a browser with an authenticator that verifies its user. */
async function newPage() {
  const context = await browser.newContext();
  const page = await context.newPage();
  await withAuthenticator(context, page);
  return { page };
}

/** What an app shows (RFC 6238), some steps from now. */
function code(base32, steps) {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  const bits = [...base32].map((one) => alphabet.indexOf(one).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + steps));
  const tag = createHmac("sha1", key).update(counter).digest();
  const at = tag[19] & 15;
  return String((tag.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}
