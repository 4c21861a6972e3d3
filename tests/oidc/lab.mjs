// A real node whose operators log in by a real provider.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { firstLine } from "../browser/lab.mjs";
import { listen } from "./provider.mjs";

/** Starts both. The provider is away until `meet` tells it of the console. */
export async function startBoth(binary) {
  const work = mkdtempSync(join(tmpdir(), "oidc-"));
  const state = join(work, "state");
  const secret = "a secret of this test";
  const provider = await listen({ secret });
  const settings = join(work, "phalanx.toml");
  writeFileSync(join(work, "corp.secret"), `${secret}\n`, { mode: 0o600 });
  writeFileSync(join(work, "policy.toml"), '[[apps]]\nname = "shop"\nupstream = "http://127.0.0.1:9"\n');
  writeFileSync(settings, `
policy = "policy.toml"
[node]
state = "state"
[listen]
address = ["127.0.0.1:0"]
admin = "127.0.0.1:0"
[oidc.corp]
title = "Corp"
issuer = "${provider.issuer}"
client_id = "phalanx"
client_secret_file = "corp.secret"
owners = true
roles = [
  { group = "owners", role = "owner" },
  { group = "security", role = "responder", apps = ["shop"] },
]
`);
  const node = spawn(binary, ["run", "-c", settings, "--json"], { stdio: ["ignore", "pipe", "inherit"] });
  const ready = JSON.parse(await firstLine(node.stdout));
  const console = `http://localhost:${ready.admin.split(":").pop()}`;
  // The provider answers in this very process meanwhile.
  const cli = async (...words) => (await promisify(execFile)(binary, [...words, "--state", state])).stdout;
  return {
    provider,
    console,
    cli,
    /** Lets the provider know the console, and the node the provider. */
    async meet() {
      await provider.serve(`${console}/login/oidc/corp/callback`);
      return cli("oidc", "test", "corp");
    },
    async stop() {
      node.kill("SIGTERM");
      if (node.exitCode === null) await once(node, "exit");
      provider.stop();
      rmSync(work, { recursive: true, force: true });
    },
  };
}
