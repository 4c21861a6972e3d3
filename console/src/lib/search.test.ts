import { expect, test } from 'vitest';
import type { RequestRow } from './api';
import { asked, filterOf, followable, isEmpty, NO_FILTER, rowMatches, slips, timeOf } from './search';

const row = (more: Partial<RequestRow> = {}): RequestRow => ({
  id: 'R1', at_ms: 1_000, app: 'shop', client: '203.0.113.9', method: 'GET', host: 'shop', target: '/', status: 403, action: 'deny',
  reason: { kind: 'rule', rule: 1 }, rule_ids: [942100], top: null, score: 5, site: 'fra', node: 'fra-1', ...more,
});

test('passed requests are shown only when asked for', () => {
  expect(rowMatches(row({ action: 'allow' }), NO_FILTER)).toBe(false);
  expect(rowMatches(row({ action: 'observe' }), NO_FILTER)).toBe(true);
  expect(rowMatches(row({ action: 'observe' }), { ...NO_FILTER, action: 'deny' })).toBe(false);
});

test('each filter is exact', () => {
  expect(rowMatches(row(), { ...NO_FILTER, client: '203.0.113.9', rule: '942100', app: 'shop', status: '403', method: 'get' })).toBe(true);
  for (const wrong of [{ client: '203.0.113.90' }, { rule: '9421' }, { app: 'shops' }, { status: '404' }, { method: 'POST' }, { from: '2026-01-01T00:00' }]) {
    expect(rowMatches(row(), { ...NO_FILTER, ...wrong })).toBe(false);
  }
});

test('an address becomes a filter, and what is no filter is left aside', () => {
  const filter = filterOf({ client: '192.0.2.1', evil: 'x', q: 'a'.repeat(300) });
  expect([filter.client, filter.q.length, 'evil' in filter]).toEqual(['192.0.2.1', 200, false]);
  expect(isEmpty(filterOf({ evil: 'x' }))).toBe(true);
});

test('what the node would refuse is not asked', () => {
  const wrong = { client: '203.0.113', rule: 'x', status: '9xx', country: 'USA', method: 'G T', from: 'soon' };
  expect(new Set(slips({ ...NO_FILTER, ...wrong }))).toEqual(new Set(Object.keys(wrong)));
  expect(slips({ ...NO_FILTER, client: '2001:db8::1', rule: '1', status: '4xx', country: 'de', from: '1700000000000' })).toEqual([]);
});

test('times go to the node in milliseconds', () => {
  expect(asked({ ...NO_FILTER, from: '1700000000000', country: 'de' }, 60, 'R9')).toMatchObject({ since_ms: 1_700_000_000_000, country: 'DE', limit: 60, before: 'R9' });
  expect(timeOf('yesterday')).toBeNull();
});

test('what the stream cannot tell is not followed', () => {
  expect(followable({ ...NO_FILTER, rule: '1' })).toBe(true);
  expect(followable({ ...NO_FILTER, country: 'DE' })).toBe(false);
});
