/**
 * One stream for all tabs of a session: browsers open six connections to a host without TLS, and each stream keeps one. The tab that
 * holds the lock keeps the stream and tells the others what it hears. A browser gives the lock to another when that tab is closed or
 * crashes; where it only stands still, a tab that is looked at takes the lock from it. Lock and channel bear the session's name, so that
 * no tab hears anything of another session. Where a browser has neither, each tab that is looked at keeps a stream of its own.
 */

import { Stream, type LinkState, type StreamHandlers } from './stream';

type Told =
  | { kind: 'event'; name: string; data: unknown }
  /** The stream was opened anew, or broke. `hidden`: nobody looks at the tab that keeps it. */
  | { kind: 'state'; state: LinkState; hidden: boolean }
  | { kind: 'ask' }
  /** How it stands, to whoever asked. */
  | { kind: 'answer'; state: LinkState; hidden: boolean };

export class SharedStream {
  /** The stream, in the tab that keeps it. */
  private own: Stream | null = null;
  private channel: BroadcastChannel | null = null;
  private state: LinkState = 'connecting';
  private name = '';
  /** Counts openings and claims, so that what belongs to an earlier one is known. */
  private turn = 0;
  private queued: AbortController | null = null;
  private release: (() => void) | null = null;
  private watch: ReturnType<typeof setInterval> | undefined;
  private silentTicks = 0;

  constructor(
    private readonly url: string,
    private readonly handlers: StreamHandlers,
  ) {}

  /** Listens, under the session's name. */
  open(session: string | null): void {
    this.close();
    if (session === null || !sharable()) {
      document.addEventListener('visibilitychange', this.looked);
      this.looked();
      return;
    }
    this.name = `phalanx stream ${session}`;
    this.channel = new BroadcastChannel(this.name);
    this.channel.onmessage = ({ data }: MessageEvent<Told>) => this.hear(data);
    this.claim(false);
    this.tell({ kind: 'ask' });
    this.watch = setInterval(() => this.look(), TICK_MS);
  }

  close(): void {
    this.turn += 1;
    clearInterval(this.watch);
    document.removeEventListener('visibilitychange', this.looked);
    this.yield();
    this.channel?.close();
    this.channel = null;
    this.state = 'connecting';
  }

  /** Alone: whoever looks at the tab wants it live, and nobody else. */
  private readonly looked = (): void => {
    if (isHidden()) {
      this.own?.close();
      this.own = null;
    } else if (this.own === null) {
      this.own = new Stream(this.url, this.handlers);
      this.own.open();
    }
  };

  /** Waits for the lock, or takes it from a tab that stands still. */
  private claim(takes: boolean): void {
    this.yield();
    const turn = ++this.turn;
    const queued = (this.queued = new AbortController());
    const options: LockOptions = takes ? { steal: true } : { signal: queued.signal };
    // Refused: another tab took the lock, and this one is again one of those that wait.
    navigator.locks.request(this.name, options, () => this.keep(turn)).catch(() => {
      if (turn === this.turn) this.claim(false);
    });
  }

  /** The lock is ours until what this returns is done. */
  private keep(turn: number): Promise<void> | undefined {
    if (turn !== this.turn) return undefined;
    this.queued = null;
    this.own = new Stream(this.url, {
      event: (name, data) => {
        this.tell({ kind: 'event', name, data });
        this.handlers.event(name, data);
      },
      state: (state) => {
        this.tell({ kind: 'state', state, hidden: isHidden() });
        this.enter(state);
      },
    });
    this.own.open();
    return new Promise((resolve) => (this.release = resolve));
  }

  private yield(): void {
    this.own?.close();
    this.own = null;
    this.queued?.abort();
    this.release?.();
    this.queued = this.release = null;
  }

  private hear(told: Told): void {
    this.silentTicks = 0;
    switch (told.kind) {
      case 'ask':
        if (this.own !== null) this.tell({ kind: 'answer', state: this.state, hidden: isHidden() });
        return;
      case 'answer':
        if (told.state !== this.state) this.enter(told.state);
        return this.relieve(told);
      case 'state':
        this.enter(told.state);
        return this.relieve(told);
      case 'event':
        return this.handlers.event(told.name, told.data);
    }
  }

  /** Browsers slow the clocks of tabs that nobody looks at, and with them how soon a broken stream is tried again. */
  private relieve({ state, hidden }: { state: LinkState; hidden: boolean }): void {
    if (state === 'lost' && hidden && !isHidden() && this.own === null) this.claim(true);
  }

  private tell(told: Told): void {
    this.channel?.postMessage(told);
  }

  private enter(state: LinkState): void {
    this.state = state;
    // `live` also where it was: another tab keeps the stream now, and something may have been missed.
    this.handlers.state(state);
  }

  /** By ticks and not by the clock: a tab that stood still itself has heard nothing either. */
  private look(): void {
    if (this.own !== null || isHidden()) return void (this.silentTicks = 0);
    this.silentTicks += 1;
    if (this.silentTicks >= SILENT_TICKS) {
      this.silentTicks = 0;
      this.claim(true);
    } else if (this.silentTicks > 1) {
      this.tell({ kind: 'ask' });
    }
  }
}

/** Tells the tabs of this browser whose session it is now. */
export class Sessions {
  private channel: BroadcastChannel | null = null;

  /** Calls back when another tab says so; null: nobody's. */
  constructor(private readonly heard: (session: string | null) => void) {}

  open(): void {
    if (this.channel !== null || typeof BroadcastChannel === 'undefined') return;
    this.channel = new BroadcastChannel('phalanx session');
    this.channel.onmessage = ({ data }: MessageEvent<string | null>) => this.heard(data);
  }

  close(): void {
    this.channel?.close();
    this.channel = null;
  }

  tell(session: string | null): void {
    this.channel?.postMessage(session);
  }
}

const isHidden = () => document.visibilityState === 'hidden';

function sharable(): boolean {
  return typeof BroadcastChannel !== 'undefined' && typeof navigator !== 'undefined' && navigator.locks !== undefined;
}

const TICK_MS = 1_000;
/** Nodes tell of themselves every second: a tab that says nothing for so long, and answers nothing, stands still. */
const SILENT_TICKS = 5;
