/** Traffic over time: ranges, what the address asks, rows of tables. Pure. */

import type { Action, Traffic, TrafficActors, TrafficBy } from './api';
import { actionWord } from './explain';
import { timeOf } from './search';

export const RANGES = [
  { name: '15m', words: '15 min', ms: 15 * 60_000 },
  { name: '1h', words: '1 h', ms: 3_600_000 },
  { name: '24h', words: '24 h', ms: 24 * 3_600_000 },
  { name: '7d', words: '7 d', ms: 7 * 86_400_000 },
  { name: '90d', words: '90 d', ms: 90 * 86_400_000 },
] as const;

export const BYS: readonly TrafficBy[] = ['app', 'site', 'rule', 'country', 'actor', 'action', 'class', 'status', 'node'];

/** What a page of traffic shows. */
export interface Span {
  /** The name of a range that ends now; null: a time of its own. */
  range: string | null;
  from_ms: number;
  to_ms: number;
}

/** What a table of traffic shows. */
export type Parts = Pick<Traffic, 'series' | 'others'>;

/**
 * The span that an address asks for; the last hour without one. Ends in whole steps, so that it does not creep with each second.
 * A range that began before anything was counted begins with the counts: ten minutes of a day are seen as ten minutes.
 */
export function spanOf(query: Record<string, string>, now: number, begins_ms: number | null = null): Span {
  const from = timeOf(query['from'] ?? '');
  const to = timeOf(query['to'] ?? '') ?? now;
  if (from !== null && from < to) return { range: null, from_ms: from, to_ms: to };
  const range = RANGES.find((one) => one.name === query['range']) ?? RANGES[1];
  const step = range.ms / POINTS;
  const end = Math.ceil(now / step) * step;
  if (begins_ms === null || begins_ms <= end - range.ms || begins_ms >= now) return { range: range.name, from_ms: end - range.ms, to_ms: end };
  return { range: range.name, from_ms: begins_ms, to_ms: Math.ceil(now / MINUTE_MS) * MINUTE_MS };
}

/** The same length of time, just before. */
export function before(span: Span): Span {
  return { range: null, from_ms: 2 * span.from_ms - span.to_ms, to_ms: span.from_ms };
}

/** Actions that are a countermeasure to someone, as the chart groups them. */
export const GROUPS = {
  refused: ['deny'],
  slowed: ['challenge', 'throttle', 'tarpit'],
  observed: ['observe'],
} as const;

/** The points of some actions together, of a traffic by action. */
export function pointsOf(traffic: Traffic, actions: readonly string[] | null): number[] {
  const length = Math.max(0, ...traffic.series.map((one) => one.points.length), traffic.others.points.length);
  const sum = new Array<number>(length).fill(0);
  const wanted = traffic.series.filter((one) => actions === null || actions.includes(one.key)).map((one) => one.points);
  if (actions === null) wanted.push(traffic.others.points);
  for (const points of wanted) for (const [at, point] of points.entries()) sum[at] = (sum[at] ?? 0) + point;
  return sum;
}

/** Clients as parts of what was refused: those that are not told by name are the rest. */
export function partsOf({ clients }: TrafficActors, refused: number): Parts {
  const series = clients.map((one) => ({ key: one.client, total: one.refused, points: one.points ?? [], words: [one.country, one.asn ? `AS${one.asn}` : null].filter(Boolean).join(', ') }));
  const named = series.reduce((sum, one) => sum + one.total, 0);
  return { series, others: { total: Math.max(0, refused - named), points: [] } };
}

/** The times of the points, in Unix milliseconds. */
export function timesOf(traffic: Traffic): number[] {
  return pointsOf(traffic, null).map((_, at) => traffic.from_ms + at * traffic.step_ms);
}

/** `12 % more`, `as many`, `new`: a figure compared with that of the time before. */
export function compared(now: number, then: number): string {
  if (then === 0) return now === 0 ? 'none before either' : 'none before';
  const change = Math.round(((now - then) / then) * 100);
  if (change === 0) return 'as many as before';
  return change > 0 ? (change >= 900 ? `${Math.round(now / then)} times as many` : `${change} % more`) : `${-change} % fewer`;
}

/** What one of a grouping leads to in the search; null where the search has no such filter. */
export function filterFor(by: TrafficBy, key: string): Record<string, string> | null {
  switch (by) {
    case 'action':
    case 'app':
      return { [by]: key };
    case 'country':
      return /^[A-Z]{2}$/.test(key) ? { country: key } : null;
    case 'rule':
      return /^[1-9]\d*$/.test(key) ? { rule: key } : null;
    case 'status':
      return /^[1-5]xx$/.test(key) ? { status: key } : null;
    case 'actor':
      return key.includes('/') ? null : { client: key, action: 'deny' };
    case 'class':
    case 'site':
    case 'node':
      return null;
  }
}

/** What one of a grouping is called. */
export function keyWords(by: TrafficBy, key: string): string {
  if (by === 'action') return actionWord(key as Action);
  if (by === 'rule') return key === '0' ? 'no rule' : key;
  return by === 'class' ? key.replaceAll('_', ', ') : key || 'unknown';
}

/** Nodes as they are called. */
export function namesOf(nodes: readonly { site: string; node: string }[]): string[] {
  return nodes.map((one) => `${one.site}/${one.node}`);
}

/** Nodes whose counts are missing: they did not answer, and nobody has a copy. */
export function missingOf({ silent, copied }: Pick<Traffic, 'silent' | 'copied'>): string[] {
  const told = namesOf(copied ?? []);
  return namesOf(silent).filter((name) => !told.includes(name));
}

export const POINTS = 120;
const MINUTE_MS = 60_000;
