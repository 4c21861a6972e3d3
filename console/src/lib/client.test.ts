import { afterEach, expect, test, vi } from 'vitest';
import { address, ApiError, call, errorOf, nextOf, provedBy } from './client';

afterEach(() => {
  provedBy(null);
  vi.unstubAllGlobals();
});

test('a question has no empty parts', () => {
  expect(address('/e/{id}', { id: 'a/b' }, { limit: 5, client: 'a&b=c', rule: '', before: undefined, fleet: false })).toBe('/e/a%2Fb?limit=5&client=a%26b%3Dc');
  expect(address('/e', {}, {})).toBe('/e');
});

test("the node's own words are shown, and plain ones when it has none", () => {
  expect(errorOf(422, { type: 'about:blank', title: 'Refused', status: 422, detail: 'too wide', code: 'bad' })).toMatchObject({ code: 'bad', message: 'too wide' });
  expect(errorOf(502, null).message).toBe('The node answered 502.');
  expect(errorOf(500, { error: 'x' }).code).toBe('unknown');
  expect(errorOf(404, { code: 'elsewhere', detail: 'm', site: 'syd', node: 'syd-1' }).elsewhere).toEqual({ site: 'syd', node: 'syd-1' });
});

test('where a list goes on stands in a header', () => {
  expect(nextOf('</api/v1/events?limit=60&before=01M8>; rel="next"')).toBe('01M8');
  expect(nextOf(null)).toBeNull();
  expect(nextOf('</api/v1/events>; rel="prev"')).toBeNull();
});

/** A node that wants a fresh second factor so many times. */
function stale(times: number) {
  const fetched = vi.fn(async () =>
    times-- > 0 ? new Response(JSON.stringify({ code: 'fresh_factor', detail: 'prove yourself again' }), { status: 403 }) : new Response('{"done":true}'),
  );
  vi.stubGlobal('fetch', fetched);
  return fetched;
}

test('a call that needs a fresh factor asks for it and is made again, once', async () => {
  const fetched = stale(1);
  const asks = vi.fn(async () => true);
  provedBy(asks);
  expect(await call('post', '/api/v1/policy/promote')).toEqual({ done: true });
  expect([fetched.mock.calls.length, asks.mock.calls.length]).toEqual([2, 1]);
  stale(2);
  await expect(call('post', '/api/v1/policy/promote')).rejects.toThrow(ApiError);
});

test('who gives no factor is told what the node said', async () => {
  const fetched = stale(1);
  provedBy(async () => false);
  await expect(call('post', '/api/v1/policy/promote')).rejects.toThrow('prove yourself again');
  expect(fetched).toHaveBeenCalledTimes(1);
});

/** What was sent, with a node that answers as listed; a number is a status, `cut` a connection that broke. */
function node(...answers: ('cut' | number)[]) {
  const keys: (string | undefined)[] = [];
  vi.stubGlobal('fetch', async (_: string, request: RequestInit) => {
    keys.push((request.headers as Record<string, string>)['idempotency-key']);
    const answer = answers.shift() ?? 200;
    if (answer === 'cut') throw new TypeError('network error');
    return new Response(answer < 300 ? '{}' : JSON.stringify({ code: answer === 409 ? 'under_way' : 'role', detail: 'no' }), { status: answer });
  });
  return keys;
}

test('a POST whose answer got lost is sent again with its key, the next one has another', async () => {
  vi.useFakeTimers();
  const keys = node('cut', 409, 200);
  const done = call('post', '/api/v1/incidents/{id}/close', { path: { id: 'a' } });
  await vi.runAllTimersAsync();
  await done;
  await call('post', '/api/v1/incidents/{id}/close', { path: { id: 'a' } });
  vi.useRealTimers();
  expect(keys).toHaveLength(4);
  expect(keys[0]).toMatch(/^[0-9a-f]{32}$/);
  expect(new Set(keys.slice(0, 3)).size).toBe(1);
  expect(keys[3]).not.toBe(keys[0]);
});

test('who tries again by hand what may have been done sends the same key, and another after a plain refusal', async () => {
  vi.useFakeTimers();
  const keys = node('cut', 'cut', 'cut', 403, 200);
  const post = () => call('post', '/api/v1/incidents/{id}/undo', { path: { id: 'b' } });
  const failed = expect(post()).rejects.toMatchObject({ code: 'unreachable' });
  await vi.runAllTimersAsync();
  await failed;
  vi.useRealTimers();
  await expect(post()).rejects.toMatchObject({ code: 'role' });
  await post();
  expect(new Set(keys.slice(0, 4)).size).toBe(1);
  expect(keys[4]).not.toBe(keys[0]);
});

test('questions, and what holds secrets, have no key', async () => {
  const keys = node();
  await call('post', '/api/v1/policy/check', { body: { entry: 'p', files: {} } });
  await call('post', '/api/v1/me/password', { body: { password: 'p', code: 'c' } });
  await call('get', '/api/v1/me');
  expect(keys).toEqual([undefined, undefined, undefined]);
});
