import { expect, test } from 'vitest';
import type { AppInfo, Member, Status } from './api';
import type { SelfTest } from './api';
import { assess, selfTestWords, type Known } from './safety';

const NOW = 1_000_000;
const node = (name: string, more: Partial<Member> = {}): Member => ({ site: 'fra', node: name, version: '0.1.0', lag_ms: 5, last_seen_ms: NOW, decisions: 2, me: false, online: true, ...more });
const app = (name: string, mode: AppInfo['mode']): AppInfo => ({ name, upstream: 'http://u', mode, rules: 'baseline', paranoia: 1, rule_count: 9 });

function known(more: Partial<Known> = {}, apps = [app('shop', 'block')], fleet: Partial<Status['fleet']> = {}): Known {
  const status = { ready: true, not_ready: null, plan: { version: 1, apps }, fleet: { kind: 'nats', connected: true, degraded: [], members: [], ...fleet } } as unknown as Status;
  return { status, nodes: [node('a'), node('b')], decisions: 2, selfTest: null, apps: null, lostAt: null, now: NOW, ...more };
}

test('all is well', () => {
  expect(assess(known())).toEqual({ level: 'holding', title: 'Holding.', sentence: 'Both nodes answer and share what they learn. 2 decisions in force.', faults: [] });
});

test('a node alone is no fault', () => {
  const alone = assess(known({ nodes: [node('a', { me: true })], decisions: 0 }, undefined, { kind: 'local' }));
  expect([alone.level, alone.sentence]).toEqual(['holding', 'This node protects 1 app on its own. No decisions are in force.']);
});

test('a silent node is named with how long', () => {
  const standing = assess(known({ nodes: [node('a'), node('b', { online: false, last_seen_ms: NOW - 12_000 })] }));
  expect(standing.level).toBe('attention');
  expect(standing.faults).toEqual(['fra/b has been silent for 12 s.']);
});

test('lag beyond the ordinary is told, ordinary lag is not', () => {
  expect(assess(known({ nodes: [node('a', { lag_ms: 400 })] })).faults).toEqual([]);
  expect(assess(known({ nodes: [node('a', { lag_ms: 4000 })] })).faults).toEqual(['fra/a lags 4.0 s behind.']);
});

test('the reasons of the node are passed on', () => {
  expect(assess(known({}, undefined, { degraded: ['history cannot be written'] })).faults).toEqual(['history cannot be written']);
  expect(assess(known({}, undefined, { connected: false })).level).toBe('attention');
});

test('an app that is not protected outranks faults', () => {
  expect(assess(known({}, [app('shop', 'observe')])).title).toBe('Watching, not refusing.');
  expect(assess(known({}, [app('shop', 'off')])).title).toBe('Protection is off.');
  const mixed = assess(known({}, [app('shop', 'block'), app('wiki', 'off')], { degraded: ['x'] }));
  expect([mixed.level, mixed.title, mixed.sentence]).toEqual(['exposed', 'Partly protected.', 'Protection of wiki is off.']);
});

test('a page that hears nothing does not claim safety', () => {
  expect(assess(known({ lostAt: NOW - 1_000 })).level).toBe('holding');
  const blind = assess(known({ lostAt: NOW - 9_000 }, [app('shop', 'observe')]));
  expect([blind.level, blind.title]).toEqual(['blind', 'Out of contact.']);
});

const tested = (ok: boolean, at_ms = NOW - 20_000): SelfTest => ({
  state: ok ? 'ok' : 'failing', every_ms: 60_000, failing_since_ms: ok ? null : at_ms,
  last: { at_ms, took_ms: 40, ok, cases: [true, ok].map((fine) => ({ app: 'shop', listener: '0.0.0.0:80', name: 'SQL injection', expected: 'refused', got: fine ? 'refused' : 'passed', ok: fine, outcome: fine ? 'passed' : 'failed', detail: '' })) },
});

test('an attack of the self-test that is not refused goes before all else', () => {
  const standing = assess(known({ selfTest: tested(false) }));
  expect([standing.level, standing.title]).toEqual(['exposed', 'An attack gets through.']);
  expect(standing.sentence).toBe('The self-test attacked this node, and 1 attack of 2 was not refused, at shop.');
});

test('the self-test claims nothing where nothing is known, and says when it is late', () => {
  const now = NOW + 3_600_000;
  expect(selfTestWords(null, now)).toBe('Self-test: not known');
  expect(selfTestWords({ state: 'unknown', every_ms: 1, last: null, failing_since_ms: null }, now)).toBe('Self-test: has not run yet');
  expect(selfTestWords(tested(true, now - 20_000), now)).toBe('Self-test: 2 attacks, all refused, 20 s ago');
  expect(selfTestWords(tested(true), now)).toContain('late');
  expect(assess(known({ selfTest: tested(true, NOW - 600_000) })).level).toBe('attention');
});

test('who is limited to some apps is told of these alone', () => {
  expect(assess(known({ apps: ['shop'], nodes: [] })).sentence).toBe('1 app of yours is protected by this node.');
});
