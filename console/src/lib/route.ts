/** Places within the console: `#/requests?client=192.0.2.1`. Pure; `place.svelte.ts` holds the current one. */

/** In the order of their ways: what happens, what is refused, who and what does it. */
export const GROUPS = [
  { name: 'Watch', pages: ['overview', 'traffic', 'requests', 'incidents'] },
  { name: 'Protect', pages: ['policy', 'exclusions', 'intelligence'] },
  { name: 'Run', pages: ['fleet', 'operators', 'audit'] },
] as const;

export const PAGES = GROUPS.flatMap((group): readonly Page[] => group.pages);

export type Page = (typeof GROUPS)[number]['pages'][number];

export interface Route {
  /** Null: there is no such page. */
  page: Page | null;
  /** Of which thing; only requests and incidents have pages for one. */
  id: string | null;
  query: Record<string, string>;
}

/** Reads what stands behind the address's `#`. */
export function parseRoute(hash: string): Route {
  const [path = '', search = ''] = hash.replace(/^#/, '').split('?', 2);
  const [, first = '', id = '', more] = path.split('/');
  const query = Object.fromEntries(new URLSearchParams(search));
  const page = first === '' ? 'overview' : PAGES.find((one) => one === first && one !== 'overview');
  const single = page === 'requests' || page === 'incidents';
  if (!page || more !== undefined || (id !== '' && !single)) return { page: null, id: null, query };
  return { page, id: id === '' ? null : decode(id), query };
}

/** The address of a place; empty parameters are left out, so that links are short and the same place has one address. */
export function href(page: Page, id?: string | null, query: Record<string, string> = {}): string {
  const path = page === 'overview' ? '' : page;
  const filled = Object.entries(query).filter(([, value]) => value !== '');
  const search = new URLSearchParams(filled).toString();
  return `#/${path}${id ? `/${encodeURIComponent(id)}` : ''}${search ? `?${search}` : ''}`;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
