/** Something fetched: not yet there, there, not to be had, or not for one's eyes. What was asked last wins. */

import { ApiError } from './api';
import { messageOf } from './words';

export class Resource<T> {
  data = $state.raw<T | null>(null);
  fault = $state<string | null>(null);
  /** The node knows who asks, and refuses. */
  forbidden = $state(false);
  missing = $state(false);
  busy = $state(false);
  private asked = 0;

  constructor(private fetches: () => Promise<T>) {}

  /** Fetches it (anew). What is there stays until the answer comes, and also if none comes. */
  async load(fetches?: () => Promise<T>): Promise<void> {
    if (fetches) this.fetches = fetches;
    const asked = ++this.asked;
    this.busy = true;
    try {
      const data = await this.fetches();
      if (asked !== this.asked) return;
      this.data = data;
      this.fault = null;
      this.forbidden = this.missing = false;
    } catch (error) {
      if (asked !== this.asked) return;
      this.fault = messageOf(error);
      this.forbidden = error instanceof ApiError && error.status === 403;
      this.missing = error instanceof ApiError && error.status === 404;
      if (error instanceof ApiError && error.status === 0) owe(this);
    } finally {
      if (asked === this.asked) this.busy = false;
    }
  }

  /** Forgets it, so that the page shows that it is being fetched. */
  clear(): void {
    this.asked += 1;
    this.data = this.fault = null;
    this.forbidden = this.missing = this.busy = false;
  }
}

/** Loads now and every `ms` while the page is open and looked at, and when it is looked at again or the node is heard again. For `$effect`: returns what ends it. */
export function every(ms: number, work: () => unknown): () => void {
  const look = () => {
    if (document.visibilityState === 'visible') void work();
  };
  void work();
  const timer = setInterval(look, ms);
  const deaf = onReturn(look);
  document.addEventListener('visibilitychange', look);
  return () => {
    clearInterval(timer);
    deaf();
    document.removeEventListener('visibilitychange', look);
  };
}

/** Calls back whenever the node is heard again after it was not. Returns what ends that. */
export function onReturn(work: () => unknown): () => void {
  listeners.add(work);
  return () => listeners.delete(work);
}

/** The node is heard again: what could not be fetched meanwhile is. */
export function returned(): void {
  const owed = [...owing];
  owing.clear();
  for (const one of owed) void one.load();
  for (const work of [...listeners]) void work();
}

function owe(one: { load(): unknown }): void {
  owing.add(one);
  for (const oldest of owing) {
    if (owing.size <= OWING_MAX) break;
    owing.delete(oldest);
  }
}

const listeners = new Set<() => unknown>();
/** Pages may be opened and left while the node is silent. */
const owing = new Set<{ load(): unknown }>();
const OWING_MAX = 24;
