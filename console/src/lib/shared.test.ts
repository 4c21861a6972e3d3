import { expect, test } from 'vitest';
import { versionOf } from './shared';

test('what a node counts for itself is no version of the fleet', () => {
  expect([versionOf({ version: 4, hash: 'ab' }), versionOf({ version: 1, hash: '' }), versionOf(null), versionOf(undefined)]).toEqual([4, 0, 0, 0]);
});
