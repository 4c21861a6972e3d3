// Operators log in by oidc-provider, over HTTP, as a browser does: with cookies, and going where it is sent.
//
//   npm ci --prefix tests/oidc && node tests/oidc/login.mjs PHALANX_BINARY

import { check } from "../browser/lab.mjs";
import { startBoth } from "./lab.mjs";

const lab = await startBoth(process.argv[2]);
try {
  const before = await new Browser().post("/api/v1/login/oidc/corp");
  check("a provider that is away lets nobody in", before.status === 503);
  check("that is said on the page to sign in", (await new Browser().get("/api/v1/login/oidc")).json[0].works === false);
  check("and in the status", (await lab.cli("status")).includes("nobody logs in by the identity provider corp"));
  check("`phalanx oidc test` says where browsers are led back to", (await lab.meet()).includes(`${lab.console}/login/oidc/corp/callback`));
  check("`phalanx oidc list` says that it works", /corp .*works/.test(await lab.cli("oidc", "list")));

  const carol = new Browser();
  await carol.logIn("carol");
  const me = (await carol.get("/api/v1/me")).json;
  check("carol is a responder of the shop alone", me.name === "operator carol" && me.role === "responder" && me.apps.join() === "shop", JSON.stringify(me));
  check("her account says where she comes from", me.account.provider === "corp" && !me.account.password);
  check("what she proved just now is fresh", me.fresh_until_ms > Date.now());

  const dave = new Browser();
  const refused = await dave.logIn("dave");
  check("dave, who is in no group that counts, does not get in", refused.status === 403 && (await dave.get("/api/v1/me")).status === 401);

  const erin = new Browser();
  await erin.logIn("erin");
  check("erin is an owner", (await erin.get("/api/v1/me")).json.role === "owner");
  const away = (await erin.post("/api/v1/me/prove/oidc")).json.url;
  const proved = await erin.follow(away, "erin");
  check("she proves herself anew though the provider knows her", proved.status === 200 && erin.asked > 1, `asked ${erin.asked} times`);
  const others = (await erin.post("/api/v1/me/prove/oidc")).json.url;
  const desk = await erin.follow(others, "carol");
  check("somebody else at her desk proves nothing", desk.status === 401);

  await lab.cli("operator", "disable", "carol");
  check("who is disabled loses the session", (await carol.get("/api/v1/me")).status === 401);
  check("and does not get in by the provider", (await carol.logIn("carol")).status === 403);
  check("what was refused is in the ledger", (await lab.cli("audit")).includes("keep out subject dave"));
} finally {
  await lab.stop();
}
process.exit();

/** What a browser does: keeps cookies by host, as browsers do for `localhost` whatever the port, and follows. */
function Browser() {
  const jar = new Map();
  this.asked = 0;

  const send = async (url, options = {}) => {
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join("; ");
    const response = await fetch(url, { redirect: "manual", ...options, headers: { "user-agent": "a browser", ...options.headers, cookie } });
    for (const set of response.headers.getSetCookie()) {
      const [pair] = set.split(";");
      const [name, value] = [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)];
      value === "" || /max-age=0/i.test(set) || /expires=Thu, 01 Jan 1970/i.test(set) ? jar.delete(name) : jar.set(name, value);
    }
    const text = await response.text();
    const json = response.headers.get("content-type")?.includes("json") ? JSON.parse(text) : undefined;
    return { status: response.status, to: response.headers.get("location"), text, json };
  };

  this.get = (path) => send(lab.console + path, { headers: { "sec-fetch-site": "same-origin" } });
  this.post = (path) => send(lab.console + path, { method: "POST", headers: { origin: lab.console } });
  this.logIn = async (name) => this.follow((await this.post("/api/v1/login/oidc/corp")).json.url, name);

  /** Goes where it is sent, and fills in the provider's forms on the way. */
  this.follow = async (url, name) => {
    for (let step = 0; step < 20; step += 1) {
      let page = await send(url, { headers: { "sec-fetch-site": "cross-site", "sec-fetch-dest": "document" } });
      const form = /<form [^>]*action="([^"]+)"/.exec(page.text);
      if (page.status === 200 && form) {
        const fields = [...page.text.matchAll(/<input type="hidden" name="(\w+)" value="([^"]*)"/g)].map(([, field, value]) => [field, value]);
        const body = new URLSearchParams([...fields, ["login", name], ["password", "any"]]);
        if (body.get("prompt") === "login") this.asked += 1;
        page = await send(form[1], { method: "POST", body });
      }
      if (!page.to) return page;
      url = new URL(page.to, url).href;
    }
    throw new Error("the browser is led in circles");
  };
}
