import { expect, test, vi } from 'vitest';
import { actorText, ago, duration, lag, micros, moment, number, parseDuration, rate, since, timeLeft, timeZone } from './format';

test('time left counts down to zero and never below', () => {
  expect(timeLeft(247_000)).toBe('4:07');
  expect(timeLeft(1)).toBe('0:01');
  expect(timeLeft(-5)).toBe('0:00');
  expect(timeLeft(2 * 3_600_000 + 5 * 60_000)).toBe('2 h 05 min');
  expect(timeLeft(76 * 3_600_000)).toBe('3 d 4 h');
  expect(timeLeft(144 * 3_600_000)).toBe('6 d');
  expect(timeLeft((180 * 24 + 5) * 3_600_000)).toBe('180 d');
});

test('lengths of time are words of two units at most', () => {
  expect(duration(300_000)).toBe('5 minutes');
  expect(duration(90_000)).toBe('1 minute 30 seconds');
  expect(duration(86_400_000)).toBe('1 day');
  expect(duration(90_061_000)).toBe('1 day 1 hour');
  expect(duration(10)).toBe('less than a second');
});

test('ages are coarse', () => {
  expect([ago(0), ago(12_400), ago(250_000), ago(7_300_000), ago(9e8)]).toEqual(['now', '12 s', '4 min', '2 h', '10 d']);
});

test('what happened just now is not called long ago', () => expect([since(400), since(41_000)]).toEqual(['now', '41 s ago']));

test('rates keep a steady width', () => {
  expect([rate(0), rate(0.04), rate(1), rate(9.96), rate(1234.4)]).toEqual(['0', '< 0.1', '1.0', '10.0', '1\u2009234']);
});

test('numbers are grouped by thin spaces', () => expect(number(1_204_311)).toBe('1\u2009204\u2009311'));

test('typed lengths of time are read, nonsense is not', () => {
  expect(['90s', '15m', ' 2 h', '1D', '30'].map(parseDuration)).toEqual([90_000, 900_000, 7_200_000, 86_400_000, 30_000]);
  expect(['', '0s', '-5m', 'soon', '1w', '1h30m'].map(parseDuration)).toEqual([null, null, null, null, null, null]);
});

test('an IPv6 actor is written as the /64 it is', () => {
  expect(actorText({ kind: 'ip', value: '2001:db8:1:2::' })).toBe('2001:db8:1:2::/64');
  expect(actorText({ kind: 'ip', value: '203.0.113.9' })).toBe('203.0.113.9');
  expect(actorText({ kind: 'prefix', value: '2001:db8::/32' })).toBe('2001:db8::/32');
});

test('the day is told for moments of another day only', () => {
  const noon = new Date(2026, 10, 21, 12, 0, 0).getTime();
  expect(moment(noon - 1000, noon)).toBe('11:59:59');
  expect(moment(noon - 86_400_000, noon)).toBe('20 Nov 12:00:00');
  expect(moment(noon - 366 * 86_400_000, noon)).toMatch(/^20 Nov 2025 /);
});

test('small units are chosen by size', () => {
  expect([micros(830), micros(12_400), micros(2_500_000), lag(3.4), lag(1_240)]).toEqual(['830 µs', '12.4 ms', '2.50 s', '3 ms', '1.2 s']);
});

test('the zone of times is told with its distance from UTC', () => {
  const now = Date.UTC(2026, 6, 1);
  const minutes = vi.spyOn(Date.prototype, 'getTimezoneOffset');
  for (const [offset, told] of [[-120, 'UTC+2'], [150, 'UTC\u22122:30'], [0, 'UTC'], [-345, 'UTC+5:45']] as const) {
    minutes.mockReturnValue(offset);
    expect(timeZone(now).endsWith(told)).toBe(true);
  }
  minutes.mockRestore();
});
