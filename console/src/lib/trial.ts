/** Who tries a version first, as the API takes it. */

import { parseDuration } from './format';

export interface Trial {
  canary_site?: string;
  canary_node?: string;
  bake_ms?: number;
}

/** `first`: `all`, `site NAME` or `node SITE/NAME`. `bake`: how long; empty: until an operator says so. Null: no length of time. */
export function trialOf(first: string, bake: string): Trial | null {
  const [kind, where = ''] = first.split(' ');
  if (kind === 'all') return {};
  const bake_ms = bake.trim() === '' ? undefined : parseDuration(bake);
  if (bake_ms === null) return null;
  const [site = '', node] = where.split('/');
  return { canary_site: site, ...(node && { canary_node: node }), ...(bake_ms && { bake_ms }) };
}
