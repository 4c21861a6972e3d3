// An invented policy with its history, and the two-operator rule: what takes protection away waits for somebody else.

const POLICY = `version = 4

[variables]
office = ["203.0.113.0/24"]

[defaults]
limits = { body = "20 MiB" }

[[apps]]
name = "shop"
hosts = ["shop.example", "www.shop.example"]
upstream = "http://10.0.0.10:3000"
mode = "block"

[[apps.exclusions]]
rules = [941110]
target = "ARGS:text"
path = "/reviews"
methods = ["POST"]
owner = "ann@example.org"
reason = "ticket 4711: reviews hold markup"
until = 2027-06-01

[[apps.rate_limits]]
name = "login"
key = "ip"
paths = ["/login"]
rate = "5/min"

[[apps]]
name = "wiki"
hosts = ["wiki.example"]
template = "dokuwiki"
upstream = "http://10.0.0.11"
extra_rules = ["rules/extra.conf"]

[[apps.routes]]
path = "/admin"
allow_networks = ["\${office}"]
`;
const EXTRA = '# One kind of attack, one field, everywhere.\nSecRuleUpdateTargetByTag "phalanx/attack/cross-site-scripting" "!ARGS:wikitext"\n';
const base64 = (text) => Buffer.from(text, 'utf8').toString('base64');
const plain = (text) => Buffer.from(text, 'base64').toString('utf8');

export class PolicyWorld {
  constructor(now) {
    this.files = { 'policy.toml': base64(POLICY), 'rules/extra.conf': base64(EXTRA) };
    this.contents = new Map([[4, this.files]]);
    this.rows = [
      [4, 'ann', 'rate limit for the login of the shop', now - 7_200_000, 'published', 'files'],
      [3, 'bob', 'reviews hold markup (ticket 4711)', now - 90_000_000, 'promoted', 'commit 3f9c2e1'],
      [2, 'ann', 'wiki behind the edge', now - 400_000_000, 'rolled_back', 'files'],
      [1, 'ann', 'first policy of the fleet', now - 900_000_000, 'published', 'files'],
    ].map(([version, author, reason, at_ms, result, source]) => ({ version, author, reason, at_ms, result, source, node: 'fra/fra-1', approved_by: version === 3 ? 'ann' : null, stable: version === 4, result_at_ms: at_ms, result_reason: result === 'rolled_back' ? 'it refused 7 of 212 clients' : '', hash: hashOf(version), previous: version > 1 ? hashOf(version - 1) : null, bytes: 18_000 + version * 61 }));
    this.changes = [];
    this.trial = null;
    /** Whether the policy stands in a file; that of `phalanx up` does not. The tests change it. */
    this.hasFile = true;
  }

  status(members) {
    const newest = this.rows[0];
    if (!this.hasFile) {
      return { version: 0, stable: null, trial: null, chain: [], home: '', epoch: 0, serial: 0, note: '', changed_at_ms: 0, has_file: false, nodes: members.map(({ site, node, online }) => ({ site, node, online, policy: { version: 1, hash: '' } })) };
    }
    return {
      has_file: true,
      version: newest.version, stable: bundle(newest), trial: this.trial, chain: [...this.rows].reverse().map(bundle), home: 'fra', epoch: 1, serial: newest.version,
      note: `version ${newest.version} was pushed by fra/fra-1: ${newest.reason}`, changed_at_ms: newest.at_ms,
      nodes: members.map(({ site, node, online }) => ({ site, node, online, policy: { version: newest.version, hash: newest.hash.slice(0, 12) } })),
    };
  }

  version(which) {
    const version = which === 'running' ? this.rows[0].version : Number(which);
    const row = this.rows.find((one) => one.version === version);
    return row && { version, hash: row.hash, entry: 'policy.toml', files: this.contents.get(version) ?? this.files, withheld: [] };
  }

  check({ entry, files }) {
    const problems = [];
    for (const [at, line] of plain(files[entry] ?? '').split('\n').entries()) {
      if (/^mode = "(observe|off)"/.test(line)) problems.push({ level: 'warning', file: entry, line: at + 1, message: `protection of this app only ${line.includes('off') ? 'is off' : 'observes'}: attacks reach it`, help: 'set mode = "block" once the log is quiet' });
      if (/^\s*\w+ =\s*$/.test(line)) problems.push({ level: 'error', file: entry, line: at + 1, message: 'a value is missing after the equals sign', help: null });
      if (/^rate = "\d{3,}\/min"/.test(line)) problems.push({ level: 'advice', file: entry, line: at + 1, message: 'a limit this high stops nobody', help: 'people log in a few times a minute' });
    }
    return { ok: !problems.some((one) => one.level === 'error'), problems };
  }

