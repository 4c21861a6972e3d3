// The console in headless Chromium. The same cases run against the mock (the default) and against a real node:
//
//   PHALANX_CONSOLE_URL     base of the console; the mock is started when it is not set
//   PHALANX_CONSOLE_LOGIN   a one-time login link, from `phalanx up` or `phalanx login`
//   PHALANX_PROTECTED_URL   what the node protects; refused requests are made by attacking it
//
// Screenshots go to target/screenshots of the repository.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import { env } from 'node:process';
import { chromium } from 'playwright-core';
import { startMock } from '../dev/mock.mjs';

const SHOTS = fileURLToPath(new URL('../../target/screenshots/', import.meta.url));
const LAUNCH = {
  executablePath: env.PHALANX_CHROMIUM ?? '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
};
const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
/** An address of the documentation range that nobody else here uses. */
const ACTOR = '203.0.113.250';
const XSS = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>';

let mock = null;
let base, protectedUrl, browser, storage;

before(async () => {
  mkdirSync(SHOTS, { recursive: true });
  if (!env.PHALANX_CONSOLE_URL) mock = await startMock({});
  base = (env.PHALANX_CONSOLE_URL ?? mock.base).replace(/\/$/, '');
  protectedUrl = (env.PHALANX_PROTECTED_URL ?? mock?.protected ?? '').replace(/\/$/, '');
  browser = await chromium.launch(LAUNCH);
  // The link works once: sign in once, and give its cookie to every page.
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(env.PHALANX_CONSOLE_LOGIN ?? mock.login);
  await page.locator('h1').waitFor();
  storage = await context.storageState();
  await context.close();
});

after(async () => {
  await browser?.close();
  await mock?.stop();
});

/** A page that notes what a console must never do. */
async function open(options = {}, path = '/') {
  const context = await browser.newContext({ viewport: { width: 1440, height: 1000 }, storageState: storage, ...options });
  const page = await context.newPage();
  const faults = [];
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && faults.push(`console: ${message.text()}`));
  page.on('pageerror', (error) => faults.push(`error: ${error.message}`));
  page.on('dialog', (dialog) => (faults.push(`dialog: ${dialog.message()}`), dialog.dismiss()));
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== new URL(base).origin) faults.push(`request to ${request.url()}`);
  });
  await page.goto(base + path);
  return { page, faults, close: () => context.close() };
}

/** Sends something that is refused; resolves to its request id. */
async function attack(query) {
  const response = await fetch(`${protectedUrl}/?q=${encodeURIComponent(query)}`);
  const id = response.headers.get('x-request-id');
  assert.equal(response.status, 403, 'the attack is refused');
  assert.match(id ?? '', /^[0-9A-Z]{26}$/);
  return id;
}

/** Waits for the address to change: it follows what is shown, and the browser tells of it later still. */
async function atPath(page, path) {
  await page.waitForURL((url) => url.pathname === path);
}

async function focusedText(page) {
  return page.evaluate(() => document.activeElement?.textContent?.trim() ?? '');
}

test('the page loads, goes live, says how things stand, and talks to its node alone', async () => {
  const { page, faults, close } = await open();
  await page.getByText('Live', { exact: true }).waitFor();
  await page.getByRole('heading', { level: 1 }).waitFor();
  for (const name of ['Nodes', 'Live decisions']) await page.getByRole('heading', { name }).waitFor();
  await page.getByRole('heading', { name: /^Refused/ }).waitFor();
  await page.waitForFunction(() => document.querySelector('.figures dd')?.textContent !== '–/s');
  assert.deepEqual(faults, []);
  await close();
});

test('a stranger finds a page that says how to sign in, and nothing else', async () => {
  const { page, close } = await open({ storageState: { cookies: [], origins: [] } });
  await page.getByRole('heading', { name: 'Sign in', exact: true }).waitFor();
  await page.getByText('phalanx login', { exact: true }).waitFor();
  assert.equal(await page.locator('summary[data-row], [data-undo]').count(), 0);
  await page.screenshot({ path: `${SHOTS}console-login.png` });
  await close();
});

