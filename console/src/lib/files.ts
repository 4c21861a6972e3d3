/** The files of a policy, as the API carries them and as they are edited. */

import type { PolicyFiles } from './shapes';

/** A policy being looked at or edited: texts by file name; what is no text is kept as it is and not shown. */
export interface Texts {
  entry: string;
  files: Record<string, string>;
  /** Files that are no text, in base64. */
  binary: Record<string, string>;
}

export function textsOf(policy: PolicyFiles): Texts {
  const texts: Texts = { entry: policy.entry, files: {}, binary: {} };
  for (const [name, base64] of Object.entries(policy.files)) {
    const text = decode(base64);
    if (text === null) texts.binary[name] = base64;
    else texts.files[name] = text;
  }
  return texts;
}

export function filesOf(texts: Texts): PolicyFiles {
  const encoded = Object.entries(texts.files).map(([name, text]) => [name, encode(text)]);
  return { entry: texts.entry, files: { ...texts.binary, ...(Object.fromEntries(encoded) as Record<string, string>) } };
}

/** The policy file first, the others by name. */
export function namesOf(texts: Texts): string[] {
  return Object.keys(texts.files).sort((a, b) => Number(b === texts.entry) - Number(a === texts.entry) || a.localeCompare(b));
}

/** Files whose text is another than before. */
export function changed(now: Texts, then: Texts): string[] {
  return Object.keys(now.files).filter((name) => now.files[name] !== then.files[name]);
}

function encode(text: string): string {
  const bytes = new TextEncoder().encode(text);
  let plain = '';
  for (let at = 0; at < bytes.length; at += CHUNK) plain += String.fromCharCode(...bytes.subarray(at, at + CHUNK));
  return btoa(plain);
}

function decode(base64: string): string | null {
  try {
    const bytes = Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return text.includes('\0') ? null : text;
  } catch {
    return null;
  }
}

/** Arguments that one call takes in every browser. */
const CHUNK = 8_192;
