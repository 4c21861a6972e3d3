// The first page: what it says, in which order, and what it does not claim.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { startMock } from '../../dev/mock.mjs';
import { lab, live, mockOnly, open, SHOTS } from '../lab.mjs';

const DIST = fileURLToPath(new URL('../../dist', import.meta.url));

test('the page loads, goes live, says how things stand, and talks to its node alone', async () => {
  const { page, faults, close } = await open();
  await live(page);
  await page.getByRole('heading', { level: 1 }).waitFor();
  await page.waitForFunction(() => document.querySelector('.figures dd')?.textContent !== '–/s');
  const headings = await page.locator('main h1, main h2').allTextContents();
  const wanted = ['Sites and nodes', 'Live decisions', 'Open incidents', ...(lab.mock ? ['Worth fixing'] : [])];
  assert.deepEqual(headings.slice(1).filter((one) => wanted.includes(one)), wanted, 'in this order');
  assert.deepEqual(faults, []);
  await close();
});

test('the first page is there within a second, and so is the way to every other', async () => {
  const { page, close } = await open();
  await live(page);
  const paint = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? Infinity);
  assert.ok(paint < 1_000, `first paint after ${paint} ms`);
  const links = await page.getByRole('navigation').getByRole('link').count();
  assert.equal(links, 10);
  await close();
});

test('the whole console has at most 250 KB, compressed', () => {
  const files = readdirSync(DIST, { recursive: true, withFileTypes: true }).filter((one) => one.isFile());
  const sizes = files.map((one) => gzipSync(readFileSync(join(one.parentPath ?? one.path, one.name)), { level: 9 }).length);
  const total = sizes.reduce((a, b) => a + b, 0);
  console.log(`bundle: ${(total / 1000).toFixed(1)} KB in ${files.length} files`);
  assert.ok(total <= 250_000, `${total} bytes`);
});

test('a failing self-test goes before all else, and names what was let through', { skip: mockOnly() }, async () => {
  lab.mock.world.pierced = true;
  try {
    const { page, close } = await open();
    await page.getByRole('heading', { name: 'An attack gets through.' }).waitFor();
    await page.getByText('1 of 10 attacks not refused', { exact: false }).click();
    await page.getByRole('row').filter({ hasText: 'passed with 200: no rule matched' }).waitFor();
    await page.screenshot({ path: `${SHOTS}console-pierced.png` });
    lab.mock.world.pierced = false;
    await page.getByRole('button', { name: 'Test now' }).click();
    await page.getByRole('heading', { name: 'Holding.' }).waitFor();
    await close();
  } finally {
    lab.mock.world.pierced = false;
  }
});

test('a lost node is admitted, and found again', { skip: mockOnly() }, async () => {
  const own = await startMock({ open: true });
  const { port } = new URL(own.base);
  const context = await lab.browser.newContext();
  const page = await context.newPage();
  await page.goto(own.base);
  await live(page);
  await own.stop();
  await page.getByText('Reconnecting').waitFor();
  await page.getByRole('heading', { name: 'Out of contact.' }).waitFor();
  assert.equal(await page.getByText('all refused', { exact: false }).count(), 0, 'it claims nothing that it does not hear');
  const again = await startMock({ open: true, port: Number(port) });
  await page.getByRole('heading', { name: 'Holding.' }).waitFor();
  await again.stop();
  await context.close();
});

test('an empty node says what to do next on every page', { skip: mockOnly() }, async () => {
  const own = await startMock({ open: true, scenario: 'quiet' });
  const context = await lab.browser.newContext();
  const page = await context.newPage();
  for (const [place, words] of [['#/', 'Nobody is barred.'], ['#/requests', 'Nothing has been refused yet.'], ['#/incidents', 'No incident is known.']]) {
    await page.goto(`${own.base}/${place}`);
    await page.getByText(words).waitFor();
  }
  await own.stop();
  await context.close();
});