test('a decision is added and undone by keyboard alone', async () => {
  const { page, faults, close } = await open();
  const row = page.getByRole('listitem').filter({ hasText: ACTOR });
  await page.getByRole('button', { name: 'Add decision' }).focus();
  await page.keyboard.press('Enter');
  await page.getByLabel('Address or range').waitFor();
  await page.keyboard.type(ACTOR);
  for (let i = 0; i < 3; i++) await page.keyboard.press('Tab');
  await page.keyboard.type('tested by keyboard');
  await page.keyboard.press('Enter');
  await row.waitFor();

  // Undo asks once, in place; Escape leaves everything as it is.
  await row.getByRole('button', { name: 'Undo' }).focus();
  await page.keyboard.press('Enter');
  assert.equal(await focusedText(page), 'End it');
  await page.keyboard.press('Escape');
  assert.match(await focusedText(page), /^Undo/);
  assert.equal(await row.count(), 1);

  await page.keyboard.press('Enter');
  await page.keyboard.press('Enter');
  await row.waitFor({ state: 'detached' });
  assert.notEqual(await page.evaluate(() => document.activeElement?.tagName), 'BODY', 'the focus is not lost');
  await page.reload();
  await page.getByText('Live', { exact: true }).waitFor();
  assert.equal(await row.count(), 0, 'it is gone on the node too');
  assert.deepEqual(faults, []);
  await close();
});

test('an undo that the node refuses comes back with the reason', { skip: mockOnly() }, async () => {
  const { page, close } = await open();
  await page.locator('[data-undo]').first().waitFor();
  const actor = await page.locator('.actor').first().textContent();
  mock.world.refuseUndo = true;
  try {
    const row = page.getByRole('listitem').filter({ hasText: actor }).filter({ has: page.locator('.actor') });
    await row.getByRole('button', { name: 'Undo' }).click();
    await page.keyboard.press('Enter');
    await row.getByRole('alert').filter({ hasText: 'no space left' }).waitFor();
  } finally {
    mock.world.refuseUndo = false;
  }
  await close();
});

test('what is held is approved and rejected by keyboard alone', { skip: mockOnly() }, async () => {
  const { page, faults, close } = await open();
  await page.getByText('Live', { exact: true }).waitFor();
  assert.equal(await page.getByRole('heading', { name: 'Held for an operator' }).count(), 0, 'nothing is shown while nothing waits');
  mock.world.hold({ ip: '203.0.113.211', clients: 37, of: 412, reason: '3 attacks <b>here</b>' });
  mock.world.hold({ blocklist: 'scanners', what: 'blocklist', role: 'operator', addresses: 4_711, clients: 37, of: 412, reason: 'known scanners' });
  mock.world.hold({ prefix: '203.0.113.0/24', what: 'range', addresses: 71, clients: 2, of: 412, reason: '71 of its addresses are banned by iad/iad-1' });
  await page.getByRole('heading', { name: 'Held for an operator' }).waitFor();
  const section = page.getByRole('region', { name: 'Held for an operator' });
  const row = (text) => section.getByRole('listitem').filter({ hasText: text });
  await row('203.0.113.211').getByText('held: would refuse 37 of 412 clients served well in the last ten minutes').waitFor();
  await page.screenshot({ path: `${SHOTS}console-held.png` });

  await row('203.0.113.211').getByRole('button', { name: 'Approve' }).focus();
  await page.keyboard.press('Enter');
  assert.equal(await focusedText(page), 'Order it');
  await page.screenshot({ path: `${SHOTS}console-held-asks.png` });
  await page.keyboard.press('Escape');
  assert.match(await focusedText(page), /^Approve/);
  mock.world.refuseUndo = true;
  await page.keyboard.press('Enter');
  await page.keyboard.press('Enter');
  await row('203.0.113.211').getByRole('alert').filter({ hasText: 'no space left' }).waitFor();
  mock.world.refuseUndo = false;
  await page.keyboard.press('Enter');
  await page.keyboard.press('Enter');
  await row('203.0.113.211').waitFor({ state: 'detached' });
  const decision = page.getByRole('region', { name: 'Live decisions' }).getByRole('listitem').filter({ hasText: '203.0.113.211' });
  await decision.getByText('by operator at fra/fra-1').waitFor();
  assert.match(await focusedText(page), /^Approve/, 'the focus goes to the next one');

  for (const name of ['scanners', '203.0.113.0/24']) {
    await row(name).getByRole('button', { name: 'Reject' }).focus();
    await page.keyboard.press('Enter');
    assert.equal(await focusedText(page), 'End it');
    await page.keyboard.press('Enter');
    await row(name).waitFor({ state: 'detached' });
  }
  await section.waitFor({ state: 'detached' });
  assert.notEqual(await page.evaluate(() => document.activeElement?.tagName), 'BODY', 'the focus is not lost');
  assert.deepEqual(faults.filter((fault) => !fault.includes('503')), []);
  await close();
});

test('an order that would refuse many is asked for twice', { skip: mockOnly() }, async () => {
  const { page, close } = await open();
  await page.getByRole('button', { name: 'Add decision' }).click();
  await page.getByLabel('Address or range').fill('198.18.0.0/15');
  await page.getByLabel('Reason').fill('flood');
  await page.keyboard.press('Enter');
  await page.getByRole('alert').filter({ hasText: 'would refuse 37 of 412 clients served well in the last ten minutes here.' }).waitFor();
  assert.equal(await focusedText(page), 'Ban all the same');
  await page.keyboard.press('Enter');
  await page.getByRole('listitem').filter({ hasText: '198.18.0.0/15' }).waitFor();
  await close();
});

