/** Merging what streams in with what was fetched. Every list is bounded; nothing grows while the page stays open. */

import type { Decision, RequestRow, ToldRequest, Withdrawal } from './shapes';

/** Requests kept on the page. Older ones are a fetch away. */
export const ROWS_MAX = 300;
/** Decisions kept on the page. */
export const DECISIONS_MAX = 2_000;

/** Adds rows to a list sorted newest first, once each; the oldest beyond `max` go. */
export function mergeRows(list: readonly RequestRow[], added: readonly RequestRow[], max = ROWS_MAX): RequestRow[] {
  const seen = new Set<string>();
  const merged: RequestRow[] = [];
  for (const row of [...added, ...list]) {
    if (seen.has(row.id)) continue;
    seen.add(row.id);
    merged.push(row);
  }
  merged.sort((a, b) => b.at_ms - a.at_ms || (a.id < b.id ? 1 : -1));
  return merged.slice(0, max);
}

/** A request of another node as a row: it tells the client's network, not the client, and why in words. */
export function toldRow(told: ToldRequest): RequestRow {
  const { network, path, reason, led_to: _, ...same } = told;
  return { ...same, client: network, host: '', target: path, reason: { kind: 'told', told: reason }, top: null };
}

/** A row of the list as it is shown; it may stand for others. */
export interface Entry {
  key: string;
  row: RequestRow;
  /** Further requests that the same decision refused; the row is the newest. */
  more: number;
}

/**
 * Folds what one standing decision refused into its newest row: a barred scanner keeps knocking, and must not bury the
 * requests that show something new.
 */
export function foldRows(rows: readonly RequestRow[]): Entry[] {
  const folded = new Map<string, Entry>();
  const entries: Entry[] = [];
  for (const row of rows) {
    const decision = row.reason.kind === 'decision' ? row.reason.decision?.id : undefined;
    const known = decision === undefined ? undefined : folded.get(`${decision} ${row.client}`);
    if (known) {
      known.more += 1;
      continue;
    }
    const entry = { key: decision === undefined ? row.id : `${decision} ${row.client}`, row, more: 0 };
    if (decision !== undefined) folded.set(entry.key, entry);
    entries.push(entry);
  }
  return entries;
}

/** Puts a decision into the list: a newer one about the same actor by the same author replaces the older. */
export function addDecision(list: readonly Decision[], decision: Decision): Decision[] {
  const others = list.filter((d) => d.id !== decision.id && !(sameRegister(d, decision) && d.version <= decision.version));
  return sortDecisions([decision, ...others]);
}

/** Newest first: what just happened is what one is paged for. */
export function sortDecisions(list: readonly Decision[]): Decision[] {
  return [...list].sort((a, b) => b.created_at_ms - a.created_at_ms || (a.id < b.id ? 1 : -1)).slice(0, DECISIONS_MAX);
}

/** The list without what a withdrawal ends. */
export function withdraw(list: readonly Decision[], order: Withdrawal): Decision[] {
  return list.filter((d) => !(sameActor(d, order) && d.version <= order.up_to_version));
}

/** The list without what has expired. The same array when nothing has, so that nothing re-renders. */
export function dropExpired(list: Decision[], now: number): Decision[] {
  return list.some((d) => d.expires_at_ms <= now) ? list.filter((d) => d.expires_at_ms > now) : list;
}

function sameActor(a: Pick<Decision, 'actor'>, b: Pick<Decision, 'actor'>): boolean {
  return a.actor.kind === b.actor.kind && a.actor.value === b.actor.value;
}

function sameRegister(a: Decision, b: Decision): boolean {
  return sameActor(a, b) && a.kind === b.kind && a.author.site === b.author.site && a.author.node === b.author.node && a.author.role === b.author.role;
}
