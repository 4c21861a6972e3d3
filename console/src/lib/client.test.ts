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
