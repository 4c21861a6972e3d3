import { expect, test } from 'vitest';
import { findId, idTime } from './ids';

const ID = '01M805KMW691AEKWXGYP21X9P1';

test('an id is found in whatever was pasted', () => {
  expect(findId(ID)).toBe(ID);
  expect(findId(`  ${ID.toLowerCase()}\n`)).toBe(ID);
  expect(findId(`Refused. Request id: ${ID}.`)).toBe(ID);
  expect(findId(`{"id":"${ID}","status":403}`)).toBe(ID);
});

test('what is no id is not taken for one', () => {
  expect(findId('')).toBeNull();
  expect(findId('hello')).toBeNull();
  expect(findId(`${ID}0`)).toBeNull();
  expect(findId(ID.replace('M', 'I'))).toBeNull();
  expect(findId(`8${ID.slice(1)}`)).toBeNull();
});

test('an id tells when it was made', () => expect(idTime('01ARYZ6S410000000000000000')).toBe(1469918176385));
