// Drives DokuWiki (Debian's package) through a Phalanx node with Chromium, as a person would: log in, search,
// edit a page with code and SQL words in it, upload a picture. Counts the requests that were refused, and why.
//
//   node tests/browser/dokuwiki.mjs PHALANX_BINARY [--rules DIR] [--paranoia N]
//
// Needs: php, /usr/share/dokuwiki, /usr/bin/chromium and the packages of console/. Exits 1 if a step failed.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const require = createRequire(new URL("../../console/package.json", import.meta.url));
const { chromium } = require("playwright-core");

const [binary, ...nodeArgs] = process.argv.slice(2);
const work = mkdtempSync(join(tmpdir(), "dokuwiki-"));
const children = [];

try {
  const wiki = await startWiki();
  const node = await startNode(wiki, nodeArgs);
  const { responses, steps } = await browse(node.listen);
  report(node, responses, steps);
} finally {
  for (const { end } of children) await end();
  rmSync(work, { recursive: true, force: true });
}

/** Starts DokuWiki with its own configuration and data, from the package's files. */
async function startWiki() {
  const conf = join(work, "conf");
  cpSync("/etc/dokuwiki", conf, { recursive: true, dereference: true });
  const data = join(work, "data");
  cpSync("/var/lib/dokuwiki/data", data, { recursive: true });
  for (const name of ["media_attic", "media_meta", "cache", "tmp", "locks", "index", "log"]) {
    mkdirSync(join(data, name), { recursive: true });
  }
  writeFileSync(join(conf, "local.php"), `<?php
$conf['title'] = 'Test wiki'; $conf['useacl'] = 1; $conf['superuser'] = '@admin'; $conf['passcrypt'] = 'sha1';
$conf['savedir'] = '${data}'; $conf['updatecheck'] = 0;`);
  const hash = execFileSync("php", ["-r", "echo sha1('correct horse battery');"]).toString();
  writeFileSync(join(conf, "users.auth.php"), `editor:${hash}:Edith Editor:edith@example.org:admin,user\n`);
  writeFileSync(join(conf, "acl.auth.php"), "*\t@ALL\t1\n*\t@user\t16\n");
  const prepend = join(work, "prepend.php");
  writeFileSync(prepend, `<?php define('DOKU_MAIN_CONF', '${conf}/'); define('DOKU_CONF', '${conf}/');`);
  const port = await freePort();
  const php = spawn("php", ["-d", `auto_prepend_file=${prepend}`, "-S", `127.0.0.1:${port}`, "-t", "/usr/share/dokuwiki"], {
    env: { ...process.env, PHP_CLI_SERVER_WORKERS: "4" },
    stdio: ["ignore", "ignore", "ignore"],
    // A process group of its own: the server's workers must end with it.
    detached: true,
  });
  children.push({ end: () => process.kill(-php.pid, "SIGTERM") });
  const url = `http://127.0.0.1:${port}`;
  await until("DokuWiki answers", async () => (await fetch(`${url}/doku.php`)).ok);
  return url;
}

