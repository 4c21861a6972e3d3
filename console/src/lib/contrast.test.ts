import { expect, test } from 'vitest';
import css from '../app.css?raw';

/** Text pairs of the page and the least contrast of each: WCAG 2.2 AA is 4.5 for text, 3 for what only has to be seen. */
const PAIRS: [string, string, number][] = [
  ...['ink', 'ink-2', 'ink-3', 'hold', 'mind', 'refuse'].flatMap((text): [string, string, number][] => [
    [text, 'page', 4.5],
    [text, 'surface', 4.5],
  ]),
  ['ink', 'mark', 4.5],
  ['mind', 'mark', 4.5],
  ['page', 'refuse', 4.5],
  ['page', 'ink', 4.5],
  ['focus', 'page', 3],
  ['focus', 'surface', 3],
  ['trace', 'page', 3],
  ['line-strong', 'page', 3],
  ['line-strong', 'surface', 3],
];

const blocks = {
  light: /:root \{([^}]*)\}/.exec(css)?.[1] ?? '',
  dark: /:root\[data-theme='dark'\] \{([^}]*)\}/.exec(css)?.[1] ?? '',
  'dark by preference': /:root:not\(\[data-theme='light'\]\) \{([^}]*)\}/.exec(css)?.[1] ?? '',
};

test.each(Object.entries(blocks))('every pair of the %s theme can be read', (_, block) => {
  const colours = new Map([...block.matchAll(/--([\w-]+): (#[0-9a-f]{6})/g)].map((m) => [m[1], m[2]]));
  for (const [text, ground, least] of PAIRS) {
    const ratio = contrast(colours.get(text) ?? '', colours.get(ground) ?? '');
    expect(ratio, `${text} on ${ground}`).toBeGreaterThanOrEqual(least);
  }
});

test('both ways to the dark theme give the same colours', () => {
  const plain = (block: string) => block.replace(/\s+/g, ' ').trim();
  expect(plain(blocks['dark by preference'])).toBe(plain(blocks.dark));
});

function contrast(a: string, b: string): number {
  const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

function luminance(hex: string): number {
  const [r, g, b] = [1, 3, 5].map((i) => {
    const c = parseInt(hex.slice(i, i + 2), 16) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
