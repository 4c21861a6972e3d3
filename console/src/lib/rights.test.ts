import { expect, test } from 'vitest';
import { has, maySee } from './rights';

test('each role may do what those below it may', () => {
  expect(has({ role: 'editor', apps: null }, 'responder')).toBe(true);
  expect(has({ role: 'responder', apps: null }, 'editor')).toBe(false);
  expect(has(null, 'viewer')).toBe(false);
});

test('who is limited to some apps is not offered pages about the whole node', () => {
  const limited = { role: 'owner' as const, apps: ['shop'] };
  expect(maySee(limited, 'requests')).toBe(true);
  for (const page of ['incidents', 'policy', 'audit', 'exclusions', 'fleet', 'intelligence'] as const) expect(maySee(limited, page)).toBe(false);
  expect(maySee({ role: 'viewer', apps: null }, 'audit')).toBe(true);
});
