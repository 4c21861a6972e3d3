/** Request ids: 26 characters of Crockford base 32, the first ten of which are the time. */

/** Finds an id in what somebody pasted: a bare id, a log line, a block page's text. Null when there is none. */
export function findId(text: string): string | null {
  const words = text.toUpperCase().match(/[0-9A-Z]+/g) ?? [];
  return words.find((word) => ID.test(word)) ?? null;
}

/** When an id was made, in Unix milliseconds. */
export function idTime(id: string): number {
  let time = 0;
  for (const char of id.slice(0, 10)) time = time * 32 + ALPHABET.indexOf(char);
  return time;
}

const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const ID = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/;
