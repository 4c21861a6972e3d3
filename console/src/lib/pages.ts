/** What pages are called. */

import type { Page } from './route';

const TITLES: Record<Page, string> = {
  overview: 'Overview',
  traffic: 'Traffic',
  requests: 'Requests',
  incidents: 'Incidents',
  policy: 'Policy',
  exclusions: 'Exclusions',
  fleet: 'Fleet',
  intelligence: 'Intelligence',
  operators: 'Operators',
  audit: 'Audit',
};

export function pageTitle(page: Page | null): string {
  return page === null ? 'No such page' : TITLES[page];
}
