/** Incidents in order and in words. Pure. */

import type { Incident, IncidentRow } from './api';

const SEVERITY: Record<string, number> = { critical: 3, high: 2, medium: 1, low: 0 };

/** The worst first, of the same severity the one that changed last. */
export function bySeverity(incidents: readonly IncidentRow[]): IncidentRow[] {
  return [...incidents].sort((a, b) => (SEVERITY[b.severity] ?? 0) - (SEVERITY[a.severity] ?? 0) || b.changed_at_ms - a.changed_at_ms);
}

/** How a severity is coloured: what asks for somebody, what asks for a look, and the rest. */
export function severityTone(severity: string): 'bad' | 'odd' | 'soft' {
  const rank = SEVERITY[severity] ?? 0;
  return rank >= 2 ? 'bad' : rank === 1 ? 'odd' : 'soft';
}

/** `initial_access` as `initial access`. */
export function plain(word: string): string {
  return word.replaceAll('_', ' ').replaceAll('-', ' ');
}

export interface Moment {
  at_ms: number;
  kind: 'found' | 'done' | 'step' | 'ended';
  /** What happened, in our words. */
  words: string;
  /** Text that may quote strangers. */
  quoted: string;
}

/** What happened in an incident, in order: findings, decisions, steps of playbooks, its end. */
export function timeline(incident: Incident, words: (decision: Incident['decisions'][number]) => string): Moment[] {
  const moments: Moment[] = [];
  for (const finding of incident.findings) {
    const subject = finding.subject.name ?? finding.subject.value;
    moments.push({ at_ms: finding.first_at_ms, kind: 'found', words: `${plain(finding.detector)} about ${finding.subject.kind} ${subject}`, quoted: finding.reason });
  }
  for (const decision of incident.decisions) {
    moments.push({ at_ms: decision.created_at_ms, kind: 'done', words: words(decision), quoted: decision.reason });
  }
  for (const run of incident.playbooks) {
    moments.push({ at_ms: run.began_at_ms, kind: 'step', words: `playbook ${run.playbook} begins`, quoted: '' });
    for (const step of run.steps) {
      const at_ms = step.ended_at_ms ?? step.began_at_ms;
      if (at_ms) moments.push({ at_ms, kind: 'step', words: `${run.playbook}: ${step.step} (${step.does}) ${step.state}`, quoted: step.note });
    }
    if (run.ended_at_ms) moments.push({ at_ms: run.ended_at_ms, kind: 'step', words: `playbook ${run.playbook} ${run.state}`, quoted: '' });
  }
  if (incident.undone_at_ms) moments.push({ at_ms: incident.undone_at_ms, kind: 'ended', words: 'what was done because of it was undone', quoted: '' });
  if (incident.closed_at_ms) moments.push({ at_ms: incident.closed_at_ms, kind: 'ended', words: 'closed by an operator', quoted: '' });
  return moments.sort((a, b) => a.at_ms - b.at_ms);
}
