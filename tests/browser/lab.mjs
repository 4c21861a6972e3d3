// What the journeys of the browser share.
import { createServer } from "node:http";
import { createInterface } from "node:readline";

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
  for await (const line of createInterface({ input: stream })) return line;
  throw new Error("the node ended before it was ready");
}
