/** The words of an explanation: what a verdict, a rule and a fault mean, for someone who did not write them. */

import type { Action, Reason, RequestRow, RuleMatch, Signal } from './api';
import { actorText, authorText } from './format';

/** What was done, in one word. */
export function actionWord(action: Action): string {
  return { allow: 'Passed', observe: 'Observed', challenge: 'Challenged', throttle: 'Throttled', tarpit: 'Tarpitted', deny: 'Refused' }[action] ?? action;
}

/** Why a request stands in the list, in one line. */
export function rowReason(row: RequestRow): string {
  if (row.reason.kind === 'rule' && row.top?.message) return row.top.message;
  if (row.reason.kind === 'clean' && row.top?.message) return row.top.message;
  return reasonLine(row.reason);
}

/** Why, without the rule's own message. */
export function reasonLine(reason: Reason): string {
  if (reason.told) return reason.told;
  switch (reason.kind) {
    case 'clean':
      return 'Nothing spoke against it';
    case 'allow_listed':
      return 'The address is on the allow-list';
    case 'network':
      return 'The network of the client may not ask there';
    case 'challenge':
      return 'Clients are challenged there first';
    case 'rule':
      return `Rule ${reason.rule ?? '?'} matched`;
    case 'decision':
      return reason.decision
        ? `${kindWord(reason.decision.kind)} of ${actorText(reason.decision.actor)} by ${authorText(reason.decision.author)}`
        : 'A standing decision about the client';
    case 'framing':
      return `Not strict HTTP: ${faultWords(reason.fault ?? 'unknown fault')}`;
    case 'limit':
      return `Over a limit: ${(reason.limit ?? 'unknown').replaceAll('_', ' ')}`;
    case 'rate_limit':
      return `Too often for the rate limit ${reason.limit ?? '?'} (${reason.rate ?? 'unknown'}): ${reason.key ?? 'unknown'}, ${reason.here ?? 0} here, ${reason.elsewhere ?? 0} elsewhere`;
    case 'failure':
      return `${reason.stage ?? 'A check'} failed, and failing refuses`;
    case 'upstream':
      return `The application did not answer: ${reason.error ?? 'unknown error'}`;
    default:
      return reason.kind.replaceAll('_', ' ');
  }
}

/** Why, with the message of the rule that decided when it is among the findings. */
export function verdictLine(reason: Reason, signals: readonly Signal[]): string {
  const decider = reason.kind === 'rule' ? signals.find((signal) => signal.rule.id === reason.rule) : undefined;
  if (decider?.message) return `rule ${decider.rule.id}, ${decider.message}`;
  return reason.kind === 'clean' && signals.length > 0 ? 'What matched was not enough to refuse it' : reasonLine(reason);
}

/** A decision's kind as a noun. */
export function kindWord(kind: string): string {
  return { ban: 'Ban', allow: 'Allow', throttle: 'Throttle', challenge: 'Challenge', raise_paranoia: 'Raised paranoia' }[kind] ?? kind;
}

/** A framing fault in words; one that a newer node knows and this page does not is shown by its name. */
export function faultWords(fault: string): string {
  return FAULTS[fault] ?? fault.replaceAll('_', ' ');
}

/** What kind of rule it is and how sure it is. */
export function ruleClass(signal: Signal): string {
  const { class: name } = signal.rule.class;
  const confidence = 'confidence' in signal.rule.class ? signal.rule.class.confidence : '';
  if (name === 'detection') return confidence ? `detection, ${confidence} confidence` : 'detection';
  return { policy: 'policy rule: never a strike', protocol: 'protocol rule: never a strike' }[name] ?? name;
}

/** The signals that made the verdict first: those that scored, then the rest. */
export function weighty(signals: readonly Signal[]): Signal[] {
  return [...signals].sort((a, b) => b.score - a.score || a.phase - b.phase);
}

/** `5 + 5 + 3 = 13`, or null when nothing scored. */
export function scoreSum(signals: readonly Signal[]): string | null {
  const scores = signals.map((s) => s.score).filter((score) => score > 0);
  if (scores.length < 2) return null;
  const sum = scores.reduce((a, b) => a + b, 0);
  return `${scores.join(' + ')} = ${sum}`;
}

const FAULTS: Record<string, string> = {
  length_and_transfer_encoding: 'both Content-Length and Transfer-Encoding',
  repeated_length: 'more than one Content-Length',
  bad_length: 'Content-Length is not a number',
  bad_transfer_encoding: 'Transfer-Encoding is not chunked',
  transfer_encoding_in_http10: 'Transfer-Encoding in HTTP/1.0',
  bare_line_feed: 'line ended without a carriage return',
  bare_carriage_return: 'carriage return without a line feed',
  folded_header: 'folded header line',
  bad_header_line: 'malformed header line',
  control_byte: 'control byte in the head',
  missing_host: 'Host is missing',
  repeated_host: 'more than one Host',
  bad_host: 'Host is not an authority',
  bad_request_line: 'malformed request line',
  bad_version: 'unsupported protocol version',
  bad_chunk: 'malformed chunk',
  bad_target: 'target form not served here',
  head_too_large: 'head is too large',
  body_too_large: 'body is too large',
  head_timeout: 'head did not arrive in time',
  bad_question: 'question of another proxy that does not say what was asked',
};

/**
 * What a rule found, each thing once. The links of a chain look at what the first one matched and find it again; so `MATCHED_VARS:ARGS:q`
 * is shown as the `ARGS:q` that it is.
 */
export function distinct(matches: readonly RuleMatch[]): RuleMatch[] {
  const seen = new Set<string>();
  const plain = matches.map((match) => ({ ...match, variable: match.variable.replace(/^MATCHED_VARS?:(?=.)/, '') }));
  return plain.filter((match) => {
    const what = `${match.variable} ${match.fragment}`;
    return !seen.has(what) && seen.add(what);
  });
}

/** Transformations in their order, what is done over and over named once. */
export function steps(names: readonly string[]): string {
  return names.filter((name, n) => name !== names[n - 1]).join(' → ');
}
