// Policy: read, edited, checked, compared, replayed, published; by one operator or by two.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atPlace, lab, mockOnly, open, SHOTS } from '../lab.mjs';

test('where the policy is of the command line nothing is offered to edit, and it is said what to do', { skip: mockOnly() }, async () => {
  lab.mock.world.policy.hasFile = false;
  try {
    const { page, faults, close } = await open('#/policy');
    await page.getByText('There is no file to edit.').waitFor();
    await page.getByText('This node runs the policy of its command line').waitFor();
    await page.getByText('phalanx policy push policy.toml').first().waitFor();
    assert.equal(await page.getByRole('link', { name: /^(Edit policy|View files)$/ }).count(), 0);
    assert.deepEqual(faults, []);
    await close();
  } finally {
    lab.mock.world.policy.hasFile = true;
  }
});

test('a policy is edited with its problems beside it, compared, replayed and published', { skip: mockOnly() }, async () => {
  const { page, faults, close } = await open('#/policy');
  await page.getByRole('link', { name: 'Edit policy' }).click();
  const area = page.getByRole('textbox', { name: 'policy.toml' });
  await area.waitFor();
  const before = await area.inputValue();
  await area.fill(before.replace('rate = "5/min"', 'rate = '));
  await page.getByText('a value is missing').waitFor();
  await page.getByRole('button', { name: /error policy.toml:28/ }).click();
  assert.equal(await area.evaluate((one) => one === document.activeElement), true, 'a problem leads to its line');
  await page.screenshot({ path: `${SHOTS}console-problems.png` });
  await page.getByRole('button', { name: 'Publish to all nodes' }).click();
  await page.getByRole('alert').filter({ hasText: 'Mend the errors first.' }).waitFor();
  await area.fill(before.replace('rate = "5/min"', 'rate = "10/min"'));
  await page.getByText('No problems', { exact: false }).waitFor();
  await page.getByRole('button', { name: 'Compare' }).click();
  await page.getByText('+ rate = "10/min"').waitFor();
  await page.getByRole('button', { name: 'Replay' }).click();
  await page.getByText('newly let pass', { exact: false }).first().waitFor();
  // A look elsewhere does not lose it.
  await page.getByRole('navigation').getByRole('link', { name: /^Audit/ }).click();
  await page.getByRole('heading', { name: 'Audit' }).waitFor();
  await page.goBack();
  assert.match(await area.inputValue(), /10\/min/);
  await page.getByLabel('Why', { exact: true }).fill('more tries at the login');
  await page.getByRole('button', { name: 'Publish to all nodes' }).click();
  await atPlace(page, '#/policy');
  await page.getByRole('row').filter({ hasText: 'more tries at the login' }).getByText('in force').waitFor();
  assert.deepEqual(faults, []);
  await close();
});

test('what takes protection away waits for a second operator, who is not its author', { skip: mockOnly() }, async () => {
  const { people } = lab.mock.world;
  const { page, faults, close } = await open('#/policy?edit=running');
  const area = page.getByRole('textbox', { name: 'policy.toml' });
  await area.waitFor();
  await area.fill((await area.inputValue()).replace('mode = "block"', 'mode = "observe"'));
  await page.getByText('only observes', { exact: false }).waitFor();
  await page.getByRole('button', { name: 'Compare' }).click();
  await page.getByText('It takes protection away:').waitFor();
  await page.getByLabel('Why', { exact: true }).fill('the import fails');
  await page.getByRole('button', { name: 'Publish to all nodes' }).click();
  await page.getByRole('heading', { name: 'Waiting for a second operator' }).waitFor();
  await page.getByText('another operator has to approve it').waitFor();
  assert.equal(await page.getByRole('button', { name: 'Approve' }).count(), 0);
  await page.screenshot({ path: `${SHOTS}console-waiting.png` });
  people.asks = 'bob';
  try {
    await page.reload();
    await page.getByRole('button', { name: 'Approve' }).click();
    await page.keyboard.type('seen with ann');
    await page.keyboard.press('Enter');
    await page.getByRole('row').filter({ hasText: 'the import fails' }).getByText('in force').waitFor();
    assert.equal(await page.getByRole('heading', { name: 'Waiting for a second operator' }).count(), 0);
  } finally {
    people.asks = 'ann';
  }
  assert.deepEqual(faults, []);
  await close();
});

test('a version is read and rolled back to', { skip: mockOnly() }, async () => {
  const { page, close } = await open('#/policy');
  const row = page.getByRole('row').filter({ hasText: 'reviews hold markup' });
  await row.getByRole('link', { name: 'View' }).click();
  await page.getByRole('heading', { name: 'Policy version 3' }).waitFor();
  await page.getByRole('button', { name: 'rules/extra.conf' }).click();
  await page.getByText('SecRuleUpdateTargetByTag', { exact: false }).waitFor();
  await page.goto(`${lab.base}/#/policy`);
  await row.getByRole('button', { name: 'Roll back' }).click();
  await page.keyboard.type('it refused honest clients');
  await page.keyboard.press('Enter');
  await page.getByRole('row').filter({ hasText: 'it refused honest clients' }).getByText('in force').waitFor();
  await close();
});

test('exclusions say whose they are and when they end, and lead to their line', { skip: mockOnly() }, async () => {
  const { page, close } = await open('#/exclusions');
  await page.getByText('ends soon').waitFor();
  await page.getByRole('link', { name: 'policy.toml:17' }).click();
  await page.locator('.line.here').waitFor();
  await close();
});
