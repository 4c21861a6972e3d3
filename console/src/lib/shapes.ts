/** The shapes of the admin API's JSON, by the names that they have here. All come from the node's own document. */

import type { Asked } from './client';
import type { components } from './schema';

type Schemas = components['schemas'];

export type Action = Schemas['Action'];
export type Actor = Schemas['Actor'];
export type Author = Schemas['Author'];
export type Decision = Schemas['Decision'];
export type DecisionKind = Schemas['DecisionKind'];
export type NewDecision = Schemas['NewDecision'];
export type Withdrawal = Schemas['Withdrawal'];
export type Held = Schemas['Held'];
export type HeldThing = Schemas['HeldThing'];

export type Status = Schemas['Status'];
export type AppInfo = Schemas['App'];
export type Member = Schemas['Member'] & { selftest?: 'ok' | 'failing' | 'unknown' };
/** Totals since the node's start. A malformed request is refused too, and counted apart from the denied ones. */
export type Counters = Pick<Schemas['Counters'], 'requests' | 'denied' | 'malformed'>;

/** A refused or flagged request, as lists and the stream carry it. Most of its text was written by strangers. */
export type RequestRow = Omit<Schemas['EventRow'], 'reason'> & { reason: Reason };
/** The same as other nodes tell it: without what is personal. */
export type ToldRequest = Schemas['RedactedRequest'];
export type Explanation = Schemas['Explanation'];
export type Verdict = Schemas['Verdict'];
export type Signal = Schemas['Signal'];
export type RuleMatch = Schemas['RuleMatch'];
export type Suggestion = Schemas['Suggestion'];
export type EventFilter = NonNullable<Asked<'get', '/api/v1/events'>['query']>;

/** Why a verdict fell. Nodes of newer versions know reasons that this page does not, so all but the kind is looked for. */
export type Reason = { kind: string; told?: string } & { [K in Exclude<KeyOf<Schemas['Reason']>, 'kind'>]?: ValueOf<Schemas['Reason'], K> };

/** Of alternatives: what any of them has. */
type KeyOf<U> = U extends unknown ? keyof U : never;
type ValueOf<U, K extends PropertyKey> = U extends { [key in K]: infer V } ? V : never;

/** A page of requests, and what to ask for the next one with; with a text to look for it may be short and not the last. */
export interface RequestsPage {
  requests: RequestRow[];
  next?: string | null;
  silent?: string[];
}

export type Incident = Required<Pick<Schemas['Incident'], 'targets' | 'playbooks'>> & Schemas['Incident'];
export type IncidentRow = Schemas['IncidentRow'];
export type PlaybookRun = Schemas['PlaybookRun'];

export type Policy = Schemas['Policy'];
export type VersionRow = Schemas['PolicyVersionRow'];
export type PolicyContent = Schemas['PolicyContent'];
export type PolicyFiles = Schemas['PolicyFiles'];
export type PolicyDiff = Schemas['PolicyDiffered'];
export type Problem = Schemas['Diagnostic'];
export type Replayed = Schemas['Replayed'];
export type NewChange = Schemas['NewPolicyChange'];
export type Change = Schemas['PolicyChange'];
export type Exclusion = Schemas['ExclusionRow'];
export type NewExclusion = Schemas['NewExclusion'];

export type Me = Schemas['Me'];
export type Role = Schemas['OperatorRole'];
export type OperatorRow = Schemas['OperatorRow'];
export type OperatorEdit = Schemas['OperatorEdit'];
export type Invited = Schemas['OperatorInvited'];
export type SessionRow = Schemas['SessionRow'];

/** What the node's attacks on itself came to. */
export interface SelfTest {
  state: 'ok' | 'failing' | 'unknown';
  /** Null: it is off. */
  every_ms: number | null;
  last: { at_ms: number; took_ms: number; ok: boolean; cases: SelfTestCase[] } | null;
  failing_since_ms: number | null;
}

export interface SelfTestCase {
  app: string;
  listener: string;
  name: string;
  expected: string;
  got: string;
  ok: boolean;
  outcome: 'passed' | 'failed' | 'not_protected' | 'skipped';
  detail: string;
}

/** Something worth doing, with the command that does it. */
export interface Fix {
  id: string;
  weight: number;
  title: string;
  why: string;
  command: string;
  page: string;
}

export type TrafficBy = 'action' | 'app' | 'rule' | 'country' | 'class' | 'status' | 'node';

export interface Traffic {
  from_ms: number;
  to_ms: number;
  step_ms: number;
  totals: { requests: number; refused: number; challenged: number; throttled: number; observed: number; errors: number };
  series: { key: string; total: number; points: number[] }[];
  others: { total: number; points: number[] };
  answered: { site: string; node: string }[];
  silent: { site: string; node: string }[];
}

/** The most refused clients; other nodes tell them as networks. */
export interface TrafficActors {
  clients: TrafficActor[];
  answered: { site: string; node: string }[];
  silent: { site: string; node: string }[];
}

export interface TrafficActor {
  client: string;
  country?: string | null;
  asn?: number | null;
  refused: number;
  last_ms: number;
  rules: number[];
}

export interface AuditPage {
  entries: AuditEntry[];
  /** What to ask for older ones with. */
  next?: number | null;
  /** `whole`: it was followed to its end in this answer. */
  chain: { ok: boolean; whole: boolean; length: number; head: string; fault?: string | null };
}

export interface AuditEntry {
  seq: number;
  at_ms: number;
  hash: string;
  kind: string;
  by?: string | null;
  words: string;
  data: unknown;
}