test('a slip in a new decision is told before it travels', async () => {
  const { page, close } = await open();
  await page.getByRole('button', { name: 'Add decision' }).click();
  await page.getByLabel('Address or range').fill('203.0.113');
  await page.getByRole('button', { name: 'Ban on every node' }).click();
  await page.getByRole('alert').filter({ hasText: 'Whom?' }).waitFor();
  await close();
});

test('an attack appears live and is explained in its row', { skip: noTarget() }, async () => {
  const { page, faults, close } = await open();
  await page.getByText('Live', { exact: true }).waitFor();
  const mark = `zz${Date.now()}`;
  const id = await attack(`<script>${mark}</script>`);
  const row = page.locator('summary[data-row]').filter({ hasText: mark });
  await row.waitFor();
  await row.focus();
  await page.keyboard.press('Enter');
  const chain = page.locator('.chain');
  await chain.getByText(id).first().waitFor();
  for (const fact of ['Request', 'Matched', 'Verdict']) await chain.getByRole('heading', { name: fact }).waitFor();
  await chain.getByText('ARGS:q').first().waitFor();
  await page.keyboard.press('Enter');
  await chain.waitFor({ state: 'detached' });
  assert.deepEqual(faults, []);
  await close();
});

test('"why was this blocked?" is one step from a pasted block page', { skip: noTarget() }, async () => {
  const id = await attack('<script>1</script>');
  const { page, faults, close } = await open();
  await page.getByRole('searchbox').or(page.getByLabel('Why was this blocked?')).first().waitFor();
  await page.keyboard.press('/');
  await page.keyboard.insertText(`Refused. Request id: ${id.toLowerCase()}`);
  await page.keyboard.press('Enter');
  const sheet = page.getByRole('dialog');
  await sheet.getByRole('heading', { name: 'Verdict' }).waitFor();
  await sheet.getByText(id).first().waitFor();
  // The address can be handed on.
  await atPath(page, `/request/${id}`);
  await page.reload();
  await sheet.getByRole('heading', { name: 'Verdict' }).waitFor();
  await page.keyboard.press('Escape');
  await sheet.waitFor({ state: 'detached' });
  await atPath(page, '/');
  assert.deepEqual(faults, []);
  await close();
});

test('an unknown id is answered with where to look', async () => {
  const { page, close } = await open();
  await page.getByLabel('Why was this blocked?').fill('01M805KMW691AEKWXGYP21X9P1');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').getByText('no record of').waitFor();
  await close();
});

test('text from strangers is shown as text', { skip: noTarget() }, async () => {
  const id = await attack(XSS);
  const { page, faults, close } = await open();
  await page.getByLabel('Why was this blocked?').fill(id);
  await page.keyboard.press('Enter');
  const sheet = page.getByRole('dialog');
  await sheet.getByText('onerror', { exact: false }).first().waitFor();
  await sheet.getByText('Raw facts').click();
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  assert.equal(await page.locator('img, script:not([src])').count(), 0);
  assert.deepEqual(faults, []);
  await page.screenshot({ path: `${SHOTS}console-hostile-text.png` });
  await close();
});

test('the list filters by client and by rule, and comes back whole', { skip: noTarget() }, async () => {
  await attack('<script>filtered</script>');
  const { page, close } = await open();
  await page.locator('summary[data-row]').first().waitFor();
  await page.getByLabel('Client', { exact: true }).fill('192.0.2.254');
  await page.getByText('No request on record matches this filter.').waitFor();
  await page.getByRole('button', { name: 'Show all' }).click();
  await page.locator('summary[data-row]').first().waitFor();
  assert.equal(await page.getByLabel('Client', { exact: true }).inputValue(), '');
  await page.getByLabel('Rule', { exact: true }).fill('1');
  await page.getByText('No request on record matches this filter.').waitFor();
  await close();
});

test('rows are walked by arrow keys', { skip: noTarget() }, async () => {
  await attack('<script>a</script>');
  await attack('<script>b</script>');
  const { page, close } = await open();
  const rows = page.locator('summary[data-row]');
  await rows.nth(1).waitFor();
  await page.getByRole('button', { name: 'Hold' }).click();
  await rows.first().focus();
  await page.keyboard.press('ArrowDown');
  assert.equal(await rows.nth(1).evaluate((row) => row === document.activeElement), true);
  await page.keyboard.press('Home');
  assert.equal(await rows.first().evaluate((row) => row === document.activeElement), true);
  await close();
});

