/** What somebody may do, as the node's own table has it. The node decides; this only keeps what it would refuse off the page. */

import type { Role } from './shapes';
import type { Page } from './route';

const RANK: Record<Role, number> = { viewer: 0, responder: 1, editor: 2, owner: 3 };

/** Who asks, as far as it matters here. */
export interface Who {
  role: Role;
  apps?: string[] | null;
}

/** Whether somebody has this role or one above it. */
export function has(who: Who | null, role: Role): boolean {
  return who !== null && RANK[who.role] >= RANK[role];
}

/** Pages that answer within the apps to which an operator is limited. The others are about the whole node. */
const WITHIN_APPS: readonly Page[] = ['overview', 'requests', 'operators'];

/** Whether a page has anything for somebody. */
export function maySee(who: Who | null, page: Page): boolean {
  return who !== null && ((who.apps ?? null) === null || WITHIN_APPS.includes(page));
}
