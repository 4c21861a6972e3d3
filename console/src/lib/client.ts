/** Calls of the admin API whose paths, parameters, bodies and answers are those of the node's own document. */

import type { paths } from './schema';

export type Method = 'get' | 'post' | 'put' | 'patch' | 'delete';

/** Paths that take a method. */
export type PathOf<M extends Method> = { [P in keyof paths]: paths[P][M] extends object ? P : never }[keyof paths];

type Operation<M extends Method, P extends keyof paths> = paths[P][M];
type Part<T, K extends string> = T extends { [key in K]: infer V } ? V : undefined;
type Loose<T> = { [K in keyof T]?: T[K] | undefined };

/** What stands in a path: `{id}`. */
type InPath<O> = Part<Part<O, 'parameters'>, 'path'>;
type InQuery<O> = O extends { parameters: { query?: infer Q } } ? Q : undefined;
type InBody<O> = O extends { requestBody: { content: { 'application/json': infer B } } } ? B : undefined;
type JsonOf<R> = R extends { content: { 'application/json': infer T } } ? T : null;

/** What a call answers when it does what was asked. */
export type Answered<M extends Method, P extends keyof paths> =
  Operation<M, P> extends { responses: infer R } ? JsonOf<R[keyof R]> : never;

/** What a call is asked with: each part where the document has one. */
export type Asked<M extends Method, P extends keyof paths, O = Operation<M, P>> = (InPath<O> extends object ? { path: InPath<O> } : { path?: never }) &
  ([NonNullable<InQuery<O>>] extends [never] ? { query?: never } : { query?: Loose<NonNullable<InQuery<O>>> }) &
  (InBody<O> extends undefined ? { body?: never } : { body: InBody<O> }) & { timeoutMs?: number; text?: string };

/** An answer; `next`: what to ask for the next page of a list with. */
export interface Answer<T> {
  json: T;
  next: string | null;
}

/** An answer that was not the wanted one. `status` 0: the node could not be reached. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    /** The node that has the answer, when this one knows that it has it not. */
    readonly elsewhere: { site: string; node: string } | null = null,
    /** What is wrong with a policy that was refused. */
    readonly diagnostics: readonly unknown[] = [],
  ) {
    super(message);
  }
}

/** Asks the operator for a fresh second factor. False: he gave none. */
export type Prover = (message: string) => Promise<boolean>;

let prover: Prover | null = null;

/** Who is asked when a call needs a fresh second factor. */
export function provedBy(asks: Prover | null): void {
  prover = asks;
}

/** One call. */
export async function call<M extends Method, P extends PathOf<M>>(method: M, path: P, ...asked: Args<M, P>): Promise<Answered<M, P>> {
  return (await paged(method, path, ...asked)).json;
}

/** The same, with where the list goes on. */
export async function paged<M extends Method, P extends PathOf<M>>(method: M, path: P, ...asked: Args<M, P>): Promise<Answer<Answered<M, P>>> {
  const { path: names = {}, query = {}, body, text, timeoutMs = CALL_TIMEOUT_MS } = (asked[0] ?? {}) as Untyped;
  const ask: Ask = { method, url: address(path, names, query), body, text, timeoutMs };
  return proven<Answered<M, P>>(ask, method === 'post' && !WITHOUT_KEY.has(path) ? keyFor(ask) : undefined);
}

/** A call needs no third argument where nothing of it is needed. */
type Args<M extends Method, P extends keyof paths> = object extends Asked<M, P> ? [asked?: Asked<M, P>] : [asked: Asked<M, P>];

interface Untyped {
  path?: Record<string, string | number>;
  query?: Record<string, unknown>;
  body?: unknown;
  /** A body that is text and no JSON. */
  text?: string;
  timeoutMs?: number;
}

/** An address: names in the path filled in, and of the query what is not empty. */
export function address(path: string, names: Record<string, string | number>, query: Record<string, unknown>): string {
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(names[name] ?? '')));
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== '' && value !== false) parameters.set(name, String(value));
  }
  const search = parameters.toString();
  return search ? `${filled}?${search}` : filled;
}

interface Ask {
  method: string;
  url: string;
  body: unknown;
  text: string | undefined;
  timeoutMs: number;
}

async function proven<T>(ask: Ask, key: string | undefined): Promise<Answer<T>> {
  try {
    return await surely<T>(ask, key);
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== 'fresh_factor' || prover === null) throw error;
    if (!(await prover(error.message))) throw error;
    return surely<T>(ask, key);
  }
}

