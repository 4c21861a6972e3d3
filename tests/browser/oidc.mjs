// An operator signs in by an identity provider, in Chromium: its button, the provider's page, the console; and proves himself anew.
//
//   npm ci --prefix tests/oidc && node tests/browser/oidc.mjs PHALANX_BINARY

import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { startBoth } from "../oidc/lab.mjs";
import { check } from "./lab.mjs";

const require = createRequire(new URL("../../console/package.json", import.meta.url));
const { chromium } = require("playwright-core");
const shots = fileURLToPath(new URL("../../target/screenshots/", import.meta.url));

const lab = await startBoth(process.argv[2]);
let browser;
try {
  mkdirSync(shots, { recursive: true });
  browser = await chromium.launch({
    executablePath: process.env.PHALANX_CHROMIUM ?? "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  const page = await (await browser.newContext()).newPage();
  await page.goto(`${lab.console}/`);
  await page.getByRole("button", { name: "Sign in with Corp" }).click();
  await page.getByText("Corp cannot be asked just now").waitFor();
  check("a provider that is away is told on the page", (await page.getByRole("alert").count()) === 0);
  await page.screenshot({ path: join(shots, "sign-in-provider-away.png") });

  await lab.meet();
  await page.reload();
  await page.screenshot({ path: join(shots, "sign-in-provider.png") });
  await page.getByRole("button", { name: "Sign in with Corp" }).click();
  await atTheProvider("erin");
  await page.getByRole("contentinfo").waitFor();
  const me = await page.evaluate(() => fetch("/api/v1/me").then((answer) => answer.json()));
  check("the provider's word opens the console", me.account.name === "erin" && me.role === "owner", JSON.stringify(me.name));
  check("no code stays in the address", !page.url().includes("code="), page.url());

  const url = await page.evaluate(() => fetch("/api/v1/me/prove/oidc", { method: "POST" }).then((answer) => answer.json()));
  await page.goto(url.url);
  await atTheProvider("erin");
  await page.getByRole("contentinfo").waitFor();
  const again = await page.evaluate(() => fetch("/api/v1/me").then((answer) => answer.json()));
  check("she proves herself anew in the session that she has", again.fresh_until_ms >= me.fresh_until_ms);

  await lab.cli("operator", "disable", "erin");
  await page.getByRole("button", { name: "Sign in with Corp" }).click();
  await page.getByRole("heading", { name: "You are not logged in" }).waitFor();
  check("who is disabled here does not get in by the provider", true);
  await page.screenshot({ path: join(shots, "not-logged-in.png") });
} finally {
  await browser?.close();
  await lab.stop();
}
process.exit();

/** Types a name where the provider wants one, and lets it tell the console. */
async function atTheProvider(name) {
  const login = page().getByPlaceholder("Enter any login");
  await login.fill(name);
  await page().getByPlaceholder("and password").fill("any");
  await page().getByRole("button", { name: "Sign-in" }).click();
  const consent = page().getByRole("button", { name: "Continue" });
  await Promise.race([consent.waitFor(), page().getByRole("contentinfo").waitFor()]);
  if (await consent.isVisible()) await consent.click();
}

function page() {
  return browser.contexts()[0].pages()[0];
}
