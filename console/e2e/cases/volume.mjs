// Ten thousand of everything, with names that break layouts: nothing makes a page stand still, scroll sideways, or lose what it says.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startMock } from '../../dev/mock.mjs';
import { lab, live, mockOnly, SHOTS, violations } from '../lab.mjs';

const PLACES = { overview: '#/', traffic: '#/traffic', requests: '#/requests', request: '#/requests/01V00000000000000000000001', incidents: '#/incidents', incident: '#/incidents/5F2C81A07BE3D', policy: '#/policy', editor: '#/policy?edit=running', exclusions: '#/exclusions', fleet: '#/fleet', intelligence: '#/intelligence', operators: '#/operators', audit: '#/audit' };
/** Elements of a page: ten thousand rows in one go are five times as many. How long a task took is told, and is no fault: that is the machine's. */
const DRAWN_MAX = 12_000;

let crowd;
before(async () => {
  if (!mockOnly()) crowd = await startMock({ scenario: 'volume', open: true });
});
after(() => crowd?.stop());

async function open(name, { traced = false, ...options } = {}) {
  const context = await lab.browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  if (traced) await lab.browser.startTracing(page, { categories: ['toplevel', 'devtools.timeline', 'disabled-by-default-devtools.timeline'] });
  await page.goto(`${crowd.base}/${PLACES[name]}`);
  await live(page);
  await page.getByRole('heading', { level: 1 }).waitFor();
  await page.waitForFunction(() => !/Fetching|Opening|Searching/.test(document.querySelector('main')?.textContent ?? ''));
  return { page, close: () => context.close() };
}

/** How much is drawn, and the longest of what the page did in one go, while it was opened, scrolled, and asked for more of each list. */
async function worked(name) {
  const { page, close } = await open(name, { traced: true });
  await page.mouse.move(640, 450);
  for (let n = 0; n < 4; n++) await page.mouse.wheel(0, 4_000);
  const more = page.getByRole('button', { name: /^Show [\d\u2009]+ more$|^Older/ });
  for (let n = 0; n < 3 && (await more.count()) > 0; n++) await more.first().click();
  await page.keyboard.press('Tab');
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  const drawn = await page.evaluate(() => document.querySelectorAll('*').length);
  const { traceEvents } = JSON.parse((await lab.browser.stopTracing()).toString());
  await close();
  const pages = new Set(traceEvents.filter((one) => one.name === 'thread_name' && one.args.name === 'CrRendererMain').map((one) => `${one.pid} ${one.tid}`));
  const tasks = traceEvents.filter((one) => one.tdur && pages.has(`${one.pid} ${one.tid}`));
  assert.ok(tasks.length > 0, 'tasks are timed');
  return { drawn, longest: Math.round(Math.max(...tasks.map((one) => one.tdur)) / 1000) };
}

/** What is cut off, and can be read neither by opening it, nor by scrolling, nor by its title. */
function lost(page) {
  return page.evaluate(() => {
    const faults = [];
    for (const one of document.querySelectorAll('body *')) {
      const style = getComputedStyle(one);
      if (one.closest('.sr, summary, svg, canvas, .uplot, [title]') || style.display === 'none' || one.matches('input, select, textarea')) continue;
      const hides = (way) => ['hidden', 'clip'].includes(way);
      if (hides(style.overflowX) && one.scrollWidth > one.clientWidth + 1) faults.push(`cut off: ${one.outerHTML.slice(0, 120)}`);
    }
    return faults.slice(0, 5);
  });
}

async function sideways(page) {
  return page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    const scrolls = (one) => one && one !== document.body && (['auto', 'scroll'].includes(getComputedStyle(one).overflowX) || scrolls(one.parentElement));
    const wide = [...document.querySelectorAll('body *')].filter((one) => one.getBoundingClientRect().right > width + 1 && !scrolls(one.parentElement));
    return [`${document.documentElement.scrollWidth} px of ${width}`, ...wide.slice(-4).map((one) => one.outerHTML.slice(0, 140))];
  });
}

for (const name of Object.keys(PLACES)) {
  test(`${name}, with ten thousand of everything: a part of it is drawn, and more when it is asked for`, { skip: mockOnly() }, async (context) => {
    const { drawn, longest } = await worked(name);
    context.diagnostic(`${drawn} elements; the longest task took ${longest} ms of the processor`);
    assert.ok(drawn <= DRAWN_MAX, `${drawn} elements`);
  });

  test(`${name}, with names that break layouts: nothing scrolls sideways or is lost, at 320 px, zoomed, and with spaced text`, { skip: mockOnly() }, async () => {
    const { page, close } = await open(name, { bypassCSP: true });
    const faults = [];
    const look = async (words) => {
      for (const fault of [...(await sideways(page)), ...(await lost(page))]) faults.push(`${words}: ${fault}`);
    };
    await look('1280 px');
    // WCAG 1.4.10: 1280 px at 200 % and 400 %.
    await page.setViewportSize({ width: 640, height: 450 });
    await look('200 %');
    await page.setViewportSize({ width: 320, height: 256 });
    await look('400 %');
    // WCAG 1.4.12.
    await page.addStyleTag({ content: '* { line-height: 1.5 !important; letter-spacing: 0.12em !important; word-spacing: 0.16em !important } p { margin-bottom: 2em !important }' });
    await look('spaced');
    await page.setViewportSize({ width: 320, height: 800 });
    await page.screenshot({ path: `${SHOTS}volume-${name}.png` });
    assert.deepEqual(faults, []);
    await close();
  });
}

test('ten thousand exclusions are found by a word', { skip: mockOnly() }, async () => {
  const { page, close } = await open('exclusions');
  await page.getByLabel('Find').fill('مرحبا');
  await page.getByText(/with this text/).waitFor();
  assert.ok((await page.locator('tbody tr').count()) <= 100);
  await page.getByLabel('Find').fill('no such word');
  await page.getByText('No exclusion has this text.').waitFor();
  await page.getByRole('button', { name: 'Show all' }).click();
  await page.getByText('100 of 10\u2009000 exclusions shown').waitFor();
  await close();
});

test('with colours that the system forces, what is current, pressed and focused can be told', { skip: mockOnly() }, async () => {
  const { page, close } = await open('overview', { forcedColors: 'active', bypassCSP: true });
  await page.screenshot({ path: `${SHOTS}forced-overview.png` });
  const current = await page.evaluate(() => {
    const [here, there] = [document.querySelector('nav a[aria-current]'), document.querySelector('nav a:not([aria-current])')].map((one) => getComputedStyle(one));
    return here.borderLeftColor !== there.borderLeftColor || here.borderLeftWidth !== there.borderLeftWidth || here.backgroundColor !== there.backgroundColor;
  });
  assert.ok(current, 'the page one is at');
  await page.keyboard.press('Tab');
  assert.notEqual(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), 'none');
  assert.deepEqual(await violations(page), []);
  await close();
});
