import { expect, test } from 'vitest';
import { visible, visibleText } from './text';

const check = (input: string, expected: string) => expect(visibleText(input)).toBe(expected);

test('ordinary text of any language stays as it is', () => {
  check('GET /suche?q=größe', 'GET /suche?q=größe');
  check('検索 بحث', '検索 بحث');
  check('<script>alert(1)</script>', '<script>alert(1)</script>');
});

test('control characters become visible', () => {
  check('a\nb\r\tc', 'a\\nb\\r\\tc');
  check('\x00\x1b[31m\x7f\x9b', '\\x00\\x1b[31m\\x7f\\x9b');
});

test('characters that reorder or hide text become visible', () => {
  check('a\u202egpj.exe', 'a\\u{202e}gpj.exe');
  check('pay\u200bpal\ufeff', 'pay\\u{200b}pal\\u{feff}');
  check('\u{e0041}', '\\u{e0041}');
});

test('a half of a surrogate pair is shown, not lost', () => check('\ud800x', '\\u{d800}x'));

test('stand-ins are told apart from the same letters typed by a stranger', () => {
  expect(visible('\\x00\x00')).toEqual([
    { text: '\\x00', mark: false },
    { text: '\\x00', mark: true },
  ]);
});

test('long text is cut at characters, with a sign that it was', () => {
  expect(visibleText('😀😀😀', 2)).toBe('😀😀…');
});
