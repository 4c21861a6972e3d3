// The console in headless Chromium. The same cases run against the mock (the default) and against a real node; lab.mjs says how.
// One process and one sign-in for all: a login link works once.

import { after, before } from 'node:test';
import { start, stop } from './lab.mjs';

before(start);
after(stop);

await import('./cases/overview.mjs');
await import('./cases/decisions.mjs');
await import('./cases/requests.mjs');
await import('./cases/traffic.mjs');
await import('./cases/incidents.mjs');
await import('./cases/policy.mjs');
await import('./cases/fleet.mjs');
await import('./cases/people.mjs');
await import('./cases/tabs.mjs');
await import('./cases/volume.mjs');
await import('./cases/look.mjs');
