import { expect, test } from 'vitest';
import type { Reason, RuleMatch, Signal } from './api';
import { distinct, faultWords, reasonLine, scoreSum, steps, verdictLine } from './explain';

const ban = {
  id: 'D', actor: { kind: 'ip', value: '203.0.113.9' }, kind: 'ban', author: { site: 'iad', node: 'iad-1', role: 'node' }, reason: '', evidence: null,
  confidence_percent: 99, created_at_ms: 0, expires_at_ms: 1, version: 1,
} as const;

test.each<[Reason, string]>([
  [{ kind: 'rule', rule: 942100 }, 'Rule 942100 matched'],
  [{ kind: 'decision', decision: ban }, 'Ban of 203.0.113.9 by iad/iad-1'],
  [{ kind: 'framing', fault: 'repeated_host' }, 'Not strict HTTP: more than one Host'],
  [{ kind: 'limit', limit: 'connections_per_actor' }, 'Over a limit: connections per actor'],
  [{ kind: 'rate_limit', limit: 'login', rate: '5/min, 5 at once', key: 'ip 192.0.2.1', here: 5, elsewhere: 2, retry_after_s: 9 }, 'Too often for the rate limit login (5/min, 5 at once): ip 192.0.2.1, 5 here, 2 elsewhere'],
  [{ kind: 'failure', stage: 'rule 7' }, 'rule 7 failed, and failing refuses'],
  [{ kind: 'upstream', error: 'connection refused' }, 'The application did not answer: connection refused'],
  [{ kind: 'something_new' }, 'something new'],
])('a reason reads as words: %o', (reason, words) => expect(reasonLine(reason)).toBe(words));

test('a verdict quotes the rule that decided', () => {
  const signals = [{ rule: { id: 949110 }, message: 'Inbound Anomaly Score Exceeded' } as Signal];
  expect(verdictLine({ kind: 'rule', rule: 949110 }, signals)).toBe('rule 949110, Inbound Anomaly Score Exceeded');
  expect(verdictLine({ kind: 'rule', rule: 942100 }, signals)).toBe('Rule 942100 matched');
});

test('a fault of a newer node is shown by its name', () => expect(faultWords('bad_trailer')).toBe('bad trailer'));

test('scores are summed in the order in which they stand', () => {
  const signals = [5, 0, 3].map((score) => ({ score }) as Signal);
  expect(scoreSum(signals)).toBe('5 + 3 = 8');
  expect(scoreSum(signals.slice(0, 1))).toBeNull();
});

test('what the links of a chain find again is told once, under its own name', () => {
  const match = (variable: string, fragment: string) => ({ variable, fragment, transformations: [] }) as unknown as RuleMatch;
  const found = [match('ARGS:q', "'"), match('MATCHED_VARS:ARGS:q', 'x'), match('MATCHED_VARS:ARGS:q', 'x'), match('MATCHED_VAR:ARGS:q', "'"), match('MATCHED_VARS', 'x')];
  expect(distinct(found).map(({ variable, fragment }) => `${variable} ${fragment}`)).toEqual(["ARGS:q '", 'ARGS:q x', 'MATCHED_VARS x']);
  expect(steps(['lowercase', 'urlDecode', 'urlDecode', 'lowercase'])).toBe('lowercase → urlDecode → lowercase');
});
