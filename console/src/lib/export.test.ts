import { expect, test } from 'vitest';
import { csv, csvCell } from './export';

test('no cell is a formula', () => {
  for (const text of ['=1+1', '+1', '-1', '@SUM(A1)', '\t=1', ' =1', '\r=1', '\uff1d1', '"=1']) expect(csvCell(text)).toMatch(/^"?'/);
  expect(csvCell('a;=1+1; "@x;b')).toBe(`"a;'=1+1;' ""@x;b"`);
  expect(csvCell(-1)).toBe('-1');
  expect(csvCell(null)).toBe('');
});

test('quotes, commas and line ends stay within their cell', () => {
  expect(csv(['a', 'b'], [['x,"y"', 'l1\nl2']])).toBe('a,b\r\n"x,""y""","l1\nl2"\r\n');
});
