/** The admin API as the pages call it. Types are those of the node's own document; see `client.ts`. */

import { address, call, IMPORT_MS, paged, REPLAY_MS, SLOW_MS, type Asked } from './client';
import { toldRow } from './lists';
import type {
  EventFilter,
  Incident,
  NewChange,
  NewDecision,
  NewExclusion,
  NewInvitation,
  NodeDuty,
  OperatorEdit,
  PolicyFiles,
  RequestRow,
  RequestsPage,
  Role,
} from './shapes';

export { ApiError, provedBy } from './client';
export type * from './shapes';

export const api = {
  status: () => call('get', '/api/v1/status'),
  selfTest: () => call('get', '/api/v1/selftest'),
  runSelfTest: () => call('post', '/api/v1/selftest', { timeoutMs: SLOW_MS }),
  fixes: () => call('get', '/api/v1/fixes'),
  decisions: () => call('get', '/api/v1/decisions', { query: { limit: DECISIONS_MAX } }),
  decide: (body: NewDecision) => call('post', '/api/v1/decisions', { body }),
  withdraw: (id: string, reason: string) => call('delete', '/api/v1/decisions/{id}', { path: { id }, query: { reason } }),
  held: () => call('get', '/api/v1/held'),
  /** Approves or rejects what is held. */
  settle: (id: string, approves: boolean, reason: string) =>
    call(approves ? 'post' : 'delete', '/api/v1/held/{id}', { path: { id }, query: { reason } }),

  events: async (query: EventFilter): Promise<RequestsPage> => {
    const { json, next } = await paged('get', '/api/v1/events', { query, timeoutMs: SLOW_MS });
    return { requests: json as RequestRow[], next };
  },
  fleetEvents: async (query: EventFilter): Promise<RequestsPage> => {
    const json = await call('get', '/api/v1/fleet/events', { query, timeoutMs: SLOW_MS });
    return { requests: json.requests.map(toldRow), silent: json.silent, next: json.next ?? null };
  },
  explain: (id: string) => call('get', '/api/v1/events/{id}', { path: { id } }),
  explainAnywhere: (id: string) => call('get', '/api/v1/fleet/events/{id}', { path: { id } }),
  suggest: (id: string) => call('get', '/api/v1/events/{id}/suggestion', { path: { id }, timeoutMs: SLOW_MS }),
  traffic: (query: NonNullable<Asked<'get', '/api/v1/traffic'>['query']>) => call('get', '/api/v1/traffic', { query, timeoutMs: SLOW_MS }),
  trafficActors: (query: NonNullable<Asked<'get', '/api/v1/traffic/actors'>['query']>) => call('get', '/api/v1/traffic/actors', { query, timeoutMs: SLOW_MS }),

  incidents: () => call('get', '/api/v1/incidents'),
  incident: (id: string) => call('get', '/api/v1/incidents/{id}', { path: { id } }) as Promise<Incident>,
  closeIncident: (id: string) => call('post', '/api/v1/incidents/{id}/close', { path: { id } }),
  undoIncident: (id: string) => call('post', '/api/v1/incidents/{id}/undo', { path: { id } }),
  answerIncident: (id: string, step: string, yes: boolean) => call('post', '/api/v1/incidents/{id}/answer', { path: { id }, body: { step, yes } }),

  receivers: () => call('get', '/api/v1/receivers'),
  testReceiver: (name: string) => call('post', '/api/v1/receivers/{name}/test', { path: { name }, timeoutMs: SLOW_MS }),

  playbooks: () => call('get', '/api/v1/playbooks'),
  runPlaybook: (name: string, incident: string) => call('post', '/api/v1/playbooks/{name}/run', { path: { name }, body: { incident } }),
  schedules: () => call('get', '/api/v1/reports'),
  sendReport: (name: string) => call('post', '/api/v1/reports/{name}/send', { path: { name }, timeoutMs: SLOW_MS }),

  authority: () => call('get', '/api/v1/fleet'),
  inviteNode: (body: NewInvitation) => call('post', '/api/v1/fleet/invitations', { body }),
  orderNode: (site: string, node: string, duty: NodeDuty, reason: string) => call('post', '/api/v1/fleet/orders', { body: { site, node, duty, reason } }),
  revokeNode: (site: string, node: string, reason: string) => call('post', '/api/v1/fleet/revocations', { body: { site, node, reason, withdraw: false } }),
  recallNode: (site: string, node: string, reason: string) => call('delete', '/api/v1/nodes/{site}/{node}/decisions', { path: { site, node }, query: { role: 'node', reason } }),
  delegate: (site: string, node: string, for_ms: number) => call('post', '/api/v1/fleet/delegations', { body: { site, node, for_ms } }),
  endDelegation: (site: string, node: string) => call('delete', '/api/v1/fleet/delegations/{site}/{node}', { path: { site, node } }),
  upgrade: () => call('post', '/api/v1/upgrade', { timeoutMs: SLOW_MS }),
  reloadPolicy: () => call('post', '/api/v1/policy/reload', { timeoutMs: SLOW_MS }),

  blocklists: () => call('get', '/api/v1/blocklists', { query: { limit: ROWS_MAX } }),
  blocklist: (name: string) => call('get', '/api/v1/blocklists/{name}', { path: { name }, query: { limit: PREFIXES_SHOWN } }),
  importBlocklist: (name: string, text: string, query: { kind: 'ban' | 'challenge'; for_ms: number; reason: string }) =>
    call('put', '/api/v1/blocklists/{name}', { path: { name }, query, text, timeoutMs: IMPORT_MS }),
  removeBlocklist: (name: string, reason: string) => call('delete', '/api/v1/blocklists/{name}', { path: { name }, query: { reason } }),
  bouncers: () => call('get', '/api/v1/bouncers'),
  addBouncer: (name: string) => call('post', '/api/v1/bouncers', { body: { name } }),
  deleteBouncer: (name: string) => call('delete', '/api/v1/bouncers/{name}', { path: { name } }),

  policy: () => call('get', '/api/v1/policy'),
  versions: (limit: number) => call('get', '/api/v1/policy/versions', { query: { limit } }),
  versionFiles: (version: string) => call('get', '/api/v1/policy/versions/{version}', { path: { version } }),
  checkPolicy: (body: PolicyFiles) => call('post', '/api/v1/policy/check', { body, timeoutMs: SLOW_MS }),
  diffPolicy: (files: PolicyFiles, against: string) => call('post', '/api/v1/policy/diff', { body: { ...files, against }, timeoutMs: SLOW_MS }),
  replay: (files: PolicyFiles, last_ms: number) => call('post', '/api/v1/policy/replay', { body: { ...files, last_ms }, timeoutMs: REPLAY_MS }),
  followers: () => call('get', '/api/v1/policy/followers'),
  promote: () => call('post', '/api/v1/policy/promote'),
  changes: () => call('get', '/api/v1/policy/changes'),
  propose: (body: NewChange) => call('post', '/api/v1/policy/changes', { body, timeoutMs: SLOW_MS }),
  approve: (id: string, hash: string, reason: string) => call('post', '/api/v1/policy/changes/{id}/approve', { path: { id }, body: { hash, reason }, timeoutMs: SLOW_MS }),
  reject: (id: string, reason: string) => call('post', '/api/v1/policy/changes/{id}/reject', { path: { id }, body: { reason } }),
  exclusions: () => call('get', '/api/v1/exclusions', { query: { limit: ROWS_MAX } }),
  exclude: (body: NewExclusion) => call('post', '/api/v1/exclusions', { body, timeoutMs: SLOW_MS }),

  audit: (query: NonNullable<Asked<'get', '/api/v1/audit'>['query']>) => call('get', '/api/v1/audit', { query }),
  me: () => call('get', '/api/v1/me'),
  operators: () => call('get', '/api/v1/operators', { query: { limit: ROWS_MAX } }),
  invite: (name: string, role: Role, apps: string[]) => call('post', '/api/v1/operators', { body: { name, role, apps } }),
  changeOperator: (name: string, body: OperatorEdit) => call('patch', '/api/v1/operators/{name}', { path: { name }, body }),
  removeOperator: (name: string) => call('delete', '/api/v1/operators/{name}', { path: { name } }),
  resetOperator: (name: string) => call('post', '/api/v1/operators/{name}/reset', { path: { name } }),
  sessions: () => call('get', '/api/v1/sessions', { query: { limit: ROWS_MAX } }),
  endSession: (id: string) => call('delete', '/api/v1/sessions/{id}', { path: { id } }),
  makeToken: (name: string, role: Role, apps: string[], for_ms: number) => call('post', '/api/v1/me/tokens', { body: { name, role, apps, for_ms } }),
  endToken: (name: string) => call('delete', '/api/v1/me/tokens/{name}', { path: { name } }),
  removePasskey: (id: string) => call('delete', '/api/v1/me/passkeys/{id}', { path: { id } }),
  logout: () => call('post', '/api/v1/logout'),
};

/** A page to print, or a file to keep, of what a time was like. */
export const reportUrl = (query: { from_ms: number; to_ms: number; app: string; fleet: boolean; format: 'html' | 'csv' | 'json' }): string =>
  address('/api/v1/report', {}, query);

export const STREAM_PATH = '/api/v1/stream';

/** As many as a node gives in one answer: whoever looks for something in a list looks in all of it. */
const ROWS_MAX = 10_000;

/** Of a blocklist: the rest is for the command line. */
const PREFIXES_SHOWN = 200;

/** The node lists no more decisions in one answer. */
export const DECISIONS_MAX = 1_000;
