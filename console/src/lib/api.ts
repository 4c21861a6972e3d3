/** The admin API as this page uses it: the shapes of its JSON, and one function per call. */

export type Action = 'allow' | 'observe' | 'challenge' | 'throttle' | 'tarpit' | 'deny';
export type DecisionKind = 'raise_paranoia' | 'throttle' | 'challenge' | 'ban' | 'allow';

export type Actor =
  | { kind: 'ip' | 'prefix' | 'country' | 'ja4' | 'session' | 'account' | 'software' | 'route' | 'app' | 'rules'; value: string }
  | { kind: 'asn'; value: number }
  /** One kind of client at one address; `agent` is 16 hexadecimal digits. */
  | { kind: 'client'; value: { ip: string; agent: string } };

export interface Author {
  site: string;
  node: string;
  role: 'node' | 'operator';
}

export interface Decision {
  id: string;
  actor: Actor;
  kind: DecisionKind;
  author: Author;
  reason: string;
  evidence: string | null;
  confidence_percent: number;
  created_at_ms: number;
  expires_at_ms: number;
  /** Beyond 2^53, so rounded here; the order of versions survives that, their equality need not. */
  version: number;
}

export interface Withdrawal {
  id: string;
  actor: Actor;
  author: Author;
  up_to_version: number;
  reason: string;
  created_at_ms: number;
}

/** What waits for an operator. */
export interface HeldThing {
  id: string;
  what: 'decision' | 'blocklist' | 'range';
  /** Missing for a blocklist. */
  actor: Actor | null;
  blocklist: string | null;
  /** Prefixes of the list, or banned addresses of the range. */
  addresses: number | null;
  kind: DecisionKind;
  author: Author;
  reason: string;
  share: { clients: number; of: number };
  /** The share in words. */
  text: string;
  since_ms: number | null;
  expires_at_ms: number | null;
}

export interface Held {
  held: HeldThing[];
  total: number;
}

export interface Member {
  site: string;
  node: string;
  version: string;
  lag_ms: number;
  last_seen_ms: number;
  /** Decisions that it enforces. */
  decisions: number;
  /** What it holds for an operator; nodes of older versions do not say. */
  held?: number;
  me: boolean;
  online: boolean;
}

export interface AppInfo {
  name: string;
  upstream: string;
  mode: 'block' | 'observe' | 'off';
  rules: string;
  paranoia: number;
  rule_count: number;
}

/** Totals since the node's start. A malformed request is refused too, and counted apart from the denied ones. */
export interface Counters {
  requests: number;
  denied: number;
  malformed: number;
}

export interface Status {
  node: string;
  site: string;
  version: string;
  started_at_ms: number;
  now_ms: number;
  ready: boolean;
  not_ready: string | null;
  plan: { version: number; apps: AppInfo[] };
  fleet: { kind: 'local' | 'nats'; connected: boolean; degraded: string[]; members: Member[] };
  counters: Counters;
  decisions_live: number;
}

/** Why a verdict fell; `kind` says which of the other fields are there. */
export interface Reason {
  kind: string;
  rule?: number;
  decision?: Decision;
  fault?: string;
  limit?: string;
  rate?: string;
  key?: string;
  here?: number;
  elsewhere?: number;
  retry_after_s?: number;
  stage?: string;
  error?: string;
}

export interface TopFinding {
  rule: number;
  message: string;
  variable: string;
  fragment: string;
  file: string;
  line: number;
}

/** A refused or flagged request, as lists and the stream carry it. Most of its text was written by strangers. */
export interface RequestRow {
  id: string;
  at_ms: number;
  app: string;
  client: string;
  method: string;
  host: string;
  target: string;
  status: number;
  action: Action;
  reason: Reason;
  rule_ids: number[];
  top: TopFinding | null;
  score: number;
  site: string;
  node: string;
}

export interface RuleInfo {
  id: number;
  file: string;
  line: number;
  class: { class: string; confidence?: string };
  severity: string | null;
  tags: string[];
}

/** What a transformation made of a value; no text where it changed nothing. */
export interface Step {
  name: string;
  changed: boolean;
  value?: string;
}

export interface RuleMatch {
  variable: string;
  fragment: string;
  transformations: string[];
  /** Missing in records of older versions, as are the steps. */
  value?: string;
  steps?: Step[];
}

export interface Signal {
  rule: RuleInfo;
  phase: number;
  message: string;
  data: string;
  matches: RuleMatch[];
  score: number;
  inbound?: { before: number; after: number };
  observed?: boolean;
}

