// The API's types, from the document of a node itself: src/lib/schema.d.ts.
//
//   node dev/generate.mjs PHALANX_BINARY [--check]
//
// Starts the node, asks it for its document, and writes the types, or with `--check` says whether those at hand are the same.
// What the console does not read is left out: words, and answers of calls that failed, which all have one shape.

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { argv, exit } from 'node:process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import openapiTS, { astToString } from 'openapi-typescript';

const OUT = fileURLToPath(new URL('../src/lib/schema.d.ts', import.meta.url));
const WORDS = new Set(['description', 'summary', 'title', 'examples', 'example', 'format', 'default']);
const NAMED = new Set(['properties', 'schemas', 'paths']);
const HEAD = '// Generated from the OpenAPI document of a node by `npm run generate`. Not edited by hand.\n\n';

const [binary] = argv.slice(2).filter((one) => !one.startsWith('--'));
if (!binary) {
  console.error('usage: node dev/generate.mjs PHALANX_BINARY [--check]');
  exit(2);
}
const types = HEAD + astToString(await openapiTS(pruned(await documentOf(binary)), { defaultNonNullable: false }));
if (!argv.includes('--check')) {
  writeFileSync(OUT, types);
} else if (readFileSync(OUT, 'utf8') !== types) {
  console.error('console/src/lib/schema.d.ts is not what this node would make of it: run `npm run generate -- PHALANX_BINARY` in console/');
  exit(1);
}

async function documentOf(program) {
  const state = mkdtempSync(join(tmpdir(), 'generate-'));
  const node = spawn(program, ['up', '--to', 'http://127.0.0.1:9', '--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0', '--state', state, '--json'], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const ready = JSON.parse(await firstLine(node));
    const token = readFileSync(ready.token_file, 'utf8').trim();
    const answer = await fetch(`http://${ready.admin}/api/v1/openapi.json`, { headers: { authorization: `Bearer ${token}` } });
    if (!answer.ok) throw new Error(`the node answered ${answer.status}`);
    return await answer.json();
  } finally {
    node.kill('SIGTERM');
    if (node.exitCode === null) await new Promise((resolve) => node.on('exit', resolve));
    rmSync(state, { recursive: true, force: true });
  }
}

async function firstLine(child) {
  for await (const line of createInterface({ input: child.stdout })) {
    child.stdout.resume();
    return line;
  }
  throw new Error('the node ended before it was ready');
}

/** The document without words and failures. */
function pruned(document) {
  for (const path of Object.values(document.paths)) {
    for (const operation of Object.values(path)) {
      operation.responses = Object.fromEntries(Object.entries(operation.responses ?? {}).filter(([status]) => status.startsWith('2')));
    }
  }
  return wordless(document, false);
}

/** `named`: the keys are names that the API gives, among which `description` may be one. */
function wordless(value, named) {
  if (Array.isArray(value)) return value.map((one) => wordless(one, false));
  if (typeof value !== 'object' || value === null) return value;
  const kept = Object.entries(value).filter(([key]) => named || !WORDS.has(key));
  return Object.fromEntries(kept.map(([key, one]) => [key, wordless(one, !named && NAMED.has(key))]));
}
