import { expect, test } from 'vitest';
import type { Decision, RequestRow } from './api';
import { addDecision, dropExpired, foldRows, mergeRows, withdraw } from './lists';

const row = (n: number, more: Partial<RequestRow> = {}): RequestRow => ({
  id: `R${n}`, at_ms: n, app: 'shop', client: '203.0.113.9', method: 'GET', host: 'shop', target: '/', status: 403, action: 'deny',
  reason: { kind: 'rule', rule: 1 }, rule_ids: [942100], top: null, score: 5, site: 'fra', node: 'fra-1', ...more,
});
const decision = (n: number, more: Partial<Decision> = {}): Decision => ({
  id: `D${n}`, actor: { kind: 'ip', value: '203.0.113.9' }, kind: 'ban', author: { site: 'fra', node: 'fra-1', role: 'node' }, reason: '',
  evidence: null, confidence_percent: 99, created_at_ms: n, expires_at_ms: n + 100, version: n, ...more,
});
const ids = (list: readonly { id: string }[]) => list.map((one) => one.id);

test('rows are newest first, once each, and bounded', () => {
  const list = mergeRows([row(3), row(1)], [row(2), row(3), row(4)]);
  expect(ids(list)).toEqual(['R4', 'R3', 'R2', 'R1']);
  expect(ids(mergeRows(list, [row(5)], 2))).toEqual(['R5', 'R4']);
});

test('merging again changes nothing', () => {
  const list = mergeRows([], [row(1), row(2)]);
  expect(mergeRows(list, list)).toEqual(list);
});

test('what one decision refused folds into its newest row', () => {
  const ban = decision(1);
  const barred = (n: number) => row(n, { reason: { kind: 'decision', decision: ban } });
  const entries = foldRows([barred(5), row(4), barred(3), row(2), barred(1)]);
  expect(entries.map(({ row: { id }, more }) => [id, more])).toEqual([['R5', 2], ['R4', 0], ['R2', 0]]);
});

test('clients of one barred range fold apart', () => {
  const barred = (n: number, client: string) => row(n, { client, reason: { kind: 'decision', decision: decision(1) } });
  expect(foldRows([barred(2, '198.51.100.1'), barred(1, '198.51.100.2')])).toHaveLength(2);
});

test('a newer decision of the same author about the same actor replaces the older', () => {
  expect(ids(addDecision([decision(1)], decision(2)))).toEqual(['D2']);
  expect(ids(addDecision([decision(1)], decision(2, { author: { site: 'syd', node: 's', role: 'node' } })))).toEqual(['D2', 'D1']);
  expect(ids(addDecision([decision(2)], decision(2)))).toEqual(['D2']);
});

test('a withdrawal ends every decision about its actor up to its version', () => {
  const list = [decision(3), decision(2, { author: { site: 'syd', node: 's', role: 'node' } }), decision(1, { actor: { kind: 'ip', value: '192.0.2.1' } })];
  const order = { ...decision(9), up_to_version: 2 };
  expect(ids(withdraw(list, order))).toEqual(['D3', 'D1']);
});

test('expired decisions go, and nothing changes when none has', () => {
  const list = [decision(1), decision(50)];
  expect(dropExpired(list, 100)).toBe(list);
  expect(ids(dropExpired(list, 101))).toEqual(['D50']);
});
