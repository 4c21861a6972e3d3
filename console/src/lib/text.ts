/**
 * Text from strangers, made safe to look at. Svelte escapes what it renders; this makes the rest visible: control
 * characters, and the invisible and direction-changing ones that make a text read as something it is not.
 */

/** A run of text; `mark` runs stand for a character that cannot be shown as itself. */
export interface Run {
  text: string;
  mark: boolean;
}

/** Splits a text into plain runs and named stand-ins for characters that would hide or reorder what follows. */
export function visible(text: string, max = Infinity): Run[] {
  const runs: Run[] = [];
  let plain = '';
  let count = 0;
  for (const char of text) {
    if (count++ >= max) {
      plain += '…';
      break;
    }
    const name = standIn(char);
    if (name === null) {
      plain += char;
      continue;
    }
    if (plain) runs.push({ text: plain, mark: false });
    plain = '';
    runs.push({ text: name, mark: true });
  }
  if (plain) runs.push({ text: plain, mark: false });
  return runs;
}

/** The same as one string: for labels that a screen reader says and for titles. */
export function visibleText(text: string, max = Infinity): string {
  return visible(text, max)
    .map((run) => run.text)
    .join('');
}

function standIn(char: string): string | null {
  const code = char.codePointAt(0) ?? 0;
  if (code === 0x0a) return '\\n';
  if (code === 0x0d) return '\\r';
  if (code === 0x09) return '\\t';
  if (code < 0x20 || (code >= 0x7f && code <= 0x9f)) return `\\x${code.toString(16).padStart(2, '0')}`;
  return HIDING.test(char) ? `\\u{${code.toString(16)}}` : null;
}

// Format characters (bidi controls, zero-width ones, tags), line and paragraph separators, unpaired surrogates.
const HIDING = /[\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u;
