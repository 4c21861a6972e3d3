// Requests: live, searched, explained, exported; and what is done about one.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { atPlace, attack, lab, live, mockOnly, noTarget, open, SHOTS } from '../lab.mjs';

const XSS = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>';
const rowsOf = (page) => page.locator('summary[data-row]');

test('an attack appears live and is explained in its row', { skip: noTarget() }, async () => {
  const { page, faults, close } = await open('#/requests');
  await live(page);
  await page.getByRole('heading', { level: 1 }).waitFor();
  const mark = `zz${Date.now()}`;
  const id = await attack(`<script>${mark}</script>`);
  const row = rowsOf(page).filter({ hasText: mark });
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

test('"why was this blocked?" is one step from a pasted block page, from any page', { skip: noTarget() }, async () => {
  const id = await attack('<script>1</script>');
  const { page, faults, close } = await open('#/audit');
  await page.getByLabel('Why was this blocked?').waitFor();
  await page.keyboard.press('/');
  await page.keyboard.insertText(`Refused. Request id: ${id.toLowerCase()}`);
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Verdict' }).waitFor();
  await page.getByText(id).first().waitFor();
  // The address can be handed on, and one can go back.
  await atPlace(page, `#/requests/${id}`);
  await page.reload();
  await page.getByRole('heading', { name: 'Verdict' }).waitFor();
  await page.goBack();
  await page.getByRole('heading', { name: 'Audit', level: 1 }).waitFor();
  // So can the address that earlier consoles had.
  await page.goto(`${lab.base}/request/${id}`);
  await page.getByRole('heading', { name: 'Verdict' }).waitFor();
  assert.deepEqual(faults, []);
  await close();
});

test('an unknown id is answered with where to look', async () => {
  const { page, close } = await open();
  await page.getByLabel('Why was this blocked?').fill('01M805KMW691AEKWXGYP21X9P1');
  await page.keyboard.press('Enter');
  await page.getByText('no record of').waitFor();
  await close();
});

test('text from strangers is shown as text', { skip: noTarget() }, async () => {
  const id = await attack(XSS);
  const { page, faults, close } = await open(`#/requests/${id}`);
  await page.getByText('onerror', { exact: false }).first().waitFor();
  await page.getByText('Raw facts').click();
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  assert.equal(await page.locator('img, script:not([src])').count(), 0);
  assert.deepEqual(faults, []);
  await page.screenshot({ path: `${SHOTS}console-hostile-text.png` });
  await close();
});

test('what is searched for stands in the address, and comes back whole', { skip: noTarget() }, async () => {
  await attack('<script>filtered</script>');
  const { page, close } = await open('#/requests');
  await rowsOf(page).first().waitFor();
  await page.getByLabel('Client', { exact: true }).fill('192.0.2.254');
  await page.getByText('No request on record matches this filter.').waitFor();
  await atPlace(page, '#/requests?client=192.0.2.254');
  assert.equal(await page.getByLabel('Client', { exact: true }).evaluate((field) => field === document.activeElement), true, 'who types is not disturbed');
  await page.reload();
  await page.getByText('No request on record matches this filter.').waitFor();
  assert.equal(await page.getByLabel('Client', { exact: true }).inputValue(), '192.0.2.254');
  await page.getByRole('button', { name: 'Show all' }).click();
  await rowsOf(page).first().waitFor();
  assert.equal(await page.getByLabel('Client', { exact: true }).inputValue(), '');
  await page.getByLabel('Rule', { exact: true }).fill('1');
  await page.getByText('No request on record matches this filter.').waitFor();
  await close();
});

test('all nodes are asked, and tell networks, not clients', { skip: mockOnly() }, async () => {
  const { page, faults, close } = await open('#/requests');
  await rowsOf(page).first().waitFor();
  await page.getByLabel('all nodes').check();
  await rowsOf(page).filter({ hasText: '.0/24' }).first().waitFor();
  await atPlace(page, '#/requests?fleet=all');
  assert.deepEqual(faults, []);
  await close();
});

test('half an address is marked, and not asked for', { skip: noTarget() }, async () => {
  await attack('<script>half</script>');
  const { page, close } = await open('#/requests');
  await rowsOf(page).first().waitFor();
  const field = page.getByLabel('Client', { exact: true });
  await field.fill('192.0.2');
  assert.equal(await field.getAttribute('aria-invalid'), 'true');
  await page.getByRole('button', { name: 'More filters' }).click();
  await page.getByLabel('Country').fill('Z');
  assert.equal(new URL(page.url()).hash, '#/requests');
  await close();
});

test('rows are walked by arrow keys', { skip: noTarget() }, async () => {
  await attack('<script>a</script>');
  await attack('<script>b</script>');
  const { page, close } = await open('#/requests');
  const rows = rowsOf(page);
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
  const { page, close } = await open('#/requests');
  await rowsOf(page).first().waitFor();
  await live(page);
  await page.getByRole('button', { name: 'Hold' }).click();
  const first = await rowsOf(page).first().textContent();
  await attack('<script>meanwhile</script>');
  await page.getByRole('button', { name: /newer request/ }).waitFor();
  assert.equal(await rowsOf(page).first().textContent(), first);
  await close();
});

test('what is shown is exported, and no cell is a formula', { skip: noTarget() }, async () => {
  await attack('=HYPERLINK("//evil.example")<script>');
  const { page, faults, close } = await open('#/requests');
  await rowsOf(page).first().waitFor();
  const download = page.waitForEvent('download');
  await page.getByRole('button', { name: 'CSV' }).click();
  const text = await readFile(await (await download).path(), 'utf8');
  assert.match(text, /^time,id,action,/);
  assert.ok(!/(^|,)"?[=+@]/m.test(text), 'no cell begins like a formula');
  assert.deepEqual(faults, []);
  await close();
});

test('from a refused request to an exclusion that is in force', { skip: mockOnly() }, async () => {
  const id = await attack('<b>bold</b>');
  const { page, faults, close } = await open(`#/requests/${id}`);
  await page.getByRole('button', { name: 'Propose an exclusion' }).click();
  await page.getByText('With it, this request passes.').waitFor();
  await page.getByText('it would let 2 pass', { exact: false }).waitFor();
  await page.screenshot({ path: `${SHOTS}console-exclusion.png` });
  await page.getByRole('button', { name: 'Make it a change' }).click();
  await page.getByRole('alert').filter({ hasText: 'owner and a reason' }).waitFor();
  await page.getByLabel('Reason').fill('ticket 4711');
  await page.getByRole('button', { name: 'Make it a change' }).click();
  await page.getByText('It is in force as policy', { exact: false }).waitFor();
  assert.deepEqual(faults, []);
  await close();
});

test('who sent a request is allowed in one step, with a reason', { skip: mockOnly() }, async () => {
  const id = lab.mock.world.attack({ client: '192.0.2.31', attack: { method: 'GET', target: '/x', rules: [941110], variable: 'ARGS:q', fragment: '<b>' } });
  const { page, close } = await open(`#/requests/${id}`);
  await page.getByRole('button', { name: 'Allow this client' }).click();
  await page.keyboard.press('Enter');
  await page.getByRole('alert').filter({ hasText: 'Why?' }).waitFor();
  await page.keyboard.type('a partner');
  await page.keyboard.press('Enter');
  await page.getByText('192.0.2.31 is allowed on every node', { exact: false }).first().waitFor();
  assert.ok(lab.mock.world.live().some((one) => one.kind === 'allow' && one.reason === 'a partner'));
  await close();
});