test('a held list stands still and counts what came', { skip: noTarget() }, async () => {
  await attack('<script>before</script>');
  const { page, close } = await open();
  await page.locator('summary[data-row]').first().waitFor();
  await page.getByRole('button', { name: 'Hold' }).click();
  const first = await page.locator('summary[data-row]').first().textContent();
  await attack('<script>meanwhile</script>');
  await page.getByRole('button', { name: /newer request/ }).waitFor();
  assert.equal(await page.locator('summary[data-row]').first().textContent(), first);
  await close();
});

test('a lost node is admitted, and found again', { skip: mockOnly() }, async () => {
  const own = await startMock({ open: true });
  const { port } = new URL(own.base);
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(own.base);
  await page.getByText('Live', { exact: true }).waitFor();
  await own.stop();
  await page.getByText('Reconnecting').waitFor();
  await page.getByRole('heading', { name: 'Out of contact.' }).waitFor();
  const again = await startMock({ open: true, port: Number(port) });
  await page.getByRole('heading', { name: 'Holding.' }).waitFor();
  await again.stop();
  await context.close();
});

test('an ended session leads to the sign-in page', { skip: mockOnly() }, async () => {
  const { page, close } = await open();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByRole('heading', { name: 'Sign in', exact: true }).waitFor();
  await close();
});

test('every control has a name, and the keyboard reaches all of them', async () => {
  const { page, close } = await open();
  await page.getByText('Live', { exact: true }).waitFor();
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll('button, input, select, summary, a[href]')]
      .filter((e) => !(e.textContent?.trim() || e.getAttribute('aria-label') || e.labels?.length))
      .map((e) => e.outerHTML.slice(0, 120)),
  );
  assert.deepEqual(nameless, []);
  await page.keyboard.press('Tab');
  assert.match(await focusedText(page), /^Skip/);
  await close();
});

for (const scheme of ['light', 'dark']) {
  test(`axe finds nothing wrong in the ${scheme}`, async () => {
    const { page, close } = await open({ colorScheme: scheme, bypassCSP: true });
    await page.getByText('Live', { exact: true }).waitFor();
    await page.getByRole('button', { name: 'Hold' }).click();
    await page.getByRole('button', { name: 'Add decision' }).click();
    const held = mock?.world.hold({ blocklist: 'scanners', what: 'blocklist', role: 'operator', addresses: 4_711, clients: 37, of: 412, reason: 'known scanners' });
    if (held) {
      await page.getByRole('button', { name: 'Approve' }).click();
      await page.getByRole('button', { name: 'Leave it held' }).waitFor();
    }
    const row = page.locator('summary[data-row]').first();
    if (await row.count()) {
      await row.click();
      await page.locator('.facts').waitFor();
    }
    await page.addScriptTag({ path: AXE });
    const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
    if (held) mock.world.settle(held.id, false, '');
    assert.deepEqual(violations.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes[0].html.slice(0, 160)}`), []);
    await close();
  });

  test(`the page is worth showing in the ${scheme}`, async () => {
    const { page, close } = await open({ colorScheme: scheme });
    await page.getByText('Live', { exact: true }).waitFor();
    const ground = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    const bright = ground.match(/\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0) > 380;
    assert.equal(bright, scheme === 'light');
    await page.waitForFunction(() => document.querySelector('.figures dd')?.textContent !== '–/s');
    await page.screenshot({ path: `${SHOTS}console-${scheme}.png` });
    // The toggle goes against the system and stays.
    const toggle = page.getByRole('button', { name: /^Theme/ });
    await toggle.click();
    if (scheme === 'dark') await toggle.click();
    await page.reload();
    const turned = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    assert.notEqual(turned, ground);
    await close();
  });
}

test('a phone of 360 px shows everything without scrolling sideways', async () => {
  const { page, close } = await open({ viewport: { width: 360, height: 780 }, colorScheme: 'dark' });
  await page.getByText('Live', { exact: true }).waitFor();
  await page.getByRole('button', { name: 'Add decision' }).click();
  const row = page.locator('summary[data-row]').first();
  if (await row.count()) await row.click();
  assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 360);
  await page.screenshot({ path: `${SHOTS}console-narrow.png`, fullPage: true });
  await close();
});

test('motion stops for whoever asked for it', async () => {
  const { page, close } = await open({ reducedMotion: 'reduce' });
  await page.getByText('Live', { exact: true }).waitFor();
  assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
  await close();
});

function mockOnly() {
  return env.PHALANX_CONSOLE_URL ? 'only with the mock' : false;
}

function noTarget() {
  return env.PHALANX_CONSOLE_URL && !env.PHALANX_PROTECTED_URL ? 'needs PHALANX_PROTECTED_URL' : false;
}
