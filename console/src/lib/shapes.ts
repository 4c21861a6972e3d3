/** The shapes of the admin API's JSON, as this page reads them. */

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
  /** The policy that it runs. */
  policy?: MemberPolicy | null;
  /** Whether attacks on itself are refused there. */
  selftest?: 'ok' | 'failing' | 'unknown';
  /** `serving`, `cordoned`, `draining` or `drained`. */
  duty?: string;
  order_reason?: string;
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

/** A page of requests, and what to ask for the next one with; with a text to look for it may be short and not the last. */
export interface RequestsPage {
  requests: RequestRow[];
  next?: string | null;
  answered?: { site: string; node: string }[];
  silent?: { site: string; node: string }[];
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

/** An incident as the list shows it. */
export interface IncidentRow {
  id: string;
  state: 'open' | 'closed';
  severity: 'low' | 'medium' | 'high' | 'critical';
  stage: string;
  techniques: string[];
  detectors: string[];
  summary: string;
  opened_at_ms: number;
  changed_at_ms: number;
  closed_at_ms?: number | null;
  undone_at_ms?: number | null;
  nodes: string[];
  findings_count: number;
  decisions_live: number;
}

export interface Finding {
  detector: string;
  technique?: string | null;
  subject: { kind: string; value: string; name?: string | null };
  reason: string;
  events: number;
  confidence: string;
  decisive: boolean;
  first_at_ms: number;
  last_at_ms: number;
}

export interface PlaybookRun {
  run: string;
  playbook: string;
  version: number;
  incident: string;
  state: string;
  began_at_ms: number;
  ended_at_ms?: number | null;
  asks?: { step: string; question: string; until_ms: number; otherwise: string } | null;
  steps: { step: string; does: string; state: string; began_at_ms?: number | null; ended_at_ms?: number | null; note: string }[];
}

export interface Incident extends IncidentRow {
  parts: string[];
  targets: string[];
  findings: Finding[];
  evidence: string[];
  decisions: Decision[];
  playbooks: PlaybookRun[];
}

export interface Undone {
  id: string;
  withdrawn: Actor[];
  left: Actor[];
}

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

/** One bundle of policy. */
export interface PolicyVersion {
  version: number;
  hash: string;
  previous: string | null;
  bytes: number;
}

export interface Policy {
  version: number;
  stable: PolicyVersion | null;
  trial: (PolicyVersion & { stage: string; started_at_ms: number; bake_ms: number | null; judgement: string }) | null;
  chain: PolicyVersion[];
  home: string;
  note: string;
  changed_at_ms: number;
  nodes: { site: string; node: string; online: boolean; policy: MemberPolicy | null }[];
}

export interface MemberPolicy {
  version: number;
  hash: string;
  refused_version?: number | null;
  refused?: string | null;
}

/** A version with what is known of how it came about. */
export interface VersionRow extends PolicyVersion {
  author: string | null;
  node: string | null;
  approved_by: string | null;
  reason: string;
  source: string;
  at_ms: number | null;
  result: string;
  result_reason: string;
  result_at_ms: number | null;
  stable: boolean;
}

/** A version with its files; those with private keys are not given out. */
export interface PolicyContent extends PolicyFiles {
  version: number;
  hash: string | null;
  withheld: string[];
}

/** A policy with all files that it names, in base64. */
export interface PolicyFiles {
  entry: string;
  files: Record<string, string>;
}

export interface Problem {
  level: 'error' | 'warning' | 'advice';
  file: string;
  line: number;
  message: string;
  help?: string | null;
}

export interface PolicyDiff {
  changes: { words: string }[];
  dangers: { words: string }[];
}

export interface Replayed {
  since_ms: number;
  requests: number;
  seen: number;
  complete: boolean;
  newly_refused: number;
  newly_passed: number;
  groups: ReplayGroup[];
  groups_left_out: number;
  lacks_body: number;
  not_reproduced: number;
}

export interface ReplayGroup {
  change: 'refused' | 'passed';
  app: string;
  route: string | null;
  why: string;
  rules: number[];
  requests: number;
  clients: number;
  examples: { id: string; request: string }[];
}

export interface NewChange extends Partial<PolicyFiles> {
  /** Instead of files: the version whose content is wanted again. */
  content_of?: number;
  base?: number;
  reason: string;
  canary_site?: string;
  canary_node?: string;
  bake_ms?: number;
}

export interface Change {
  id: string;
  state: 'waiting' | 'published' | 'rejected' | 'expired';
  author: string;
  reason: string;
  at_ms: number;
  dangers: { words: string }[];
  diff: { words: string }[];
  diff_left_out: number;
  /** Of all that would be done: who approves names it. */
  hash: string;
  stage: string | null;
  expires_at_ms: number;
  needs_second: boolean;
  approved_by: string | null;
  decided_reason: string;
  version: number | null;
}

export interface Exclusion {
  app: string;
  route: string | null;
  methods: string[];
  rules: string[];
  /** What they do not look at; null: they are not run. */
  target: string | null;
  owner: string;
  reason: string;
  expires_ms: number | null;
  file: string;
  line: number;
  state: 'in_force' | 'expired' | 'ends_soon';
}

/** What would let a refused request pass, and what else it would let pass. */
export interface Suggestion {
  id: string;
  app: string;
  exclusions: { rules: number[]; target?: string | null; path?: string | null; methods: string[] }[];
  toml: string;
  passes: boolean;
  warnings: string[];
  lets_pass: { others: number; own: number; passed: number; examples: { id: string }[] };
  recording?: { others: number; own: number; passed: number; examples: { id: string; request: string }[]; complete: boolean } | null;
}

export type Role = 'viewer' | 'responder' | 'editor' | 'owner';

export interface ApiTokenRow {
  name: string;
  role: Role;
  apps: string[];
  created_at_ms: number;
  expires_at_ms: number;
}

export interface OperatorRow {
  name: string;
  role: Role;
  apps: string[];
  created_at_ms: number;
  created_by: string;
  disabled: boolean;
  password: boolean;
  recovery_codes: number;
  passkeys: { id: string; label: string; host: string; created_at_ms: number; used_at_ms: number }[];
  tokens: ApiTokenRow[];
}

export interface Me {
  name: string;
  role: Role;
  apps: string[] | null;
  account: OperatorRow | null;
  enrolling: boolean;
  fresh_until_ms: number | null;
  operators: boolean;
}

export interface Invited {
  operator: OperatorRow;
  url: string | null;
  expires_at_ms: number;
}

export interface SessionRow {
  id: string;
  operator: string | null;
  opened_at_ms: number;
  seen_at_ms: number;
  me: boolean;
}
