import { expect, test } from 'vitest';
import { niceMax, recent, Trace, TRACE_SECONDS } from './trace';

const total = (requests: number, denied: number, malformed = 0, challenged = 0, throttled = 0) => ({ requests, denied, malformed, challenged, throttled });
const T = 1_000_000_000;

test('totals become requests per second', () => {
  const trace = new Trace();
  trace.note(total(100, 10), T);
  trace.note(total(150, 15), T + 1000);
  trace.note(total(160, 15), T + 2000);
  expect(trace.window(T + 2000).slice(-2)).toEqual([
    { passed: 45, refused: 5, slowed: 0 },
    { passed: 10, refused: 0, slowed: 0 },
  ]);
});

test('malformed requests are refused ones', () => {
  const trace = new Trace();
  trace.note(total(0, 0, 0), T);
  trace.note(total(10, 1, 2), T + 1000);
  expect(trace.window(T + 1000).at(-1)).toEqual({ passed: 7, refused: 3, slowed: 0 });
});

test('who was asked for a proof or to come later neither passed nor was refused', () => {
  const trace = new Trace();
  trace.note(total(0, 0), T);
  trace.note(total(10, 1, 0, 3, 2), T + 1000);
  expect(trace.window(T + 1000).at(-1)).toEqual({ passed: 4, refused: 1, slowed: 5 });
});

test('what came in between two totals is spread over their time', () => {
  const trace = new Trace();
  trace.note(total(0, 0), T + 500);
  trace.note(total(30, 0), T + 2000);
  expect(trace.window(T + 2000).slice(-2)).toEqual([{ passed: 10, refused: 0, slowed: 0 }, { passed: 20, refused: 0, slowed: 0 }]);
});

test('a second that was not watched is unknown, a quiet one is zero', () => {
  const trace = new Trace();
  trace.note(total(5, 0), T);
  trace.quiet(T + 1000);
  trace.interrupt();
  trace.note(total(99, 9), T + 3000);
  trace.note(total(100, 9), T + 4000);
  expect(trace.window(T + 4000).slice(-5)).toEqual([null, { passed: 0, refused: 0, slowed: 0 }, null, null, { passed: 1, refused: 0, slowed: 0 }]);
});

test('a restarted node does not make negative traffic', () => {
  const trace = new Trace();
  trace.note(total(1000, 10), T);
  trace.note(total(3, 0), T + 1000);
  expect(trace.window(T + 1000).at(-1)).toBeNull();
  trace.note(total(5, 1), T + 2000);
  expect(trace.window(T + 2000).at(-1)).toEqual({ passed: 1, refused: 1, slowed: 0 });
});

test('the window keeps its length and forgets what lies before it', () => {
  const trace = new Trace();
  for (let i = 0; i <= 1000; i++) trace.note(total(i, 0), T + i * 1000);
  expect(trace.window(T + 1_000_000)).toHaveLength(TRACE_SECONDS);
  expect((trace as unknown as { seconds: Map<number, unknown> }).seconds.size).toBeLessThanOrEqual(TRACE_SECONDS + 1);
});

test('readouts average the watched seconds only', () => {
  expect(recent([null, { passed: 2, refused: 0, slowed: 0 }, { passed: 4, refused: 1, slowed: 0 }])).toEqual({ passed: 3, refused: 0.5, slowed: 0 });
  expect(recent([null, null])).toBeNull();
});

test('scales end on round numbers', () => expect([0.2, 1, 7, 42, 120, 1001].map(niceMax)).toEqual([1, 1, 8, 50, 150, 1500]));
