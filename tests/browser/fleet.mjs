// Two journeys through the console of a real fleet: three nodes of three sites, a nats-server, the demonstration's shop.
//
// A ticket: a customer's honest review is refused at one node; an operator at another node opens the id from his page, has an
// exclusion proposed, sees what else it would let pass, and rolls it out by a trial. Then the review passes everywhere, and attacks beside
// it are refused. And a ban: ordered in one console, seen in another and undone there. How long each took is printed, what a person
// clicks apart from what machines do.
//
//   node tests/browser/fleet.mjs PHALANX_BINARY SHOP_BINARY [NATS_SERVER]

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

import { check, chromium, firstLine, freePort, SHOTS, until, withAuthenticator } from "./lab.mjs";

const [phalanx, shopProgram] = process.argv.slice(2, 4).map((one) => resolve(one));
const natsServer = process.argv[4] ?? process.env.PHALANX_NATS_SERVER ?? "nats-server";
const work = mkdtempSync(join(tmpdir(), "journeys-"));
const children = [];
const SITES = ["fra", "iad", "syd"];
const REVIEW = "The mug says '; DROP TABLE students;-- and my whole team laughed.";
let browser;
let clients = 0;

try {
  mkdirSync(SHOTS, { recursive: true });
  const shop = (await firstLine(start(shopProgram, []))).replace("listening on ", "");
  const nats = await startNats();
  const nodes = [];
  for (const site of SITES) nodes.push(await startNode(site, nats, shop));
  const [fra, iad, syd] = nodes;
  await until("all nodes see each other", () =>
    nodes.every((node) => cli(node, ["status"]).fleet.members.filter((one) => one.online).length === nodes.length));
  // What all run before: a fleet's first version of policy.
  cli(fra, ["policy", "push", fra.policy, "--reason", "what all run before"]);
  await until("all run version 1", () => versions(iad).every((version) => version === 1));

  browser = await chromium();
  const operator = await signIn(iad, "ann");
  await journeyOfATicket(operator, nodes);
  await journeyOfABan(operator, iad, syd);
} finally {
  await browser?.close();
  for (const child of children.reverse()) {
    child.kill("SIGTERM");
    if (child.exitCode === null) await once(child, "exit");
  }
  rmSync(work, { recursive: true, force: true });
}
process.exit();

