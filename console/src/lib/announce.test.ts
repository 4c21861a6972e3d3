import { expect, test } from 'vitest';
import { Announcer } from './announce';

test('a flood is one sentence', () => {
  const announcer = new Announcer(10_000);
  for (let i = 0; i < 500; i++) announcer.noteRefused(`attack ${i}`);
  expect(announcer.take(0)).toBe('500 requests refused, the latest: attack 499.');
  expect(announcer.take(20_000)).toBeNull();
});

test('the next sentence waits its time', () => {
  const announcer = new Announcer(10_000);
  announcer.noteRefused('one');
  expect(announcer.take(0)).toBe('Refused: one.');
  announcer.note('Ban of 203.0.113.9.');
  expect(announcer.take(9_999)).toBeNull();
  expect(announcer.take(10_000)).toBe('Ban of 203.0.113.9.');
});

test('decisions are told before refusals, and not without end', () => {
  const announcer = new Announcer(0);
  for (const n of [1, 2, 3, 4, 5]) announcer.note(`Decision ${n}.`);
  announcer.noteRefused('x');
  expect(announcer.take(0)).toBe('Decision 1. Decision 2. Decision 3. Refused: x.');
});
