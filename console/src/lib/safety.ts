/** "Are we safe?" in one word, one sentence and a list of what is wrong, from what this page knows. */

import type { Member, SelfTest, SelfTestCase, Status } from './api';
import { ago, clockTime, counted, lag } from './format';

export type Level = 'holding' | 'attention' | 'exposed' | 'blind';

export interface Assessment {
  level: Level;
  title: string;
  sentence: string;
  /** What is degraded, one plain sentence each. */
  faults: string[];
}

export interface Known {
  status: Status;
  nodes: readonly Member[];
  decisions: number;
  /** The node's attacks on itself; null where it has not told of any. */
  selfTest: SelfTest | null;
  /** The only apps that whoever looks may see; null: all, and the fleet with them. */
  apps: string[] | null;
  /** When the stream was lost; null while it stands. */
  lostAt: number | null;
  now: number;
}

export function assess(known: Known): Assessment {
  const faults = faultsOf(known);
  if (known.lostAt !== null && known.now - known.lostAt > GRACE_MS) {
    return {
      level: 'blind',
      title: 'Out of contact.',
      sentence: `Nothing heard from this node since ${clockTime(known.lostAt)}. Nodes decide by themselves; what stands below is from then.`,
      faults,
    };
  }
  const pierced = failed(known);
  if (pierced) return { level: 'exposed', title: 'An attack gets through.', sentence: pierced, faults };
  const exposure = exposed(known.status);
  if (exposure) return { level: 'exposed', title: exposure.title, sentence: exposure.sentence, faults };
  if (faults.length > 0) return { level: 'attention', title: 'Holding, with faults.', sentence: standing(known), faults };
  return { level: 'holding', title: 'Holding.', sentence: standing(known), faults };
}

/** What the node's attacks on itself found. */
function failed({ selfTest }: Known): string | null {
  const last = selfTest?.last;
  if (!last || selfTest.state !== 'failing') return null;
  const open = last.cases.filter((one) => one.outcome === 'failed');
  const where = listed([...new Set(open.map((one) => one.app))]);
  return `The self-test attacked this node, and ${counted(open.length, 'attack')} of ${last.cases.length} ${open.length === 1 ? 'was' : 'were'} not refused${where ? `, at ${where}` : ''}.`;
}

/** How the last self-test went, and how long ago; it claims nothing where nothing is known. */
export function selfTestWords(selfTest: SelfTest | null, now: number): string {
  if (!selfTest) return 'Self-test: not known';
  const { last, every_ms } = selfTest;
  if (!last) return !every_ms ? 'Self-test: off' : 'Self-test: has not run yet';
  const count = (outcome: SelfTestCase['outcome']) => last.cases.filter((one) => one.outcome === outcome).length;
  const age = `${ago(now - last.at_ms)} ago`;
  if (selfTest.state === 'failing') return `Self-test: ${count('failed')} of ${counted(last.cases.length, 'attack')} not refused, ${age}`;
  if (selfTest.state === 'unknown') return `Self-test: could not tell, ${age}`;
  const late = isLate(selfTest, now) ? '; the next one is late' : '';
  const bare = count('not_protected') > 0 ? `; ${counted(count('not_protected'), 'try', 'tries')} where protection is off` : '';
  return `Self-test: ${counted(count('passed'), 'attack')}, all refused, ${age}${late}${bare}`;
}

function isLate({ last, every_ms }: SelfTest, now: number): boolean {
  return Boolean(last && every_ms && now - last.at_ms > every_ms * LATE);
}

/** Apps whose attacks are let through. */
function exposed(status: Status): { title: string; sentence: string } | null {
  const apps = status.plan.apps;
  const off = apps.filter((app) => app.mode === 'off').map((app) => app.name);
  const observed = apps.filter((app) => app.mode === 'observe').map((app) => app.name);
  if (off.length + observed.length === 0) return null;
  const parts = [];
  if (observed.length > 0) parts.push(`${listed(observed)} ${is(observed)} in observe mode: attacks are recorded and let through.`);
  if (off.length > 0) parts.push(`Protection of ${listed(off)} is off.`);
  const title =
    off.length === apps.length ? 'Protection is off.' : observed.length === apps.length ? 'Watching, not refusing.' : 'Partly protected.';
  return { title, sentence: parts.join(' ') };
}

function standing({ status, nodes, decisions, apps }: Known): string {
  if (apps !== null) return `${counted(status.plan.apps.length, 'app')} of yours ${status.plan.apps.length === 1 ? 'is' : 'are'} protected by this node.`;
  const barred = decisions === 0 ? 'No decisions are in force.' : `${counted(decisions, 'decision')} in force.`;
  if (status.fleet.kind === 'local' || nodes.length <= 1) return `This node protects ${counted(status.plan.apps.length, 'app')} on its own. ${barred}`;
  const online = nodes.filter((node) => node.online).length;
  const who = online === nodes.length ? `${online === 2 ? 'Both' : `All ${online}`} nodes answer and share what they learn.` : `${online} of ${nodes.length} nodes answer.`;
  return `${who} ${barred}`;
}

function faultsOf({ status, nodes, selfTest, now }: Known): string[] {
  const faults = [...status.fleet.degraded];
  if (status.not_ready) faults.unshift(`This node is not ready: ${status.not_ready}`);
  if (status.fleet.kind === 'nats' && !status.fleet.connected && faults.length === 0) {
    faults.push('This node has no link to the fleet. It keeps enforcing what it knows.');
  }
  const last = selfTest?.last;
  if (last && isLate(selfTest, now)) faults.push(`The self-test last ran ${ago(now - last.at_ms)} ago.`);
  for (const node of nodes) {
    if (node.selftest === 'failing') faults.push(`${node.site}/${node.node} does not refuse the attacks of its self-test.`);
    if (!node.online) faults.push(`${node.site}/${node.node} has been silent for ${ago(now - node.last_seen_ms)}.`);
    else if (node.lag_ms > LAG_NOTABLE_MS) faults.push(`${node.site}/${node.node} lags ${lag(node.lag_ms)} behind.`);
  }
  return faults;
}

function listed(names: string[]): string {
  return names.length <= 3 ? names.join(', ') : `${names.slice(0, 2).join(', ')} and ${names.length - 2} more`;
}

const is = (names: string[]) => (names.length === 1 ? 'is' : 'are');

/** A reload of the node or a change of network takes less. */
const GRACE_MS = 4_000;
/** Bans travel between sites in a quarter of a second; ten times that is worth a line. */
const LAG_NOTABLE_MS = 2_500;
/** Rounds of the self-test that may be missed: a busy node is late by one. */
const LATE = 3;