async function journeyOfATicket(operator, [fra, iad, syd]) {
  const nodes = [fra, iad, syd];
  // A day at the shop: visitors whom the trial is judged by, requests to be replayed, and somebody who attacks.
  for (const node of nodes) {
    for (let n = 1; n <= 8; n++) for (const path of ["/", "/products", `/product?id=${n}`, "/search?q=lamp"]) await ask(node, `198.51.100.${n}`, path);
    await review(node, "198.51.100.9", "Sturdy, and the handle stays cool.");
  }
  const attacks = { text: "<script src=//evil.example/x.js></script>", author: "x' UNION SELECT password FROM users--" };
  for (const [field, text] of Object.entries(attacks)) check(`an attack in ${field} is refused`, (await review(fra, "192.0.2.66", "nice", { [field]: text })) === 403);

  const visitor = await (await browser.newContext({ extraHTTPHeaders: { "x-forwarded-for": "203.0.113.20" } })).newPage();
  await visitor.goto(`${fra.url}/product?id=1`);
  await visitor.locator("[name=author]").fill("Ann");
  await visitor.locator("[name=text]").fill(REVIEW);
  await visitor.locator("form[action='/review'] [type=submit], form[action='/review'] button").click();
  const refusal = await visitor.locator("body").innerText();
  const id = /\b[0-9A-HJKMNP-TV-Z]{26}\b/.exec(refusal)?.[0];
  check("the customer sees a page with an id", id !== undefined, id);
  await visitor.screenshot({ path: join(SHOTS, "journey-refused.png") });

  // The ticket has arrived. From here on a person clicks.
  const { page } = operator;
  const ticket = Date.now();
  await page.keyboard.press("/");
  await page.getByLabel("Why was this blocked?").fill(`It says: ${id}`);
  await page.keyboard.press("Enter");
  await page.getByText("fra/a served it").waitFor();
  const explained = Date.now();
  await page.getByRole("button", { name: "Propose an exclusion" }).click();
  await page.getByText("With it, this request passes.").waitFor();
  const proposed = Date.now();
  const proposal = await page.locator(".exclude").innerText();
  check("the exclusion is narrow: one field, one path, one method",
    /target = "ARGS:text"/.test(proposal) && /path = "\/review"/.test(proposal) && /methods = \["POST"\]/.test(proposal));
  const judged = /Of ([\d,]+) recorded requests? of others, judged again, (\w+) would newly pass/.exec(proposal);
  check("the recording was judged again, and nobody else's request would newly pass", judged?.[2] === "none", judged?.[0] ?? proposal);
  await page.getByLabel("Reason").fill("ticket 4711: a review quotes a joke");
  await page.getByLabel("First to").selectOption("node fra/a");
  await page.getByLabel("Tried for").fill("3s");
  await page.screenshot({ path: join(SHOTS, "journey-exclusion.png"), fullPage: true });
  await page.getByRole("button", { name: "Start the trial" }).click();
  await page.getByText(/tries it as policy 2/).waitFor();
  const ordered = Date.now();
  await until("the node on trial lets it pass", async () => (await review(fra, "203.0.113.21", REVIEW)) === 303);
  const tried = Date.now();
  check("the others do not yet", (await review(syd, "203.0.113.22", REVIEW)) === 403);
  await page.getByRole("link", { name: "Policy", exact: true }).last().click();
  await page.getByText("Version 2 is on trial at node fra/a").waitFor();
  await page.screenshot({ path: join(SHOTS, "journey-trial.png"), fullPage: true });
  // Those who were served well before go on as they did, and are served.
  await until("all nodes run version 2", async () => {
    for (let n = 1; n <= 8; n++) await ask(fra, `198.51.100.${n}`, "/");
    return versions(iad).every((version) => version === 2);
  });
  const live = Date.now();
  await page.getByText("Version 2 is in force on this node").waitFor();

  for (const node of nodes) {
    check(`the review passes at ${node.name}`, (await review(node, "203.0.113.23", REVIEW)) === 303);
    for (const [field, text] of Object.entries(attacks)) {
      check(`an attack in ${field} beside it is still refused there`, (await review(node, `192.0.2.${100 + ++clients}`, REVIEW, { [field]: text })) === 403);
    }
  }
  await visitor.goto(`${fra.url}/product?id=1`);
  await visitor.getByText("my whole team laughed").first().waitFor();
  const s = (from, to) => `${((to - from) / 1000).toFixed(1)} s`;
  console.log(`       from the ticket to live on all three: ${s(ticket, live)}: explained ${s(ticket, explained)}, proposed ${s(explained, proposed)}, ` +
    `ordered ${s(proposed, ordered)}, live on the first ${s(ordered, tried)}, trial and live on all ${s(tried, live)} (3 s of it as ordered)`);
  check("that is less than three minutes", live - ticket < 180_000);
}

