import { expect, test } from 'vitest';
import type { Traffic } from './api';
import { before, compared, filterFor, GROUPS, missingOf, partsOf, pointsOf, spanOf, timesOf } from './traffic';

const NOW = 1_700_000_000_123;
const traffic: Traffic = {
  from_ms: 1_000, to_ms: 4_000, step_ms: 1_000, totals: { requests: 21, refused: 6, challenged: 0, throttled: 4, observed: 0, errors: 0, dropped: 0 },
  series: [{ key: 'allow', total: 6, points: [1, 2, 3] }, { key: 'deny', total: 6, points: [3, 2, 1] }, { key: 'throttle', total: 4, points: [0, 0, 4] }],
  others: { total: 5, points: [0, 5, 0] }, answered: [], silent: [],
};

test('a range ends with the step that runs, and does not creep', () => {
  const hour = spanOf({}, NOW);
  expect([hour.range, hour.to_ms - hour.from_ms]).toEqual(['1h', 3_600_000]);
  expect(spanOf({ range: '1h' }, NOW + 1_000)).toEqual(hour);
  expect(spanOf({ range: 'forever' }, NOW).range).toBe('1h');
});

test('a time of its own is taken as it is; one that ends before it begins is none', () => {
  expect(spanOf({ from: '1600000000000', to: '1600000060000' }, NOW)).toEqual({ range: null, from_ms: 1_600_000_000_000, to_ms: 1_600_000_060_000 });
  expect(spanOf({ from: '1600000000000', to: '1500000000000' }, NOW).range).toBe('1h');
});

test('a range is cut to what was counted; one within it is not', () => {
  const begins = Math.floor(NOW / 60_000) * 60_000 - 600_000;
  expect(spanOf({ range: '24h' }, NOW, begins)).toEqual({ range: '24h', from_ms: begins, to_ms: Math.ceil(NOW / 60_000) * 60_000 });
  expect(spanOf({ range: '15m' }, NOW, NOW - 3_600_000)).toEqual(spanOf({ range: '15m' }, NOW));
  // A clock that runs ahead.
  expect(spanOf({ range: '24h' }, NOW, NOW + 1)).toEqual(spanOf({ range: '24h' }, NOW));
  const own = { from: '1600000000000', to: '1600000060000' };
  expect(spanOf(own, NOW, begins)).toEqual(spanOf(own, NOW));
});

test('clients are parts of all that was refused', () => {
  const of = (client: string, refused: number) => ({ client, refused, country: 'NL', asn: 64_500, last_ms: 0, rules: [] });
  const parts = partsOf({ from_ms: 0, to_ms: 1, step_ms: 1, clients: [of('192.0.2.1', 5), of('192.0.2.0/24', 2)], answered: [], silent: [] }, 9);
  expect(parts.series.map((one) => [one.key, one.total, one.words])).toEqual([['192.0.2.1', 5, 'NL, AS64500'], ['192.0.2.0/24', 2, 'NL, AS64500']]);
  expect(parts.others.total).toBe(2);
  expect(partsOf({ from_ms: 0, to_ms: 1, step_ms: 1, clients: [of('192.0.2.1', 5)], answered: [], silent: [] }, 4).others.total).toBe(0);
});

test('the time before is as long and ends where this one begins', () => {
  expect(before({ range: null, from_ms: 50, to_ms: 80 })).toEqual({ range: null, from_ms: 20, to_ms: 50 });
});

test('points add up, those of all with the rest', () => {
  expect(pointsOf(traffic, null)).toEqual([4, 9, 8]);
  expect(pointsOf(traffic, GROUPS.slowed)).toEqual([0, 0, 4]);
  expect(timesOf(traffic)).toEqual([1_000, 2_000, 3_000]);
  expect(pointsOf({ ...traffic, series: [], others: { total: 0, points: [] } }, null)).toEqual([]);
});

test('figures are compared in words', () => {
  expect([compared(0, 0), compared(5, 0), compared(10, 10), compared(112, 100), compared(50, 100), compared(1_000, 100)]).toEqual([
    'none before either', 'none before', 'as many as before', '12 % more', '50 % fewer', '10 times as many',
  ]);
});

test('what the search cannot filter by leads nowhere', () => {
  expect(filterFor('rule', '942100')).toEqual({ rule: '942100' });
  expect(filterFor('rule', '0')).toBeNull();
  expect(filterFor('country', 'unknown')).toBeNull();
  expect(filterFor('class', 'sqli')).toBeNull();
  expect(filterFor('site', 'fra')).toBeNull();
  expect(filterFor('actor', '203.0.113.0/24')).toBeNull();
  expect(filterFor('actor', '203.0.113.9')).toEqual({ client: '203.0.113.9', action: 'deny' });
});

test('a node that is silent is missing unless a copy tells what it counted', () => {
  const [a, b] = [{ site: 'fra', node: 'a' }, { site: 'fra', node: 'b' }];
  expect(missingOf({ silent: [a, b], copied: [b] })).toEqual(['fra/a']);
  expect(missingOf({ silent: [a] })).toEqual(['fra/a']);
});
