/** The admin API, one function per call. A call that needs a fresh second factor asks for it and is made again. */

import type {
  AuditPage,
  Change,
  Decision,
  Exclusion,
  Explanation,
  Fix,
  Held,
  Incident,
  IncidentRow,
  Invited,
  Me,
  Member,
  NewChange,
  NewDecision,
  OperatorRow,
  Policy,
  PolicyDiff,
  PolicyContent,
  PolicyFiles,
  Problem,
  Replayed,
  RequestRow,
  RequestsPage,
  Role,
  SelfTest,
  SessionRow,
  Status,
  Suggestion,
  Traffic,
  TrafficActors,
  Undone,
  VersionRow,
  Withdrawal,
} from './shapes';

export type * from './shapes';

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
  selfTest: () => call<SelfTest>('GET', 'selftest'),
  runSelfTest: () => call<SelfTest>('POST', 'selftest'),
  fixes: () => call<Fix[]>('GET', 'fixes'),
  decisions: () => call<Decision[]>('GET', 'decisions'),
  decide: (decision: NewDecision) => call<Decision>('POST', 'decisions', decision),
  withdraw: (id: string, reason: string) => call<Withdrawal>('DELETE', `decisions/${part(id)}?${query({ reason })}`),
  held: () => call<Held>('GET', 'held'),
  /** Approves or rejects what is held. */
  settle: (id: string, approves: boolean, reason: string) =>
    call<unknown>(approves ? 'POST' : 'DELETE', `held/${part(id)}?${query({ reason })}`),

  events: async (filter: Query): Promise<RequestsPage> => {
    const { json, next } = await asked<RequestRow[]>('GET', `events?${query(filter)}`, undefined, SLOW_MS);
    return { requests: json, next };
  },
  fleetEvents: (filter: Query) => call<RequestsPage>('GET', `fleet/events?${query(filter)}`, undefined, SLOW_MS),
  explain: (id: string) => call<Explanation>('GET', `events/${part(id)}`),
  explainAnywhere: (id: string) => call<Explanation>('GET', `fleet/events/${part(id)}`),
  suggest: (id: string) => call<Suggestion>('GET', `events/${part(id)}/suggestion`, undefined, SLOW_MS),
  traffic: (asked: Query) => call<Traffic>('GET', `traffic?${query(asked)}`, undefined, SLOW_MS),
  trafficActors: (asked: Query) => call<TrafficActors>('GET', `traffic/actors?${query(asked)}`, undefined, SLOW_MS),

  incidents: () => call<IncidentRow[]>('GET', 'incidents'),
  incident: (id: string) => call<Incident>('GET', `incidents/${part(id)}`),
  closeIncident: (id: string) => call<null>('POST', `incidents/${part(id)}/close`),
  undoIncident: (id: string) => call<Undone>('POST', `incidents/${part(id)}/undo`),
  answerIncident: (id: string, step: string, yes: boolean) => call<unknown>('POST', `incidents/${part(id)}/answer`, { step, yes }),

  policy: () => call<Policy>('GET', 'policy'),
  versions: (asked: Query) => call<VersionRow[]>('GET', `policy/versions?${query(asked)}`),
  versionFiles: (version: number | 'running') => call<PolicyContent>('GET', `policy/versions/${version}`),
  checkPolicy: (files: PolicyFiles) => call<{ ok: boolean; problems: Problem[] }>('POST', 'policy/check', files, SLOW_MS),
  diffPolicy: (files: PolicyFiles, against: string) => call<PolicyDiff>('POST', 'policy/diff', { ...files, against }, SLOW_MS),
  replay: (files: PolicyFiles, last_ms: number) => call<Replayed>('POST', 'policy/replay', { ...files, last_ms }, REPLAY_MS),
  promote: () => call<unknown>('POST', 'policy/promote'),
  changes: () => call<Change[]>('GET', 'policy/changes'),
  propose: (change: NewChange) => call<Change>('POST', 'policy/changes', change, SLOW_MS),
  approve: (id: string, hash: string, reason: string) => call<Change>('POST', `policy/changes/${part(id)}/approve`, { hash, reason }),
  reject: (id: string, reason: string) => call<Change>('POST', `policy/changes/${part(id)}/reject`, { reason }),
  exclusions: () => call<Exclusion[]>('GET', 'exclusions'),
  exclude: (asked: { request: string; expires_ms: number; owner: string; reason: string; although_not_enough: boolean }) => call<Change>('POST', 'exclusions', asked, SLOW_MS),

  audit: (asked: Query) => call<AuditPage>('GET', `audit?${query(asked)}`),
  me: () => call<Me>('GET', 'me'),
  operators: () => call<OperatorRow[]>('GET', 'operators'),
  invite: (name: string, role: Role, apps: string[]) => call<Invited>('POST', 'operators', { name, role, apps }),
  changeOperator: (name: string, edit: { role?: Role; apps?: string[]; disabled?: boolean }) =>
    call<OperatorRow>('PATCH', `operators/${part(name)}`, edit),
  removeOperator: (name: string) => call<null>('DELETE', `operators/${part(name)}`),
  resetOperator: (name: string) => call<Invited>('POST', `operators/${part(name)}/reset`),
  sessions: () => call<SessionRow[]>('GET', 'sessions'),
  endSession: (id: string) => call<null>('DELETE', `sessions/${part(id)}`),
  makeToken: (name: string, role: Role, apps: string[], for_ms: number) =>
    call<{ name: string; token: string; expires_at_ms: number }>('POST', 'me/tokens', { name, role, apps, for_ms }),
  endToken: (name: string) => call<null>('DELETE', `me/tokens/${part(name)}`),
  removePasskey: (id: string) => call<null>('DELETE', `me/passkeys/${part(id)}`),
  logout: () => call<unknown>('POST', 'logout'),
};

