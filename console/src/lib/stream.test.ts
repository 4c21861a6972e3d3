import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { backoffMs, Stream } from './stream';

/** Stands for the browser's EventSource; the tests drive it. */
class Source {
  static all: Source[] = [];
  onopen: (() => void) | null = null;
  onerror: (() => void) | null = null;
  closed = false;
  private listeners = new Map<string, (message: { data: string }) => void>();
  constructor(readonly url: string) {
    Source.all.push(this);
  }
  addEventListener(name: string, listener: (message: { data: string }) => void) {
    this.listeners.set(name, listener);
  }
  say(name: string, data: string) {
    this.listeners.get(name)?.({ data });
  }
  close() {
    this.closed = true;
  }
}

beforeEach(() => {
  Source.all = [];
  vi.useFakeTimers();
  vi.stubGlobal('EventSource', Source);
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test('events arrive parsed, damaged ones are skipped', () => {
  const event = vi.fn();
  new Stream('/s', { event, state: () => undefined }).open();
  Source.all[0]?.say('request', '{"id":"R"}');
  Source.all[0]?.say('request', '{"id":');
  expect(event.mock.calls).toEqual([['request', { id: 'R' }]]);
});

test('a broken stream is opened again, with growing pauses, and says so', () => {
  const states: string[] = [];
  const stream = new Stream('/s', { event: () => undefined, state: (state) => states.push(state) });
  stream.open();
  Source.all[0]?.onerror?.();
  expect(Source.all[0]?.closed).toBe(true);
  vi.advanceTimersByTime(500);
  Source.all[1]?.onerror?.();
  vi.advanceTimersByTime(999);
  expect(Source.all).toHaveLength(2);
  vi.advanceTimersByTime(1);
  Source.all[2]?.onopen?.();
  expect(states).toEqual(['lost', 'lost', 'live']);
});

test('a closed stream stays closed', () => {
  const stream = new Stream('/s', { event: () => undefined, state: () => undefined });
  stream.open();
  Source.all[0]?.onerror?.();
  stream.close();
  vi.advanceTimersByTime(60_000);
  expect(Source.all).toHaveLength(1);
});

test('pauses stay short', () => expect([0, 1, 2, 3, 4, 50].map(backoffMs)).toEqual([500, 1000, 2000, 4000, 5000, 5000]));
