/**
 * What every page knows, and how it came to know it: fetched once, then kept current by the stream, fetched again
 * whenever the stream was broken. An operator who is limited to some apps has no stream; his page asks every few seconds. All tabs of a
 * browser have one session: where another is opened or one ends in a tab, the others forget what they knew.
 */

import { Announcer } from './announce';
import {
  api,
  ApiError,
  STREAM_PATH,
  type Counters,
  type Decision,
  type Fix,
  type HeldThing,
  type IncidentRow,
  type Me,
  type Member,
  type NewDecision,
  type RequestRow,
  type SelfTest,
  type Status,
  type Withdrawal,
} from './api';
import { draft } from './draft.svelte';
import { actionWord, kindWord, rowReason } from './explain';
import { actorText, authorText, duration, heldText } from './format';
import { addDecision, dropExpired, sortDecisions, withdraw } from './lists';
import { returned } from './resource.svelte';
import { has } from './rights';
import type { LinkState } from './stream';
import { Sessions, SharedStream } from './tabs';
import { visibleText } from './text';
import { Trace, type Second } from './trace';
import { messageOf } from './words';

export type Phase = 'starting' | 'login' | 'enrol' | 'unreachable' | 'ready';

export class Store {
  phase = $state<Phase>('starting');
  link = $state<LinkState>('connecting');
  /** When the node was last heard of before it fell silent, by this machine's corrected clock; null while it is heard. */
  lostAt = $state<number | null>(null);

  me = $state.raw<Me | null>(null);
  status = $state.raw<Status | null>(null);
  nodes = $state.raw<Member[]>([]);
  decisions = $state.raw<Decision[]>([]);
  incidents = $state.raw<IncidentRow[]>([]);
  fixes = $state.raw<Fix[]>([]);
  /** The node's attacks on itself; null until it has told. */
  selfTest = $state.raw<SelfTest | null>(null);
  /** Changes of policy that wait for a second operator. */
  changesWaiting = $state(0);
  /** Decisions in force, also those beyond what the node lists in one answer. */
  readonly decisionsTotal = $derived(
    this.decisions.length < LISTED_MAX ? this.decisions.length : Math.max(this.decisions.length, this.status?.decisions_live ?? 0),
  );
  readonly openIncidents = $derived(this.incidents.filter((one) => one.state === 'open'));
  /** The only apps that this operator may see; null: all. */
  readonly apps = $derived(this.me?.apps ?? null);
  /** What waits for an operator, the first of it. */
  waits = $state.raw<HeldThing[]>([]);
  waitsTotal = $state(0);
  trace = $state.raw<(Second | null)[]>([]);

  /** The node's time, in whole seconds of milliseconds. */
  now = $state(Date.now());
  /** The latest sentence for screen readers. */
  announcement = $state('');
  /** The latest undo that the node refused, by decision: why. */
  undoFailures = $state.raw<Record<string, string>>({});

  private clockOffset = 0;
  private tick: ReturnType<typeof setInterval> | undefined;
  private meter = new Trace();
  private announcer = new Announcer();
  private lastStatusAt = 0;
  private lastSlowAt = 0;
  private readonly listeners = new Set<(row: RequestRow) => void>();
  /** Whose what is being edited is. */
  private last = '';
  private session: string | null = null;
  /** Counts sessions: an answer to what an earlier one asked is dropped. */
  private era = 0;
  /** What happened to the decisions while they are being fetched. */
  private meanwhile: ((list: readonly Decision[]) => Decision[])[] | null = null;
  private readonly stream = new SharedStream(STREAM_PATH, {
    event: (name, data) => this.take(name, data),
    state: (state) => this.linkChanged(state),
  });
  private readonly sessions = new Sessions((session) => this.sessionElsewhere(session));

  start(): void {
    this.tick ??= setInterval(() => this.second(), 1000);
    this.sessions.open();
    void this.refresh().then((known) => {
      if (!known) return;
      this.sessions.tell(this.session);
      if (this.apps === null) this.stream.open(this.session);
      else this.link = 'live';
    });
  }

  stop(): void {
    this.stream.close();
    this.sessions.close();
    clearInterval(this.tick);
    this.tick = undefined;
  }

  /** A page that a browser set aside and shows again may be another operator's by now. */
  resume(): void {
    this.forget();
    this.phase = 'starting';
    this.start();
  }

