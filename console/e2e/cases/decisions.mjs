// Decisions: made, undone, held, asked for twice; by keyboard.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { focusedText, lab, live, mockOnly, open, SHOTS } from '../lab.mjs';

/** An address of the documentation range that nobody else here uses. */
const ACTOR = '203.0.113.250';

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
  await live(page);
  assert.equal(await row.count(), 0, 'it is gone on the node too');
  assert.deepEqual(faults, []);
  await close();
});

test('an undo that the node refuses comes back with the reason', { skip: mockOnly() }, async () => {
  const { page, close } = await open();
  await page.locator('[data-undo]').first().waitFor();
  const actor = await page.locator('.actor').first().textContent();
  lab.mock.world.refuseUndo = true;
  try {
    const row = page.getByRole('listitem').filter({ hasText: actor }).filter({ has: page.locator('.actor') });
    await row.getByRole('button', { name: 'Undo' }).click();
    await page.keyboard.press('Enter');
    await row.getByRole('alert').filter({ hasText: 'no space left' }).waitFor();
  } finally {
    lab.mock.world.refuseUndo = false;
  }
  await close();
});

test('what is held is approved and rejected by keyboard alone', { skip: mockOnly() }, async () => {
  const { page, faults, close } = await open();
  await live(page);
  assert.equal(await page.getByRole('heading', { name: 'Held for an operator' }).count(), 0, 'nothing is shown while nothing waits');
  lab.mock.world.hold({ ip: '203.0.113.211', clients: 37, of: 412, reason: '3 attacks <b>here</b>' });
  lab.mock.world.hold({ blocklist: 'scanners', what: 'blocklist', role: 'operator', addresses: 4_711, clients: 37, of: 412, reason: 'known scanners' });
  lab.mock.world.hold({ prefix: '203.0.113.0/24', what: 'range', addresses: 71, clients: 2, of: 412, reason: '71 of its addresses are banned by iad/iad-1' });
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
  lab.mock.world.refuseUndo = true;
  await page.keyboard.press('Enter');
  await page.keyboard.press('Enter');
  await row('203.0.113.211').getByRole('alert').filter({ hasText: 'no space left' }).waitFor();
  lab.mock.world.refuseUndo = false;
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
