// Whether the page grows while events pour in: 200 a second, each page in turn, the heap measured after a full collection.
//
//   node e2e/soak.mjs [MINUTES PER PAGE [PLACE...]]

import { argv, exit } from 'node:process';
import { lab, live, open, start, stop } from './lab.mjs';

const PER_SECOND = 200;
const minutes = Number(argv[2] ?? 2);
await start();
const { world } = lab.mock;
let sent = 0;
const began = Date.now();
// By the clock, not by the tick: a busy machine is late with ticks.
const pour = setInterval(() => {
  for (const due = ((Date.now() - began) / 1000) * PER_SECOND; sent < due; sent++) world.attack({ client: `198.18.${sent % 200}.${(sent >> 3) % 250}` });
}, 20);
let grew = false;
for (const place of argv.length > 3 ? argv.slice(3) : ['#/', '#/requests']) {
  const { page, faults, close } = await open(place);
  await live(page);
  const devtools = await page.context().newCDPSession(page);
  await devtools.send('HeapProfiler.enable');
  const heap = async () => {
    await devtools.send('HeapProfiler.collectGarbage');
    const { usedSize } = await devtools.send('Runtime.getHeapUsage');
    return usedSize / 1_048_576;
  };
  const seen = [];
  const steps = Math.max(4, minutes * 6);
  for (let step = 0; step <= steps; step++) {
    await page.waitForTimeout(10_000);
    seen.push(await heap());
  }
  const nodes = await page.evaluate(() => document.querySelectorAll('*').length);
  // The lists fill within the first tenth. What is above the least is on its way: rows that are being drawn or let go.
  const filled = seen.slice(Math.ceil(seen.length / 10));
  const half = Math.floor(filled.length / 2);
  const growth = Math.min(...filled.slice(half)) - Math.min(...filled.slice(0, half));
  console.log(`${place}: ${seen.map((mib) => mib.toFixed(1)).join(' ')} MiB after every 10 s; ${growth.toFixed(2)} MiB more at least in the second half; ${nodes} elements; ${faults.length} faults`);
  grew ||= growth > 1 || faults.length > 0;
  await close();
}
clearInterval(pour);
console.log(`${sent} events in ${Math.round((Date.now() - began) / 1000)} s`);
await stop();
exit(grew ? 1 : 0);