async function journeyOfABan(first, nodeA, nodeB) {
  const second = await signIn(nodeB, "bob");
  const client = "203.0.113.77";
  check("a client passes at the other node", (await ask(nodeB, client, "/")) === 200);
  await first.page.goto(`${first.base}/#/`);
  await first.page.getByRole("button", { name: "Add decision" }).click();
  const form = first.page.getByRole("form", { name: "Add decision" });
  await form.getByLabel(/Address/).fill(client);
  await form.getByLabel("Reason").fill("ticket 4712: scrapes prices");
  await form.getByRole("button", { name: "Ban on every node" }).click();
  const banned = Date.now();
  await until("the other node refuses", async () => (await ask(nodeB, client, "/")) === 403);
  const refused = Date.now();
  const row = second.page.getByRole("listitem").filter({ hasText: client });
  await row.first().waitFor();
  const seen = Date.now();
  await second.page.screenshot({ path: join(SHOTS, "journey-ban.png"), fullPage: true });
  await row.first().getByRole("button", { name: /Undo/ }).click();
  await second.page.getByRole("button", { name: "End it" }).click();
  const undone = Date.now();
  await until("it passes where the ban was made", async () => (await ask(nodeA, client, "/")) === 200);
  const passes = Date.now();
  await until("its row is gone there", async () => (await first.page.getByRole("listitem").filter({ hasText: client }).count()) === 0);
  console.log(`       a ban in ${nodeA.name}'s console: refused by ${nodeB.name} after ${refused - banned} ms, in its console after ${seen - banned} ms; ` +
    `undone there: passes at ${nodeA.name} after ${passes - undone} ms`);
  check("ban and undo arrive within two seconds", refused - banned < 2000 && passes - undone < 2000);
}

/** A browser in which an operator with a passkey is at a node's console. */
async function signIn(node, name) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const page = await context.newPage();
  await withAuthenticator(context, page);
  await page.goto(cli(node, ["operator", "add", name, "--role", "owner"]).url);
  await page.getByRole("button", { name: "Make a passkey" }).click();
  await page.getByText("Live", { exact: true }).waitFor();
  return { page, base: new URL(page.url()).origin };
}

async function startNats() {
  const port = await freePort();
  start(natsServer, ["-a", "127.0.0.1", "-p", String(port), "-js", "-sd", join(work, "nats")], "ignore");
  await until("nats-server listens", () => new Promise((done) => {
    const socket = connect(port, "127.0.0.1", () => done(socket.destroy() && true));
    socket.on("error", () => done(false));
  }));
  return `nats://127.0.0.1:${port}`;
}

async function startNode(site, nats, shop) {
  const folder = join(work, site);
  mkdirSync(folder);
  const policy = join(folder, "policy.toml");
  writeFileSync(policy, `# The shop.\n[[apps]]\nname = "shop"\nupstream = "${shop}"\ntrust_forwarded = ["127.0.0.1/32"]\n`);
  writeFileSync(join(folder, "phalanx.toml"), `policy = "policy.toml"\n[node]\nsite = "${site}"\nname = "a"\nstate = "state"\n` +
    `[listen]\naddress = ["127.0.0.1:0"]\nadmin = "127.0.0.1:0"\n[fleet]\nurl = "${nats}"\n`);
  const ready = JSON.parse(await firstLine(start(phalanx, ["run", "--json", "-c", join(folder, "phalanx.toml")])));
  const address = [ready.listen].flat()[0];
  return { name: `${site}/a`, policy, state: join(folder, "state"), url: address.startsWith("http") ? address : `http://${address}` };
}

function cli(node, args) {
  return JSON.parse(execFileSync(phalanx, [...args, "--json", "--state", node.state]));
}

function versions(node) {
  return cli(node, ["policy", "status"]).nodes.map((one) => one.policy?.version ?? 0);
}

/** The status of what a client gets. */
async function ask(node, client, path, form) {
  const asked = request(`${node.url}${path}`, {
    method: form ? "POST" : "GET",
    headers: { "x-forwarded-for": client, ...(form && { "content-type": "application/x-www-form-urlencoded" }) },
  });
  asked.end(form);
  const [answer] = await once(asked, "response");
  answer.resume();
  await once(answer, "end");
  return answer.statusCode;
}

function review(node, client, text, more = {}) {
  return ask(node, client, "/review", new URLSearchParams({ product: "1", author: "Ann", stars: "5", text, ...more }).toString());
}

function start(program, args, output = "pipe") {
  const child = spawn(program, args, { stdio: ["ignore", output, output === "ignore" ? "ignore" : "inherit"] });
  children.push(child);
  return child;
}
