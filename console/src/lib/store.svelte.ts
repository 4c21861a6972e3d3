/**
 * What this page knows, and how it came to know it: fetched once, then kept current by the stream, fetched again
 * whenever the stream was broken. Events are taken in batches, so that a flood costs a few renders a second.
 */

import { Announcer } from './announce';
import {
  api,
  ApiError,
  STREAM_PATH,
  type Counters,
  type Decision,
  type EventFilter,
  type HeldThing,
  type Member,
  type NewDecision,
  type RequestRow,
  type Status,
  type Withdrawal,
} from './api';
import { actionWord, kindWord, rowReason } from './explain';
import { actorText, authorText, duration, heldText } from './format';
import { findId } from './ids';
import { addDecision, dropExpired, mergeRows, rowMatches, ROWS_MAX, sortDecisions, withdraw } from './lists';
import { Stream, type LinkState } from './stream';
import { visibleText } from './text';
import { Trace, type Second } from './trace';

export type Phase = 'starting' | 'login' | 'enrol' | 'limited' | 'unreachable' | 'ready';

export class Store {
  phase = $state<Phase>('starting');
  link = $state<LinkState>('connecting');
  /** When the stream was lost, by this machine's corrected clock; null while it stands. */
  lostAt = $state<number | null>(null);

  status = $state.raw<Status | null>(null);
  nodes = $state.raw<Member[]>([]);
  decisions = $state.raw<Decision[]>([]);
  /** Decisions in force, also those beyond what the node lists in one answer. */
  readonly decisionsTotal = $derived(
    this.decisions.length < LISTED_MAX ? this.decisions.length : Math.max(this.decisions.length, this.status?.decisions_live ?? 0),
  );
  /** What waits for an operator, the first of it. */
  waits = $state.raw<HeldThing[]>([]);
  waitsTotal = $state(0);
  trace = $state.raw<(Second | null)[]>([]);

  rows = $state.raw<RequestRow[]>([]);
  /** Rows that came while the list was held still. */
  waiting = $state.raw<RequestRow[]>([]);
  /** Whether the list stands still: someone is reading it. */
  held = $state(false);
  filter = $state.raw<EventFilter>({ client: '', rule: '', action: '' });
  rowsError = $state<string | null>(null);
  /** Whether older rows may be had. */
  more = $state(false);

  /** The node's time, in whole seconds of milliseconds. */
  now = $state(Date.now());
  /** The latest sentence for screen readers. */
  announcement = $state('');
  /** The id that the explanation sheet shows; null when it is closed. */
  asked = $state<string | null>(null);
  /** Undos that the node refused, by decision: why. */
  undoFailures = $state.raw<Record<string, string>>({});
  /** An address to start a new decision with. */
  draft = $state<string | null>(null);

  private clockOffset = 0;
  private tick: ReturnType<typeof setInterval> | undefined;
  private flush: ReturnType<typeof setTimeout> | undefined;
  private batch: RequestRow[] = [];
  private meter = new Trace();
  private announcer = new Announcer();
  private rowsAsked = 0;
  private lastNodesAt = 0;
  private readonly stream = new Stream(STREAM_PATH, {
    event: (name, data) => this.take(name, data),
    state: (state) => this.linkChanged(state),
  });

  start(): void {
    this.asked ??= findId(/^\/request\/(\w+)$/.exec(location.pathname)?.[1] ?? '');
    this.tick ??= setInterval(() => this.second(), 1000);
    void this.refresh().then((known) => {
      if (known) this.stream.open();
    });
  }

  stop(): void {
    this.stream.close();
    clearInterval(this.tick);
    clearTimeout(this.flush);
    this.tick = undefined;
  }

  /** Fetches everything anew. True when the node answered and knows us. */
  async refresh(): Promise<boolean> {
    try {
      const [status, decisions] = await Promise.all([api.status(), api.decisions()]);
      this.clockOffset = status.now_ms - Date.now();
      this.setNow();
      this.status = status;
      this.nodes = status.fleet.members;
      this.decisions = sortDecisions(decisions);
      this.meter.note(status.counters, status.now_ms);
      await Promise.all([this.fetchRows(), this.fetchHeld()]);
      this.phase = 'ready';
      return true;
    } catch (error) {
      this.failed(error);
      return false;
    }
  }

