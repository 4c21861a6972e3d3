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

test('a node is emptied, and what it decided is ended, for a reason', { skip: mockOnly() }, async () => {
  const { page, faults, close } = await open('#/fleet');
  const row = page.getByRole('listitem').filter({ hasText: 'iad/iad-1' });
  await row.getByRole('button', { name: 'Drain iad/iad-1' }).click();
  await page.keyboard.press('Escape');
  assert.equal(await row.getByText('draining').count(), 0, 'Escape leaves it');
  await row.getByRole('button', { name: 'Drain iad/iad-1' }).click();
  await row.getByLabel(/^Empty iad\/iad-1/).fill('moves to another rack');
  await row.getByRole('button', { name: 'Drain', exact: true }).click();
  await row.getByText('draining: moves to another rack').waitFor();
  assert.equal(await row.getByRole('button', { name: /^Drain/ }).count(), 0);
  await row.getByRole('button', { name: 'Set to work iad/iad-1' }).click();
  await page.keyboard.press('Enter');
  await row.getByText('serving', { exact: true }).waitFor();
  await row.getByRole('button', { name: 'End its decisions iad/iad-1' }).click();
  await page.keyboard.press('Enter');
  await row.getByText(/^Why\?/).waitFor();
  await row.getByLabel(/^End all that iad\/iad-1 decided/).fill('its clock was wrong');
  await page.keyboard.press('Enter');
  await row.getByText('What it decided so far has ended, on every node.').waitFor();
  assert.deepEqual(faults, []);
  await close();
});

test('a node that is gone is evicted, and its membership ended', { skip: mockOnly() }, async () => {
  lab.mock.world.scenario = 'degraded';
  try {
    const { page, faults, close } = await open('#/fleet');
    const row = page.getByRole('listitem').filter({ hasText: 'syd/syd-1' });
    await row.getByText(/^silent for/).waitFor();
    assert.equal(await row.getByRole('button', { name: /^Drain|^Cordon/ }).count(), 0, 'who does not listen cannot be told to');
    await row.getByRole('button', { name: 'Evict syd/syd-1' }).click();
    await page.keyboard.press('Enter');
    await row.getByText('evicted').waitFor();
    await row.getByRole('button', { name: 'Revoke syd/syd-1' }).click();
    await row.getByLabel(/^End the membership of syd\/syd-1/).fill('the machine was stolen');
    await page.keyboard.press('Enter');
    await row.getByText('Its membership has ended, on every node.').waitFor();
    assert.ok(lab.mock.world.fleet.revoked.has('syd/syd-1'));
    const own = page.getByRole('listitem').filter({ hasText: 'this node' });
    assert.equal(await own.getByRole('button', { name: /^Revoke/ }).count(), 0, 'not the node that one is at');
    assert.deepEqual(faults, []);
    await close();
  } finally {
    lab.mock.world.scenario = 'fleet';
    lab.mock.world.fleet.orders.clear();
    lab.mock.world.fleet.revoked.clear();
  }
});

test("this node's policy is read again", async () => {
  const { page, faults, close } = await open('#/fleet');
  await page.getByRole('button', { name: 'Read the policy again' }).click();
  await page.keyboard.press('Enter');
  await page.getByText('The policy was read again.').waitFor();
  assert.deepEqual(faults, []);
  await close();
});

test('a policy with a fault is named with its line, and the other stays', { skip: mockOnly() }, async () => {
  lab.mock.world.fleet.brokenPolicy = true;
  try {
    const { page, close } = await open('#/fleet');
    await page.getByRole('button', { name: 'Read the policy again' }).click();
    await page.keyboard.press('Enter');
    await page.getByText('the running one stays in force. policy.toml, line 7: unknown field `upstrem`').waitFor();
    await close();
  } finally {
    lab.mock.world.fleet.brokenPolicy = false;
  }
});

test('who follows the policy is told, with what went wrong', { skip: mockOnly() }, async () => {
  const { page, faults, close } = await open('#/fleet');
  const table = page.getByRole('region', { name: 'Who follows the policy' });
  await table.getByRole('row').filter({ hasText: 'edge-policy main' }).getByText('in step', { exact: true }).waitFor();
  await table.getByRole('row').filter({ hasText: 'edge-policy staging' }).getByText('both moved: say which counts').waitFor();
  await table.getByText('1 version behind').waitFor();
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

test('a site is let admit nodes of its own, and that is ended', { skip: mockOnly() }, async () => {
  const { page, faults, close } = await open('#/fleet');
  await page.getByRole('button', { name: 'Let a site admit nodes' }).click();
  const form = page.getByRole('form', { name: 'Let a site admit nodes' });
  assert.deepEqual(await form.getByLabel(/^Control node/).locator('option').allTextContents(), ['iad/iad-1'], 'no edge node, and not the one with the authority');
  await form.getByLabel(/^Without the authority/).selectOption('3 days');
  await form.getByRole('button', { name: 'Delegate' }).click();
  await page.getByText(/^admits nodes of iad; renewed by itself, 3 d left$/).waitFor();
  assert.equal(await page.getByRole('button', { name: 'Let a site admit nodes' }).count(), 0, 'one of each site');
  await page.getByRole('button', { name: 'End the delegation of iad/iad-1' }).click();
  await page.keyboard.press('Enter');
  await page.getByText('None: while this node is away').waitFor();
  assert.deepEqual(faults, []);
  await close();
});

test('what is rare is told as the command that does it', { skip: mockOnly() }, async () => {
  const { page, close } = await open('#/fleet');
  for (const command of ['phalanx fleet snapshot FILE', 'phalanx fleet rollover', 'phalanx policy move-home --site NAME']) {
    await page.getByRole('region', { name: 'Rarely needed, by command' }).getByText(command, { exact: true }).waitFor();
  }
  await close();
});

test('what is on a blocklist opens below it', { skip: mockOnly() }, async () => {
  const { page, faults, close } = await open('#/intelligence');
  const name = page.getByRole('button', { name: 'drop', exact: true });
  await name.press('Enter');
  await page.getByText('198.51.0.7/32', { exact: true }).waitFor();
  await page.getByText(/^The first 200 of 1\u2009204/).waitFor();
  await name.press('Enter');
  await page.getByText('198.51.0.7/32', { exact: true }).waitFor({ state: 'detached' });
  assert.deepEqual(faults, []);
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