export const STREAM_PATH = '/api/v1/stream';

/** Parameters of a question; what is empty is not asked. */
export type Query = Record<string, string | number | boolean | undefined>;

export function query(asked: Query): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(asked)) {
    if (value !== undefined && value !== '' && value !== false) parameters.set(name, String(value));
  }
  return parameters.toString();
}

/** Asks the operator for a fresh second factor. False: he gave none. */
export type Prover = (message: string) => Promise<boolean>;

let prover: Prover | null = null;

/** Who is asked when a call needs a fresh second factor. */
export function provedBy(asks: Prover | null): void {
  prover = asks;
}

/** One call of the API. */
export async function call<T>(method: string, path: string, body?: unknown, timeoutMs = CALL_TIMEOUT_MS): Promise<T> {
  return (await asked<T>(method, path, body, timeoutMs)).json;
}

/** An answer; `next`: what to ask for the next page of a list with. */
interface Answer<T> {
  json: T;
  next: string | null;
}

async function asked<T>(method: string, path: string, body: unknown, timeoutMs: number): Promise<Answer<T>> {
  try {
    return await once<T>(method, path, body, timeoutMs);
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== 'fresh_factor' || prover === null) throw error;
    if (!(await prover(error.message))) throw error;
    return once<T>(method, path, body, timeoutMs);
  }
}

async function once<T>(method: string, path: string, body: unknown, timeoutMs: number): Promise<Answer<T>> {
  const headers: Record<string, string> = { accept: 'application/json' };
  const request: RequestInit = { method, credentials: 'same-origin', cache: 'no-store', headers, signal: AbortSignal.timeout(timeoutMs) };
  if (body !== undefined) {
    headers['content-type'] = 'application/json';
    request.body = JSON.stringify(body);
  }
  let response: Response;
  try {
    response = await fetch(`/api/v1/${path}`, request);
  } catch (error) {
    const late = error instanceof DOMException && error.name === 'TimeoutError';
    throw new ApiError(0, 'unreachable', late ? `The node has not answered for ${timeoutMs / 1000} seconds.` : 'The node does not answer.');
  }
  const text = await response.text().catch(() => '');
  const json = parse(text);
  if (!response.ok) throw errorOf(response.status, json);
  return { json: json as T, next: nextOf(response.headers.get('link')) };
}

/** `before` of a header like `</api/v1/events?limit=60&before=ID>; rel="next"`. */
export function nextOf(link: string | null): string | null {
  const address = /<([^>]*)>\s*;\s*rel="?next"?/.exec(link ?? '')?.[1];
  return address === undefined ? null : new URLSearchParams(address.split('?')[1] ?? '').get('before');
}

/** What went wrong (RFC 9457), or a plain error when something else answered. */
export function errorOf(status: number, json: unknown): ApiError {
  const problem = typeof json === 'object' && json !== null ? (json as Record<string, unknown>) : {};
  const code = typeof problem['code'] === 'string' ? problem['code'] : 'unknown';
  const said = problem['detail'];
  const message = typeof said === 'string' && said ? said : `The node answered ${status}.`;
  const { site, node } = problem;
  return new ApiError(status, code, message, typeof site === 'string' && typeof node === 'string' ? { site, node } : null);
}

function parse(text: string): unknown {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

const part = encodeURIComponent;

/** A node on loopback answers in milliseconds; one across the world in less than a second. */
const CALL_TIMEOUT_MS = 10_000;
/** Questions to all nodes, searches, and whatever compiles a policy. */
const SLOW_MS = 40_000;
/** A replay may take the node a minute. */
const REPLAY_MS = 120_000;
