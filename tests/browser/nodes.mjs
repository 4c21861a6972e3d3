// What an owner does about nodes, in the console of a real fleet with an authority of its own: invites one, which joins with the token
// that was shown; lets it admit nodes of its site; drains it and sets it to work; evicts it when it is dead; ends its membership.
//
//   node tests/browser/nodes.mjs PHALANX_BINARY [NATS_SERVER]

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

import { check, chromium, firstLine, freePort, listen, SHOTS, until, withAuthenticator } from "./lab.mjs";

const phalanx = resolve(process.argv[2]);
const natsServer = process.argv[3] ?? process.env.PHALANX_NATS_SERVER ?? "nats-server";
const work = mkdtempSync(join(tmpdir(), "nodes-"));
const children = [];
let browser;

try {
  mkdirSync(SHOTS, { recursive: true });
  const app = await listen((request, response) => response.end("app"));
  const authority = join(work, "fra");
  run(["fleet", "init", "--fleet-id", "shops", "--json", "--state", authority]);
  const nats = await startNats(authority);
  const fra = await up("fra", "a", app, ["--fleet", nats, "--enroll", "127.0.0.1:0"]);
  await until("the authority's node is linked", () => cli(fra, ["status"]).fleet.connected);

  browser = await chromium();
  const { page, base } = await signIn(fra, "ann");
  await page.goto(`${base}/#/fleet`);
  await page.getByRole("button", { name: "Invite a node" }).click();
  const form = page.getByRole("form", { name: "Invite a node" });
  await form.getByLabel("Site").fill("syd");
  await form.getByLabel("As").selectOption("control node");
  await form.getByRole("button", { name: "Invite" }).click();
  const token = await page.getByText(/^phxjoin/).innerText();
  let syd = await up("syd", "b", app, ["--join", token, "--enroll", "127.0.0.1:0"]);
  await page.getByRole("button", { name: "I have it" }).click();
  const row = page.getByRole("region", { name: "Nodes" }).getByRole("listitem").filter({ hasText: "syd/b" });
  await row.getByText("online").waitFor();
  check("a node joins with the token that the console showed", true);

  await page.getByRole("button", { name: "Let a site admit nodes" }).click();
  await page.getByRole("form", { name: "Let a site admit nodes" }).getByRole("button", { name: "Delegate" }).click();
  const delegate = page.getByRole("region", { name: "Members" }).getByRole("listitem").filter({ hasText: "syd/b" });
  await delegate.getByText("admits nodes of syd").waitFor({ timeout: 60_000 });
  check("it fetches the delegation that was given in the console", true);
  await page.screenshot({ path: join(SHOTS, "nodes-delegate.png"), fullPage: true });
  await order(delegate, "End the delegation of syd/b");
  await page.getByText("None: while this node is away").waitFor();
  check("and loses it there", true);

  check("the node is ready", (await readiness(syd)).status === 200);
  await order(row, "Drain syd/b", "new kernel");
  await row.getByText(/drain(ing|ed): new kernel/).waitFor();
  await until("it is not ready", async () => (await readiness(syd)).status === 503);
  const { reasons } = await (await readiness(syd)).json();
  check("drained in the console, it says so to balancers", ["draining", "drained"].includes(reasons[0]), reasons.join());
  await page.screenshot({ path: join(SHOTS, "nodes-drained.png"), fullPage: true });
  await order(row, "Set to work syd/b");
  await until("it is ready", async () => (await readiness(syd)).status === 200);
  await row.getByText("serving", { exact: true }).waitFor();
  check("set to work, it is ready again", true);

  await order(row, "Cordon syd/b", "looks odd");
  await until("it is not ready", async () => (await readiness(syd)).status === 503);
  await order(row, "Set to work syd/b");
  await until("it is ready", async () => (await readiness(syd)).status === 200);
  check("cordoned and back", true);

  syd.child.kill("SIGKILL");
  await once(syd.child, "exit");
  await row.getByText(/^silent for/).waitFor();
  await order(row, "Evict syd/b");
  await row.waitFor({ state: "detached" });
  check("dead and evicted, it is counted no more", cli(fra, ["status"]).fleet.members.length === 1);
  syd = await up("syd", "b", app, ["--enroll", "127.0.0.1:0"]);
  await row.getByText("online").waitFor();
  check("heard again, it is counted again", true);

  await order(row, "Revoke syd/b", "the machine was stolen");
  await until("it is no member", () => cli(fra, ["status"]).fleet.members.length === 1);
  await until("its link is cut", () => !cli(syd, ["status"]).fleet.connected);
  const told = cli(syd, ["status"]).fleet.degraded.join();
  check("revoked in the console, it is told why, and its link is cut", told.includes("the machine was stolen"), told);
  await page.getByRole("row").filter({ hasText: "syd/b" }).getByText(/^revoked/).waitFor();
  await page.screenshot({ path: join(SHOTS, "nodes-revoked.png"), fullPage: true });
} finally {
  await browser?.close();
  for (const child of children.reverse()) {
    child.kill("SIGTERM");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  }
  rmSync(work, { recursive: true, force: true });
}
process.exit();

/** Presses a button that asks, and answers. */
async function order(row, label, why = "") {
  await row.getByRole("button", { name: label, exact: true }).click();
  const form = row.locator("form.asks");
  if (why) await form.getByRole("textbox").fill(why);
  await form.getByRole("button").first().click();
  await form.waitFor({ state: "detached" });
}

async function up(site, node, app, more) {
  const state = join(work, site);
  const child = start(phalanx, ["up", "--to", app, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--state", state, "--json",
    "--site", site, "--node", node, ...more]);
  const ready = JSON.parse(await firstLine(child));
  return { child, state, admin: ready.admin.startsWith("http") ? ready.admin : `http://${ready.admin}` };
}

function readiness(node) {
  return fetch(`${node.admin}/readyz`);
}

async function signIn(node, name) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const page = await context.newPage();
  await withAuthenticator(context, page);
  await page.goto(cli(node, ["operator", "add", name, "--role", "owner"]).url);
  await page.getByRole("button", { name: "Make a passkey" }).click();
  await page.getByText("Live", { exact: true }).waitFor();
  return { page, base: new URL(page.url()).origin };
}

async function startNats(authority) {
  const port = await freePort();
  const out = join(work, "nats");
  run(["fleet", "nats", "--state", authority, "--out", out, "--listen", `127.0.0.1:${port}`, "--json"]);
  start(natsServer, ["-c", join(out, "nats-server.conf")], "ignore");
  await until("nats-server listens", () => new Promise((done) => {
    const socket = connect(port, "127.0.0.1", () => done(socket.destroy() && true));
    socket.on("error", () => done(false));
  }));
  return `nats://127.0.0.1:${port}`;
}

function cli(node, args) {
  return JSON.parse(run([...args, "--json", "--state", node.state]));
}

function run(args) {
  return execFileSync(phalanx, args);
}

function start(program, args, output = "pipe") {
  const child = spawn(program, args, { stdio: ["ignore", output, output === "ignore" ? "ignore" : "inherit"] });
  children.push(child);
  return child;
}
