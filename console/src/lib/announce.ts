/** What a screen reader is told: at most one polite sentence in a while, however fast things happen. */

export class Announcer {
  private refused = 0;
  private latest = '';
  private notes: string[] = [];
  private spokeAt = -Infinity;

  constructor(private readonly everyMs = 10_000) {}

  /** A request was refused; `what` says it in words. */
  noteRefused(what: string): void {
    this.refused += 1;
    this.latest = what;
  }

  /** Something rarer: a decision, a withdrawal, a lost connection. */
  note(sentence: string): void {
    if (this.notes.length < NOTES_MAX) this.notes.push(sentence);
  }

  /** The sentence to say now, or null: nothing new, or too early. */
  take(now: number): string | null {
    if ((this.refused === 0 && this.notes.length === 0) || now - this.spokeAt < this.everyMs) return null;
    const parts = [...this.notes];
    if (this.refused === 1) parts.push(`Refused: ${this.latest}.`);
    if (this.refused > 1) parts.push(`${this.refused} requests refused, the latest: ${this.latest}.`);
    this.refused = 0;
    this.notes = [];
    this.spokeAt = now;
    return parts.join(' ');
  }
}

/** A reader follows three sentences; more in one go is noise. */
const NOTES_MAX = 3;
