/** What one asks of the requests on record: in the address, in the API's words, and for a request that streams in. */

import type { EventFilter, RequestRow } from './shapes';
import { addressBits } from './net';

/** Filters, as the address carries them. What is empty filters nothing. */
export const FILTERS = ['client', 'rule', 'action', 'app', 'status', 'country', 'method', 'q', 'incident', 'from', 'to'] as const;

export type FilterName = (typeof FILTERS)[number];
export type Filter = Record<FilterName, string>;

export const NO_FILTER: Filter = Object.fromEntries(FILTERS.map((name) => [name, ''])) as Filter;

/** The filter of an address; anything else in it is left aside. */
export function filterOf(query: Record<string, string>): Filter {
  return Object.fromEntries(FILTERS.map((name) => [name, (query[name] ?? '').slice(0, 200)])) as Filter;
}

export function isEmpty(filter: Filter): boolean {
  return FILTERS.every((name) => filter[name] === '');
}

/** Filters that the node would refuse as they stand: half an address, letters for a number. */
export function slips(filter: Filter): FilterName[] {
  const fine: Record<FilterName, boolean> = {
    client: filter.client === '' || addressBits(filter.client) !== null,
    rule: /^\d{0,12}$/.test(filter.rule),
    status: filter.status === '' || /^[1-5](\d\d|xx)$/.test(filter.status),
    country: filter.country === '' || /^[A-Za-z]{2}$/.test(filter.country),
    from: filter.from === '' || timeOf(filter.from) !== null,
    to: filter.to === '' || timeOf(filter.to) !== null,
    method: /^[A-Za-z-]{0,20}$/.test(filter.method),
    action: true,
    app: true,
    q: true,
    incident: true,
  };
  return FILTERS.filter((name) => !fine[name]);
}

/** The filter as the API is asked. */
export function asked(filter: Filter, limit: number, before?: string): EventFilter {
  const { from, to, country, method, rule, ...same } = filter;
  const all = {
    ...same,
    rule: rule === '' ? undefined : Number(rule),
    country: country.toUpperCase(),
    method: method.toUpperCase(),
    since_ms: timeOf(from) ?? undefined,
    until_ms: timeOf(to) ?? undefined,
    limit,
    before,
  };
  return all;
}

/** Whether a request that streams in can be told to match; the stream does not say where it came from, nor what it belongs to. */
export function followable(filter: Filter): boolean {
  return filter.country === '' && filter.incident === '' && filter.to === '' && filter.q === '';
}

/** Whether a request belongs into the list, as the API's own filter sees it. */
export function rowMatches(row: RequestRow, filter: Filter): boolean {
  if (filter.action ? row.action !== filter.action : row.action === 'allow') return false;
  if (filter.client && row.client.toLowerCase() !== filter.client.toLowerCase()) return false;
  if (filter.app && row.app !== filter.app) return false;
  if (filter.status && !String(row.status).startsWith(filter.status.replace('xx', ''))) return false;
  if (filter.method && row.method.toUpperCase() !== filter.method.toUpperCase()) return false;
  const from = timeOf(filter.from);
  if (from !== null && row.at_ms < from) return false;
  return !filter.rule || row.rule_ids.some((id) => String(id) === filter.rule);
}

/** A time of an address, in Unix milliseconds: as such, or as the browser's field for times writes it. Null: it is none. */
export function timeOf(text: string): number | null {
  if (/^\d{10,16}$/.test(text)) return Number(text);
  const ms = /^\d{4}-\d\d-\d\dT\d\d:\d\d/.test(text) ? new Date(text).getTime() : NaN;
  return Number.isNaN(ms) ? null : ms;
}

/** A time as the browser's field for times reads it, in the browser's own zone. */
export function localTime(ms: number): string {
  const shifted = new Date(ms - new Date(ms).getTimezoneOffset() * 60_000);
  return shifted.toISOString().slice(0, 16);
}
