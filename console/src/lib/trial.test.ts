import { expect, test } from 'vitest';
import { trialOf } from './trial';

test('who tries it first is a site, a node of it, or nobody', () => {
  expect(trialOf('all', 'nonsense')).toEqual({});
  expect(trialOf('site fra', '10m')).toEqual({ canary_site: 'fra', bake_ms: 600_000 });
  expect(trialOf('node fra/a', ' ')).toEqual({ canary_site: 'fra', canary_node: 'a' });
  expect(trialOf('site fra', 'soon')).toBeNull();
});
