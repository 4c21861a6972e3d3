// Every page: without errors, for screen readers, by keyboard, on a phone, light and dark; with its picture.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startMock } from '../../dev/mock.mjs';
import { focusedText, lab, live, mockOnly, open, SHOTS, violations } from '../lab.mjs';

const PAGES = {
  overview: '#/',
  traffic: '#/traffic?range=24h&compare=1',
  requests: '#/requests',
  request: '#/requests/ID',
  incidents: '#/incidents',
  incident: '#/incidents/5F2C81A07BE3D',
  policy: '#/policy',
  files: '#/policy?view=running',
  editor: '#/policy?edit=running',
  exclusions: '#/exclusions',
  fleet: '#/fleet',
  intelligence: '#/intelligence',
  operators: '#/operators',
  audit: '#/audit',
  nowhere: '#/nowhere',
};

/** Controls without a name. */
function nameless(page) {
  return page.evaluate(() =>
    [...document.querySelectorAll('button, input, select, textarea, summary, a[href]')]
      .filter((e) => !(e.textContent?.trim() || e.getAttribute('aria-label') || e.labels?.length))
      .map((e) => e.outerHTML.slice(0, 120)),
  );
}

/** Opens a page and waits until nothing of it is on its way. */
async function settled(name, options) {
  let id = '01M805KMW691AEKWXGYP21X9P1';
  if (lab.mock) id = [...lab.mock.world.records].find(([, { full }]) => full.signals.length > 1)?.[0] ?? id;
  const opened = await open(PAGES[name].replace('ID', id), options);
  await opened.page.getByRole('heading', { level: 1 }).waitFor();
  await live(opened.page);
  await opened.page.waitForFunction(() => !/Fetching|Opening|Searching/.test(document.querySelector('main')?.textContent ?? ''));
  if (name === 'traffic') await opened.page.locator('.chart canvas').nth(1).waitFor();
  if (name === 'overview') await opened.page.waitForFunction(() => document.querySelector('.figures dd')?.textContent !== '–/s');
  return opened;
}

for (const name of Object.keys(PAGES)) {
  for (const colorScheme of ['light', 'dark']) {
    test(`${name}, ${colorScheme}: no errors, nothing for axe to find, a picture`, async () => {
      const { page, faults, close } = await settled(name, { colorScheme, bypassCSP: true });
      assert.deepEqual(await violations(page), []);
      assert.deepEqual(await nameless(page), []);
      assert.deepEqual(faults, []);
      const ground = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
      const bright = ground.match(/\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0) > 380;
      assert.equal(bright, colorScheme === 'light');
      await page.screenshot({ path: `${SHOTS}console-${name}-${colorScheme}.png` });
      await close();
    });
  }

  test(`${name}: a phone of 360 px shows it without scrolling sideways`, async () => {
    const { page, close } = await settled(name, { viewport: { width: 360, height: 780 }, colorScheme: 'dark' });
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 360);
    await page.screenshot({ path: `${SHOTS}console-${name}-phone.png`, fullPage: true });
    await close();
  });
}

test('with everything opened that opens in place, axe finds nothing wrong on the first page', async () => {
  const { page, close } = await settled('overview', { bypassCSP: true });
  const held = lab.mock?.world.hold({ blocklist: 'scanners', what: 'blocklist', role: 'operator', addresses: 4_711, clients: 37, of: 412, reason: 'known scanners' });
  await page.getByRole('button', { name: 'Add decision' }).click();
  if (held) {
    await page.getByRole('button', { name: 'Approve' }).click();
    await page.getByRole('button', { name: 'Leave it held' }).waitFor();
  }
  const selfTest = page.locator('summary').filter({ hasText: 'Self-test' });
  if (await selfTest.count()) await selfTest.click();
  const found = await violations(page);
  if (held) lab.mock.world.settle(held.id, false, '');
  assert.deepEqual(found, []);
  await close();
});

