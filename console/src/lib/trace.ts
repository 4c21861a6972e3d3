/**
 * The traffic trace: requests per second over the last two minutes, made from the node's running totals.
 * A second that this page did not watch is `null`, never zero.
 */

import type { Counters } from './api';

export interface Second {
  passed: number;
  refused: number;
  /** Challenged or throttled. */
  slowed: number;
}

export const TRACE_SECONDS = 120;

export class Trace {
  private seconds = new Map<number, Second>();
  private last: { at: number; totals: Totals } | null = null;

  /** Takes the totals as they stood at `at` (milliseconds). */
  note(counters: Counters, at: number): void {
    const { requests, denied, malformed, challenged = 0, throttled = 0 } = counters;
    this.add(at, { requests, refused: denied + malformed, slowed: challenged + throttled });
  }

  /** Nothing changed up to `at`, and the connection stood: those seconds were quiet. */
  quiet(at: number): void {
    if (this.last !== null && at > this.last.at) this.add(at, this.last.totals);
  }

  /** The connection broke: the time until the next totals is not known second by second. */
  interrupt(): void {
    this.last = null;
  }

  /** The trace that ends before the second of `now`, oldest first. */
  window(now: number): (Second | null)[] {
    const end = Math.floor(now / 1000);
    for (const second of this.seconds.keys()) if (second < end - TRACE_SECONDS) this.seconds.delete(second);
    return Array.from({ length: TRACE_SECONDS }, (_, i) => this.seconds.get(end - TRACE_SECONDS + i) ?? null);
  }

  private add(at: number, now: Totals): void {
    const last = this.last;
    this.last = { at, totals: now };
    if (last === null || at <= last.at) return;
    const requests = now.requests - last.totals.requests;
    const refused = now.refused - last.totals.refused;
    const slowed = now.slowed - last.totals.slowed;
    // Totals that went back: the node was restarted. What it counted in between is unknown.
    if (requests < 0 || refused < 0 || slowed < 0) return;
    this.spread(last.at, at, { passed: Math.max(0, requests - refused - slowed), refused, slowed });
  }

  private spread(from: number, to: number, all: Second): void {
    const length = to - from;
    if (length > TRACE_SECONDS * 1000) return;
    for (let start = from; start < to; ) {
      const second = Math.floor(start / 1000);
      const stop = Math.min(to, (second + 1) * 1000);
      const share = (stop - start) / length;
      this.seconds.set(second, plus(this.seconds.get(second) ?? NOTHING, all, share));
      start = stop;
    }
  }
}

/** The node's totals since its start. */
interface Totals {
  requests: number;
  refused: number;
  slowed: number;
}

const NOTHING: Second = { passed: 0, refused: 0, slowed: 0 };

function plus(a: Second, b: Second, share: number): Second {
  return { passed: a.passed + b.passed * share, refused: a.refused + b.refused * share, slowed: a.slowed + b.slowed * share };
}

/** The mean of the last `seconds` watched seconds, for the readouts: steadier than the last second alone. */
export function recent(window: readonly (Second | null)[], seconds = 5): Second | null {
  const known = window.slice(-seconds).filter((s): s is Second => s !== null);
  if (known.length === 0) return null;
  return known.reduce((sum, one) => plus(sum, one, 1 / known.length), NOTHING);
}

/** A round number at or above `value`: the scale's end. */
export function niceMax(value: number): number {
  if (value <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  for (const step of [1, 1.5, 2, 3, 4, 5, 6, 8, 10]) if (value <= step * power) return step * power;
  return 10 * power;
}
