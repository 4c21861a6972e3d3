/** The policy being edited. It outlives the page, so that a look at a request does not lose it; never the tab. */

import { api, type PolicyDiff, type Problem, type Replayed } from './api';
import { changed, filesOf, textsOf, type Texts } from './files';
import { messageOf } from './words';

export class Draft {
  texts = $state.raw<Texts | null>(null);
  /** What it began with. */
  from = $state.raw<Texts | null>(null);
  /** The version that it began with, for the node to refuse it if there is a newer one; null: the node's own file. */
  base = $state<number | null>(null);
  /** Files that the node does not give out, for they hold private keys. */
  withheld = $state.raw<string[]>([]);
  problems = $state.raw<Problem[] | null>(null);
  diff = $state.raw<PolicyDiff | null>(null);
  replayed = $state.raw<Replayed | null>(null);
  fault = $state('');
  busy = $state<'' | 'open' | 'check' | 'diff' | 'replay'>('');
  /** Whether what was checked is what stands there. */
  checked = $state(false);
  private asks = 0;
  private wait: ReturnType<typeof setTimeout> | undefined;

  readonly dirty = $derived(this.texts !== null && this.from !== null && changed(this.texts, this.from).length > 0);
  readonly sound = $derived(this.problems !== null && !this.problems.some((one) => one.level === 'error'));

  /** Begins with a version, unless something is being edited already. */
  async open(version: string): Promise<void> {
    if (this.dirty) return;
    await this.run('open', async () => {
      const found = await api.versionFiles(version);
      this.texts = this.from = textsOf(found);
      this.base = found.version;
      this.withheld = found.withheld;
      this.problems = this.diff = this.replayed = null;
      this.checked = false;
    });
  }

  discard(): void {
    clearTimeout(this.wait);
    this.asks += 1;
    this.texts = this.from = this.problems = this.diff = this.replayed = null;
    this.fault = '';
    this.busy = '';
    this.checked = false;
  }

  /** A file has another text. It is checked when nothing is typed for a moment. */
  edit(name: string, text: string): void {
    if (!this.texts) return;
    this.texts = { ...this.texts, files: { ...this.texts.files, [name]: text } };
    this.checked = false;
    this.diff = this.replayed = null;
    clearTimeout(this.wait);
    this.wait = setTimeout(() => void this.check(), PAUSE_MS);
  }

  async check(): Promise<void> {
    const { texts } = this;
    if (!texts) return;
    await this.run('check', async () => {
      const found = await api.checkPolicy(filesOf(texts));
      if (texts !== this.texts) return;
      this.problems = found.problems.slice(0, PROBLEMS_MAX);
      this.checked = true;
    });
  }

  async compare(): Promise<void> {
    const { texts } = this;
    if (texts) await this.run('diff', async () => void (this.diff = await api.diffPolicy(filesOf(texts), 'running')));
  }

  async replay(): Promise<void> {
    const { texts } = this;
    if (texts) await this.run('replay', async () => void (this.replayed = await api.replay(filesOf(texts), HOUR_MS)));
  }

  private async run(what: 'open' | 'check' | 'diff' | 'replay', work: () => Promise<void>): Promise<void> {
    const ask = ++this.asks;
    this.busy = what;
    this.fault = '';
    try {
      await work();
    } catch (error) {
      if (ask === this.asks) this.fault = messageOf(error);
    } finally {
      if (ask === this.asks) this.busy = '';
    }
  }
}

export const draft = new Draft();

/** Long enough not to check half a word. */
const PAUSE_MS = 700;
const HOUR_MS = 3_600_000;
const PROBLEMS_MAX = 200;
