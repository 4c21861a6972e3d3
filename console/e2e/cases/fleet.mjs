// Nodes and what they are ordered to do, invitations, blocklists, bouncers; playbooks and reports by hand.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lab, mockOnly, open } from '../lab.mjs';

test('a node is cordoned with a reason, and set to work again', { skip: mockOnly() }, async () => {
  const { page, faults, close } = await open('#/fleet');
  const row = page.getByRole('listitem').filter({ hasText: 'iad/iad-1' });
  await row.getByRole('button', { name: 'Cordon iad/iad-1' }).click();
  await row.getByLabel(/^Take iad\/iad-1 out of load balancing/).fill('new disk');
  await page.keyboard.press('Enter');
  await row.getByText('cordoned: new disk').waitFor();
  await row.getByRole('button', { name: 'Set to work iad/iad-1' }).click();
  await row.getByLabel(/^Let iad\/iad-1 serve again/).press('Enter');
  await row.getByText('serving', { exact: true }).waitFor();
  assert.deepEqual(faults, []);
  await close();
});

test('an invitation asks for a fresh factor, and its token is shown once', { skip: mockOnly() }, async () => {
  lab.mock.world.people.stale = true;
  const { page, faults, close } = await open('#/fleet');
  await page.getByRole('button', { name: 'Invite a node' }).click();
  const form = page.getByRole('form', { name: 'Invite a node' });
  await form.getByLabel('Site').fill('syd');
  await form.getByRole('button', { name: 'Invite' }).click();
  await page.getByRole('dialog', { name: 'Prove that it is you' }).waitFor();
  await page.keyboard.type('123456');
  await page.keyboard.press('Enter');
  await page.getByText(/^phxjoin_/).waitFor();
  await page.getByText(/^Open invitations: syd/).waitFor();
  await page.getByRole('button', { name: 'I have it' }).click();
  assert.equal(await page.getByText(/^phxjoin_/).count(), 0);
  assert.deepEqual(faults.filter((fault) => !fault.includes('403')), []);
  await close();
});

test('a node without the authority says who has it, and not that something failed', { skip: mockOnly() }, async () => {
  lab.mock.world.fleet.alone = true;
  try {
    const { page, close } = await open('#/fleet');
    await page.getByText('Who is a member is known elsewhere.').waitFor();
    assert.equal(await page.getByRole('alert').count(), 0);
    await close();
  } finally {
    lab.mock.world.fleet.alone = false;
  }
});

test('an upgrade says which process took over', { skip: mockOnly() }, async () => {
  const { page, close } = await open('#/fleet');
  await page.getByRole('button', { name: 'Upgrade this node' }).click();
  await page.keyboard.press('Enter');
  await page.getByText(/^Process \d+ of version 0\.1\.0 has taken over\.$/).waitFor();
  await close();
});

async function importList(page, name, content) {
  const form = page.getByRole('form', { name: 'Import a list' });
  await form.getByLabel('Name').fill(name);
  await form.getByLabel('File').setInputFiles({ name: 'list.txt', mimeType: 'text/plain', buffer: Buffer.from(content) });
  await form.getByLabel('Why').fill('tried here');
  await form.getByRole('button', { name: 'Import' }).click();
}

// On the node's own, too: the only text among the bodies that the console sends.
test('a list is refused with its line, then imported, and removed', async () => {
  const { page, faults, close } = await open('#/intelligence');
  await page.getByRole('button', { name: 'Import a list' }).click();
  await importList(page, 'tried', '192.0.2.1\nnonsense\n');
  await page.getByText(/^Line 2:/).waitFor();
  await importList(page, 'tried', '192.0.2.1\n198.51.100.0/24\n');
  const row = page.getByRole('row').filter({ hasText: 'tried here' });
  await row.waitFor();
  await row.getByRole('button', { name: 'Remove blocklist tried' }).click();
  await page.keyboard.press('Enter');
  await row.waitFor({ state: 'detached' });
  assert.deepEqual(faults.filter((fault) => !fault.includes('422')), []);
  await close();
});

test('a bouncer gets a key, which is shown once, and loses it', async () => {
  const { page, faults, close } = await open('#/intelligence');
  await page.getByRole('button', { name: 'Add a bouncer' }).click();
  const form = page.getByRole('form', { name: 'Add a bouncer' });
  await form.getByLabel('Name').fill('tried');
  await form.getByRole('button', { name: 'Add' }).click();
  await page.getByText('The key of tried, shown once.').waitFor();
  await page.getByRole('button', { name: 'I have it' }).click();
  const row = page.getByRole('row').filter({ hasText: 'tried' });
  await row.getByRole('button', { name: 'Delete bouncer tried' }).click();
  await page.keyboard.press('Enter');
  await row.waitFor({ state: 'detached' });
  assert.deepEqual(faults, []);
  await close();
});

test('a playbook is run for an incident, and a report is sent now', { skip: mockOnly() }, async () => {
  const { page, close } = await open('#/incidents/5F2C81A07BE3D');
  await page.getByRole('button', { name: 'Run playbook contain-stuffing' }).click();
  await page.keyboard.press('Enter');
  await page.getByText('Playbook contain-stuffing begins.').waitFor();
  assert.deepEqual(lab.mock.world.fleet.runs, ['contain-stuffing 5F2C81A07BE3D']);
  await page.goto(`${lab.base}/#/incidents`);
  await page.getByRole('button', { name: 'Send now report weekly' }).click();
  await page.keyboard.press('Enter');
  await page.getByText('ops took it').waitFor();
  await close();
});
