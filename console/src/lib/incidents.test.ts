import { expect, test } from 'vitest';
import type { Incident, IncidentRow } from './api';
import { bySeverity, severityTone, timeline } from './incidents';

const row = (id: string, severity: IncidentRow['severity'], changed_at_ms: number): IncidentRow => ({
  id, state: 'open', severity, stage: 'initial_access', techniques: [], detectors: [], summary: '', opened_at_ms: 1, changed_at_ms, nodes: [], findings_count: 0, decisions_live: 0,
});

test('the worst incident is first, then the latest', () => {
  const sorted = bySeverity([row('a', 'low', 9), row('b', 'high', 1), row('c', 'high', 5), row('d', 'critical', 0)]);
  expect(sorted.map((one) => one.id)).toEqual(['d', 'c', 'b', 'a']);
  expect(severityTone('unheard of')).toBe('soft');
});

test('findings, decisions, steps and the end stand in the order in which they happened', () => {
  const incident = {
    ...row('a', 'high', 9), parts: [], targets: [], evidence: [], closed_at_ms: 90, undone_at_ms: null,
    findings: [{ detector: 'credential_stuffing', subject: { kind: 'address', value: '192.0.2.1' }, reason: 'many names', events: 3, confidence: 'high', decisive: true, first_at_ms: 10, last_at_ms: 20 }],
    decisions: [{ created_at_ms: 15, reason: 'because' }],
    playbooks: [{ run: 'r', playbook: 'contain', version: 1, incident: 'a', state: 'completed', began_at_ms: 12, ended_at_ms: 40, steps: [{ step: 's', does: 'notify', state: 'done', began_at_ms: 13, ended_at_ms: 30, note: 'told' }, { step: 't', does: 'ask', state: 'skipped', note: '' }] }],
  } as unknown as Incident;
  const moments = timeline(incident, () => 'Ban of 192.0.2.1');
  expect(moments.map((one) => one.at_ms)).toEqual([10, 12, 15, 30, 40, 90]);
  expect(moments[0]?.words).toBe('credential stuffing about address 192.0.2.1');
});
