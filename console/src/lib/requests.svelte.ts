/** The list of requests under one filter: fetched in pages, followed live, bounded. It stands still while someone reads it. */

import { api, type RequestRow, type RequestsPage } from './api';
import { mergeRows, ROWS_MAX } from './lists';
import { asked, followable, isEmpty, NO_FILTER, rowMatches, slips, type Filter } from './search';
import { messageOf } from './words';

export class Requests {
  rows = $state.raw<RequestRow[]>([]);
  /** Rows that came while the list was held still. */
  waiting = $state.raw<RequestRow[]>([]);
  filter = $state.raw<Filter>(NO_FILTER);
  /** All nodes are asked, not this one alone. */
  fleet = $state(false);
  fault = $state<string | null>(null);
  busy = $state(false);
  /** Where older rows begin; null: there are none. */
  next = $state<string | null>(null);
  /** Nodes that did not answer. */
  silent = $state.raw<string[]>([]);
  /** How long the last answer took. */
  tookMs = $state<number | null>(null);

  private held = false;
  private asks = 0;
  private batch: RequestRow[] = [];
  private flush: ReturnType<typeof setTimeout> | undefined;

  /** Asks anew, under this filter. */
  async search(filter: Filter, fleet: boolean): Promise<void> {
    const kept = !isEmpty(filter) || fleet ? filter : NO_FILTER;
    this.filter = kept;
    this.fleet = fleet;
    if (slips(filter).length > 0) return;
    const ask = ++this.asks;
    this.busy = true;
    const began = performance.now();
    try {
      const page = await this.page();
      if (ask !== this.asks) return;
      this.rows = mergeRows([], page.requests, KEPT_MAX);
      this.waiting = [];
      this.takePage(page);
      this.tookMs = performance.now() - began;
    } catch (error) {
      if (ask === this.asks) this.fault = messageOf(error);
    } finally {
      if (ask === this.asks) this.busy = false;
    }
  }

  async older(): Promise<void> {
    if (this.next === null || this.busy) return;
    const ask = ++this.asks;
    this.busy = true;
    try {
      const page = await this.page(this.next);
      if (ask !== this.asks) return;
      this.rows = mergeRows(this.rows, page.requests, KEPT_MAX);
      this.takePage(page);
    } catch (error) {
      if (ask === this.asks) this.fault = messageOf(error);
    } finally {
      if (ask === this.asks) this.busy = false;
    }
  }

  /** A request that streamed in. Taken in batches, so that a flood costs a few renders a second. */
  take(row: RequestRow): void {
    if (!followable(this.filter) || !rowMatches(row, this.filter)) return;
    this.batch.push(row);
    if (this.batch.length > ROWS_MAX) this.batch.shift();
    this.flush ??= setTimeout(() => this.takeBatch(), BATCH_MS);
  }

  /** Lets the list stand still, or run again with what came in between. */
  hold(held: boolean): void {
    this.held = held;
    if (!held) this.release();
  }

  release(): void {
    if (this.waiting.length === 0) return;
    this.rows = mergeRows(this.rows, this.waiting, Math.max(ROWS_MAX, this.rows.length));
    this.waiting = [];
  }

  stop(): void {
    clearTimeout(this.flush);
    this.flush = undefined;
    this.batch = [];
    this.asks += 1;
  }

  private page(before?: string): Promise<RequestsPage> {
    const question = asked(this.filter, PAGE, before);
    return this.fleet ? api.fleetEvents(question) : api.events(question);
  }

  private takePage(page: RequestsPage): void {
    this.next = this.rows.length < KEPT_MAX ? (page.next ?? null) : null;
    this.silent = page.silent ?? [];
    this.fault = null;
  }

  private takeBatch(): void {
    this.flush = undefined;
    const batch = this.batch.filter((row) => rowMatches(row, this.filter));
    this.batch = [];
    if (this.held) {
      const known = new Set(this.rows.map((row) => row.id));
      this.waiting = mergeRows(this.waiting, batch.filter((row) => !known.has(row.id)));
    } else {
      this.rows = mergeRows(this.rows, batch, Math.max(ROWS_MAX, this.rows.length));
    }
  }
}

/** No node tells others more at once. */
const PAGE = 50;
/** Rows that one looks through; further back a filter is quicker. */
export const KEPT_MAX = 1_200;
/** Four renders a second are as live as an eye can follow. */
const BATCH_MS = 250;
