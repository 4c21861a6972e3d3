// Whether the pages grow while events pour in: 200 a second, all pages at once, each heap measured after a full collection.
//
//   node e2e/soak.mjs [MINUTES [PLACE...]]
//
// Against the mock, or with PHALANX_CONSOLE_URL, PHALANX_CONSOLE_LOGIN and PHALANX_PROTECTED_URL against a real node that trusts
// X-Forwarded-For from this machine: every fourth request is an attack, and of some clients there are enough for a ban.

import { Agent, get } from 'node:http';
import { argv, exit } from 'node:process';
import { setTimeout as after } from 'node:timers/promises';
import { lab, live, open, start, stop } from './lab.mjs';

const PER_SECOND = 200;
const ATTACKS = ["1' OR '1'='1", '<script>alert(1)</script>', '../../../../etc/passwd', "1 UNION SELECT password FROM users--"];
const minutes = Number(argv[2] ?? 2);
const places = argv.length > 3 ? argv.slice(3) : ['#/', '#/requests'];

await start();
const agent = new Agent({ keepAlive: true, maxSockets: 16 });
let [sent, answered, failed] = [0, 0, 0];
const began = Date.now();
// By the clock, not by the tick: a busy machine is late with ticks.
const pour = setInterval(() => {
  for (const due = ((Date.now() - began) / 1000) * PER_SECOND; sent < due; sent++) (lab.mock ? invent : ask)(sent);
}, 20);

const watched = [];
for (const place of places) watched.push({ place, seen: [], ...(await watch(place)) });
const STEP_MS = 30_000;
for (let step = 0; step <= minutes * 2; step++) {
  await after(Math.max(0, began + step * STEP_MS - Date.now()));
  for (const one of watched) one.seen.push(await one.heap());
  if (step % 10 === 0) {
    console.log(`${String(step / 2).padStart(3)} min, ${sent} sent: ${watched.map((one) => `${one.place} ${one.seen.at(-1).toFixed(1)} MiB`).join(', ')}`);
  }
}
clearInterval(pour);

let grew = false;
for (const { place, page, faults, seen, close } of watched) {
  const nodes = await page.evaluate(() => document.querySelectorAll('*').length);
  // The lists fill within the first tenth. What is above the least is on its way: rows that are being drawn or let go.
  const filled = seen.slice(Math.ceil(seen.length / 10));
  const half = Math.floor(filled.length / 2);
  const growth = Math.min(...filled.slice(half)) - Math.min(...filled.slice(0, half));
  const marks = [0, 0.25, 0.5, 0.75, 1].map((part) => seen[Math.round(part * (seen.length - 1))].toFixed(1));
  console.log(`${place}: ${marks.join(' ')} MiB by quarters, ${growth.toFixed(2)} MiB more at least in the second half; ${nodes} elements; ${faults.length} faults`);
  for (const fault of faults.slice(0, 5)) console.log(`  ${fault}`);
  grew ||= growth > 1 || faults.length > 0;
  await close();
}
console.log(`${sent} events in ${Math.round((Date.now() - began) / 1000)} s${lab.mock ? '' : `, ${answered} answered, ${failed} failed`}`);
agent.destroy();
await stop();
exit(grew ? 1 : 0);

/** A page, and how large its heap is without what could be collected. */
async function watch(place) {
  const { page, faults, close } = await open(place);
  await live(page);
  const devtools = await page.context().newCDPSession(page);
  await devtools.send('HeapProfiler.enable');
  const heap = async () => {
    await devtools.send('HeapProfiler.collectGarbage');
    const { usedSize } = await devtools.send('Runtime.getHeapUsage');
    return usedSize / 1_048_576;
  };
  return { page, faults, close, heap };
}

function invent(number) {
  lab.mock.world.attack({ client: `198.18.${number % 200}.${(number >> 3) % 250}` });
}

function ask(number) {
  const again = number % 400 < 4;
  const client = again ? `203.0.113.${(number / 400) % 100 | 0}` : `198.18.${number % 200}.${(number >> 3) % 250}`;
  const path = again || number % 4 === 0 ? `/search?q=${encodeURIComponent(ATTACKS[(number >> (again ? 0 : 2)) % ATTACKS.length])}` : `/search?q=lamp${number % 97}`;
  const request = get(lab.protectedUrl + path, { agent, headers: { 'x-forwarded-for': client } }, (response) => {
    answered++;
    response.resume();
  });
  request.on('error', () => failed++);
}
