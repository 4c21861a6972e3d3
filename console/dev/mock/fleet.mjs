// Invented orders to nodes, invitations, blocklists, bouncers, playbooks and reports.

const HOUR = 3_600_000;

export class FleetWorld {
  constructor(now) {
    /** By `SITE/NODE`: what it is ordered to do, and why. */
    this.orders = new Map();
    this.revoked = new Set();
    /** Whether another node holds the fleet's authority. The tests change it. */
    this.alone = false;
    this.process = 4_711;
    this.invitations = [];
    this.delegations = [];
    this.lists = [list('drop', 1_204, now, { reason: 'Spamhaus DROP' }), list('scanners', 88, now, { reason: 'our own honeypot', version_in_force: null, held: { clients: 37, of: 412 } })];
    this.bouncers = [{ name: 'edge-nftables', created_at_ms: now - 40 * HOUR, seen_at_ms: now - 9_000, pulled_at_ms: now - 9_000, agent: 'crowdsec-firewall-bouncer/0.0.34' }];
    this.runs = [];
    /** Whether the policy's files have a fault. The tests change it. */
    this.brokenPolicy = false;
  }

  /** What a call answers; undefined for one that is not about this. `fresh` refuses who has not proved himself of late. */
  answer(call, { id, sub, body, query, fresh, now }) {
    switch (call) {
      case 'GET fleet':
        if (this.alone) return { problem: true, status: 409, code: 'no_authority', detail: "this node does not hold the fleet's authority; ask the node on which `phalanx fleet init` was run" };
        return { body: { fleet: 'b1946ac92492d2347c6235b4d2611184', root: '591785b794601e212b260e25925636fd', root_expires_at_ms: now + 9_000 * HOUR, changing_root: false, sites: ['fra', 'iad', 'syd'], nodes: this.members(now), invitations: this.invitations, delegations: this.delegations } };
      case 'POST fleet/invitations':
        return fresh() || { status: 201, body: this.invite(body, now) };
      case 'POST fleet/delegations':
        this.delegations = [...this.delegations, { site: body.site, node: body.node, expires_at_ms: now + body.for_ms }];
        return { status: 201, body: this.delegations.at(-1) };
      case 'DELETE fleet/delegations':
        this.delegations = [];
        return { body: { site: 'iad', node: 'iad-1', expires_at_ms: null } };
      case 'POST fleet/orders':
        return fresh() || { status: 201, body: this.order(body, now) };
      case 'POST fleet/revocations':
        this.revoked.add(`${body.site}/${body.node}`);
        return { status: 201, body: { site: body.site, node: body.node, up_to_ms: now } };
      case 'POST upgrade':
        this.process += 1;
        return { status: 202, body: { from: this.process - 1 } };
      case 'GET policy/followers':
        return { body: this.followers(now) };
      case 'POST policy/reload':
        if (this.brokenPolicy) return { problem: true, status: 422, code: 'policy_refused', detail: 'the policy was refused; the running one stays in force', diagnostics: [{ level: 'error', file: 'policy.toml', line: 7, message: 'unknown field `upstrem`', help: 'did you mean `upstream`?' }] };
        return { body: { version: 4 } };
      case 'GET blocklists': {
        if (!id) return { body: this.lists };
        const found = this.lists.find((one) => one.name === id);
        return found ? { body: { ...found, first: Array.from({ length: Math.min(found.prefixes, Number(query.get('limit'))) }, (_, at) => `198.51.${at >> 8}.${at & 255}/32`) } } : { problem: true, status: 404, code: 'not_found', detail: 'no such list is in force' };
      }
      case 'PUT blocklists':
        return this.put(id, body, query, now);
      case 'DELETE blocklists':
        this.lists = this.lists.filter((one) => one.name !== id);
        return { body: null };
      case 'GET bouncers':
        return { body: { listen: '127.0.0.1:8080', bouncers: this.bouncers } };
      case 'POST bouncers':
        if (this.bouncers.some((one) => one.name === body.name)) return { problem: true, status: 409, code: 'exists', detail: 'there is a bouncer of that name already' };
        this.bouncers = [...this.bouncers, { name: body.name, created_at_ms: now, seen_at_ms: null, pulled_at_ms: null, agent: null }];
        return { status: 201, body: { name: body.name, key: '5c0de'.repeat(8) } };
      case 'DELETE bouncers':
        this.bouncers = this.bouncers.filter((one) => one.name !== id);
        return { body: null };
      case 'GET playbooks':
        return { body: [{ name: 'contain-stuffing', version: 2, about: 'bars the sources of tried passwords, then asks', manual: false, detectors: ['credential_stuffing'], steps: ['ban-sources', 'tell', 'challenge-all'], running: 1 }] };
      case 'POST playbooks':
        this.runs.push(`${id} ${body.incident}`);
        return { status: 202, body: null };
      case 'GET reports':
        return { body: [{ name: 'weekly', when: 'each Monday at 07:00', app: null, to: ['ops'], next_ms: monday(now, 1), last: { state: 'failed', due_ms: monday(now, 0), from_ms: monday(now, -1), to_ms: monday(now, 0), at_ms: monday(now, 0), error: 'ops: mail.example.org:465 does not answer' } }] };
      case 'POST reports':
        return { body: { from_ms: now - 168 * HOUR, to_ms: now, told: [{ to: 'ops', ok: true, error: null }] } };
      case 'DELETE nodes':
        return { body: { id: 'R', author: { site: 'fra', node: 'fra-1', role: 'operator' }, target: { site: id, node: sub, role: 'node' }, reason: query.get('reason') ?? '', up_to_version: 9, created_at_ms: now, expires_at_ms: now + HOUR } };
      default:
        return undefined;
    }
  }