/** Starts a node in front of the wiki. */
async function startNode(wiki, extra) {
  const state = join(work, "state");
  const args = ["up", "--to", wiki, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--state", state, "--json", ...extra];
  const child = spawn(binary, args, { stdio: ["ignore", "pipe", "inherit"] });
  // A node that stops writes its state: the folder goes when the node is gone.
  children.push({
    end: async () => {
      child.kill("SIGTERM");
      if (child.exitCode === null) await once(child, "exit");
    },
  });
  for await (const line of createInterface({ input: child.stdout })) {
    return { ...JSON.parse(line), state };
  }
  throw new Error("the node ended before it was ready");
}

/** What a person does in a wiki. */
async function browse(listen) {
  const base = listen.startsWith("http") ? listen : `http://${listen}`;
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  const page = await browser.newPage();
  const responses = [];
  page.on("response", (response) => responses.push({
    method: response.request().method(), url: response.url(), status: response.status(),
    id: response.headers()["x-request-id"],
  }));
  const steps = [];
  const step = async (name, act) => {
    try {
      await act();
      steps.push({ name, ok: true });
    } catch (error) {
      steps.push({ name, ok: false, error: String(error).split("\n")[0] });
    }
  };
  const text = [
    "====== Notes on the database ======",
    "To list users we run <code sql>SELECT name, email FROM users WHERE id = 1 OR name LIKE 'a%' ORDER BY name; -- by name</code>",
    "The button calls <code javascript>document.querySelector('#save').addEventListener('click', () => save(user.id));</code>",
    "Then restart it: <code bash>sudo systemctl restart nginx && cat /etc/nginx/nginx.conf | grep server</code>",
    "It's \"simple\": drop by the select committee & union meeting, or insert a note into the table at ../notes.",
  ].join("\n\n");
  const attacks = [
    "====== Notes on attacks ======",
    "An injection: <code sql>SELECT name FROM users WHERE id = 1 UNION SELECT password FROM users; -- done</code>",
    "Never paste <code html><script>alert(1)</script></code> into a page.",
  ].join("\n\n");

  await step("read the start page", async () => {
    await page.goto(`${base}/doku.php`);
    await page.waitForSelector("#dokuwiki__content");
  });
  await step("log in", async () => {
    await page.goto(`${base}/doku.php?id=start&do=login`);
    await page.fill("input[name=u]", "editor");
    await page.fill("input[name=p]", "correct horse battery");
    await page.click("#dw__login button[type=submit]");
    await page.waitForSelector("a[href*='do=logout'], .action.logout, li.logout", { state: "attached", timeout: 8000 });
  });
  await step("edit a page with code and SQL words", async () => {
    await page.goto(`${base}/doku.php?id=notes:database&do=edit`);
    await page.fill("textarea[name=wikitext]", text);
    await page.fill("input[name=summary]", "how we select users; see UNION & JOIN (don't drop tables!)");
    await page.click("button[name='do[save]']");
    await page.waitForSelector("h1:has-text('Notes on the database')", { timeout: 8000 });
  });
  await step("edit it again with a preview", async () => {
    await page.goto(`${base}/doku.php?id=notes:database&do=edit`);
    await page.fill("textarea[name=wikitext]", `${text}\n\nOne more: ''SELECT * FROM orders WHERE total > 100''.`);
    await page.click("button[name='do[preview]']");
    await page.waitForSelector("#preview, .preview", { timeout: 8000 });
  });
  await step("write down examples of attacks", async () => {
    await page.goto(`${base}/doku.php?id=notes:attacks&do=edit`);
    await page.fill("textarea[name=wikitext]", attacks);
    await page.click("button[name='do[save]']");
    await page.waitForSelector("h1:has-text('Notes on attacks')", { timeout: 8000 });
  });
  for (const words of ["select users", "it's union & join", "drop table users", "script tags", "drop table users; --", "<script> tags"]) {
    await step(`search for ${words}`, async () => {
      await page.goto(`${base}/doku.php?id=start&do=search&q=${encodeURIComponent(words)}`);
      await page.waitForSelector("form.search, .search-results-form, #dw__search, h1", { timeout: 8000 });
      if (!(await page.title()).includes("Test wiki")) throw new Error(`no wiki page: ${await page.title()}`);
    });
  }
  await step("upload a picture", async () => {
    const picture = join(work, "picture.png");
    execFileSync("php", ["-r", `$i = imagecreatetruecolor(320, 200); for ($n = 0; $n < 4000; $n++) imagesetpixel($i, random_int(0, 319), random_int(0, 199), random_int(0, 16777215)); imagepng($i, '${picture}');`]);
    await page.goto(`${base}/lib/exe/mediamanager.php?ns=notes`);
    await page.setInputFiles("input[type=file]", picture);
    await page.click(".qq-upload-action, #mediamanager__upload_button, form#dw__upload button[type=submit]");
    await page.waitForSelector("text=/picture\\.png|uploaded/i", { timeout: 8000 });
  });
  await step("read the saved page", async () => {
    await page.goto(`${base}/doku.php?id=notes:database`);
    await page.waitForSelector("h1:has-text('Notes on the database')", { timeout: 8000 });
  });
  await step("look at its history", async () => {
    await page.goto(`${base}/doku.php?id=notes:database&do=revisions`);
    await page.waitForSelector("#page__revisions, form", { timeout: 8000 });
  });
  await browser.close();
  return { responses, steps };
}

/** Prints the steps, and each refused request with its explanation. */
function report(node, responses, steps) {
  for (const { name, ok, error } of steps) console.log(`${ok ? "ok    " : "failed"} ${name}${error ? `: ${error}` : ""}`);
  const refused = responses.filter((r) => r.id && [400, 403, 413, 431].includes(r.status));
  console.log(`${responses.length} requests, ${refused.length} refused`);
  for (const { method, url, status, id } of refused) {
    console.log(`\n${status} ${method} ${new URL(url).pathname}${new URL(url).search}`);
    console.log(execFileSync(binary, ["explain", id, "--state", node.state]).toString());
  }
  if (steps.some((s) => !s.ok)) process.exitCode = 1;
}

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function until(what, condition) {
  const deadline = Date.now() + 20_000;
  while (Date.now() < deadline) {
    try {
      if (await condition()) return;
    } catch { /* not yet */ }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`in vain waited until ${what}`);
}
