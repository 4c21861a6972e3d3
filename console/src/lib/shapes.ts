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
export type Member = Schemas['Member'];
/** Totals since the node's start. A malformed request is refused too, and counted apart from the denied ones. */
export type Counters = Pick<Schemas['Counters'], 'requests' | 'denied' | 'malformed'>;

/** A refused or flagged request, as lists and the stream carry it. Most of its text was written by strangers. */
export type RequestRow = Omit<Schemas['EventRow'], 'reason'> & { reason: Reason };
/** The same as other nodes tell it: without what is personal. */
export type ToldRequest = Schemas['RedactedRequest'];
export type Explanation = Schemas['Explanation'];
export type Verdict = Schemas['Verdict'];
export type Signal = Schemas['Signal'];
export type Receiver = Schemas['ReceiverRow'];
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

export type Authority = Schemas['Authority'];
export type NewInvitation = Schemas['NewInvitation'];
export type NodeInvited = Schemas['Invited'];
export type NodeDuty = Schemas['NodeDuty'];
export type Blocklist = Schemas['Blocklist'];
export type BlocklistContent = Schemas['BlocklistContent'];
export type Bouncers = Schemas['Bouncers'];
export type BouncerKey = Schemas['BouncerKey'];
export type PlaybookRow = Schemas['PlaybookRow'];
export type ReportSchedule = Schemas['ReportScheduleRow'];

export type Me = Schemas['Me'];
export type Role = Schemas['OperatorRole'];
export type OperatorRow = Schemas['OperatorRow'];
export type OperatorEdit = Schemas['OperatorEdit'];
export type Invited = Schemas['OperatorInvited'];
export type SessionRow = Schemas['SessionRow'];

export type SelfTest = Schemas['SelfTest'];
export type SelfTestCase = Schemas['SelfTestCase'];
/** Something worth doing, with the command that does it. */
export type Fix = Schemas['Fix'];
export type Traffic = Schemas['TrafficSeen'];
export type TrafficActors = Schemas['ActorsSeen'];
export type TrafficActor = Schemas['RefusedClient'];
export type TrafficBy = 'action' | 'app' | 'rule' | 'country' | 'class' | 'status' | 'node';
export type AuditPage = Schemas['AuditPage'];
export type AuditEntry = Schemas['AuditEntry'];
