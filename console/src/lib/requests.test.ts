import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { RequestRow } from './api';
import { ROWS_MAX } from './lists';
import { Requests } from './requests.svelte';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const row = (n: number) => ({ id: String(n).padStart(26, '0'), at_ms: n, action: 'deny', client: '192.0.2.1', app: 'shop', rule_ids: [], status: 403, reason: { kind: 'rule' } }) as unknown as RequestRow;

test('however much streams in, a list keeps so many rows, the newest', () => {
  const requests = new Requests();
  for (let n = 0; n < 20 * ROWS_MAX; n++) {
    requests.take(row(n));
    if (n % 70 === 0) vi.advanceTimersByTime(300);
  }
  vi.advanceTimersByTime(300);
  expect(requests.rows).toHaveLength(ROWS_MAX);
  expect(requests.rows[0]?.at_ms).toBe(20 * ROWS_MAX - 1);
});

test('held for a reader, what waits is bounded too, and so is what comes between two renders', () => {
  const requests = new Requests();
  requests.take(row(0));
  vi.advanceTimersByTime(300);
  requests.hold(true);
  for (let n = 1; n < 5 * ROWS_MAX; n++) requests.take(row(n));
  vi.advanceTimersByTime(300);
  for (let n = 5 * ROWS_MAX; n < 10 * ROWS_MAX; n++) requests.take(row(n));
  vi.advanceTimersByTime(300);
  expect([requests.rows.length, requests.waiting.length]).toEqual([1, ROWS_MAX]);
  requests.hold(false);
  expect([requests.rows.length, requests.waiting.length]).toEqual([ROWS_MAX, 0]);
  requests.stop();
});