export interface Access {
  id: string;
  at_ms: number;
  app: string;
  client: string;
  peer: string;
  method: string;
  host: string;
  target: string;
  protocol: string;
  user_agent: string;
  referer: string;
  status: number;
  request_bytes: number;
  response_bytes: number;
  duration_us: number;
  upstream_us: number;
  verdict: { action: Action; reason: Reason; status: number; score: number };
  plan_version: number;
  view_revision: number;
}

export interface Strike {
  request: string;
  at_ms: number;
  actor: Actor;
  count: number;
}

/** Everything a node knows about one request. */
export interface Explanation {
  access: Access;
  signals: Signal[];
  faults: string[];
  strikes: Strike[];
  /** The standing decision that refused it. */
  decision: Decision | null;
  /** Decisions that it led to. */
  led_to: Decision[];
  plan_version: number;
  site: string;
  node: string;
  /** The same facts in plain words, for a ticket. */
  summary: string[];
}

export interface NewDecision {
  ip?: string;
  prefix?: string;
  kind: DecisionKind;
  for_ms: number;
  reason: string;
  /** Order it also where it would refuse many of the clients served well. */
  force?: boolean;
}

export interface EventFilter {
  client: string;
  rule: string;
  action: string;
}

/** An answer that was not the wanted one. `status` 0: the node could not be reached. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    /** The node that has the answer, when this one knows that it has it not. */
    readonly elsewhere: { site: string; node: string } | null = null,
  ) {
    super(message);
  }
}

export const api = {
  status: () => call<Status>('GET', 'status'),
  nodes: () => call<Member[]>('GET', 'nodes'),
  decisions: () => call<Decision[]>('GET', 'decisions'),
  decide: (decision: NewDecision) => call<Decision>('POST', 'decisions', decision),
  withdraw: (id: string, reason: string) =>
    call<Withdrawal>('DELETE', `decisions/${encodeURIComponent(id)}?${new URLSearchParams({ reason })}`),
  held: () => call<Held>('GET', 'held'),
  /** Approves or rejects what is held. */
  settle: (id: string, approves: boolean, reason: string) =>
    call<unknown>(approves ? 'POST' : 'DELETE', `held/${encodeURIComponent(id)}?${new URLSearchParams({ reason })}`),
  events: (filter: EventFilter, limit: number, before?: string) =>
    call<RequestRow[]>('GET', `events?${eventQuery(filter, limit, before)}`),
  explain: (id: string) => call<Explanation>('GET', `events/${encodeURIComponent(id)}`),
  logout: () => call<unknown>('POST', 'logout'),
};

export const STREAM_PATH = '/api/v1/stream';

export function eventQuery(filter: EventFilter, limit: number, before?: string): string {
  const query = new URLSearchParams({ limit: String(limit) });
  if (before) query.set('before', before);
  for (const key of ['client', 'rule', 'action'] as const) {
    const value = filter[key].trim();
    if (value) query.set(key, value);
  }
  return query.toString();
}

/** One call of the API. */
export async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  const request: RequestInit = {
    method,
    credentials: 'same-origin',
    cache: 'no-store',
    headers: { accept: 'application/json' },
    signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
  };
  if (body !== undefined) {
    request.headers = { ...request.headers, 'content-type': 'application/json' };
    request.body = JSON.stringify(body);
  }
  let response: Response;
  try {
    response = await fetch(`/api/v1/${path}`, request);
  } catch {
    throw new ApiError(0, 'unreachable', 'The node does not answer.');
  }
  const text = await response.text().catch(() => '');
  const json = parse(text);
  if (!response.ok) throw errorOf(response.status, json);
  return json as T;
}

/** The API's problem (RFC 9457), or a plain error when something else answered. */
export function errorOf(status: number, json: unknown): ApiError {
  const problem = json as { code?: unknown; detail?: unknown; site?: unknown; node?: unknown } | null;
  const code = typeof problem?.code === 'string' ? problem.code : 'unknown';
  const message = typeof problem?.detail === 'string' && problem.detail ? problem.detail : `The node answered ${status}.`;
  const { site, node } = problem ?? {};
  return new ApiError(status, code, message, typeof site === 'string' && typeof node === 'string' ? { site, node } : null);
}

function parse(text: string): unknown {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

/** A node on loopback answers in milliseconds; one across the world in less than a second. */
const CALL_TIMEOUT_MS = 10_000;
