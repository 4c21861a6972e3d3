import { expect, test } from 'vitest';
import { href, parseRoute } from './route';

test('places are read from the address, and written back the same', () => {
  for (const hash of ['#/', '#/traffic', '#/requests?client=192.0.2.1&q=a+b', '#/requests/01M805KMW691AEKWXGYP21X9P1', '#/incidents/a%2Fb']) {
    const { page, id, query } = parseRoute(hash);
    expect(page && href(page, id, query)).toBe(hash);
  }
});

test('nothing in the address is the first page', () => {
  expect(parseRoute('').page).toBe('overview');
  expect(parseRoute('#').page).toBe('overview');
});

test('what is no place is none', () => {
  for (const hash of ['#/nowhere', '#/overview', '#/audit/7', '#/requests/a/b']) expect(parseRoute(hash).page).toBeNull();
});

test('a broken escape is taken as it stands', () => {
  expect(parseRoute('#/incidents/%zz').id).toBe('%zz');
});
