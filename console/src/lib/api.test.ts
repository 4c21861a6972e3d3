import { expect, test } from 'vitest';
import { errorOf, eventQuery } from './api';

test('a filter becomes a query without its empty parts', () => {
  expect(eventQuery({ client: ' 203.0.113.9 ', rule: '', action: 'deny' }, 60)).toBe('limit=60&client=203.0.113.9&action=deny');
  expect(eventQuery({ client: 'a&b=c', rule: '', action: '' }, 5, 'R1')).toBe('limit=5&before=R1&client=a%26b%3Dc');
});

test("the node's own words are shown, and plain ones when it has none", () => {
  expect(errorOf(422, { code: 'bad', detail: 'too wide' }).message).toBe('too wide');
  expect(errorOf(502, null).message).toBe('The node answered 502.');
  expect(errorOf(500, { error: 'x' }).code).toBe('unknown');
  expect(errorOf(404, { code: 'elsewhere', detail: 'm', site: 'syd', node: 'syd-1' }).elsewhere).toEqual({ site: 'syd', node: 'syd-1' });
});
