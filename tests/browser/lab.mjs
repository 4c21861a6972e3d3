// What the journeys of the browser share.
import { once } from "node:events";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createServer as listenerOf } from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const require = createRequire(new URL("../../console/package.json", import.meta.url));

/** Where pictures go. */
export const SHOTS = fileURLToPath(new URL("../../target/screenshots/", import.meta.url));

/** Starts a browser. */
export function chromium() {
  return require("playwright-core").chromium.launch({
    executablePath: process.env.PHALANX_CHROMIUM ?? "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
}

/** Gives a page an authenticator that verifies its user. */
export async function withAuthenticator(context, page) {
  const devtools = await context.newCDPSession(page);
  await devtools.send("WebAuthn.enable");
  await devtools.send("WebAuthn.addVirtualAuthenticator", {
    options: {
      protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true,
      isUserVerified: true, automaticPresenceSimulation: true,
    },
  });
}

/** Prints whether something holds; what does not fails the journey at its end. */
export function check(what, holds, detail = "") {
  console.log(`${holds ? "ok    " : "failed"} ${what} ${detail}`);
  if (!holds) process.exitCode = 1;
}

/** Serves on a free port of this machine while the journey runs. */
export async function listen(handler) {
  const server = createServer(handler);
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  server.unref();
  return `http://127.0.0.1:${server.address().port}`;
}

/** What a node says when it is ready. */
export async function firstLine(stream) {
  const input = stream.stdout ?? stream;
  for await (const line of createInterface({ input })) {
    // What comes later is not read, and must not fill the pipe.
    input.resume();
    return line;
  }
  throw new Error("the node ended before it was ready");
}

/** Waits until something holds. */
export async function until(what, holds) {
  const end = Date.now() + 45_000;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`never: ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

/** A port that nothing listens at. */
export async function freePort() {
  const server = listenerOf().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}
