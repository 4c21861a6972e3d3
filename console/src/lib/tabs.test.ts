import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { LinkState } from './stream';
import { SharedStream } from './tabs';

/** Streams that were opened and not closed. */
let streams: Source[] = [];
class Source {
  onopen: (() => void) | null = null;
  onerror: (() => void) | null = null;
  private listeners = new Map<string, (message: { data: string }) => void>();
  constructor() {
    streams.push(this);
  }
  addEventListener(name: string, listener: (message: { data: string }) => void) {
    this.listeners.set(name, listener);
  }
  say(name: string, data: unknown) {
    this.listeners.get(name)?.({ data: JSON.stringify(data) });
  }
  close() {
    streams = streams.filter((one) => one !== this);
  }
}

/** Channels of one browser. One that stands still takes nothing in. */
let channels: Channel[] = [];
class Channel {
  onmessage: ((message: { data: unknown }) => void) | null = null;
  frozen = false;
  constructor(readonly name: string) {
    channels.push(this);
  }
  postMessage(data: unknown) {
    if (this.frozen) return;
    for (const one of channels) if (one !== this && one.name === this.name && !one.frozen) one.onmessage?.({ data });
  }
  close() {
    channels = channels.filter((one) => one !== this);
  }
}

/** The browser's locks, as far as they are used here. */
class Locks {
  private held = new Map<string, { reject: (error: Error) => void }>();
  private queues = new Map<string, (() => void)[]>();
  request(name: string, options: LockOptions, keep: () => Promise<void> | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const take = () => {
        if (options.signal?.aborted) return this.next(name);
        const mine = { reject };
        this.held.set(name, mine);
        void Promise.resolve(keep()).then(() => {
          resolve();
          if (this.held.get(name) === mine) this.next(name);
        });
      };
      options.signal?.addEventListener('abort', () => reject(new Error('aborted')));
      if (options.steal) {
        this.held.get(name)?.reject(new Error('stolen'));
        take();
      } else if (this.held.has(name)) {
        this.queues.set(name, [...(this.queues.get(name) ?? []), take]);
      } else {
        take();
      }
    });
  }
  private next(name: string) {
    this.held.delete(name);
    const [first, ...rest] = this.queues.get(name) ?? [];
    this.queues.set(name, rest);
    first?.();
  }
}

let visibilityState: 'visible' | 'hidden' = 'visible';

beforeEach(() => {
  streams = [];
  channels = [];
  visibilityState = 'visible';
  vi.useFakeTimers();
  vi.stubGlobal('EventSource', Source);
  vi.stubGlobal('BroadcastChannel', Channel);
  vi.stubGlobal('navigator', { locks: new Locks() });
  const listeners = new Set<() => void>();
  vi.stubGlobal('document', {
    get visibilityState() {
      return visibilityState;
    },
    addEventListener: (_: string, listener: () => void) => listeners.add(listener),
    removeEventListener: (_: string, listener: () => void) => listeners.delete(listener),
    turned: () => listeners.forEach((listener) => listener()),
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function tab(session: string | null = 's') {
  const states: LinkState[] = [];
  const events: unknown[] = [];
  const stream = new SharedStream('/s', { event: (_, data) => events.push(data), state: (state) => states.push(state) });
  stream.open(session);
  return { stream, states, events, channel: channels.at(-1) };
}

const only = () => {
  expect(streams).toHaveLength(1);
  return streams[0] as Source;
};

test('twelve tabs keep one stream, and all hear it', () => {
  const tabs = Array.from({ length: 12 }, () => tab());
  only().onopen?.();
  only().say('request', { id: 'R' });
  for (const one of tabs) expect([one.states, one.events]).toEqual([['live'], [{ id: 'R' }]]);
});

test('who comes later is told how it stands', () => {
  tab();
  only().onopen?.();
  expect(tab().states).toEqual(['live']);
});

test('where the tab that keeps it is closed another keeps it, and all fetch what they missed', async () => {
  const [first, second, third] = [tab(), tab(), tab()];
  only().onopen?.();
  first.stream.close();
  await vi.advanceTimersByTimeAsync(0);
  only().onopen?.();
  only().say('request', 1);
  for (const one of [second, third]) expect([one.states, one.events]).toEqual([['live', 'live'], [1]]);
  expect(first.events).toEqual([]);
});

test('a tab that stands still is relieved of it', async () => {
  const [first, second] = [tab(), tab()];
  only().onopen?.();
  if (first.channel) (first.channel as unknown as Channel).frozen = true;
  const frozen = only();
  await vi.advanceTimersByTimeAsync(6_000);
  expect(streams.filter((one) => one !== frozen)).toHaveLength(1);
  streams.find((one) => one !== frozen)?.onopen?.();
  expect(second.states).toEqual(['live', 'live']);
});

test('a tab that is quiet and answers keeps it', async () => {
  tab();
  tab();
  only().onopen?.();
  const kept = only();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(only()).toBe(kept);
});

test('a stream that broke in a tab that nobody looks at is tried again by one that is looked at', async () => {
  const [first, second] = [tab(), tab()];
  only().onopen?.();
  const kept = only();
  // Both share this document: the first is hidden while it speaks.
  const post = first.channel as unknown as Channel;
  const send = post.postMessage.bind(post);
  post.postMessage = (data) => send({ ...(data as object), hidden: true });
  kept.onerror?.();
  await vi.advanceTimersByTimeAsync(0);
  only().onopen?.();
  expect(only()).not.toBe(kept);
  expect(second.states.at(-1)).toBe('live');
});

test('sessions do not hear one another', () => {
  const [ann, bob] = [tab('ann'), tab('bob')];
  expect(streams).toHaveLength(2);
  streams[0]?.say('request', 'of ann');
  expect([ann.events, bob.events]).toEqual([['of ann'], []]);
});

test('closed, it hears nothing more and leaves nothing open', async () => {
  const [first, second] = [tab(), tab()];
  first.stream.close();
  second.stream.close();
  await vi.advanceTimersByTimeAsync(60_000);
  expect([streams, channels]).toEqual([[], []]);
});

test('a browser without locks keeps a stream for each tab that is looked at', () => {
  vi.stubGlobal('navigator', {});
  const one = tab();
  only().onopen?.();
  visibilityState = 'hidden';
  (document as unknown as { turned(): void }).turned();
  expect(streams).toEqual([]);
  visibilityState = 'visible';
  (document as unknown as { turned(): void }).turned();
  only().onopen?.();
  expect(one.states).toEqual(['live', 'live']);
  one.stream.close();
  expect(streams).toEqual([]);
});