  followers(now) {
    const one = (name, state, words, more = {}) => ({ by: 'ann/ci', at_ms: now - 12_000, well_at_ms: now - 12_000, silent: false, said: { name, state, words, every_ms: 60_000, commit: '3f9c2e1b7a64d05c8812f0aa4d5e6f7081920a1b', version: 4, behind: 0, ...more } });
    return [one('edge-policy main', 'in_step', ''), { ...one('edge-policy staging', 'conflict', 'version 4 and commit 81c0ffee both moved: say which counts', { behind: 1, version: 3 }), well_at_ms: now - 7_200_000 }];
  }

  members(now) {
    return ['fra/fra-1', 'iad/iad-1', 'syd/syd-1'].map((name) => {
      const [site, node] = name.split('/');
      return { site, node, control: site !== 'syd', expires_at_ms: now + 20 * HOUR, revoked_at_ms: this.revoked.has(name) ? now : null };
    });
  }

  order({ site, node, duty, reason = '' }, now) {
    const word = { serve: 'serving', cordon: 'cordoned', drain: 'draining', evict: 'evicted' }[duty];
    this.orders.set(`${site}/${node}`, { duty: word, order_reason: duty === 'serve' ? '' : reason });
    return { site, node, duty, reason, by: 'fra/fra-1', given_at_ms: now };
  }

  invite({ site, control = false, for_ms }, now) {
    const made = { id: `inv${this.invitations.length}`, expires_at_ms: now + for_ms };
    this.invitations = [...this.invitations, { ...made, site, control }];
    return { ...made, token: `phxjoin_${'a1b2c3d4'.repeat(16)}` };
  }

  put(name, text, query, now) {
    const lines = text.split('\n');
    const wrong = lines.findIndex((line) => line.trim() !== '' && !/^[0-9a-f.:/]+$/i.test(line.trim()));
    if (wrong >= 0) {
      const diagnostics = [{ level: 'error', file: name, line: wrong + 1, message: `\`${lines[wrong]}\` is no address or prefix`, help: null }];
      return { problem: true, status: 422, code: 'list_refused', detail: 'the list was refused whole; what was in force stays', diagnostics };
    }
    const made = list(name, lines.filter((line) => line.trim() !== '').length, now, { reason: query.get('reason'), kind: query.get('kind'), until_ms: now + Number(query.get('for_ms')) });
    this.lists = [...this.lists.filter((one) => one.name !== name), made];
    return { status: 201, body: made };
  }
}

function list(name, prefixes, now, more) {
  return { id: name, name, version: 3, version_in_force: 3, held: null, kind: 'ban', author: { site: 'fra', node: 'fra-1', role: 'operator' }, reason: '', prefixes, created_at_ms: now - HOUR, until_ms: now + 160 * HOUR, ...more };
}

/** Seven in the morning of the Monday that begins this week, or of one so many weeks later. */
function monday(now, weeks) {
  const at = new Date(now);
  at.setDate(at.getDate() - ((at.getDay() + 6) % 7) + 7 * weeks);
  return at.setHours(7, 0, 0, 0);
}