  /** Calls back for each request that the stream tells of; returns what ends that. */
  listen(listener: (row: RequestRow) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** May this operator do what needs the role? */
  may(role: 'viewer' | 'responder' | 'editor' | 'owner'): boolean {
    return has(this.me, role);
  }

  /** Fetches everything anew. True when the node answered and knows us. */
  async refresh(): Promise<boolean> {
    const era = this.era;
    try {
      await this.fetchMe();
      const whole = this.apps === null;
      const [status] = await Promise.all([api.status(), whole ? this.fetchDecisions() : undefined]);
      if (era !== this.era) return false;
      this.takeStatus(status);
      this.meter.note(status.counters, status.now_ms);
      this.phase = 'ready';
      if (whole) await Promise.all([this.fetchHeld(), this.fetchSlow()]);
      return era === this.era;
    } catch (error) {
      if (era === this.era) this.failed(error);
      return false;
    }
  }

  async fetchMe(): Promise<void> {
    const era = this.era;
    const me = await api.me();
    if (era !== this.era) return;
    const session = me.session ?? null;
    // A tab that stood still has not been told.
    if (this.phase === 'ready' && session !== this.session) return this.resume();
    this.me = me;
    this.session = session;
    // What one operator edits is not for the next.
    if (this.last !== '' && this.last !== me.name) draft.discard();
    this.last = me.name;
  }

  /** Fetches the decisions. What the stream tells meanwhile is newer than the answer. */
  private async fetchDecisions(): Promise<void> {
    const meanwhile: typeof this.meanwhile = (this.meanwhile = []);
    try {
      const fetched = sortDecisions(await api.decisions());
      if (this.meanwhile === meanwhile) this.decisions = meanwhile.reduce((list, change) => change(list), fetched);
    } finally {
      if (this.meanwhile === meanwhile) this.meanwhile = null;
    }
  }

  /** A change of the decisions, also of those on their way. */
  private change(change: (list: readonly Decision[]) => Decision[]): void {
    this.decisions = change(this.decisions);
    if (this.meanwhile && this.meanwhile.length < LISTED_MAX) this.meanwhile.push(change);
  }

  /** Fetches what waits for an operator. */
  async fetchHeld(): Promise<void> {
    const era = this.era;
    try {
      const { held, total } = await api.held();
      if (era !== this.era) return;
      const known = new Set(this.waits.map((one) => one.id));
      const news = held.find((one) => !known.has(one.id));
      if (news && this.phase === 'ready') this.announcer.note(`Held for an operator: ${kindWord(news.kind)} of ${heldText(news)}.`);
      this.waits = held;
      this.waitsTotal = total;
    } catch (error) {
      if (era === this.era) this.failed(error);
    }
  }

  /** What changes slowly and is not in the stream. Each may fail alone: what is not known is not shown. */
  async fetchSlow(): Promise<void> {
    this.lastSlowAt = this.now;
    const era = this.era;
    const [incidents, fixes, selfTest, changes] = await Promise.allSettled([api.incidents(), api.fixes(), api.selfTest(), api.changes()]);
    if (era !== this.era) return;
    if (incidents.status === 'fulfilled') this.takeIncidents(incidents.value);
    if (fixes.status === 'fulfilled') this.fixes = fixes.value.slice(0, FIXES_MAX);
    this.selfTest = selfTest.status === 'fulfilled' ? selfTest.value : null;
    if (changes.status === 'fulfilled') this.changesWaiting = changes.value.filter((one) => one.state === 'waiting').length;
  }

  /** Answers what waits. It leaves the list when the node has done it. */
  async settle(held: HeldThing, approves: boolean, reason: string): Promise<void> {
    await api.settle(held.id, approves, reason);
    this.waits = this.waits.filter((one) => one.id !== held.id);
    this.waitsTotal = Math.max(this.waits.length, this.waitsTotal - 1);
    this.announcer.note(`${kindWord(held.kind)} of ${heldText(held)} ${approves ? 'is ordered on every node' : 'is rejected'}.`);
  }

  /** Ends a decision everywhere. It leaves the list at once and comes back if the node refuses. */
  async undo(decision: Decision, reason: string): Promise<void> {
    this.decisions = this.decisions.filter((d) => d.id !== decision.id);
    try {
      await api.withdraw(decision.id, reason);
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return;
      this.decisions = addDecision(this.decisions, decision);
      this.undoFailures = { [decision.id]: messageOf(error) };
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
    this.sessions.tell(null);
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
    for (const listener of this.listeners) listener(row);
  }

  private takeDecision(decision: Decision): void {
    if (decision.expires_at_ms <= this.now) return;
    const known = this.decisions.some((d) => d.id === decision.id);
    this.change((list) => addDecision(list, decision));
    const length = duration(decision.expires_at_ms - decision.created_at_ms);
    if (!known) {
      this.announcer.note(`${kindWord(decision.kind)} of ${actorText(decision.actor)} for ${length} by ${authorText(decision.author)}.`);
    }
  }

  private takeWithdrawal(order: Withdrawal): void {
    const before = this.decisions.length;
    this.change((list) => withdraw(list, order));
    if (this.decisions.length < before) this.announcer.note(`Decision about ${actorText(order.actor)} ended by ${authorText(order.author)}.`);
  }

  private takeStatus(status: Status): void {
    this.clockOffset = status.now_ms - Date.now();
    this.setNow();
    this.status = status;
    this.nodes = status.fleet.members;
  }

  private takeIncidents(incidents: IncidentRow[]): void {
    const known = new Set(this.incidents.map((one) => one.id));
    const news = incidents.find((one) => one.state === 'open' && !known.has(one.id));
    if (news && this.incidents.length > 0) this.announcer.note(`New incident, ${news.severity}: ${visibleText(news.summary, 120)}.`);
    this.incidents = incidents.slice(0, INCIDENTS_MAX);
  }

  private linkChanged(state: LinkState): void {
    const era = this.era;
    const again = state === 'live' && this.link === 'live';
    this.link = state;
    if (state === 'live') {
      const missed = this.lostAt !== null;
      this.lostAt = null;
      if (missed) {
        this.announcer.note('Connection to the node is back.');
        void this.refresh();
        returned();
      } else {
        // The stream was opened after they were fetched, or another tab keeps it now.
        void this.fetchDecisions().catch((error: unknown) => era === this.era && this.failed(error));
        void this.fetchHeld();
        if (again) returned();
      }
      return;
    }
    this.lost();
    // An ended session looks to the stream like a lost connection; a call tells them apart.
    void api.status().catch((error: unknown) => {
      if (era === this.era && error instanceof ApiError && error.status === 401) this.toLogin();
    });
  }

  private lost(): void {
    if (this.lostAt === null) {
      this.lostAt = Date.now() + this.clockOffset;
      this.announcer.note('Connection to the node is lost.');
    }
    this.meter.interrupt();
  }

  private failed(error: unknown): void {
    if (error instanceof ApiError && error.status === 401) this.toLogin();
    else if (error instanceof ApiError && error.code === 'enrolling') {
      const session = this.session;
      this.toLogin();
      this.session = session;
      this.phase = 'enrol';
    } else if (this.phase !== 'ready') this.phase = 'unreachable';
  }

  /** Another tab says whose session it is now, or that it is nobody's. */
  private sessionElsewhere(session: string | null): void {
    if (this.phase !== 'starting' && this.phase !== 'unreachable' && session !== this.session) this.resume();
  }

  private toLogin(): void {
    this.forget();
    this.phase = 'login';
  }

  /** Nothing of the session stays on a page that anyone may look at. */
  private forget(): void {
    this.era += 1;
    this.session = null;
    this.stream.close();
    this.link = 'connecting';
    this.lostAt = null;
    this.meanwhile = null;
    this.meter = new Trace();
    this.trace = [];
    this.undoFailures = {};
    this.announcement = '';
    this.me = this.status = this.selfTest = null;
    this.nodes = [];
    this.decisions = [];
    this.incidents = [];
    this.fixes = [];
    this.waits = [];
    this.waitsTotal = this.changesWaiting = 0;
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
    const asks = this.link === 'live' || this.apps !== null;
    if (asks && this.now - this.lastStatusAt > STATUS_EVERY_MS) void this.pollStatus();
    if (this.link === 'live' && this.apps === null && this.now - this.lastSlowAt > SLOW_EVERY_MS) void this.fetchSlow();
  }

  /** What the stream does not carry: plan, degraded reasons. To whom no stream is open it also says that the node is there. */
  private async pollStatus(): Promise<void> {
    this.lastStatusAt = this.now;
    const era = this.era;
    try {
      const status = await api.status();
      if (era !== this.era) return;
      this.takeStatus(status);
      if (this.apps !== null) this.linkHeard();
    } catch (error) {
      if (era !== this.era) return;
      this.failed(error);
      if (this.apps !== null && this.phase === 'ready') {
        this.link = 'lost';
        this.lost();
      }
    }
  }

  private linkHeard(): void {
    const missed = this.lostAt !== null;
    this.link = 'live';
    this.lostAt = null;
    if (missed) returned();
  }

  private setNow(): void {
    this.now = Date.now() + this.clockOffset;
  }
}

/** The node lists no more decisions in one answer. */
const LISTED_MAX = 1_000;
/** The node remembers 256 closed incidents, and as many open ones. */
const INCIDENTS_MAX = 512;
const FIXES_MAX = 10;
const STATUS_EVERY_MS = 5_000;
/** Incidents change within seconds; the self-test runs every minute. */
const SLOW_EVERY_MS = 10_000;
