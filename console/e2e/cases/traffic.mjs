// Traffic over time.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atPlace, lab, mockOnly, open, SHOTS } from '../lab.mjs';

test('traffic is drawn, said as a table, and grouped; all of it stands in the address', async () => {
  const { page, faults, close } = await open('#/traffic');
  await page.locator('.chart canvas').nth(1).waitFor();
  await page.getByText('The same as a table').click();
  await page.getByRole('columnheader', { name: 'Challenged or slowed' }).waitFor();
  await page.getByRole('button', { name: '24 h' }).click();
  await atPlace(page, '#/traffic?range=24h');
  await page.getByRole('button', { name: 'country', exact: true }).click();
  await page.getByRole('columnheader', { name: 'Country' }).first().or(page.getByText('Nothing in this time.').first()).waitFor();
  await page.getByLabel('compare with the time before').check();
  await atPlace(page, '#/traffic?range=24h&by=country&compare=1');
  // A node that is younger than that has nothing to compare with.
  await page.locator('dd.then').or(page.getByText('Nothing to compare with')).first().waitFor();
  await page.reload();
  assert.equal(await page.getByRole('button', { name: '24 h' }).getAttribute('aria-pressed'), 'true');
  assert.deepEqual(faults, []);
  await close();
});

test('a part drawn over is zoomed into, and one can go back', { skip: mockOnly() }, async () => {
  const { page, close } = await open('#/traffic?range=24h');
  const chart = page.locator('.chart .u-over').first();
  await chart.waitFor();
  const box = await chart.boundingBox();
  await page.mouse.move(box.x + box.width * 0.4, box.y + 40);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.6, box.y + 40, { steps: 6 });
  await page.mouse.up();
  await page.waitForURL((url) => /from=\d+&to=\d+/.test(url.hash));
  const [, from, to] = /from=(\d+)&to=(\d+)/.exec(new URL(page.url()).hash);
  const hours = (Number(to) - Number(from)) / 3_600_000;
  assert.ok(hours > 4 && hours < 6, `a fifth of the day: ${hours} h`);
  await page.goBack();
  await atPlace(page, '#/traffic?range=24h');
  await close();
});

test('traffic is told apart by app, site, rule, country and client, each beside the time before', async () => {
  const { page, faults, close } = await open('#/traffic?range=15m');
  const by = page.getByRole('region', { name: 'By', exact: true });
  for (const one of ['app', 'site', 'rule', 'country', 'actor', 'action', 'class', 'status', 'node']) {
    await by.getByRole('button', { name: one, exact: true }).click();
    await atPlace(page, `#/traffic?range=15m&by=${one}`);
    const heading = one === 'actor' ? 'Client' : `${one[0].toUpperCase()}${one.slice(1)}`;
    await by.getByRole('columnheader', { name: heading, exact: true }).or(by.getByText('Nothing in this time.')).waitFor();
  }
  assert.deepEqual(faults, []);
  await close();
});

test('a rule is told with its words, a client with its course and where it is', { skip: mockOnly() }, async () => {
  const { page, close } = await open('#/traffic?range=24h&by=actor&compare=1');
  const by = page.getByRole('region', { name: 'By', exact: true });
  const row = by.getByRole('row').filter({ hasText: '203.0.113.66' });
  await row.getByText('NL, AS64496').waitFor();
  await row.locator('svg path').waitFor();
  await by.getByText('everybody else').waitFor();
  assert.equal(await by.getByLabel('refused only').count(), 0, 'they are always');
  await by.getByRole('button', { name: 'rule', exact: true }).click();
  await by.getByText('SQL Injection Attack Detected via libinjection').waitFor();
  await close();
});

test('a day of a node that began ten minutes ago is drawn from there on, and says so', { skip: mockOnly() }, async () => {
  lab.mock.world.countedSince = Math.floor(Date.now() / 60_000) * 60_000 - 600_000;
  try {
    const { page, faults, close } = await open('#/traffic?range=24h&compare=1');
    await page.getByText(/^Counted since .* ago: of what was before, nothing is known\.$/).waitFor();
    await page.getByText(/^Nothing to compare with/).waitFor();
    await page.getByText('The same as a table').click();
    const rows = await page.locator('figure tbody tr').count();
    assert.ok(rows >= 9 && rows <= 11, `${rows} minutes`);
    await page.screenshot({ path: `${SHOTS}console-traffic-young.png` });
    // A time of its own is shown as asked, and nothing stands for what is not known.
    const now = Date.now();
    await page.goto(`${lab.base}/#/traffic?from=${now - 1_200_000}&to=${now}`);
    await page.getByRole('cell', { name: 'not counted' }).first().waitFor();
    assert.deepEqual(faults, []);
    await close();
  } finally {
    lab.mock.world.countedSince = null;
  }
});

test('the first minute of a node is drawn as a minute, and not as years', { skip: mockOnly() }, async () => {
  lab.mock.world.countedSince = Math.floor(Date.now() / 60_000) * 60_000 - 60_000;
  try {
    const { page, faults, close } = await open('#/traffic?range=24h');
    const chart = page.locator('.chart .u-over').first();
    await chart.waitFor();
    const box = await chart.boundingBox();
    await page.mouse.move(box.x + 5, box.y + 40);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width - 5, box.y + 40, { steps: 6 });
    await page.mouse.up();
    await page.waitForURL((url) => /from=\d+&to=\d+/.test(url.hash));
    const [, from, to] = /from=(\d+)&to=(\d+)/.exec(new URL(page.url()).hash);
    assert.ok(Number(to) - Number(from) <= 600_000, `${Number(to) - Number(from)} ms`);
    assert.deepEqual(faults, []);
    await close();
  } finally {
    lab.mock.world.countedSince = null;
  }
});

test('a rule leads to its requests', { skip: mockOnly() }, async () => {
  const { page, close } = await open('#/traffic?range=1h&by=rule');
  await page.getByRole('link', { name: '942100' }).first().click();
  await page.waitForURL((url) => url.hash.startsWith('#/requests?rule=942100&from='));
  await page.locator('summary[data-row]').first().waitFor();
  await close();
});

test('what is shown can be had as a report of the same time', async () => {
  const { page, close } = await open('#/traffic?range=1h');
  const link = page.getByRole('link', { name: 'to print' });
  await link.waitFor();
  const asked = new URL(await link.getAttribute('href'), page.url()).searchParams;
  assert.equal(asked.get('format'), 'html');
  const asked_ms = Number(asked.get('to_ms')) - Number(asked.get('from_ms'));
  // A node that is younger has counted no hour.
  assert.ok(asked_ms > 0 && (!lab.mock || asked_ms >= 3_600_000), `${asked_ms} ms`);
  await close();
});
