import { expect, test } from 'vitest';
import type { AppInfo, Member, Status } from './api';
import { assess, type Known } from './safety';

const NOW = 1_000_000;
const node = (name: string, more: Partial<Member> = {}): Member => ({ site: 'fra', node: name, version: '0.1.0', lag_ms: 5, last_seen_ms: NOW, decisions: 2, me: false, online: true, ...more });
const app = (name: string, mode: AppInfo['mode']): AppInfo => ({ name, upstream: 'http://u', mode, rules: 'baseline', paranoia: 1, rule_count: 9 });

function known(more: Partial<Known> = {}, apps = [app('shop', 'block')], fleet: Partial<Status['fleet']> = {}): Known {
  const status = { ready: true, not_ready: null, plan: { version: 1, apps }, fleet: { kind: 'nats', connected: true, degraded: [], members: [], ...fleet } } as unknown as Status;
  return { status, nodes: [node('a'), node('b')], decisions: 2, lostAt: null, now: NOW, ...more };
}

test('all is well', () => {
  expect(assess(known())).toEqual({ level: 'holding', title: 'Holding.', sentence: 'All 2 nodes answer and share what they learn. 2 decisions in force.', faults: [] });
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