  diff({ entry, files }) {
    const [now, then] = [plain(files[entry] ?? '').split('\n'), plain(this.files['policy.toml']).split('\n')];
    const gone = then.filter((line) => line.trim() && !now.includes(line));
    const come = now.filter((line) => line.trim() && !then.includes(line));
    const changes = [...gone.map((line) => ({ words: `app shop: - ${line.trim()}` })), ...come.map((line) => ({ words: `app shop: + ${line.trim()}` }))];
    const dangers = come.some((line) => /mode = "(observe|off)"/.test(line)) ? [{ words: 'app shop: attacks are let through' }] : [];
    return { changes, dangers };
  }

  replay(now) {
    return {
      since_ms: now - 3_600_000, requests: 9_412, seen: 18_770, complete: true, newly_refused: 3, newly_passed: 14, groups_left_out: 0, lacks_body: 0, not_reproduced: 6, not_reproduced_examples: [], damaged: 0,
      groups: [
        { change: 'passed', app: 'shop', route: null, why: 'rule 941110', rules: [941110], requests: 14, clients: 9, examples: [{ id: '01M805KMW691AEKWXGYP21X9P1', request: 'POST /reviews' }] },
        { change: 'refused', app: 'shop', route: 'login', why: 'rate limit login', rules: [], requests: 3, clients: 1, examples: [{ id: '01M805KMW691AEKWXGYP21X9P2', request: 'POST /login' }] },
      ],
    };
  }

  propose(body, author, id) {
    if (body.content_of) body = { ...body, entry: 'policy.toml', files: this.contents.get(body.content_of) ?? this.files };
    const { changes, dangers } = this.diff(body);
    const stage = body.canary_site ? `site ${body.canary_site}` : null;
    const change = { id, state: 'waiting', author, reason: body.reason, at_ms: Date.now(), expires_at_ms: Date.now() + 86_400_000, hash: hashOf(id), base: body.base ?? 0, stage, source: 'files', diff_left_out: 0, decided_reason: '', decided_at_ms: null, dangers, diff: changes, needs_second: dangers.length > 0, approved_by: null, version: null, body };
    this.changes.unshift(change);
    if (!change.needs_second) this.publish(change);
    return shown(change);
  }

  rule(id, approves, by) {
    const change = this.changes.find((one) => one.id === id && one.state === 'waiting');
    if (!change) return { status: 404, detail: 'no such change waits', code: 'not_found' };
    if (approves && change.author === by) return { status: 403, detail: 'another operator has to approve it', code: 'own_change' };
    if (approves) {
      change.approved_by = by;
      this.publish(change);
    } else change.state = 'rejected';
    return shown(change);
  }

  exclusions(now) {
    const one = (more) => ({ app: 'shop', route: null, methods: [], rules: ['941110'], target: 'ARGS:text', owner: 'ann@example.org', reason: 'ticket 4711: reviews hold markup', expires_ms: now + 180 * 86_400_000, file: 'policy.toml', line: 17, state: 'in_force', ...more });
    return [
      one({}),
      one({ app: 'wiki', rules: ['phalanx/attack/cross-site-scripting'], target: 'ARGS:wikitext', owner: 'bob@example.org', reason: 'editors write markup', expires_ms: now + 9 * 86_400_000, line: 24, state: 'ends_soon' }),
      one({ route: '/import', methods: ['POST'], rules: ['932160', '930120'], target: null, reason: 'nightly import, ticket 4390', expires_ms: now - 3 * 86_400_000, line: 31, state: 'expired' }),
    ];
  }

  publish(change) {
    const version = this.rows[0].version + 1;
    this.files = change.body.files ?? this.files;
    this.contents.set(version, this.files);
    Object.assign(change, { state: 'published', version });
    this.rows[0].stable = false;
    this.rows.unshift({ version, author: change.author, reason: change.reason, at_ms: Date.now(), result: 'published', source: 'files', stable: true, node: 'fra/fra-1', approved_by: change.approved_by ?? null, result_reason: '', result_at_ms: Date.now(), hash: hashOf(version), previous: hashOf(version - 1), bytes: 18_321 });
    if (this.rows.length > 20) this.rows.pop();
    if (change.body.canary_site) this.trial = { ...bundle(this.rows[0]), stage: change.body.canary_node ? `node ${change.body.canary_site}/${change.body.canary_node}` : `site ${change.body.canary_site}`, started_at_ms: Date.now(), bake_ms: change.body.bake_ms ?? null, judgement: '4 clients came that were served well before, none was refused' };
  }
}

const bundle = ({ version, hash, previous, bytes }) => ({ version, hash, previous, bytes });
const shown = ({ body, ...change }) => change;
const hashOf = (version) => `9f2c81a07be${version}`.padEnd(64, 'd41e07');
