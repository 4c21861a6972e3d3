// Invented operators, their sessions, and the audit of what they did.

const operator = (name, role, more = {}) => ({
  name, role, apps: [], created_at_ms: Date.now() - 40 * 86_400_000, created_by: 'local socket', disabled: false, password: false, recovery_codes: 0,
  passkeys: [{ id: `key-${name}`, label: 'Laptop', host: 'localhost', created_at_ms: Date.now() - 39 * 86_400_000, used_at_ms: Date.now() - 3_600_000 }], tokens: [], ...more,
});

export class People {
  constructor() {
    this.operators = [
      operator('ann', 'owner', { password: true, recovery_codes: 8, tokens: [{ name: 'deploy', role: 'editor', apps: [], created_at_ms: Date.now() - 86_400_000, expires_at_ms: Date.now() + 29 * 86_400_000 }] }),
      operator('bob', 'editor', { created_by: 'operator ann' }),
      operator('carol', 'viewer', { apps: ['shop'], created_by: 'operator ann', passkeys: [] }),
    ];
    /** Who is signed in. The tests change it. */
    this.asks = 'ann';
    /** Whether dangerous calls want a fresh second factor. */
    this.stale = false;
    this.sessions = [
      { id: 's1', operator: 'ann', opened_at_ms: Date.now() - 1_800_000, seen_at_ms: Date.now(), me: true },
      { id: 's2', operator: 'bob', opened_at_ms: Date.now() - 9_000_000, seen_at_ms: Date.now() - 240_000, me: false },
    ];
    this.entries = [];
    this.seq = 240;
    for (let at = 40; at > 0; at--) this.note(['decided', 'policy_changed', 'operator_action', 'withdrawn', 'held'][at % 5], ['operator ann', 'operator bob', 'node fra/fra-1'][at % 3], WORDS[at % WORDS.length], Date.now() - at * 1_900_000);
  }

  me() {
    const account = this.operators.find((one) => one.name === this.asks) ?? null;
    return { session: `of ${this.asks}`, name: `operator ${this.asks}`, role: account?.role ?? 'owner', apps: account && account.apps.length > 0 ? account.apps : null, account, enrolling: false, fresh_until_ms: this.stale ? Date.now() - 1 : Date.now() + 300_000, operators: true };
  }

  note(kind, by, words, at_ms = Date.now()) {
    this.entries.unshift({ seq: ++this.seq, at_ms, kind, by, words, data: null, hash: [...Array(64)].map((_, at) => ((this.seq * 7 + at * 11) % 16).toString(16)).join('') });
  }

  audit(query) {
    const limit = Number(query.get('limit') ?? 100);
    const wants = (one) => (!query.get('kind') || one.kind === query.get('kind')) && (!query.get('by') || one.by.includes(query.get('by'))) && (!query.get('before') || one.seq < Number(query.get('before')));
    const found = this.entries.filter(wants);
    return { entries: found.slice(0, limit), next: found.length > limit ? found[limit - 1].seq : null, chain: { ok: true, whole: true, length: this.seq, head: this.entries[0].hash } };
  }

  invited(name) {
    const found = this.operators.find((one) => one.name === name);
    return { operator: found, url: `http://localhost:8901/login?ticket=${'a1b2c3d4'.repeat(8)}`, expires_at_ms: Date.now() + 3_600_000 };
  }

  add({ name, role, apps }) {
    this.operators.push(operator(name, role, { apps, passkeys: [], created_at_ms: Date.now(), created_by: `operator ${this.asks}` }));
    this.note('operator_action', `operator ${this.asks}`, `add operator ${name} as ${role}`);
    return this.invited(name);
  }
}

const WORDS = [
  'ban 203.0.113.66 for 1 h: credential stuffing', 'publish policy version 4: rate limit for the login of the shop', 'add operator carol as viewer of apps shop', 'logged in with a passkey', 'close incident 77AA1C81A07B1',
  'end the ban of 192.0.2.200: it was our own monitor', 'approve the change of operator bob: reviews hold markup',
];
