// What every case of the console uses: a browser, a node or the mock, a page that notes what a console must never do.
//
//   PHALANX_CONSOLE_URL     base of the console; the mock is started when it is not set
//   PHALANX_CONSOLE_LOGIN   a one-time login link, from `phalanx up` or `phalanx login`
//   PHALANX_PROTECTED_URL   what the node protects; refused requests are made by attacking it
//
// Screenshots go to target/screenshots of the repository.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { env } from 'node:process';
import { chromium } from 'playwright-core';
import { startMock } from '../dev/mock.mjs';

export const SHOTS = fileURLToPath(new URL('../../target/screenshots/', import.meta.url));
const LAUNCH = {
  executablePath: env.PHALANX_CHROMIUM ?? '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
};
const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

/** Set by `start`. */
export const lab = { mock: null, base: '', protectedUrl: '', browser: null, storage: undefined };

export async function start() {
  mkdirSync(SHOTS, { recursive: true });
  if (!env.PHALANX_CONSOLE_URL) lab.mock = await startMock({});
  lab.base = (env.PHALANX_CONSOLE_URL ?? lab.mock.base).replace(/\/$/, '');
  lab.protectedUrl = (env.PHALANX_PROTECTED_URL ?? lab.mock?.protected ?? '').replace(/\/$/, '');
  lab.browser = await chromium.launch(LAUNCH);
  // The link works once: sign in once, and give its cookie to every page.
  const context = await lab.browser.newContext();
  const page = await context.newPage();
  await page.goto(env.PHALANX_CONSOLE_LOGIN ?? lab.mock.login);
  await page.locator('h1').waitFor();
  lab.storage = await context.storageState();
  await context.close();
}

export async function stop() {
  await lab.browser?.close();
  await lab.mock?.stop();
}

/** A page of the console at a place of it. */
export async function open(place = '#/', options = {}) {
  const context = await lab.browser.newContext({ viewport: { width: 1440, height: 1000 }, storageState: lab.storage, ...options });
  const page = await context.newPage();
  const faults = [];
  // What a real node has not got is refused, which browsers note in their console.
  const isRefusal = (message) => lab.mock === null && message.text().includes('Failed to load resource');
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && !isRefusal(message) && faults.push(`console: ${message.text()}`));
  page.on('pageerror', (error) => faults.push(`error: ${error.message}`));
  page.on('dialog', (dialog) => (faults.push(`dialog: ${dialog.message()}`), dialog.dismiss()));
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (url.protocol !== 'blob:' && url.origin !== new URL(lab.base).origin) faults.push(`request to ${request.url()}`);
  });
  await page.goto(place.startsWith('/') ? lab.base + place : `${lab.base}/${place}`);
  return { page, faults, close: () => context.close() };
}

export const live = (page) => page.getByText('Live', { exact: true }).waitFor();

/** Sends something that is refused; resolves to its request id. */
export async function attack(query) {
  const response = await fetch(`${lab.protectedUrl}/?q=${encodeURIComponent(query)}`);
  const id = response.headers.get('x-request-id');
  assert.equal(response.status, 403, 'the attack is refused');
  assert.match(id ?? '', /^[0-9A-Z]{26}$/);
  return id;
}

/** Waits for the place of the address to change: it follows what is shown, and the browser tells of it later still. */
export async function atPlace(page, place) {
  await page.waitForURL((url) => url.hash.startsWith(place));
}

export async function focusedText(page) {
  return page.evaluate(() => document.activeElement?.textContent?.trim() ?? '');
}

/** What axe finds wrong with the page as it is; nothing is left out. */
export async function violations(page) {
  await page.addScriptTag({ path: AXE });
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  return found.violations.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes[0].html.slice(0, 160)}`);
}

export function mockOnly() {
  return env.PHALANX_CONSOLE_URL ? 'only with the mock' : false;
}

export function noTarget() {
  return env.PHALANX_CONSOLE_URL && !env.PHALANX_PROTECTED_URL ? 'needs PHALANX_PROTECTED_URL' : false;
}