/** What has a key may be asked again when its answer got lost: the node does it once. */
async function surely<T>(ask: Ask, key: string | undefined): Promise<Answer<T>> {
  if (key === undefined) return once<T>(ask);
  for (const pauseMs of AGAIN_AFTER_MS) {
    try {
      return settled(ask, await once<T>(ask, key));
    } catch (error) {
      const code = error instanceof ApiError ? error.code : '';
      if (code !== 'unreachable' && code !== 'under_way') {
        if (code !== 'late') settled(ask, null);
        throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }
  return settled(ask, await once<T>(ask, key));
}

/**
 * Keys of calls of which nobody knows whether they were done. Whoever presses the button again, for the same, sends the same key, so that
 * nothing is done twice.
 */
const unsettled = new Map<string, string>();

function keyFor(ask: Ask): string {
  const what = whatOf(ask);
  const key = unsettled.get(what) ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
  unsettled.delete(what);
  unsettled.set(what, key);
  for (const oldest of unsettled.keys()) {
    if (unsettled.size <= UNSETTLED_MAX) break;
    unsettled.delete(oldest);
  }
  return key;
}

function settled<T>(ask: Ask, answer: T): T {
  unsettled.delete(whatOf(ask));
  return answer;
}

const whatOf = (ask: Ask) => `${ask.url} ${JSON.stringify(ask.body)}`;

async function once<T>({ method, url, body, text: plain, timeoutMs }: Ask, key?: string): Promise<Answer<T>> {
  const headers: Record<string, string> = { accept: 'application/json' };
  const request: RequestInit = { method: method.toUpperCase(), credentials: 'same-origin', cache: 'no-store', headers, signal: AbortSignal.timeout(timeoutMs) };
  if (key !== undefined) headers['idempotency-key'] = key;
  if (body !== undefined) {
    headers['content-type'] = 'application/json';
    request.body = JSON.stringify(body);
  } else if (plain !== undefined) {
    headers['content-type'] = 'text/plain; charset=utf-8';
    request.body = plain;
  }
  let response: Response;
  try {
    response = await fetch(url, request);
  } catch (error) {
    const late = error instanceof DOMException && error.name === 'TimeoutError';
    throw new ApiError(0, late ? 'late' : 'unreachable', late ? `The node has not answered for ${timeoutMs / 1000} seconds.` : 'The node does not answer.');
  }
  const text = await response.text().catch(() => '');
  const json = parse(text);
  if (!response.ok) throw errorOf(response.status, json);
  return { json: json as T, next: nextOf(response.headers.get('link')) };
}

/** `before` of a header like `</api/v1/events?limit=60&before=ID>; rel="next"`. */
export function nextOf(link: string | null): string | null {
  const next = /<([^>]*)>\s*;\s*rel="?next"?/.exec(link ?? '')?.[1];
  return next === undefined ? null : new URLSearchParams(next.split('?')[1] ?? '').get('before');
}

/** What went wrong (RFC 9457), or a plain error when something else answered. */
export function errorOf(status: number, json: unknown): ApiError {
  const problem = typeof json === 'object' && json !== null ? (json as Record<string, unknown>) : {};
  const { code, detail, site, node, diagnostics } = problem;
  const message = typeof detail === 'string' && detail ? detail : `The node answered ${status}.`;
  const elsewhere = typeof site === 'string' && typeof node === 'string' ? { site, node } : null;
  return new ApiError(status, typeof code === 'string' ? code : 'unknown', message, elsewhere, Array.isArray(diagnostics) ? diagnostics : []);
}

function parse(text: string): unknown {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

/** POSTs without a key: they change nothing, or their bodies are secrets, which are not kept here to be compared. */
const WITHOUT_KEY: ReadonlySet<string> = new Set([
  '/api/v1/policy/check',
  '/api/v1/policy/diff',
  '/api/v1/policy/replay',
  '/api/v1/login/challenge',
  '/api/v1/login/password',
  '/api/v1/login/passkey',
  '/api/v1/me/challenge',
  '/api/v1/me/prove',
  '/api/v1/me/password',
]);
/** A node restarts in less than a second; a connection that broke is there again at once. */
const AGAIN_AFTER_MS = [300, 1_500];
const UNSETTLED_MAX = 32;
/** A node on loopback answers in milliseconds; one across the world in less than a second. */
const CALL_TIMEOUT_MS = 10_000;
/** Questions to all nodes, searches, and whatever compiles a policy. */
export const SLOW_MS = 40_000;
/** A list of a million prefixes has to get there first. */
export const IMPORT_MS = 180_000;
/** A replay may take the node a minute. */
export const REPLAY_MS = 120_000;
