// Many tabs of one browser: one stream for all of them, whichever is closed or stands still, and one session.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attack, lab, live, mockOnly, noTarget } from '../lab.mjs';

const TABS = 12;

/** Tabs of one browser. Each counts how often it asked for the stream. */
async function tabs(count) {
  const context = await lab.browser.newContext({ viewport: { width: 1000, height: 700 }, storageState: lab.storage });
  const opened = [];
  for (let n = 0; n < count; n++) {
    const page = await context.newPage();
    const one = { page, streams: 0 };
    page.on('request', (request) => request.url().endsWith('/api/v1/stream') && (one.streams += 1));
    await page.goto(`${lab.base}/#/requests`);
    await live(page);
    opened.push(one);
  }
  return { context, opened };
}

/** Whether all of them show a request that is made now. */
async function hear(opened) {
  const mark = `heard${Math.random().toString(36).slice(2)}`;
  await attack(`<script>${mark}</script>`);
  await Promise.all(opened.map(({ page }) => page.locator('summary[data-row]').filter({ hasText: mark }).waitFor({ timeout: 15_000 })));
}

const keepers = (opened) => opened.filter(({ streams }) => streams > 0);

test('twelve tabs are live over one stream, and stay so when the tab that keeps it is closed', { skip: noTarget() }, async () => {
  const { context, opened } = await tabs(TABS);
  assert.equal(keepers(opened).length, 1);
  await hear(opened);
  for (let closed = 0; closed < 3; closed++) {
    const [keeper] = keepers(opened);
    opened.splice(opened.indexOf(keeper), 1);
    await keeper.page.close();
    await hear(opened);
    assert.equal(keepers(opened).length, 1, 'one of the others keeps it now');
  }
  await context.close();
});

test('a tab that keeps the stream and stands still is relieved', { skip: noTarget() }, async () => {
  const { context, opened } = await tabs(3);
  const [keeper] = keepers(opened);
  const devtools = await context.newCDPSession(keeper.page);
  // As good as frozen: it has the lock, and runs no line.
  await devtools.send('Debugger.enable');
  await devtools.send('Debugger.pause');
  const others = opened.filter((one) => one !== keeper);
  const relieved = Promise.race(others.map(({ page }) => page.waitForRequest(/\/api\/v1\/stream$/)));
  if (keepers(others).length === 0) await relieved;
  await hear(others);
  await devtools.send('Debugger.disable');
  await hear(opened);
  await context.close();
});

test('who signs out in one tab is signed out in all', { skip: mockOnly() }, async () => {
  const { context, opened } = await tabs(3);
  await opened[1].page.getByRole('button', { name: 'Sign out' }).click();
  for (const { page } of opened) {
    await page.getByRole('heading', { name: 'Sign in', exact: true }).waitFor();
    assert.equal(await page.locator('summary[data-row]').count(), 0);
  }
  await opened[2].page.goto(lab.mock.login);
  for (const { page } of opened) await live(page);
  await context.close();
});

test('who signs in as another in one tab is that other in all, and what the first one edited is gone', { skip: mockOnly() }, async () => {
  const { context, opened } = await tabs(2);
  const [first, second] = opened.map(({ page }) => page);
  await first.goto(`${lab.base}/#/policy?edit=running`);
  await first.locator('textarea').first().fill('# of ann alone');
  lab.mock.world.people.asks = 'bob';
  try {
    await second.goto(lab.mock.login);
    await first.getByRole('banner').getByRole('link', { name: 'bob' }).waitFor();
    await live(first);
    await first.locator('textarea').first().waitFor();
    assert.ok(!(await first.locator('textarea').first().inputValue()).includes('of ann alone'));
  } finally {
    lab.mock.world.people.asks = 'ann';
    await context.close();
  }
});

test('a page that the browser set aside and shows again is live', async () => {
  const { context, opened } = await tabs(1);
  const { page } = opened[0];
  await page.evaluate(() => {
    dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }));
    dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }));
  });
  await live(page);
  await page.waitForFunction(() => navigator.locks.query().then(({ held, pending }) => held.length === 1 && pending.length === 0));
  await context.close();
});
