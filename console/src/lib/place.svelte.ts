/** Where one is: the route of the address, kept current. */

import { href, parseRoute, type Page, type Route } from './route';

class Place {
  route = $state.raw<Route>(parseRoute(location.hash));

  constructor() {
    addEventListener('hashchange', () => (this.route = parseRoute(location.hash)));
  }

  /** Goes there; one can come back. */
  go(page: Page, id?: string | null, query?: Record<string, string>): void {
    location.hash = href(page, id, query);
  }

  /** Changes the query of this place without a step to come back from. */
  ask(query: Record<string, string>): void {
    const { page, id } = this.route;
    if (page === null) return;
    history.replaceState(null, '', href(page, id, query));
    this.route = parseRoute(location.hash);
  }
}

export const place = new Place();
