/** Numbers and times as this page writes them. Pure: the current time is an argument. */

import type { Actor, Author, HeldThing } from './api';

/** `4:07`, `2 h 05 min`, `3 d 4 h`, `180 d`: what is left of a time, short enough to count down in place. */
export function timeLeft(ms: number): string {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}:${two(seconds % 60)}`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${two(minutes % 60)} min`;
  const days = Math.floor(hours / 24);
  return days >= 14 || hours % 24 === 0 ? `${days} d` : `${days} d ${hours % 24} h`;
}

/** `now`, `12 s`, `4 min`, `3 h`, `2 d`: how long ago, coarse on purpose. */
export function ago(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 1) return 'now';
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

/** `now`, `12 s ago`. */
export function since(ms: number): string {
  const age = ago(ms);
  return age === 'now' ? age : `${age} ago`;
}

/** A length of time in words, two units at most: `5 minutes`, `1 hour 30 minutes`. */
export function duration(ms: number): string {
  let left = Math.round(ms / 1000);
  if (left < 1) return 'less than a second';
  const first = UNITS.findIndex(([, length]) => left >= length);
  const words = [];
  for (const [unit, length] of UNITS.slice(first, first + 2)) {
    const count = Math.floor(left / length);
    left -= count * length;
    if (count > 0) words.push(counted(count, unit));
  }
  return words.join(' ');
}

/** `1 node`, `2 nodes`. */
export function counted(count: number, noun: string, plural = `${noun}s`): string {
  return `${number(count)} ${count === 1 ? noun : plural}`;
}

/** A rate: one decimal below ten, none above, so that its width is steady. */
export function rate(perSecond: number): string {
  if (perSecond <= 0) return '0';
  if (perSecond < 0.1) return '< 0.1';
  return perSecond < 10 ? perSecond.toFixed(1) : number(Math.round(perSecond));
}

/** Digits grouped by thin spaces: the same in every language, and not mistaken for a decimal point. */
export function number(value: number): string {
  const [whole = '0', part] = String(value).split('.');
  const grouped = whole.replace(/\B(?=(\d{3})+(?!\d))/g, '\u2009');
  return part ? `${grouped}.${part}` : grouped;
}

/** Local wall-clock time, `03:12:04`. */
export function clockTime(ms: number): string {
  const date = new Date(ms);
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** `21 Nov 03:12:04`, without the day when it is the day of `now`. */
export function moment(ms: number, now: number): string {
  const date = new Date(ms);
  const today = new Date(now);
  const time = clockTime(ms);
  if (date.toDateString() === today.toDateString()) return time;
  const year = date.getFullYear() === today.getFullYear() ? '' : ` ${date.getFullYear()}`;
  return `${date.getDate()} ${MONTHS[date.getMonth()]}${year} ${time}`;
}

/** The zone of the times that are shown, as `Europe/Berlin, UTC+2`: where the browser is, which may not be where the node is. */
export function timeZone(ms: number): string {
  const minutes = -new Date(ms).getTimezoneOffset();
  const [hours, rest] = [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60];
  const offset = minutes === 0 ? 'UTC' : `UTC${minutes < 0 ? '\u2212' : '+'}${hours}${rest ? `:${two(rest)}` : ''}`;
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return !name || name === 'UTC' || name === 'Etc/UTC' ? offset : `${name}, ${offset}`;
}

/** An exact, unambiguous form, for titles and copying. */
export function isoTime(ms: number): string {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? String(ms) : date.toISOString();
}

/** Microseconds as `830 µs` or `12.4 ms`. */
export function micros(us: number): string {
  if (us < 1000) return `${us} µs`;
  if (us < 1_000_000) return `${(us / 1000).toFixed(1)} ms`;
  return `${(us / 1_000_000).toFixed(2)} s`;
}

/** Milliseconds of lag: `3 ms`, `1.2 s`. */
export function lag(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** An actor as operators write it: an IPv6 address is the /64 it lies in. */
export function actorText(actor: Actor): string {
  if (actor.kind === 'client') return `${actor.value.ip} client ${actor.value.agent}`;
  if (actor.kind === 'ip' && actor.value.includes(':') && !actor.value.includes('/')) return `${actor.value}/64`;
  if (actor.kind === 'asn') return `AS${actor.value}`;
  if (actor.kind === 'ip' || actor.kind === 'prefix') return actor.value;
  return `${actor.kind} ${actor.value}`;
}

/** Whom a held order is about. */
export function heldText(held: HeldThing): string {
  return held.actor ? actorText(held.actor) : `blocklist ${held.blocklist ?? ''}`;
}

/** Who wrote a record. */
export function authorText(author: Author): string {
  const where = `${author.site}/${author.node}`;
  return author.role === 'operator' ? `operator at ${where}` : where;
}

/** A length of time as operators type it: `90s`, `15m`, `2h`, `1d`. Null when it is none. */
export function parseDuration(text: string): number | null {
  const match = /^\s*(\d{1,7})\s*(s|m|min|h|d)?\s*$/i.exec(text);
  if (!match) return null;
  const unit = { s: 1, m: 60, min: 60, h: 3600, d: 86400 }[(match[2] ?? 's').toLowerCase()] ?? 1;
  const ms = Number(match[1]) * unit * 1000;
  return ms > 0 ? ms : null;
}

const two = (n: number) => String(n).padStart(2, '0');
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const UNITS = [
  ['day', 86400],
  ['hour', 3600],
  ['minute', 60],
  ['second', 1],
] as const;
