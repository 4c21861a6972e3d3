// Operators, step-up, accounts limited to some apps, sign-in and its end.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { focusedText, lab, live, mockOnly, open, SHOTS } from '../lab.mjs';

test('a stranger finds a page that says how to sign in, and nothing else', async () => {
  const { page, close } = await open('#/audit', { storageState: { cookies: [], origins: [] } });
  await page.getByRole('heading', { name: 'Sign in', exact: true }).waitFor();
  await page.getByText('phalanx login', { exact: true }).waitFor();
  assert.equal(await page.locator('table, nav, [data-undo]').count(), 0);
  await page.screenshot({ path: `${SHOTS}console-login.png` });
  await close();
});

test('a dangerous call asks for a fresh factor and is then made', { skip: mockOnly() }, async () => {
  const { people } = lab.mock.world;
  people.stale = true;
  const { page, faults, close } = await open('#/operators');
  await page.getByRole('button', { name: 'Add operator' }).click();
  await page.getByLabel('Name', { exact: true }).first().fill('dave');
  await page.getByRole('button', { name: 'Add', exact: true }).click();
  const dialog = page.getByRole('dialog', { name: 'Prove that it is you' });
  await dialog.waitFor();
  await page.screenshot({ path: `${SHOTS}console-step-up.png` });
  await page.keyboard.type('000000');
  await page.keyboard.press('Enter');
  await dialog.getByRole('alert').filter({ hasText: 'not right' }).waitFor();
  // Who gives up is told what the node said, and nothing was done.
  await page.keyboard.press('Escape');
  await page.getByRole('alert').filter({ hasText: 'prove yourself again' }).waitFor();
  assert.equal(people.operators.length, 3);
  await page.getByRole('button', { name: 'Add', exact: true }).click();
  await dialog.waitFor();
  await page.keyboard.type('123456');
  await page.keyboard.press('Enter');
  await page.getByText('A link for dave.').waitFor();
  await page.getByText('/login?ticket=', { exact: false }).waitFor();
  await page.screenshot({ path: `${SHOTS}console-invited.png` });
  await page.getByRole('button', { name: 'I have it' }).click();
  assert.equal(await page.getByText('/login?ticket=', { exact: false }).count(), 0, 'it is shown once');
  assert.deepEqual(faults.filter((fault) => !fault.includes('403')), []);
  await close();
});

test('an operator is disabled, given another role, and removed', { skip: mockOnly() }, async () => {
  const { people } = lab.mock.world;
  const { page, close } = await open('#/operators');
  const row = page.getByRole('listitem').filter({ hasText: 'bob' }).filter({ has: page.getByRole('button', { name: 'Reset bob' }) });
  await row.getByRole('button', { name: 'Disable bob' }).click();
  assert.equal(await focusedText(page), 'Disable', 'the answer has the focus');
  await page.keyboard.press('Enter');
  await row.getByText('disabled', { exact: true }).waitFor();
  await row.getByRole('button', { name: 'Enable bob' }).click();
  await page.keyboard.press('Enter');
  await row.getByText('disabled', { exact: true }).waitFor({ state: 'detached' });
  await row.getByRole('button', { name: /^Role and apps/ }).click();
  await page.getByRole('form', { name: 'Change bob' }).getByLabel('Role').selectOption('responder');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('responder', { exact: true }).waitFor();
  people.operators.find((one) => one.name === 'bob').role = 'editor';
  await close();
});

test('a token is made for oneself and shown once', { skip: mockOnly() }, async () => {
  const { page, close } = await open('#/operators');
  await page.getByRole('button', { name: 'Make a token' }).click();
  const form = page.getByRole('form', { name: 'Make a token' });
  await form.getByLabel('Name').fill('ci');
  await form.getByRole('button', { name: 'Make it' }).click();
  await page.getByText(/^phx_/).waitFor();
  await page.getByRole('button', { name: 'I have it' }).click();
  assert.equal(await page.getByText(/^phx_/).count(), 0);
  await close();
});

test('who is limited to some apps sees these, and is offered no page about the whole node', { skip: mockOnly() }, async () => {
  lab.mock.world.people.asks = 'carol';
  try {
    const { page, faults, close } = await open();
    await page.getByRole('heading', { name: 'Your apps' }).waitFor();
    await live(page);
    assert.deepEqual((await page.getByRole('navigation').getByRole('link').allTextContents()).map((text) => text.trim()), ['Overview', 'Requests', 'Account']);
    assert.equal(await page.getByRole('heading', { name: 'Sites and nodes' }).count(), 0, 'nothing of the fleet');
    await page.screenshot({ path: `${SHOTS}console-own-apps.png` });
    await page.goto(`${lab.base}/#/policy`);
    await page.getByText('Not for this account.').waitFor();
    assert.deepEqual(faults, []);
    await close();
  } finally {
    lab.mock.world.people.asks = 'ann';
  }
});

test('an ended session leads to the sign-in page', { skip: mockOnly() }, async () => {
  const { page, close } = await open();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByRole('heading', { name: 'Sign in', exact: true }).waitFor();
  await close();
});
