/** Logging in, and giving an account credentials: the API's calls about oneself, and what a browser's authenticator says. */

import { ApiError, call } from './client';
import type { components } from './schema';

type Challenge = components['schemas']['PasskeyChallenge'];
export type TotpOffer = components['schemas']['TotpOffer'];

export type LoginProvider = components['schemas']['LoginProvider'];

export const account = {
  byPassword: (name: string, password: string, code: string) => call('post', '/api/v1/login/password', { body: { name, password, code } }),
  totp: () => call('post', '/api/v1/me/totp'),
  setPassword: (password: string, code: string) => call('post', '/api/v1/me/password', { body: { password, code } }),
};

/** Logs in with a passkey of this browser or one near it. Which account it is, the passkey says. */
export async function loginByPasskey(): Promise<void> {
  const asked = await call('post', '/api/v1/login/challenge');
  await call('post', '/api/v1/login/passkey', { body: await signed(asked, []) });
}

/** A fresh second factor, by a passkey of the account that is logged in. */
export async function proveByPasskey(): Promise<void> {
  const asked = await call('post', '/api/v1/me/challenge');
  await call('post', '/api/v1/me/prove', { body: { passkey: await signed(asked, asked.keys) } });
}

/** The same by a code of the authenticator app. */
export async function proveByCode(code: string): Promise<void> {
  await call('post', '/api/v1/me/prove', { body: { code } });
}

/** Identity providers by which operators log in; none where there are none, or the node cannot be asked. */
export function providers(): Promise<LoginProvider[]> {
  return call('get', '/api/v1/login/oidc').catch(() => []);
}

/** Leaves this page for a provider's, to log in. The browser comes back by itself. */
export async function loginByProvider(name: string): Promise<void> {
  location.assign((await call('post', '/api/v1/login/oidc/{name}', { path: { name } })).url);
}

/** The same, to prove anew who is logged in. */
export async function proveByProvider(): Promise<void> {
  location.assign((await call('post', '/api/v1/me/prove/oidc')).url);
}

/** What an authenticator signed; of `keys` if there are some. */
async function signed(asked: Challenge, keys: readonly string[]): Promise<components['schemas']['PasskeySigned']> {
  const got = await navigator.credentials.get({
    publicKey: {
      challenge: bytes(asked.challenge),
      rpId: asked.host,
      userVerification: 'required',
      allowCredentials: keys.map((key) => ({ type: 'public-key', id: bytes(key) })),
    },
  });
  if (!(got instanceof PublicKeyCredential)) throw new ApiError(0, 'passkey', 'No passkey was chosen.');
  const answer = got.response as AuthenticatorAssertionResponse;
  return {
    id: text(got.rawId),
    authenticator_data: text(answer.authenticatorData),
    client_data: text(answer.clientDataJSON),
    signature: text(answer.signature),
  };
}

/** Makes a passkey for the account that is logged in. */
export async function addPasskey(label: string): Promise<void> {
  const asked = await call('post', '/api/v1/me/challenge');
  const [id = '', name = ''] = asked.user ?? [];
  const made = await navigator.credentials.create({
    publicKey: {
      challenge: bytes(asked.challenge),
      rp: { id: asked.host, name: 'Phalanx' },
      user: { id: bytes(id), name, displayName: name },
      pubKeyCredParams: [
        { type: 'public-key', alg: ES256 },
        { type: 'public-key', alg: EDDSA },
      ],
      excludeCredentials: asked.keys.map((key) => ({ type: 'public-key', id: bytes(key) })),
      authenticatorSelection: { residentKey: 'required', userVerification: 'required' },
      attestation: 'none',
    },
  });
  if (!(made instanceof PublicKeyCredential)) throw new ApiError(0, 'passkey', 'No passkey was made.');
  const answer = made.response as AuthenticatorAttestationResponse;
  const body = { label, authenticator_data: text(answer.getAuthenticatorData()), client_data: text(answer.clientDataJSON) };
  await call('post', '/api/v1/me/passkeys', { body });
}

/** Whether a browser makes passkeys on this page: never on one whose host is an address. */
export function passkeysWorkHere(): boolean {
  return typeof PublicKeyCredential !== 'undefined' && !isAddress(location.hostname);
}

export function isAddress(host: string): boolean {
  return host.startsWith('[') || /^[\d.]+$/.test(host);
}

/** What went wrong, in words; a browser's own errors are terse. */
export function passkeyFault(error: unknown): string {
  if (error instanceof ApiError) return error.message;
  const name = error instanceof Error ? error.name : '';
  if (name === 'NotAllowedError') return 'The browser was not given a passkey in time, or it was declined.';
  if (name === 'InvalidStateError') return 'This authenticator already has a passkey for this account.';
  return 'The browser cannot use passkeys on this page.';
}

export function bytes(base64url: string): Uint8Array<ArrayBuffer> {
  const plain = atob(base64url.replace(/-/g, '+').replace(/_/g, '/'));
  return Uint8Array.from(plain, (one) => one.charCodeAt(0));
}

export function text(buffer: ArrayBuffer): string {
  const plain = String.fromCharCode(...new Uint8Array(buffer));
  return btoa(plain).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
}

const ES256 = -7;
const EDDSA = -8;