  /** Fetches the request list under the current filter. */
  async fetchRows(): Promise<void> {
    const asked = ++this.rowsAsked;
    try {
      const rows = await api.events(this.filter, PAGE);
      if (asked !== this.rowsAsked) return;
      this.rows = mergeRows([], rows.filter((row) => rowMatches(row, this.filter)));
      this.waiting = [];
      this.more = rows.length >= PAGE;
      this.rowsError = null;
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) throw error;
      if (asked === this.rowsAsked) this.rowsError = messageOf(error);
    }
  }

  /** Fetches what waits for an operator. */
  async fetchHeld(): Promise<void> {
    try {
      const { held, total } = await api.held();
      const known = new Set(this.waits.map((one) => one.id));
      const news = held.find((one) => !known.has(one.id));
      if (news && this.phase === 'ready') this.announcer.note(`Held for an operator: ${kindWord(news.kind)} of ${heldText(news)}.`);
      this.waits = held;
      this.waitsTotal = total;
    } catch (error) {
      this.failed(error);
    }
  }

  /** Answers what waits. It leaves the list when the node has done it. */
  async settle(held: HeldThing, approves: boolean, reason: string): Promise<void> {
    await api.settle(held.id, approves, reason);
    this.waits = this.waits.filter((one) => one.id !== held.id);
    this.waitsTotal = Math.max(this.waits.length, this.waitsTotal - 1);
    this.announcer.note(`${kindWord(held.kind)} of ${heldText(held)} ${approves ? 'is ordered on every node' : 'is rejected'}.`);
  }

  async fetchOlder(): Promise<void> {
    const oldest = this.rows.at(-1);
    if (!oldest) return;
    try {
      const rows = await api.events(this.filter, PAGE, oldest.id);
      this.rows = mergeRows(this.rows, rows, this.rows.length + PAGE);
      this.more = rows.length >= PAGE && this.rows.length < ROWS_MAX * 4;
      this.rowsError = null;
    } catch (error) {
      this.rowsError = messageOf(error);
    }
  }

  setFilter(filter: EventFilter): void {
    this.filter = filter;
    void this.fetchRows().catch((error: unknown) => this.failed(error));
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

  /** Ends a decision everywhere. It leaves the list at once and comes back if the node refuses. */
  async undo(decision: Decision, reason: string): Promise<void> {
    this.decisions = this.decisions.filter((d) => d.id !== decision.id);
    try {
      await api.withdraw(decision.id, reason);
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return;
      this.decisions = addDecision(this.decisions, decision);
      this.failed(error);
      throw error;
    }
  }

  async decide(decision: NewDecision): Promise<Decision> {
    const made = await api.decide(decision);
    this.decisions = addDecision(this.decisions, made);
    return made;
  }

  /** Tells screen readers at the next occasion. */
  say(sentence: string): void {
    this.announcer.note(sentence);
  }

  async logout(): Promise<void> {
    await api.logout().catch(() => undefined);
    this.toLogin();
  }

  private take(name: string, data: unknown): void {
    switch (name) {
      case 'request':
        return this.takeRequest(data as RequestRow);
      case 'decision':
        return this.takeDecision(data as Decision);
      case 'withdrawal':
        return this.takeWithdrawal(data as Withdrawal);
      case 'held':
        return void this.fetchHeld();
      case 'nodes':
        this.nodes = data as Member[];
        return;
      case 'counters':
        return this.meter.note(data as Counters, Date.now() + this.clockOffset);
    }
  }

  private takeRequest(row: RequestRow): void {
    if (row.action === 'deny') {
      this.announcer.noteRefused(`${visibleText(rowReason(row), 80)}, from ${row.client}`);
    } else if (row.action !== 'allow') {
      this.announcer.noteRefused(`${actionWord(row.action)}: ${visibleText(rowReason(row), 80)}, from ${row.client}`);
    }
    if (!rowMatches(row, this.filter)) return;
    this.batch.push(row);
    if (this.batch.length > ROWS_MAX) this.batch.shift();
    this.flush ??= setTimeout(() => this.flushRows(), BATCH_MS);
  }

  private flushRows(): void {
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

  private takeDecision(decision: Decision): void {
    if (decision.expires_at_ms <= this.now) return;
    const known = this.decisions.some((d) => d.id === decision.id);
    this.decisions = addDecision(this.decisions, decision);
    const length = duration(decision.expires_at_ms - decision.created_at_ms);
    if (!known) {
      this.announcer.note(`${kindWord(decision.kind)} of ${actorText(decision.actor)} for ${length} by ${authorText(decision.author)}.`);
    }
  }

  private takeWithdrawal(order: Withdrawal): void {
    const before = this.decisions.length;
    this.decisions = withdraw(this.decisions, order);
    if (this.decisions.length < before) this.announcer.note(`Decision about ${actorText(order.actor)} ended by ${authorText(order.author)}.`);
  }

  private linkChanged(state: LinkState): void {
    this.link = state;
    if (state === 'live') {
      const missed = this.lostAt !== null;
      this.lostAt = null;
      if (missed) {
        this.announcer.note('Connection to the node is back.');
        void this.refresh();
      }
      return;
    }
    if (this.lostAt === null) {
      this.lostAt = Date.now() + this.clockOffset;
      this.announcer.note('Connection to the node is lost.');
    }
    this.meter.interrupt();
    // An ended session looks to the stream like a lost connection; a call tells them apart.
    void api.status().catch((error: unknown) => {
      if (error instanceof ApiError && error.status === 401) this.toLogin();
    });
  }

  private failed(error: unknown): void {
    if (error instanceof ApiError && error.status === 401) this.toLogin();
    else if (error instanceof ApiError && (error.code === 'enrolling' || error.code === 'apps')) {
      this.toLogin();
      this.phase = error.code === 'apps' ? 'limited' : 'enrol';
    } else if (this.phase !== 'ready') this.phase = 'unreachable';
  }

  private toLogin(): void {
    this.stream.close();
    this.link = 'connecting';
    this.lostAt = null;
    this.phase = 'login';
    // Nothing of the session stays on a page that anyone may look at.
    this.status = null;
    this.nodes = [];
    this.decisions = [];
    this.waits = [];
    this.waitsTotal = 0;
    this.rows = [];
    this.waiting = [];
  }

  private second(): void {
    this.setNow();
    if (this.phase === 'unreachable' && Math.floor(this.now / 1000) % 3 === 0) return this.start();
    if (this.phase !== 'ready') return;
    this.decisions = dropExpired(this.decisions, this.now);
    // Counters come while they change; a second after the last of them the node is quiet.
    if (this.link === 'live') this.meter.quiet(this.now - 1_500);
    this.trace = this.meter.window(this.now - 1_000);
    this.announcement = this.announcer.take(this.now) ?? this.announcement;
    if (this.link === 'live' && this.now - this.lastNodesAt > STATUS_EVERY_MS) void this.pollStatus();
  }

  /** What the stream does not carry: plan, degraded reasons. */
  private async pollStatus(): Promise<void> {
    this.lastNodesAt = this.now;
    try {
      const status = await api.status();
      this.clockOffset = status.now_ms - Date.now();
      this.status = status;
      this.nodes = status.fleet.members;
    } catch (error) {
      this.failed(error);
    }
  }

  private setNow(): void {
    this.now = Date.now() + this.clockOffset;
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : 'Something went wrong.';
}

const PAGE = 60;
/** The node lists no more decisions in one answer. */
const LISTED_MAX = 1_000;
/** Four renders a second are as live as an eye can follow. */
const BATCH_MS = 250;
const STATUS_EVERY_MS = 5_000;
