import { expect, test } from 'vitest';
import { parseTarget } from './net';

test.each(['203.0.113.7', '0.0.0.0', '2001:db8::1', '::', '::1', '1:2:3:4:5:6:7:8', '::ffff:192.0.2.1', '1::8'])('%s is an address', (text) =>
  expect(parseTarget(` ${text} `)).toEqual({ ip: text }),
);

test.each(['203.0.113.0/24', '10.0.0.0/8', '2001:db8::/32', '::/0', '192.0.2.1/32'])('%s is a range', (text) =>
  expect(parseTarget(text)).toEqual({ prefix: text }),
);

test.each([
  '', 'shop', '203.0.113', '203.0.113.256', '203.0.113.07', '1.2.3.4.5', '1.2.3.4/33', '1.2.3.4/', '1.2.3.4/8/8', '2001:db8::/129',
  '1:2:3:4:5:6:7', '1:2:3:4:5:6:7:8:9', '1::2::3', ':::', '1:2:3:4:5:6:7::8:9', 'g::1', '1.2.3.4::', '::1.2.3',
])('%j is neither', (text) => expect(parseTarget(text)).toBeNull());
