// An identity provider on this machine: oidc-provider, which is certified by the OpenID Foundation. Whoever logs in there types a name and
// any password; the name says which groups he is in.

import { Provider } from "oidc-provider";
import { createServer } from "node:http";

const GROUPS = { carol: ["staff", "security"], dave: ["staff"], erin: ["owners"] };

/** Listens. It is away until it is told where its one client, the console, is led back to. */
export async function listen({ secret }) {
  let answer = (_, response) => response.writeHead(503).end();
  const server = createServer((request, response) => answer(request, response));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const issuer = `http://localhost:${server.address().port}`;
  const serve = async (redirect) => {
    const provider = new Provider(issuer, {
      clients: [{ client_id: "phalanx", client_secret: secret, redirect_uris: [redirect], id_token_signed_response_alg: "ES256" }],
      jwks: { keys: [await signingKey()] },
      cookies: { keys: ["of this test alone"] },
      claims: { openid: ["sub", "auth_time", "acr", "amr"], profile: ["preferred_username", "groups"] },
      conformIdTokenClaims: false,
      findAccount: (_, id) => ({
        accountId: id,
        claims: () => ({ sub: id, preferred_username: id, groups: GROUPS[id] ?? [] }),
      }),
    });
    answer = provider.callback();
  };
  return { issuer, serve, stop: () => server.close() };
}

async function signingKey() {
  const { privateKey } = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
  return { ...(await crypto.subtle.exportKey("jwk", privateKey)), use: "sig", alg: "ES256", kid: "of-this-test" };
}
