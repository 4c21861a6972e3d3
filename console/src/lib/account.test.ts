import { describe, expect, it } from 'vitest';
import { bytes, isAddress, passkeyFault, text } from './account';
import { ApiError } from './api';

describe('bytes as base64url', () => {
  it('come back as they were, without padding', () => {
    const all = Uint8Array.from({ length: 256 }, (_, n) => n);
    for (const length of [0, 1, 2, 3, 256]) {
      const written = text(all.slice(0, length).buffer);
      expect(written).toMatch(/^[\w-]*$/);
      expect([...bytes(written)]).toEqual([...all.slice(0, length)]);
    }
  });
});

describe('hosts', () => {
  it('are addresses or names', () => {
    for (const host of ['127.0.0.1', '[::1]', '192.0.2.1']) expect(isAddress(host), host).toBe(true);
    for (const host of ['localhost', 'waf.example', '1.example']) expect(isAddress(host), host).toBe(false);
  });
});

describe('faults', () => {
  it('are said in words', () => {
    expect(passkeyFault(new ApiError(401, 'login_failed', 'that is not right'))).toBe('that is not right');
    expect(passkeyFault(new DOMException('', 'NotAllowedError'))).toContain('declined');
    expect(passkeyFault(null)).toContain('cannot use passkeys');
  });
});
