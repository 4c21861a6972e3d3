// The console's cases in Chromium against a real node in front of the demonstration's shop. (Without this script the same cases
// run against a stand-in for the API.) First, whether its types of the API are those of this node's document.
//
//   node tests/browser/console.mjs PHALANX_BINARY SHOP_BINARY

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const [phalanx, shop] = process.argv.slice(2).map((one) => resolve(one));
const work = mkdtempSync(join(tmpdir(), "console-"));
const children = [];

const folder = fileURLToPath(new URL("../../console/", import.meta.url));

try {
  const types = spawn("node", ["dev/generate.mjs", phalanx, "--check"], { cwd: folder, stdio: "inherit" });
  if ((await new Promise((resolve) => types.on("exit", resolve))) !== 0) throw new Error("the console's types are out of date");
  const shopLine = await firstLine(start(shop, []));
  const node = start(phalanx, ["up", "--to", shopLine.replace("listening on ", ""), "--listen", "127.0.0.1:0",
    "--admin", "127.0.0.1:0", "--state", join(work, "state"), "--trust-forwarded", "127.0.0.1/32", "--json"]);
  const ready = JSON.parse(await firstLine(node));
  const url = (address) => (address.startsWith("http") ? address : `http://${address}`);
  const cases = spawn("npm", ["run", "e2e"], {
    cwd: folder,
    stdio: ["ignore", "inherit", "inherit"],
    env: {
      ...process.env,
      PHALANX_CONSOLE_URL: url(ready.admin),
      PHALANX_CONSOLE_LOGIN: ready.console,
      PHALANX_PROTECTED_URL: url(ready.listen),
    },
  });
  process.exitCode = await new Promise((resolve) => cases.on("exit", (code) => resolve(code ?? 1)));
} finally {
  for (const child of children) {
    child.kill("SIGTERM");
    if (child.exitCode === null) await new Promise((resolve) => child.on("exit", resolve));
  }
  rmSync(work, { recursive: true, force: true });
}

function start(program, args) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  return child;
}

async function firstLine(child) {
  for await (const line of createInterface({ input: child.stdout })) {
    child.stdout.resume();
    return line;
  }
  throw new Error(`${child.spawnfile} ended before it was ready`);
}