test('what opens in place on a phone scrolls in itself, and not the page', async () => {
  const openers = [['#/', 'summary:has-text("Self-test")'], ['#/intelligence', 'button:has-text("Import a list")'], ['#/fleet', 'button:has-text("Drain")']];
  // Who came by the admin token has no account, and no tokens.
  if (lab.mock) openers.push(['#/operators', 'button:has-text("Make a token")']);
  for (const [place, opener] of openers) {
    const { page, close } = await open(place, { viewport: { width: 360, height: 780 } });
    await live(page);
    await page.locator(opener).first().click({ timeout: 5_000 });
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 360, `${place}: ${opener}`);
    await close();
  }
});

test('every page is reached by keyboard, is announced by its heading, and leaves the focus there', async () => {
  const { page, close } = await settled('overview');
  await page.keyboard.press('Tab');
  assert.match(await focusedText(page), /^Skip/);
  for (const name of ['Traffic', 'Requests', 'Incidents', 'Policy', 'Exclusions', 'Intelligence', 'Fleet', 'Operators', 'Audit']) {
    await page.getByRole('navigation').getByRole('link', { name: new RegExp(`^${name}`) }).focus();
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.activeElement?.tagName === 'H1');
    assert.equal(await page.locator('[aria-current=page]').textContent().then((text) => text.startsWith(name)), true);
    assert.notEqual(await page.title(), 'Phalanx');
  }
  await close();
});

test('the ways to the pages are grouped, and each group has its name', async () => {
  const { page, close } = await settled('overview');
  const ways = page.getByRole('navigation', { name: 'Pages' });
  for (const [name, last] of [['Watch', 'Incidents'], ['Protect', 'Intelligence'], ['Run', 'Audit']]) {
    await ways.getByRole('list', { name }).getByRole('link', { name: new RegExp(`^${last}`) }).waitFor();
  }
  await close();
});

test('on a phone the pages that do not fit the bar are one step away', async () => {
  const { page, close } = await open('#/', { viewport: { width: 360, height: 780 } });
  await live(page);
  const audit = page.getByRole('navigation').getByRole('link', { name: 'Audit' });
  assert.equal(await audit.isVisible(), false);
  await page.getByRole('button', { name: 'More' }).click();
  await page.screenshot({ path: `${SHOTS}console-more-phone.png` });
  await audit.click();
  await page.getByRole('heading', { name: 'Audit', level: 1 }).waitFor();
  assert.equal(await audit.isVisible(), false, 'the way there closes behind one');
  await close();
});

test('the theme goes against the system and stays', async () => {
  const { page, close } = await settled('audit', { colorScheme: 'light' });
  const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const before = await ground();
  await page.getByRole('button', { name: /^Theme/ }).click();
  await page.reload();
  assert.notEqual(await ground(), before);
  await close();
});

test('pages come and go without leaving anything behind', { skip: mockOnly() }, async () => {
  const quiet = await startMock({ open: true, scenario: 'quiet' });
  const context = await lab.browser.newContext();
  try {
    const page = await context.newPage();
    await page.goto(quiet.base);
    await live(page);
    const devtools = await context.newCDPSession(page);
    await devtools.send('HeapProfiler.enable');
    const rounds = async (count) => {
      for (let n = 0; n < count; n++) {
        for (const place of ['#/traffic', '#/requests', '#/incidents', '#/policy', '#/fleet', '#/']) {
          await page.evaluate((hash) => (location.hash = hash), place);
          if (place !== '#/') await page.waitForFunction(() => document.activeElement?.tagName === 'H1');
          await page.waitForFunction(() => !/Fetching|Opening|Searching/.test(document.querySelector('main')?.textContent ?? ''));
        }
      }
      await devtools.send('HeapProfiler.collectGarbage');
      return devtools.send('Memory.getDOMCounters');
    };
    const before = await rounds(2);
    const after = await rounds(5);
    assert.ok(after.nodes < before.nodes * 1.5, `${before.nodes} nodes, then ${after.nodes}`);
    assert.ok(after.jsEventListeners < before.jsEventListeners + 40, `${before.jsEventListeners} listeners, then ${after.jsEventListeners}`);
  } finally {
    await context.close();
    await quiet.stop();
  }
});

test('motion stops for whoever asked for it', async () => {
  const { page, close } = await settled('traffic', { reducedMotion: 'reduce' });
  assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
  await close();
});
