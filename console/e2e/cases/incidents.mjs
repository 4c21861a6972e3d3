// Incidents: their story, and what an operator does about one.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lab, mockOnly, open } from '../lab.mjs';

const ID = '5F2C81A07BE3D';

test('an incident tells its story, asks its question, and is undone', { skip: mockOnly() }, async () => {
  lab.mock.world.decide({ ip: '203.0.113.77', forMs: 600_000, node: { site: 'fra', node: 'fra-1' }, reason: 'stuffing' });
  const { page, faults, close } = await open('#/incidents');
  await page.getByRole('link', { name: /214 names were tried/ }).click();
  await page.getByRole('heading', { name: `Incident ${ID}` }).waitFor();
  await page.getByText('61 different names in 4 minutes', { exact: false }).waitFor();
  await page.getByRole('button', { name: 'No', exact: true }).click();
  await page.getByText('answered no by an operator').waitFor();
  await page.getByRole('button', { name: 'Undo everything' }).click();
  await page.getByRole('button', { name: 'Undo everything' }).click();
  await page.getByText('ended on every node', { exact: false }).waitFor();
  await page.getByText('what was done because of it was undone').waitFor();
  await page.getByRole('button', { name: 'Close' }).click();
  await page.getByRole('button', { name: 'Close it' }).click();
  await page.getByText('High, closed', { exact: false }).or(page.getByText('high, closed', { exact: false })).first().waitFor();
  assert.deepEqual(faults, []);
  await close();
});

test('an incident that nobody knows is said to be unknown', async () => {
  const { page, close } = await open('#/incidents/0000000000000');
  await page.getByText(/knows no incident/).waitFor();
  await close();
});

test('whoever is told can be told now, and what became of it is shown', { skip: mockOnly() }, async () => {
  const { page, faults, close } = await open('#/incidents');
  await page.getByRole('button', { name: 'Test chat' }).click();
  await page.getByText('It took the message.').waitFor();
  await page.getByRole('button', { name: 'Test ops' }).click();
  await page.getByText('Not told: mail.example.org:465 does not answer').waitFor();
  assert.deepEqual(faults, []);
  await close();
});
